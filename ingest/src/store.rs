//! The batch log in its database: writer epochs, shard positions, headers, ranges. Its refusals are in the database;
//! what is checked here is checked there again. It knows no files and no rating.

use serde_json::json;
use shared_db::{DbError, Row, Statement, Transaction, Value, statement};
use shared_types::{BatchNo, ControlNo, Digest, Incarnation, Instant, Month, Position, Sequence, ShardId, WriterEpoch};

use crate::batch::ShardState;
use crate::header::{Header, HeaderError, Range};
use crate::merge::{Merge, MergeError};

const LOCK_HEAD: Statement = statement!("lock_head");
const HEAD: Statement = statement!("head");
const LAST_EPOCH: Statement = statement!("last_epoch");
const OPEN_EPOCH: Statement = statement!("open_epoch");
const SEED_POSITIONS: Statement = statement!("seed_positions");
const POSITIONS: Statement = statement!("positions");
const ADVANCE_POSITIONS: Statement = statement!("advance_positions");
const APPEND_BATCH: Statement = statement!("append_batch");
const APPEND_RANGES: Statement = statement!("append_ranges");
const BATCHES_AFTER: Statement = statement!("batches_after");
const BATCH_OF_POSITION: Statement = statement!("batch_of_position");
const RANGES_OF: Statement = statement!("ranges_of");
const APPEND_MERGE: Statement = statement!("append_merge");
const MERGE_HEAD: Statement = statement!("merge_head");
const MERGES_AFTER: Statement = statement!("merges_after");
const MERGES_WITHIN: Statement = statement!("merges_within");
const MERGES_LIVE: Statement = statement!("merges_live");
const LIVES_BEGUN: Statement = statement!("lives_begun");

/// Every statement of this store: prepared against both engines by a test.
pub const STATEMENTS: &[Statement] = &[
    LOCK_HEAD,
    HEAD,
    LAST_EPOCH,
    OPEN_EPOCH,
    SEED_POSITIONS,
    POSITIONS,
    ADVANCE_POSITIONS,
    APPEND_BATCH,
    APPEND_RANGES,
    BATCHES_AFTER,
    BATCH_OF_POSITION,
    RANGES_OF,
    APPEND_MERGE,
    MERGE_HEAD,
    MERGES_AFTER,
    MERGES_WITHIN,
    MERGES_LIVE,
    LIVES_BEGUN,
];

/// Why the batch log refused or could not answer.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// Another writer moved a shard: everything of this batch is void.
    #[error("fenced: {moved} of {wanted} shard positions were where this writer left them")]
    Fenced {
        /// Positions that moved as expected.
        moved: u64,
        /// Positions that should have moved.
        wanted: u64,
    },
    /// A number in the database is outside its type.
    #[error("the batch log holds {value} where {what} belongs")]
    Value {
        /// What belongs there.
        what: &'static str,
        /// What was found.
        value: i64,
    },
    /// A stored digest is none.
    #[error("{row} has a digest that is none")]
    Digest {
        /// Whose.
        row: String,
    },
    /// A stored header does not read, does not have its digest, or is not what its row says.
    #[error("the header of batch {batch_no} is damaged")]
    Header {
        /// The batch.
        batch_no: BatchNo,
        /// What is wrong.
        #[source]
        source: Option<HeaderError>,
    },
    /// The stored record of a merge does not read, does not have its digest, or is not what its row says.
    #[error("the record of merge {merge_no} is damaged")]
    Merge {
        /// The merge.
        merge_no: u64,
        /// What is wrong.
        #[source]
        source: Option<MergeError>,
    },
    /// The database refused or failed.
    #[error("could not use the batch log")]
    Database(#[from] DbError),
}

fn stored(number: u64) -> Value {
    Value::Integer(i64::try_from(number).unwrap_or(i64::MAX))
}

fn unsigned(value: i64, what: &'static str) -> Result<u64, LogError> {
    u64::try_from(value).map_err(|_| LogError::Value { what, value })
}

/// The last batch and its digest; (0, zeros) before the first.
pub async fn head(tx: &mut Transaction) -> Result<(BatchNo, Digest), LogError> {
    match tx.query_optional(&HEAD, &[]).await? {
        None => Ok((BatchNo(0), Digest::ZERO)),
        Some(row) => {
            let batch_no = BatchNo(unsigned(row.integer(0)?, "a batch number")?);
            Ok((batch_no, digest(row.text(1)?, || format!("batch {batch_no}"))?))
        }
    }
}

fn digest(text: &str, row: impl Fn() -> String) -> Result<Digest, LogError> {
    Digest::parse(text).ok_or_else(|| LogError::Digest { row: row() })
}

/// Begins a reign: every earlier epoch is fenced from here on. The first one also puts all 64 shards at their beginning.
pub async fn open_epoch(tx: &mut Transaction, owner: &str, at: Instant) -> Result<WriterEpoch, LogError> {
    tx.query_optional(&LOCK_HEAD, &[]).await?;
    let last = tx.query_one(&LAST_EPOCH, &[]).await?.integer(0)?;
    let epoch = WriterEpoch(unsigned(last, "a writer epoch")?.saturating_add(1));
    tx.execute(&OPEN_EPOCH, &[stored(epoch.0), Value::Text(owner.to_owned()), Value::Integer(at.micros())]).await?;
    if epoch.0 == 1 {
        let shards: Vec<u8> = ShardId::all().map(ShardId::number).collect();
        tx.execute(&SEED_POSITIONS, &[Value::Text(json!(shards).to_string()), Value::Text(Digest::ZERO.to_string())]).await?;
    }
    Ok(epoch)
}

/// Where the 64 shards stand, in order; empty before the first epoch.
pub async fn shard_states(tx: &mut Transaction) -> Result<Vec<ShardState>, LogError> {
    let mut states = Vec::with_capacity(64);
    for row in tx.query(&POSITIONS, &[]).await? {
        let number = row.integer(0)?;
        let shard = u8::try_from(number).ok().and_then(ShardId::new);
        let name = || format!("shard {number}");
        let incarnation = row.integer(1)?;
        states.push(ShardState {
            position: Position {
                shard: shard.ok_or(LogError::Value { what: "a shard", value: number })?,
                incarnation: Incarnation(
                    u32::try_from(incarnation).map_err(|_| LogError::Value { what: "an incarnation", value: incarnation })?,
                ),
                sequence: Sequence(unsigned(row.integer(2)?, "a sequence")?),
            },
            digest: digest(row.text(3)?, name)?,
            control_no: ControlNo(unsigned(row.integer(4)?, "a control number")?),
            registry_version: digest(row.text(5)?, name)?,
            oldest_open: row.optional_month(6)?,
        });
    }
    Ok(states)
}

/// Commits a batch: positions by compare-and-set, ranges, header, outbox row. All of it or nothing; the caller commits `tx`.
///
/// - `before`: the shards' states from which the batch was built, one for each range.
/// - Errors: `Fenced` when a position or the epoch moved; `Database` with the refusal's text.
pub async fn append(tx: &mut Transaction, header: &Header, before: &[ShardState], recorded_at: Instant) -> Result<Digest, LogError> {
    let broken = |source| LogError::Header { batch_no: header.batch_no, source: Some(source) };
    let text = header.canonical().map_err(broken)?;
    let digest = Digest::of(text.as_bytes());
    tx.query_optional(&LOCK_HEAD, &[]).await?;
    let ranges: Vec<serde_json::Value> = header
        .ranges
        .iter()
        .zip(before)
        .map(|(range, before)| {
            json!({
                "shard": range.shard.number(),
                "incarnation": range.incarnation.0,
                "first": range.first.0,
                "last": range.last.0,
                "last_digest": range.last_digest,
                "control_no": range.control_no.0,
                "registry_version": range.registry_version,
                "oldest_open": range.oldest_open.map(Month::number),
                "before_incarnation": before.position.incarnation.0,
                "before_sequence": before.position.sequence.0,
                "before_digest": before.digest,
            })
        })
        .collect();
    let wanted = u64::try_from(ranges.len()).unwrap_or(u64::MAX);
    let ranges = serde_json::Value::Array(ranges).to_string();
    tx.execute(
        &APPEND_BATCH,
        &[
            stored(header.batch_no.0),
            stored(header.writer_epoch.0),
            Value::Text(header.previous.to_string()),
            Value::Text(digest.to_string()),
            Value::Text(text),
            Value::Integer(recorded_at.micros()),
        ],
    )
    .await?;
    tx.execute(&APPEND_RANGES, &[stored(header.batch_no.0), Value::Text(ranges.clone())]).await?;
    let moved = tx.execute(&ADVANCE_POSITIONS, &[Value::Text(ranges)]).await?;
    if moved != wanted || header.ranges.len() != before.len() {
        return Err(LogError::Fenced { moved, wanted });
    }
    Ok(digest)
}

/// Committed headers after a batch, in order, with their digests, each checked against its stored text.
pub async fn batches_after(tx: &mut Transaction, after: BatchNo, limit: u32) -> Result<Vec<(Header, Digest)>, LogError> {
    let mut headers = Vec::new();
    for row in tx.query(&BATCHES_AFTER, &[stored(after.0), Value::Integer(i64::from(limit))]).await? {
        let batch_no = BatchNo(unsigned(row.integer(0)?, "a batch number")?);
        let text = row.text(1)?;
        let header = Header::parse(text).map_err(|source| LogError::Header { batch_no, source: Some(source) })?;
        let digest = Digest::of(text.as_bytes());
        let says = (row.text(2)?, row.text(3)?, row.unsigned(4)?);
        if (&*digest.to_string(), &*header.previous.to_string(), header.writer_epoch.0) != says || header.batch_no != batch_no {
            return Err(LogError::Header { batch_no, source: None });
        }
        headers.push((header, digest));
    }
    Ok(headers)
}

/// The batch that covers a position, if it is committed.
pub async fn batch_of(tx: &mut Transaction, position: Position) -> Result<Option<BatchNo>, LogError> {
    let arguments = [
        Value::Integer(i64::from(position.shard.number())),
        Value::Integer(i64::from(position.incarnation.0)),
        stored(position.sequence.0),
    ];
    match tx.query_optional(&BATCH_OF_POSITION, &arguments).await? {
        None => Ok(None),
        Some(row) => Ok(Some(BatchNo(unsigned(row.integer(0)?, "a batch number")?))),
    }
}

/// The ranges of a batch as the table holds them, in order of shard.
pub async fn ranges_of(tx: &mut Transaction, batch_no: BatchNo) -> Result<Vec<Range>, LogError> {
    let mut ranges = Vec::new();
    for row in tx.query(&RANGES_OF, &[stored(batch_no.0)]).await? {
        let (number, incarnation) = (row.integer(0)?, row.integer(1)?);
        let name = || format!("the range of batch {batch_no} in shard {number}");
        ranges.push(Range {
            shard: u8::try_from(number).ok().and_then(ShardId::new).ok_or(LogError::Value { what: "a shard", value: number })?,
            incarnation: Incarnation(
                u32::try_from(incarnation).map_err(|_| LogError::Value { what: "an incarnation", value: incarnation })?,
            ),
            first: Sequence(row.unsigned(2)?),
            last: Sequence(row.unsigned(3)?),
            last_digest: digest(row.text(4)?, name)?,
            control_no: ControlNo(row.unsigned(5)?),
            registry_version: digest(row.text(6)?, name)?,
            oldest_open: row.optional_month(7)?,
        });
    }
    Ok(ranges)
}

/// The last merge and its digest; (0, zeros) before the first.
pub async fn merge_head(tx: &mut Transaction) -> Result<(u64, Digest), LogError> {
    match tx.query_optional(&MERGE_HEAD, &[]).await? {
        None => Ok((0, Digest::ZERO)),
        Some(row) => {
            let merge_no = row.unsigned(0)?;
            Ok((merge_no, digest(row.text(1)?, || format!("merge {merge_no}"))?))
        }
    }
}

/// Records a merge; its files must be durable and verified before. The caller commits `tx`.
///
/// - Errors: `Database` with the refusal's text: another writer's epoch, a number or digest that does not follow, a merge that holds
///   an earlier one in part, batches that are not committed.
pub async fn append_merge(tx: &mut Transaction, merge: &Merge, recorded_at: Instant) -> Result<Digest, LogError> {
    let text = merge.canonical().map_err(|source| LogError::Merge { merge_no: merge.merge_no, source: Some(source) })?;
    let digest = Digest::of(text.as_bytes());
    tx.query_optional(&LOCK_HEAD, &[]).await?;
    tx.execute(
        &APPEND_MERGE,
        &[
            stored(merge.merge_no),
            stored(merge.writer_epoch.0),
            stored(merge.first.0),
            stored(merge.last.0),
            Value::Text(merge.level.code().to_owned()),
            Value::Text(merge.previous.to_string()),
            Value::Text(digest.to_string()),
            Value::Text(text),
            Value::Integer(recorded_at.micros()),
        ],
    )
    .await?;
    Ok(digest)
}

/// The merges that say where rows are, in order of batch: those that no later one holds. One that does not read hides no other.
pub async fn merges_live(tx: &mut Transaction) -> Result<Vec<Result<Merge, LogError>>, LogError> {
    let rows = tx.query(&MERGES_LIVE, &[]).await?;
    Ok(rows.iter().map(|row| Ok(merge_of(row)?.0)).collect())
}

/// Merges after a number, in order, with their digests, each checked against its stored text.
pub async fn merges_after(tx: &mut Transaction, after: u64, limit: u32) -> Result<Vec<(Merge, Digest)>, LogError> {
    let rows = tx.query(&MERGES_AFTER, &[stored(after), Value::Integer(i64::from(limit))]).await?;
    rows.iter().map(merge_of).collect()
}

/// Every merge of batches between these two, both included, in the order in which they were made.
pub async fn merges_within(tx: &mut Transaction, first: BatchNo, last: BatchNo) -> Result<Vec<Merge>, LogError> {
    let rows = tx.query(&MERGES_WITHIN, &[stored(first.0), stored(last.0)]).await?;
    rows.iter().map(|row| Ok(merge_of(row)?.0)).collect()
}

/// The batches after `after` in which the stream of a shard begins another life than its first: no merge spans their beginning.
pub async fn lives_begun(tx: &mut Transaction, after: BatchNo) -> Result<Vec<BatchNo>, LogError> {
    let rows = tx.query(&LIVES_BEGUN, &[stored(after.0)]).await?;
    rows.iter().map(|row| Ok(BatchNo(unsigned(row.integer(0)?, "a batch number")?))).collect()
}

fn merge_of(row: &Row) -> Result<(Merge, Digest), LogError> {
    let merge_no = row.unsigned(0)?;
    let text = row.text(1)?;
    let merge = Merge::parse(text).map_err(|source| LogError::Merge { merge_no, source: Some(source) })?;
    let digest = Digest::of(text.as_bytes());
    let says = (row.text(2)?, row.text(3)?, row.unsigned(4)?, row.unsigned(5)?, row.unsigned(6)?, row.text(7)?);
    let is = (&*digest.to_string(), &*merge.previous.to_string(), merge.writer_epoch.0, merge.first.0, merge.last.0, merge.level.code());
    if is != says || merge.merge_no != merge_no {
        return Err(LogError::Merge { merge_no, source: None });
    }
    Ok((merge, digest))
}

#[cfg(test)]
mod tests;
