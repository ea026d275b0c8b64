//! Documents, versions and control records in the books' database. Nothing here is ever changed or removed.
//! It does not decide whether a version may be published: [`refuse_reach_back`](crate::refuse_reach_back) does, in the same transaction.

use serde_json::{Value as Json, json};
use shared_db::{DbError, Statement, Transaction, Value, statement};
use shared_types::{ControlNo, Digest, Instant, Month};

use crate::{Control, ControlBody, ControlError, Document, DocumentError, Version};

const CONTROLS_LOCK: Statement = statement!("controls_lock");
const CONTROL_INSERT: Statement = statement!("control_insert");
const CONTROL_LAST: Statement = statement!("control_last");
const CONTROL_ACTIVE: Statement = statement!("control_active");
const CONTROL_CLOSES: Statement = statement!("control_closes");
const CONTROLS_AFTER: Statement = statement!("controls_after");
const DOCUMENTS_INSERT: Statement = statement!("documents_insert");
const DOCUMENTS_OF: Statement = statement!("documents_of");
const VERSION_FIND: Statement = statement!("version_find");
const VERSION_INSERT: Statement = statement!("version_insert");
const VERSIONS: Statement = statement!("versions");

/// What became of a publication.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Published {
    /// The control record that put the version in force.
    pub control_no: ControlNo,
    /// Address of the version.
    pub address: Digest,
    /// False when the version was in force already: then there is no new control record.
    pub changed: bool,
}

/// What became of a close.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closed {
    /// The control record that closes the month.
    pub control_no: ControlNo,
    /// The month that it names: the one asked for, or a later one that had closed it already.
    pub month: Month,
    /// False when the month was closed already: then there is no new control record.
    pub changed: bool,
}

/// A version that was published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublishedVersion {
    /// Its address.
    pub address: Digest,
    /// When it was first recorded.
    pub recorded_at: Instant,
    /// The control record that put it in force last.
    pub control_no: ControlNo,
}

/// Why the registry's tables could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database failed or refused.
    #[error("the registry's tables could not be read or written")]
    Db(#[from] DbError),
    /// A document is not what was written.
    #[error("registry version {address} holds a damaged document")]
    Document {
        /// The version.
        address: Digest,
        /// What is wrong with it.
        #[source]
        source: DocumentError,
    },
    /// The documents of a version do not have its address.
    #[error("the documents of registry version {address} have the address {found}")]
    Address {
        /// The version.
        address: Digest,
        /// What its documents hash to.
        found: Digest,
    },
    /// A control record is not what was written.
    #[error("control record {control_no} is damaged")]
    Control {
        /// Its number.
        control_no: ControlNo,
        /// What is wrong with it, where it is no control record at all.
        #[source]
        source: Option<ControlError>,
    },
    /// Control records are numbered in 63 bits.
    #[error("control records have run out of numbers")]
    Numbers,
}

/// Records a version and puts it in force by a new control record, unless it is in force already.
///
/// - An earlier version may be published again: it gets another control record.
/// - `rerates`: whether the record has what the version reaches rated again.
pub async fn publish(tx: &mut Transaction, version: &Version, rerates: bool, recorded_at: Instant) -> Result<Published, StoreError> {
    let address = version.address();
    tx.query(&CONTROLS_LOCK, &[]).await?;
    if let Some((control_no, active)) = active_control(tx).await?
        && active == address
    {
        return Ok(Published { control_no, address, changed: false });
    }
    if tx.query_optional(&VERSION_FIND, &[address.into()]).await?.is_none() {
        let documents: Vec<Json> = version
            .entries()
            .map(|entry| {
                let (kind, id) = (entry.document.kind().name(), entry.document.id());
                json!({"digest": entry.digest.to_string(), "kind": kind, "id": id, "content": entry.canonical})
            })
            .collect();
        tx.execute(&DOCUMENTS_INSERT, &[Json::Array(documents).to_string().into()]).await?;
        let digests: Vec<Json> = version.entries().map(|entry| Json::String(entry.digest.to_string())).collect();
        tx.execute(&VERSION_INSERT, &[address.into(), Json::Array(digests).to_string().into(), recorded_at.into()]).await?;
    }
    let control = append(tx, ControlBody::Registry { version: address, rerates }, recorded_at).await?;
    Ok(Published { control_no: control.control_no, address, changed: true })
}

/// Appends a control record under the next number.
///
/// - Errors: `Db` when it names a version that is not recorded.
pub async fn append(tx: &mut Transaction, body: ControlBody, recorded_at: Instant) -> Result<Control, StoreError> {
    tx.query(&CONTROLS_LOCK, &[]).await?;
    let last = tx.query_one(&CONTROL_LAST, &[]).await?.unsigned(0)?;
    let control_no = ControlNo(last).next().ok_or(StoreError::Numbers)?;
    let control = Control { control_no, body };
    let values = [
        Value::try_from(control_no.0)?,
        control.kind_code().into(),
        body.registry_version().into(),
        control.payload().into(),
        control.digest().into(),
        recorded_at.into(),
    ];
    tx.execute(&CONTROL_INSERT, &values).await?;
    Ok(control)
}

/// Records that a month and all before it close, unless they are closed already.
pub async fn close(tx: &mut Transaction, month: Month, recorded_at: Instant) -> Result<Closed, StoreError> {
    tx.query(&CONTROLS_LOCK, &[]).await?;
    if let Some((control_no, month)) = closes(tx).await?.into_iter().find(|(_, closed)| *closed >= month) {
        return Ok(Closed { control_no, month, changed: false });
    }
    let control = append(tx, ControlBody::Close { month }, recorded_at).await?;
    Ok(Closed { control_no: control.control_no, month, changed: true })
}

/// The control records that close a month, in order: their months rise.
pub async fn closes(tx: &mut Transaction) -> Result<Vec<(ControlNo, Month)>, StoreError> {
    let rows = tx.query(&CONTROL_CLOSES, &[]).await?;
    rows.iter()
        .map(|row| {
            let control_no = ControlNo(row.unsigned(0)?);
            let damaged = |source| StoreError::Control { control_no, source };
            let control = Control::parse(row.text(1)?.as_bytes()).map_err(|source| damaged(Some(source)))?;
            Ok((control_no, control.closes().ok_or_else(|| damaged(None))?))
        })
        .collect()
}

/// The version in force; none before the first publication.
pub async fn active(tx: &mut Transaction) -> Result<Option<Version>, StoreError> {
    match active_control(tx).await? {
        None => Ok(None),
        Some((_, address)) => version(tx, address).await,
    }
}

async fn active_control(tx: &mut Transaction) -> Result<Option<(ControlNo, Digest)>, StoreError> {
    let row = tx.query_optional(&CONTROL_ACTIVE, &[]).await?;
    Ok(row.map(|row| Ok::<_, DbError>((ControlNo(row.unsigned(0)?), row.digest(1)?))).transpose()?)
}

/// A recorded version by its address, or none. Its content is hashed again.
pub async fn version(tx: &mut Transaction, address: Digest) -> Result<Option<Version>, StoreError> {
    if tx.query_optional(&VERSION_FIND, &[address.into()]).await?.is_none() {
        return Ok(None);
    }
    let rows = tx.query(&DOCUMENTS_OF, &[address.into()]).await?;
    let damaged = |source| StoreError::Document { address, source };
    let documents = rows.iter().map(|row| Document::parse(row.text(0)?).map_err(damaged)).collect::<Result<Vec<_>, StoreError>>()?;
    let version = Version::from_documents(documents).map_err(damaged)?;
    let found = version.address();
    if found == address { Ok(Some(version)) } else { Err(StoreError::Address { address, found }) }
}

/// Every recorded version, the one put in force last at the end.
pub async fn versions(tx: &mut Transaction) -> Result<Vec<PublishedVersion>, StoreError> {
    let rows = tx.query(&VERSIONS, &[]).await?;
    let read = rows
        .iter()
        .map(|row| Ok(PublishedVersion { address: row.digest(0)?, recorded_at: row.instant(1)?, control_no: ControlNo(row.unsigned(2)?) }));
    Ok(read.collect::<Result<Vec<_>, DbError>>()?)
}

/// Control records after a number, in order. Their payloads are hashed again.
pub async fn controls_after(tx: &mut Transaction, after: ControlNo) -> Result<Vec<Control>, StoreError> {
    let rows = tx.query(&CONTROLS_AFTER, &[Value::try_from(after.0)?]).await?;
    rows.iter()
        .map(|row| {
            let control_no = ControlNo(row.unsigned(0)?);
            let control = Control::parse(row.text(1)?.as_bytes());
            let control = control.map_err(|source| StoreError::Control { control_no, source: Some(source) })?;
            let said = (row.digest(2)?, row.text(3)?, row.optional_digest(4)?);
            if control.control_no == control_no && (control.digest(), control.kind_code(), control.registry_version()) == said {
                Ok(control)
            } else {
                Err(StoreError::Control { control_no, source: None })
            }
        })
        .collect()
}
