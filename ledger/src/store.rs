//! Statements of the book and how its rows are read and written. It decides nothing.

use serde_json::json;
use shared_db::{DbError, Row, Statement, Transaction, Value, statement};
use shared_types::{Amount, AssetId, BatchNo, ContractId, Digest, IdError, Month, OrganizationId, Quantity};

use crate::command::Command;
use crate::entry::{BookedPosting, Cause, Entry};
use crate::posting::{AccountId, Kind, Posting, PostingKey, Sides};

pub(crate) const ASSETS_OPEN: Statement = statement!("assets_open");
pub(crate) const ACCOUNTS_OPEN: Statement = statement!("accounts_open");
pub(crate) const PERIODS_OPEN: Statement = statement!("periods_open");
pub(crate) const PERIOD_CLOSE: Statement = statement!("period_close");
pub(crate) const HEAD: Statement = statement!("head");
pub(crate) const ENTRIES: Statement = statement!("entries");
pub(crate) const ENTRY: Statement = statement!("entry");
pub(crate) const ENTRY_INSERT: Statement = statement!("entry_insert");
pub(crate) const POSTINGS: Statement = statement!("postings");
pub(crate) const POSTINGS_INSERT: Statement = statement!("postings_insert");
pub(crate) const BALANCES: Statement = statement!("balances");
pub(crate) const ACCOUNTS: Statement = statement!("accounts");
pub(crate) const ASSETS: Statement = statement!("assets");
pub(crate) const PERIODS: Statement = statement!("periods");
pub(crate) const COMMAND_INSERT: Statement = statement!("command_insert");
pub(crate) const COMMAND_FIND: Statement = statement!("command_find");
pub(crate) const COMMANDS: Statement = statement!("commands");

/// Why a stored row is not what the book writes: the text names the row and the column.
pub(crate) type Unreadable = String;

/// An entry, or what is wrong with its row.
pub(crate) fn read_entry(row: &Row) -> Result<Entry, Unreadable> {
    let read = || -> Result<Entry, DbError> {
        let cause = match row.optional_digest(7)? {
            Some(digest) => Cause::Command { digest },
            None => Cause::Batches { first: row.batch_no(3)?, last: row.batch_no(4)? },
        };
        Ok(Entry {
            number: row.unsigned(0)?,
            first_seq: row.unsigned(1)?,
            last_seq: row.unsigned(2)?,
            cause,
            previous: row.digest(5)?,
            digest: row.digest(6)?,
        })
    };
    read().map_err(|error| error.to_string())
}

/// A posting, or what is wrong with its row.
pub(crate) fn read_posting(row: &Row) -> Result<BookedPosting, Unreadable> {
    let text = |error: DbError| error.to_string();
    let id = |error: IdError| error.to_string();
    let (seq, entry_no) = (row.unsigned(0).map_err(text)?, row.unsigned(1).map_err(text)?);
    let number = row.integer(6).map_err(text)?;
    let kind = Kind::numbered(number).filter(|_| matches!(row.optional_integer(7), Ok(None)));
    let kind = kind.ok_or_else(|| format!("kind {number} is not taken by this book"))?;
    let sides = Sides { debit: AccountId::stored(row.text(2).map_err(text)?), credit: AccountId::stored(row.text(3).map_err(text)?) };
    let asset = AssetId::parse(row.text(4).map_err(text)?).map_err(id)?;
    let amount = Amount::from_units(row.integer(5).map_err(text)?.into()).map_err(|error| error.to_string())?;
    let posting = Posting::new(sides, asset, amount, row.month(8).map_err(text)?, row.instant(15).map_err(text)?)
        .map_err(|error| error.to_string())?
        .of_kind(kind);
    let posting = match row.optional_text(9).map_err(text)? {
        None => posting,
        Some(organization) => {
            let key = PostingKey {
                organization: OrganizationId::parse(organization).map_err(id)?,
                contract: ContractId::parse(row.text(10).map_err(text)?).map_err(id)?,
                contract_line: row.text(11).map_err(text)?.to_owned(),
                service_period: row.month(12).map_err(text)?,
                currency: AssetId::parse(row.text(13).map_err(text)?).map_err(id)?,
            };
            let written = row.text(14).map_err(text)?;
            let quantity = Quantity::parse(written).map_err(|error| error.to_string())?;
            if quantity.to_string() != written {
                return Err(format!("quantity {written:?} is not written plainly"));
            }
            posting.about(key, quantity).map_err(|error| error.to_string())?
        }
    };
    Ok(BookedPosting { seq, entry_no, posting })
}

/// Writes an entry's header.
pub(crate) async fn insert_entry(tx: &mut Transaction, entry: &Entry) -> Result<(), DbError> {
    let (first_batch, last_batch, command) = match entry.cause {
        Cause::Batches { first, last } => (Value::try_from(first)?, Value::try_from(last)?, Value::Null),
        Cause::Command { digest } => (Value::Null, Value::Null, digest.into()),
    };
    let values = [
        Value::try_from(entry.number)?,
        Value::try_from(entry.first_seq)?,
        Value::try_from(entry.last_seq)?,
        first_batch,
        last_batch,
        entry.previous.into(),
        entry.digest.into(),
        command,
    ];
    tx.execute(&ENTRY_INSERT, &values).await.map(drop)
}

/// Writes all postings of an entry in one statement.
pub(crate) async fn insert_postings(tx: &mut Transaction, entry: &Entry, postings: &[Posting]) -> Result<(), DbError> {
    let rows = serde_json::Value::Array(postings.iter().map(row_of).collect());
    let values = [Value::try_from(entry.first_seq)?, Value::try_from(entry.number)?, rows.to_string().into()];
    tx.execute(&POSTINGS_INSERT, &values).await.map(drop)
}

/// In the order of the columns of `postings_insert.sql`.
fn row_of(posting: &Posting) -> serde_json::Value {
    let key = posting.key();
    json!([
        posting.debit().as_str(),
        posting.credit().as_str(),
        posting.asset().as_str(),
        posting.amount().units(),
        posting.kind().number(),
        null,
        posting.accounting_period().number(),
        key.map(|key| key.organization.as_str()),
        key.map(|key| key.contract.as_str()),
        key.map(|key| key.contract_line.as_str()),
        key.map(|key| key.service_period.number()),
        key.map(|key| key.currency.as_str()),
        posting.quantity().map(|quantity| quantity.to_string()),
        posting.effective_at().micros(),
    ])
}

/// Opens what postings name and the book does not know: assets, accounts, periods.
pub(crate) async fn open(tx: &mut Transaction, postings: &[Posting]) -> Result<(), DbError> {
    let mut assets: Vec<&AssetId> = postings.iter().map(Posting::asset).collect();
    assets.sort_unstable();
    assets.dedup();
    let mut accounts: Vec<(&str, &str)> = postings
        .iter()
        .flat_map(|posting| [(posting.debit(), posting.asset()), (posting.credit(), posting.asset())])
        .map(|(account, asset)| (account.as_str(), asset.as_str()))
        .collect();
    accounts.sort_unstable();
    accounts.dedup();
    let mut periods: Vec<Month> = postings.iter().map(Posting::accounting_period).collect();
    periods.sort_unstable();
    periods.dedup();
    tx.execute(&ASSETS_OPEN, &[json!(assets).to_string().into()]).await?;
    tx.execute(&ACCOUNTS_OPEN, &[json!(accounts).to_string().into()]).await?;
    open_periods(tx, &periods).await
}

/// Opens accounting periods that the book does not know.
pub(crate) async fn open_periods(tx: &mut Transaction, periods: &[Month]) -> Result<(), DbError> {
    let periods: Vec<i32> = periods.iter().map(|period| period.number()).collect();
    tx.execute(&PERIODS_OPEN, &[json!(periods).to_string().into()]).await.map(drop)
}

/// Writes a command beside its entry.
pub(crate) async fn insert_command(tx: &mut Transaction, entry_no: u64, batch_no: BatchNo, command: &Command) -> Result<(), DbError> {
    let values = [
        Value::try_from(entry_no)?,
        command.kind().into(),
        command.subject().into(),
        command.payload().into(),
        command.digest().into(),
        Value::try_from(batch_no)?,
    ];
    tx.execute(&COMMAND_INSERT, &values).await.map(drop)
}

/// The number of a command's entry, and the command or what is wrong with its row.
pub(crate) fn read_command(row: &Row) -> Result<(u64, Result<Command, Unreadable>), DbError> {
    let (entry_no, kind, subject, payload, digest) = (row.unsigned(0)?, row.text(1)?, row.text(2)?, row.text(3)?, row.digest(4)?);
    let command = Command::parse(payload).map_err(|error| error.to_string()).and_then(|command| {
        if (command.kind(), command.subject(), command.digest()) == (kind, subject, digest) {
            Ok(command)
        } else {
            Err("its kind, subject or digest is not that of its payload".to_owned())
        }
    });
    Ok((entry_no, command))
}

/// The last entry's numbers and digest, and the last batch that an entry covers; nothing of an empty book.
pub(crate) async fn head(tx: &mut Transaction) -> Result<Option<(Result<Entry, Unreadable>, BatchNo)>, DbError> {
    let Some(row) = tx.query_optional(&HEAD, &[]).await? else { return Ok(None) };
    Ok(Some((read_entry(&row), row.batch_no(8)?)))
}

/// The digest before the first entry.
pub(crate) const NOTHING: Digest = Digest::ZERO;
