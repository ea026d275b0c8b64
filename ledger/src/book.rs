//! Appending to the book and reading it. Checks live in the database; here is only what must be known to write.

use shared_db::{DbError, Engine, Transaction, Value, advance, cursor};
use shared_types::{AssetId, BatchNo, Digest, Month};

use crate::command::Command;
use crate::entry::{BookedPosting, Cause, Entry, RowsDigest};
use crate::posting::{AccountId, EntryGroup, Posting};
use crate::store::{self, BALANCES, COMMAND_FIND, COMMANDS, ENTRIES, ENTRY, PERIOD_CLOSE, PERIODS, POSTINGS};

/// The name of the ledger's fold in `shared_db_cursors`.
pub const FOLD: &str = "ledger";

/// A contract line is an id of the registry; longer ones are refused.
const LINE_BYTES: usize = 512;

/// What `append` wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    /// The entry's number.
    pub entry_no: u64,
    /// Sequence number of its first posting.
    pub first_seq: u64,
    /// Sequence number of its last posting.
    pub last_seq: u64,
    /// The entry's digest: the head of the chain.
    pub digest: Digest,
}

/// A command as it stands in the book.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BookedCommand {
    /// The entry that it made.
    pub entry_no: u64,
    /// Where the fold of the batch log stood when it was taken.
    pub batch_no: BatchNo,
    /// The command.
    pub command: Command,
}

/// What an account holds of one asset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Balance {
    /// The account.
    pub account: AccountId,
    /// What is counted.
    pub asset: AssetId,
    /// Sum of its debits, in units of 10^-9.
    pub debits: i128,
    /// Sum of its credits, in units of 10^-9.
    pub credits: i128,
    /// The last posting of the entry that changed it.
    pub last_seq: u64,
}

/// Why a group was not appended, or the book not read.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// The range was folded before, or one before it was not.
    #[error("cannot append batches {first} to {last}: the book stands at batch {cursor}")]
    Elsewhere {
        /// First batch of the group.
        first: BatchNo,
        /// Last batch of the group.
        last: BatchNo,
        /// The fold's cursor.
        cursor: BatchNo,
    }, // LEDGER-0001
    /// A cut begins at batch 1 or later and ends where it begins or later.
    #[error("batches {first} to {last} are no cut")]
    Cut {
        /// First batch of the group.
        first: BatchNo,
        /// Last batch of the group.
        last: BatchNo,
    }, // LEDGER-0002
    /// A contract line of more than 512 bytes.
    #[error("posting {at} names a contract line of {bytes} bytes")]
    ContractLine {
        /// Index of the posting in its group.
        at: usize,
        /// Length of the name.
        bytes: usize,
    }, // LEDGER-0003
    /// The book's last row is not one that the book writes.
    #[error("the book is damaged: {problem}")]
    Damaged {
        /// What is wrong.
        problem: String,
    }, // LEDGER-0004
    /// Sequence numbers are used up.
    #[error("the book is full")]
    Full, // LEDGER-0005
    /// The database refused or failed; the book's own checks answer [`DbError::Refused`].
    #[error("could not write or read the book")]
    Store(#[from] DbError), // LEDGER-0006
    /// A command about this subject was taken before.
    #[error("command {kind} {subject} is in the book already, as entry {entry_no}")]
    Repeated {
        /// Its kind.
        kind: String,
        /// Its subject.
        subject: String,
        /// The entry that it made.
        entry_no: u64,
    }, // LEDGER-0007
}

/// Opens the assets, accounts and accounting periods that the group names and the book does not have. A closed period stays closed.
pub async fn open_for(tx: &mut Transaction, group: &EntryGroup) -> Result<(), AppendError> {
    if group.postings.is_empty() { Ok(()) } else { Ok(store::open(tx, &group.postings).await?) }
}

/// Appends the group of a cut once, moves the fold's cursor and records the cut, all in the given transaction.
///
/// `None` when the group has no postings: then only the cursor moves, and the next entry covers its batches.
///
/// - Errors: [`AppendError::Elsewhere`] for a range that was folded before or leaves a gap; [`AppendError::Store`] with
///   [`DbError::Refused`] when a check of the database fails (closed period, unknown account, overflow of a balance). On SQLite the checks
///   run here, on PostgreSQL also at commit.
#[tracing::instrument(skip_all, err, fields(first = %group.first_batch, last = %group.last_batch, postings = group.postings.len()))]
pub async fn append(tx: &mut Transaction, group: &EntryGroup) -> Result<Option<Receipt>, AppendError> {
    let (first, last) = (group.first_batch, group.last_batch);
    let from = first.0.checked_sub(1).map(BatchNo).filter(|_| last >= first).ok_or(AppendError::Cut { first, last })?;
    advance(tx, FOLD, from, last).await.map_err(|error| match error {
        DbError::CursorMoved { found, .. } => AppendError::Elsewhere { first, last, cursor: found },
        other => other.into(),
    })?;
    if group.postings.is_empty() {
        return Ok(None);
    }
    let (head, covered) = head_and_batches(tx).await?;
    let first = BatchNo(covered.0.checked_add(1).ok_or(AppendError::Full)?);
    let entry = next_entry(head, Cause::Batches { first, last }, &group.postings)?;
    insert(tx, &entry, &group.postings).await.map(Some)
}

/// Takes a command once: its postings become an entry of the same sequence, in the given transaction. Accounts that it names are opened.
///
/// - Errors: [`AppendError::Repeated`] when a command of its kind about its subject was taken; [`AppendError::Store`] with
///   [`DbError::Refused`] when a check of the database fails, as for [`append`].
#[tracing::instrument(skip_all, err, fields(kind = command.kind(), subject = command.subject()))]
pub async fn execute(tx: &mut Transaction, command: &Command) -> Result<Receipt, AppendError> {
    let (kind, subject) = (command.kind(), command.subject());
    if let Some(row) = tx.query_optional(&COMMAND_FIND, &[kind.into(), subject.into()]).await? {
        return Err(AppendError::Repeated { kind: kind.to_owned(), subject: subject.to_owned(), entry_no: row.unsigned(0)? });
    }
    store::open(tx, command.postings()).await?;
    let (head, _) = head_and_batches(tx).await?;
    let entry = next_entry(head, Cause::Command { digest: command.digest() }, command.postings())?;
    let batch_no = fold_cursor(tx).await?;
    store::insert_command(tx, entry.number, batch_no, command).await?;
    insert(tx, &entry, command.postings()).await
}

async fn insert(tx: &mut Transaction, entry: &Entry, postings: &[Posting]) -> Result<Receipt, AppendError> {
    // each engine's checks want this order: see the migration
    match tx.engine() {
        Engine::Sqlite => {
            store::insert_postings(tx, entry, postings).await?;
            store::insert_entry(tx, entry).await?;
        }
        Engine::Postgres => {
            store::insert_entry(tx, entry).await?;
            store::insert_postings(tx, entry, postings).await?;
        }
    }
    Ok(Receipt { entry_no: entry.number, first_seq: entry.first_seq, last_seq: entry.last_seq, digest: entry.digest })
}

/// The entry that follows the head and holds the postings.
fn next_entry(head: Option<Entry>, cause: Cause, postings: &[Posting]) -> Result<Entry, AppendError> {
    let (number, seq, previous) = head.map_or((0, 0, store::NOTHING), |head| (head.number, head.last_seq, head.digest));
    let rows = u64::try_from(postings.len()).map_err(|_| AppendError::Full)?;
    let last_seq = seq.checked_add(rows).filter(|last| i64::try_from(*last).is_ok()).ok_or(AppendError::Full)?;
    let mut entry = Entry { number: number + 1, first_seq: seq + 1, last_seq, cause, previous, digest: Digest::ZERO };
    let mut digest = RowsDigest::new();
    for (at, (seq, posting)) in (entry.first_seq..).zip(postings).enumerate() {
        if let Some(bytes) = posting.key().map(|key| key.contract_line.len()).filter(|bytes| *bytes > LINE_BYTES) {
            return Err(AppendError::ContractLine { at, bytes });
        }
        digest.add(seq, entry.number, posting);
    }
    entry.digest = entry.digest_over(&digest.finish());
    Ok(entry)
}

/// Closes for ever every accounting period up to a month, the month itself included even if nothing was posted in it; the months that were
/// still open.
pub async fn close_through(tx: &mut Transaction, month: Month) -> Result<Vec<Month>, AppendError> {
    let mut open = Vec::new();
    let mut known = false;
    for row in tx.query(&PERIODS, &[]).await? {
        let period = row.month(0)?;
        known |= period == month;
        if period <= month && row.optional_integer(1)?.is_none() {
            open.push(period);
        }
    }
    if !known {
        store::open_periods(tx, &[month]).await?;
        open.push(month);
    }
    for period in &open {
        close_period(tx, *period).await?;
    }
    Ok(open)
}

/// Closes an accounting period for ever: later postings into it are refused. It must have been opened by a posting.
pub async fn close_period(tx: &mut Transaction, period: Month) -> Result<(), AppendError> {
    tx.execute(&PERIOD_CLOSE, &[period.into()]).await?;
    Ok(())
}

/// The last entry: the head of the chain. `None` in an empty book.
pub async fn head(tx: &mut Transaction) -> Result<Option<Entry>, AppendError> {
    Ok(head_and_batches(tx).await?.0)
}

/// The last entry, and the last batch that an entry covers.
async fn head_and_batches(tx: &mut Transaction) -> Result<(Option<Entry>, BatchNo), AppendError> {
    match store::head(tx).await? {
        None => Ok((None, BatchNo(0))),
        Some((entry, covered)) => Ok((Some(entry.map_err(|problem| AppendError::Damaged { problem })?), covered)),
    }
}

/// Commands after an entry, in order, at most `limit`.
pub async fn commands(tx: &mut Transaction, after: u64, limit: u32) -> Result<Vec<BookedCommand>, AppendError> {
    let rows = tx.query(&COMMANDS, &[Value::try_from(after)?, limit.into()]).await?;
    let mut commands = Vec::with_capacity(rows.len());
    for row in &rows {
        let (entry_no, command) = store::read_command(row)?;
        let damaged = |problem| AppendError::Damaged { problem: format!("the command of entry {entry_no}: {problem}") };
        commands.push(BookedCommand { entry_no, batch_no: row.batch_no(5)?, command: command.map_err(damaged)? });
    }
    Ok(commands)
}

/// All entries in order.
pub async fn entries(tx: &mut Transaction) -> Result<Vec<Entry>, AppendError> {
    let rows = tx.query(&ENTRIES, &[]).await?;
    rows.iter().map(store::read_entry).collect::<Result<_, _>>().map_err(|problem| AppendError::Damaged { problem })
}

/// One entry by its number.
pub async fn entry_numbered(tx: &mut Transaction, number: u64) -> Result<Option<Entry>, AppendError> {
    let rows = tx.query(&ENTRY, &[Value::try_from(number)?]).await?;
    rows.first().map(store::read_entry).transpose().map_err(|problem| AppendError::Damaged { problem })
}

/// Postings after a sequence number, in order, at most `limit`.
pub async fn postings(tx: &mut Transaction, after_seq: u64, limit: u32) -> Result<Vec<BookedPosting>, AppendError> {
    let rows = tx.query(&POSTINGS, &[Value::try_from(after_seq)?, limit.into()]).await?;
    rows.iter().map(store::read_posting).collect::<Result<_, _>>().map_err(|problem| AppendError::Damaged { problem })
}

/// All balances, by account and asset (in byte order).
pub async fn balances(tx: &mut Transaction) -> Result<Vec<Balance>, AppendError> {
    let rows = tx.query(&BALANCES, &[]).await?;
    let mut balances = Vec::with_capacity(rows.len());
    for row in &rows {
        let units = |column| {
            let text = row.text(column)?;
            text.parse::<i128>().map_err(|_| AppendError::Damaged { problem: format!("{text:?} is no balance") })
        };
        let account = AccountId::stored(row.text(0)?);
        let damaged = |error| AppendError::Damaged { problem: format!("the balance of {account}: {error}") };
        let asset = AssetId::parse(row.text(1)?).map_err(damaged)?;
        balances.push(Balance { account, asset, debits: units(2)?, credits: units(3)?, last_seq: row.unsigned(4)? });
    }
    Ok(balances)
}

/// Where the fold stands.
pub(crate) async fn fold_cursor(tx: &mut Transaction) -> Result<BatchNo, DbError> {
    cursor(tx, FOLD).await
}
