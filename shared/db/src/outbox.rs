//! The outbox: domain events written in the transaction of their cause. Publishing them is not done here.

use crate::store::{OUTBOX_AFTER, OUTBOX_INSERT, OUTBOX_LOCK};
use crate::{DbError, Transaction, Value};

/// A domain event on its way out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboxEvent {
    /// Where it is published, for example `platform.ledger.entry_appended`.
    pub subject: String,
    /// What happened.
    pub event_type: String,
    /// Version of the event type, from 1.
    pub version: u32,
    /// Ties the event to the request or batch that caused it.
    pub correlation_id: String,
    /// Canonical JSON.
    pub payload: String,
}

/// Writes an event and answers its number: dense per database, from 1, in the order of commits.
pub async fn enqueue(tx: &mut Transaction, event: OutboxEvent) -> Result<u64, DbError> {
    tx.query(&OUTBOX_LOCK, &[]).await?;
    let values = [event.subject.into(), event.event_type.into(), event.version.into(), event.correlation_id.into(), event.payload.into()];
    tx.query_one(&OUTBOX_INSERT, &values).await?.unsigned(0)
}

/// Events after a number, in order, at most `limit`.
pub async fn outbox_after(tx: &mut Transaction, after: u64, limit: u32) -> Result<Vec<(u64, OutboxEvent)>, DbError> {
    let rows = tx.query(&OUTBOX_AFTER, &[Value::try_from(after)?, limit.into()]).await?;
    rows.iter()
        .map(|row| {
            let event = OutboxEvent {
                subject: row.text(1)?.to_owned(),
                event_type: row.text(2)?.to_owned(),
                version: u32::try_from(row.integer(3)?).map_err(|_| DbError::Range { value: row.integer(3).unwrap_or(-1).to_string() })?,
                correlation_id: row.text(4)?.to_owned(),
                payload: row.text(5)?.to_owned(),
            };
            Ok((row.unsigned(0)?, event))
        })
        .collect()
}
