//! Documents, versions and control records in the books' database. Nothing here is ever changed or removed.
//! It does not decide whether a version may be published: [`refuse_reach_back`](crate::refuse_reach_back) does, in the same transaction.

use serde_json::{Value as Json, json};
use shared_db::{DbError, Row, Statement, Transaction, Value, statement};
use shared_types::{ControlNo, Digest, Instant, Month};

use crate::{Control, ControlBody, ControlError, Document, DocumentError, Fee, Schedule, Tick, Version};

const CONTROLS_LOCK: Statement = statement!("controls_lock");
const CONTROL_INSERT: Statement = statement!("control_insert");
const CONTROL_LAST: Statement = statement!("control_last");
const CONTROL_ACTIVE: Statement = statement!("control_active");
const CONTROL_TICK: Statement = statement!("control_tick");
const CONTROL_VERSION: Statement = statement!("control_version");
const CONTROL_CLOSES: Statement = statement!("control_closes");
const CONTROLS_AFTER: Statement = statement!("controls_after");
const DOCUMENTS_INSERT: Statement = statement!("documents_insert");
const DOCUMENTS_OF: Statement = statement!("documents_of");
const PUBLICATIONS: Statement = statement!("publications");
const RETIREMENTS: Statement = statement!("retirements");
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
    /// It was retired: it is not put in force again.
    #[error("registry version {0} is retired: it is not put in force again; publish other documents")]
    Retired(Digest),
    /// A row of a level is not what was written.
    #[error("a level of {organization} is damaged: {what}")]
    Level {
        /// Whose.
        organization: String,
        /// The column.
        what: &'static str,
    },
    /// Control records are numbered in 63 bits.
    #[error("control records have run out of numbers")]
    Numbers,
}

/// Records a version and puts it in force by a new control record, unless it is in force already.
///
/// - An earlier version may be published again: it gets another control record.
/// - `rerates`: whether the record has what the version reaches rated again; the one in force then gets another record too.
pub async fn publish(tx: &mut Transaction, version: &Version, rerates: bool, recorded_at: Instant) -> Result<Published, StoreError> {
    let address = version.address();
    lock(tx).await?;
    if let Some((control_no, active)) = active_control(tx).await?
        && active == address
        && !rerates
    {
        return Ok(Published { control_no, address, changed: false });
    }
    if retired(tx, address).await? {
        return Err(StoreError::Retired(address));
    }
    if tx.query_optional(&VERSION_FIND, &[address.into()]).await?.is_none() {
        insert_documents(tx, version).await?;
        let digests: Vec<Json> = version.entries().map(|entry| Json::String(entry.digest.to_string())).collect();
        tx.execute(&VERSION_INSERT, &[address.into(), Json::Array(digests).to_string().into(), recorded_at.into()]).await?;
    }
    let control = append(tx, ControlBody::Registry { version: address, rerates }, recorded_at).await?;
    Ok(Published { control_no: control.control_no, address, changed: true })
}

/// Holds off every other writer of control records and drafts until the transaction ends.
pub(crate) async fn lock(tx: &mut Transaction) -> Result<(), StoreError> {
    tx.query(&CONTROLS_LOCK, &[]).await?;
    Ok(())
}

/// Records the documents of a version that are not recorded yet.
pub(crate) async fn insert_documents(tx: &mut Transaction, version: &Version) -> Result<(), StoreError> {
    let documents: Vec<Json> = version
        .entries()
        .map(|entry| {
            let (kind, id) = (entry.document.kind().name(), entry.document.id());
            json!({"digest": entry.digest.to_string(), "kind": kind, "id": id, "content": entry.canonical})
        })
        .collect();
    tx.execute(&DOCUMENTS_INSERT, &[Json::Array(documents).to_string().into()]).await?;
    Ok(())
}

/// A version that is not put in force again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retirement {
    /// Its address.
    pub address: Digest,
    /// Why.
    pub reason: String,
    /// By whom.
    pub retired_by: String,
    /// When.
    pub recorded_at: Instant,
}

/// Every retired version, the first one first.
pub async fn retirements(tx: &mut Transaction) -> Result<Vec<Retirement>, StoreError> {
    let rows = tx.query(&RETIREMENTS, &[]).await?;
    let read = |row: &Row| {
        let (reason, retired_by) = (row.text(1)?.to_owned(), row.text(2)?.to_owned());
        Ok(Retirement { address: row.digest(0)?, reason, retired_by, recorded_at: row.instant(3)? })
    };
    Ok(rows.iter().map(read).collect::<Result<_, DbError>>()?)
}

/// Whether a version is retired.
pub(crate) async fn retired(tx: &mut Transaction, address: Digest) -> Result<bool, StoreError> {
    Ok(retirements(tx).await?.iter().any(|retired| retired.address == address))
}

/// Appends a control record under the next number.
///
/// - Errors: `Db` when it names a version that is not recorded.
pub async fn append(tx: &mut Transaction, body: ControlBody, recorded_at: Instant) -> Result<Control, StoreError> {
    lock(tx).await?;
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
    lock(tx).await?;
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

/// The version in force at a control record; none before the first publication.
pub async fn version_at(tx: &mut Transaction, control_no: ControlNo) -> Result<Option<Version>, StoreError> {
    let Some(row) = tx.query_optional(&CONTROL_VERSION, &[Value::try_from(control_no.0)?]).await? else { return Ok(None) };
    version(tx, row.digest(0)?).await
}

/// The recurring fees in force at a control record; none before the first publication.
pub async fn schedule_at(tx: &mut Transaction, control_no: ControlNo) -> Result<Schedule, StoreError> {
    Ok(version_at(tx, control_no).await?.as_ref().map(Schedule::of).unwrap_or_default())
}

/// Above every control number that the database can give.
pub const LATEST: ControlNo = ControlNo(i64::MAX.unsigned_abs());

/// The last tick below a control number; none before the first.
pub async fn tick_before(tx: &mut Transaction, below: ControlNo) -> Result<Option<Tick>, StoreError> {
    let Some(row) = tx.query_optional(&CONTROL_TICK, &[Value::try_from(below.0)?]).await? else { return Ok(None) };
    let control_no = ControlNo(row.unsigned(0)?);
    let damaged = |source| StoreError::Control { control_no, source };
    match Control::parse(row.text(1)?.as_bytes()).map_err(|source| damaged(Some(source)))?.body {
        ControlBody::Tick { at } => Ok(Some(Tick { at, schedule: schedule_at(tx, control_no).await? })),
        ControlBody::Registry { .. } | ControlBody::Close { .. } => Err(damaged(None)),
    }
}

/// The recurring fees that a tick calls due: none that an earlier one did.
pub async fn fees_called(tx: &mut Transaction, control_no: ControlNo, at: Instant) -> Result<Vec<Fee>, StoreError> {
    let before = tick_before(tx, control_no).await?;
    Ok(schedule_at(tx, control_no).await?.due(at, before.as_ref()))
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

/// A version was put in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Publication {
    /// The control record.
    pub control_no: ControlNo,
    /// Address of the version.
    pub address: Digest,
    /// When the control record was recorded.
    pub recorded_at: Instant,
}

/// Everything that had been put in force at an instant of recording, in order: the last one was believed then.
pub async fn publications(tx: &mut Transaction, as_of: Instant) -> Result<Vec<Publication>, StoreError> {
    let rows = tx.query(&PUBLICATIONS, &[as_of.into()]).await?;
    let read =
        |row: &Row| Ok(Publication { control_no: ControlNo(row.unsigned(0)?), address: row.digest(1)?, recorded_at: row.instant(2)? });
    Ok(rows.iter().map(read).collect::<Result<_, DbError>>()?)
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
