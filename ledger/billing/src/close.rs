//! The close in the books: running totals by accounting period, months that every shard has passed, drafts, numbers, second opinions.
//! Every function works in the caller's transaction and does each thing once, however often it is asked.
//! It knows no batch file and no registry: deltas, passes and policies come in.

mod terms;

use std::collections::{BTreeMap, BTreeSet};

use platform_ledger::AppendError;
use serde_json::json;
use shared_db::{DbError, Row, Transaction, Value};
use shared_types::{Amount, AssetId, BatchNo, ContractId, Digest, Instant, Month, OrganizationId, Quantity, ShardId, SkuId, Sum};

use crate::invoice::{Invoice, InvoiceError, InvoiceId, Invoiced, KeyAtClose, LogRange, Policies, Subject, draft};
use crate::rerated::fold_reratings;
use crate::store::{
    CLOSE_INSERT, CLOSE_LAST, CLOSES, DRAFTS_INSERT, HELD_ALL, HELD_INSERT, INVOICE_FIND, INVOICE_INSERT, INVOICE_NUMBERED, INVOICES_AFTER,
    INVOICES_OF, ISSUE_INSERT, ISSUE_LAST, KeyTotal, LINES_BEFORE, LINES_INSERT, LINES_OF, OPINION_INSERT, ORGANIZATIONS_AFTER,
    PASSED_BY_ALL, PASSES_INSERT, PASSES_LAST, TOTALS_ALL, TOTALS_FIND, TOTALS_OF, TOTALS_PUT, UNISSUED, read_total, total_row,
};
use crate::terms::Terms;
use crate::usage::KeyDelta;

/// Invoices read at a time.
const PAGE: u32 = 500;

/// How far a shard was when a range of it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardEnd {
    /// The shard.
    pub shard: ShardId,
    /// Its oldest unclosed month; none before the first close.
    pub oldest_open: Option<Month>,
    /// The registry version in force there.
    pub registry_version: Digest,
    /// The batch of the range.
    pub batch_no: BatchNo,
}

/// A closed month and what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Close {
    /// The month: it and all before it are closed.
    pub period: Month,
    /// The close before it; none for the first. What lies between is what its invoices cover.
    pub previous: Option<Month>,
    /// The registry version in force at the close.
    pub registry_version: Digest,
    /// The end of the cut that folded the last shard's close record.
    pub last_batch: BatchNo,
    /// How many invoices were drafted; none while drafting goes on.
    pub drafted: Option<u64>,
    /// How many of them have their number.
    pub issued: u64,
    /// What the second engine said last; none while it was not asked.
    pub opinion: Option<bool>,
}

impl Close {
    /// Where the month stands, in one word: `closing`, `drafted` or `issued`.
    pub fn stage(&self) -> &'static str {
        match self.drafted {
            None => "closing",
            Some(drafted) if self.issued < drafted => "drafted",
            Some(_) => "issued",
        }
    }

    /// Until the second engine agrees, a month is provisional.
    pub fn provisional(&self) -> bool {
        self.opinion != Some(true)
    }
}

/// An invoice as it stands in the books.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredInvoice {
    /// Its content.
    pub invoice: Invoice,
    /// Its number and entry; none for a draft.
    pub issue: Option<Issue>,
}

/// An invoice's number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issue {
    /// Who issued it.
    pub issuer: String,
    /// Dense per issuer, from 1.
    pub number: u64,
    /// The ledger's entry; none when nothing moved.
    pub entry_no: Option<u64>,
    /// When.
    pub issued_at: Instant,
}

impl Issue {
    /// As it stands on the invoice, for example `TALLY-000042`.
    pub fn shown(&self) -> String {
        format!("{}-{:06}", self.issuer, self.number)
    }
}

/// Why the books could not be closed, drafted or issued. The transaction must be rolled back.
#[derive(Debug, thiserror::Error)]
pub enum CloseError {
    /// The database failed or refused.
    #[error("could not use the tables of billing")]
    Db(#[from] DbError), // BILLING-0009
    /// A stored total is not what was written, or disagrees with another.
    #[error("the running totals are damaged: {problem}")]
    Totals {
        /// What is wrong.
        problem: String,
    }, // BILLING-0010
    /// An invoice cannot be made or read.
    #[error(transparent)]
    Invoice(#[from] InvoiceError),
    /// The ledger refused the invoice's command.
    #[error("could not book invoice {invoice_id}")]
    Ledger {
        /// The invoice.
        invoice_id: InvoiceId,
        /// Why.
        #[source]
        source: AppendError,
    }, // BILLING-0011
    /// The month is not closed.
    #[error("{period} is not closed; run `tally close {period}`")]
    Open {
        /// The month.
        period: Month,
    }, // BILLING-0012
    /// There is no such invoice.
    #[error("there is no invoice {invoice_id}; `tally invoice list` lists them")]
    NoInvoice {
        /// What was asked for.
        invoice_id: String,
    }, // BILLING-0013
}

fn damaged(problem: String) -> CloseError {
    CloseError::Totals { problem }
}

/// Takes a cut's deltas and shard ends into the totals and passes, in the transaction of the ledger's fold; the months that close by it.
///
/// - `deltas`, `ends`: in order of their batches.
pub async fn fold(tx: &mut Transaction, last: BatchNo, deltas: &[KeyDelta], ends: &[ShardEnd]) -> Result<Vec<Month>, CloseError> {
    fold_totals(tx, deltas).await?;
    fold_reratings(tx, deltas).await?;
    fold_passes(tx, ends).await?;
    let mut closed = Vec::new();
    for row in tx.query(&PASSED_BY_ALL, &[]).await? {
        let (period, version) = (row.month(0)?, row.digest(1)?);
        tx.execute(&CLOSE_INSERT, &[period.into(), version.into(), Value::try_from(last)?]).await?;
        closed.push(period);
    }
    Ok(closed)
}

type TotalKey = (OrganizationId, ContractId, SkuId, Month, AssetId, Month);

fn key_of(total: &KeyTotal) -> TotalKey {
    (
        total.organization.clone(),
        total.contract.clone(),
        total.sku.clone(),
        total.service_period,
        total.currency.clone(),
        total.accounting_period,
    )
}

async fn fold_totals(tx: &mut Transaction, deltas: &[KeyDelta]) -> Result<(), CloseError> {
    let mut news: BTreeMap<TotalKey, KeyTotal> = BTreeMap::new();
    for delta in deltas {
        let new = delta.total_row()?;
        match news.entry(key_of(&new)) {
            std::collections::btree_map::Entry::Vacant(vacant) => {
                vacant.insert(new);
            }
            std::collections::btree_map::Entry::Occupied(mut before) => {
                let sum = add(before.get(), new)?;
                before.insert(sum);
            }
        }
    }
    if news.is_empty() {
        return Ok(());
    }
    let wanted: Vec<_> = news
        .keys()
        .map(|(organization, contract, sku, service, currency, accounting)| {
            json!([organization, contract, sku, service.number(), currency, accounting.number()])
        })
        .collect();
    for row in tx.query(&TOTALS_FIND, &[json!(wanted).to_string().into()]).await? {
        let stored = read_total(&row).map_err(damaged)?;
        if let Some(new) = news.remove(&key_of(&stored)) {
            let sum = add(&stored, new)?;
            news.insert(key_of(&sum), sum);
        }
    }
    let rows: Vec<_> = news.values().map(total_row).collect();
    tx.execute(&TOTALS_PUT, &[json!(rows).to_string().into()]).await?;
    Ok(())
}

/// A total and what came after it.
fn add(before: &KeyTotal, after: KeyTotal) -> Result<KeyTotal, CloseError> {
    let beyond = |what: &str| damaged(format!("the {what} of {} in {} leaves its range", after.contract_line, after.service_period));
    Ok(KeyTotal {
        quantity: before.quantity.checked_add(after.quantity).map_err(|_| beyond("quantity"))?,
        amount: before.amount.checked_add(after.amount).map_err(|_| beyond("amount"))?,
        readings: before.readings.checked_add(after.readings).ok_or_else(|| beyond("number of readings"))?,
        ..after
    })
}

async fn fold_passes(tx: &mut Transaction, ends: &[ShardEnd]) -> Result<(), CloseError> {
    if ends.iter().all(|end| end.oldest_open.is_none()) {
        return Ok(());
    }
    let mut passed: BTreeMap<u64, Month> = BTreeMap::new();
    for row in tx.query(&PASSES_LAST, &[]).await? {
        passed.insert(row.unsigned(0)?, row.month(1)?);
    }
    let mut news = Vec::new();
    for end in ends {
        let Some(period) = end.oldest_open.and_then(Month::previous) else { continue };
        let shard = u64::from(end.shard.number());
        if passed.get(&shard).is_none_or(|before| *before < period) {
            passed.insert(shard, period);
            news.push(json!([shard, period.number(), end.registry_version.to_string(), end.batch_no.0]));
        }
    }
    if !news.is_empty() {
        tx.execute(&PASSES_INSERT, &[json!(news).to_string().into()]).await?;
    }
    Ok(())
}

/// Closed months in order, with where each stands.
pub async fn closes(tx: &mut Transaction) -> Result<Vec<Close>, CloseError> {
    let rows = tx.query(&CLOSES, &[]).await?;
    let read = |row: &Row| -> Result<Close, DbError> {
        Ok(Close {
            period: row.month(0)?,
            registry_version: row.digest(1)?,
            last_batch: row.batch_no(2)?,
            previous: row.optional_month(3)?,
            drafted: row.optional_integer(4)?.and_then(|drafted| u64::try_from(drafted).ok()),
            issued: row.unsigned(5)?,
            opinion: row.optional_integer(6)?.map(|agrees| agrees == 1),
        })
    };
    Ok(rows.iter().map(read).collect::<Result<_, _>>()?)
}

/// The last closed month; none before the first close.
pub async fn last_close(tx: &mut Transaction) -> Result<Option<Month>, CloseError> {
    Ok(tx.query_one(&CLOSE_LAST, &[]).await?.optional_month(0)?)
}

/// The close of a month; a later close closed it too, and is answered where the month has none of its own.
pub async fn close_of(tx: &mut Transaction, period: Month) -> Result<Close, CloseError> {
    let found = closes(tx).await?.into_iter().find(|close| close.period >= period);
    found.ok_or(CloseError::Open { period })
}

/// Organizations with usage that a close covers, and those that may owe something without, after one of them in order, at most `limit`.
pub async fn organizations(
    tx: &mut Transaction,
    close: &Close,
    terms: &Terms,
    after: Option<&OrganizationId>,
    limit: u32,
) -> Result<Vec<OrganizationId>, CloseError> {
    let previous = close.previous.map_or(0, Month::number);
    let name = after.map_or("", OrganizationId::as_str);
    let rows = tx.query(&ORGANIZATIONS_AFTER, &[previous.into(), close.period.into(), name.into(), limit.into()]).await?;
    let of_row = |row: &Row| {
        let text = row.text(0)?;
        OrganizationId::parse(text).map_err(|error| damaged(format!("{text:?} is no organization: {error}")))
    };
    let mut found: BTreeSet<OrganizationId> = rows.iter().map(of_row).collect::<Result<_, _>>()?;
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    found.extend(terms.owing(after, close.previous, close.period).take(limit).cloned());
    Ok(found.into_iter().take(limit).collect())
}

/// Drafts an organization's invoices of a close, one for each currency, unless they are drafted already; how many it has.
pub async fn draft_organization(
    tx: &mut Transaction,
    close: &Close,
    organization: &OrganizationId,
    policies: &Policies,
) -> Result<usize, CloseError> {
    let stored = tx.query(&INVOICES_OF, &[organization.as_str().into(), close.period.into()]).await?.len();
    if stored > 0 {
        return Ok(stored);
    }
    let invoices = invoices_of(tx, close, organization, policies).await?;
    for invoice in &invoices {
        insert(tx, invoice).await?;
    }
    Ok(invoices.len())
}

/// An organization that has no invoice from a close on, because one does not fit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// The organization.
    pub organization: OrganizationId,
    /// The first month without an invoice.
    pub period: Month,
    /// Why.
    pub problem: String,
}

/// Leaves an organization without an invoice from a close on: everyone else is invoiced.
pub async fn hold(tx: &mut Transaction, held: &Held) -> Result<(), CloseError> {
    tx.execute(&HELD_INSERT, &[held.organization.as_str().into(), held.period.into(), held.problem.as_str().into()]).await?;
    Ok(())
}

/// Every organization that is left without invoices, in order.
pub async fn held(tx: &mut Transaction) -> Result<Vec<Held>, CloseError> {
    let of_row = |row: &Row| -> Result<Held, CloseError> {
        let organization = OrganizationId::parse(row.text(0)?).map_err(|error| damaged(error.to_string()))?;
        Ok(Held { organization, period: row.month(1)?, problem: row.text(2)?.to_owned() })
    };
    tx.query(&HELD_ALL, &[]).await?.iter().map(of_row).collect()
}

/// What the totals say that an organization's invoices of a close are: what was drafted, or must be.
pub async fn invoices_of(
    tx: &mut Transaction,
    close: &Close,
    organization: &OrganizationId,
    policies: &Policies,
) -> Result<Vec<Invoice>, CloseError> {
    let mut before: BTreeMap<(String, String, Month, String), Invoiced> = BTreeMap::new();
    for row in tx.query(&LINES_BEFORE, &[organization.as_str().into(), close.period.into()]).await? {
        let amount = |column| -> Result<Amount, CloseError> {
            Amount::from_units(row.integer(column)?.into()).map_err(|error| damaged(error.to_string()))
        };
        let key = (row.text(0)?.to_owned(), row.text(1)?.to_owned(), row.month(2)?, row.text(3)?.to_owned());
        before.insert(key, Invoiced { key_total: amount(4)?, key_amount: amount(5)? });
    }
    let mut keys: BTreeMap<AssetId, Vec<KeyAtClose>> = BTreeMap::new();
    let mut logs: BTreeMap<Month, (u64, u64)> = BTreeMap::new();
    let mut rows = Vec::new();
    for row in tx.query(&TOTALS_OF, &[organization.as_str().into(), close.period.into()]).await? {
        let total = read_total(&row).map_err(damaged)?;
        let covered = close.previous.is_some_and(|previous| total.accounting_period <= previous);
        for (month, size) in &total.log_sizes {
            let (from, to) = logs.entry(*month).or_default();
            *to = (*to).max(*size);
            if covered {
                *from = (*from).max(*size);
            }
        }
        rows.push((covered, total));
    }
    let mut spend = terms::Closing::new(policies, organization);
    for key_rows in rows.chunk_by(|(_, a), (_, b)| {
        (&a.contract, &a.sku, a.service_period, &a.currency) == (&b.contract, &b.sku, b.service_period, &b.currency)
    }) {
        let Some((_, last)) = key_rows.last() else { continue };
        let name = (last.contract.to_string(), last.sku.to_string(), last.service_period, last.currency.to_string());
        let said = before.get(&name);
        let found = at_close(key_rows, said)?;
        spend.take(last, found.as_ref().map(|(_, key)| key), said, close)?;
        if let Some((currency, key)) = found {
            keys.entry(currency).or_default().push(key);
        }
    }
    let said = if spend.has_terms() { terms::said_before(tx, close, organization).await? } else { terms::Said::new() };
    let mut terms = spend.lines(&said, close, organization)?;
    for currency in terms.keys() {
        keys.entry(currency.clone()).or_default();
    }
    let logs: Vec<LogRange> =
        logs.into_iter().filter(|(_, (from, to))| from < to).map(|(month, (from, to))| LogRange { from, month, to }).collect();
    let mut invoices = Vec::with_capacity(keys.len());
    for (currency, keys) in keys {
        let of_currency = terms.remove(&currency).unwrap_or_default();
        let subject =
            Subject { organization: organization.clone(), currency, period: close.period, registry_version: close.registry_version };
        invoices.push(draft(&subject, keys, logs.clone(), policies)?.with_terms(of_currency)?);
    }
    Ok(invoices)
}

/// One key out of its rows, in order of accounting periods; none when the close covers nothing new of it.
fn at_close(rows: &[(bool, KeyTotal)], before: Option<&Invoiced>) -> Result<Option<(AssetId, KeyAtClose)>, CloseError> {
    let Some((_, last)) = rows.last() else { return Ok(None) };
    let beyond = |what: &str| damaged(format!("the {what} of {} in {} leaves its range", last.contract_line, last.service_period));
    let mut key = KeyAtClose {
        contract: last.contract.clone(),
        contract_line: last.contract_line.clone(),
        sku: last.sku.clone(),
        service_period: last.service_period,
        quantity: Quantity::ZERO,
        readings: 0,
        key_quantity: Quantity::ZERO,
        key_readings: 0,
        key_total: last.total,
        prices: last.prices.clone(),
        before: None,
    };
    let mut amount = 0_i128;
    for (covered, row) in rows {
        amount = amount.saturating_add(row.amount.units().into());
        key.key_quantity = key.key_quantity.checked_add(row.quantity).map_err(|_| beyond("quantity"))?;
        key.key_readings = key.key_readings.checked_add(row.readings).ok_or_else(|| beyond("number of readings"))?;
        if !covered {
            key.quantity = key.quantity.checked_add(row.quantity).map_err(|_| beyond("quantity"))?;
            key.readings = key.readings.checked_add(row.readings).ok_or_else(|| beyond("number of readings"))?;
        }
    }
    if amount != i128::from(last.total.units()) {
        return Err(damaged(format!(
            "{} of {} in {} was charged {amount} × 10^-9, its total says {}",
            last.contract_line, last.organization, last.service_period, last.total
        )));
    }
    if rows.iter().all(|(covered, _)| *covered) {
        return Ok(None);
    }
    key.before = before.copied();
    Ok(Some((last.currency.clone(), key)))
}

/// A total as two columns hold it: below and above 10^18.
fn columns(total: Sum) -> Option<(i64, i64)> {
    const HIGH: i128 = 1_000_000_000_000_000_000;
    Some((i64::try_from(total.units().checked_rem(HIGH)?).ok()?, i64::try_from(total.units().checked_div(HIGH)?).ok()?))
}

async fn insert(tx: &mut Transaction, invoice: &Invoice) -> Result<(), CloseError> {
    let (total, total_high) =
        columns(invoice.total).ok_or_else(|| damaged(format!("the total of {} has too many digits", invoice.invoice_id)))?;
    let values = [
        invoice.invoice_id.as_str().into(),
        invoice.period.into(),
        invoice.organization.as_str().into(),
        invoice.currency.as_str().into(),
        total.into(),
        invoice.canonical().into(),
        invoice.digest().into(),
        total_high.into(),
    ];
    tx.execute(&INVOICE_INSERT, &values).await?;
    let lines: Vec<_> = line_rows(invoice);
    let values = [
        invoice.invoice_id.as_str().into(),
        invoice.organization.as_str().into(),
        invoice.currency.as_str().into(),
        invoice.period.into(),
        json!(lines).to_string().into(),
    ];
    tx.execute(&LINES_INSERT, &values).await?;
    terms::insert(tx, invoice).await
}

/// In the order of `lines_insert.sql`.
fn line_rows(invoice: &Invoice) -> Vec<serde_json::Value> {
    let row = |line: &crate::invoice::Line| {
        json!([
            line.number,
            line.contract,
            line.contract_line,
            line.sku,
            line.service_period.number(),
            line.key_total.units(),
            line.key_amount.units(),
            line.exact.units(),
            line.amount.units(),
        ])
    };
    invoice.lines.iter().map(row).collect()
}

/// Says that every organization of a close has its drafts; how many invoices there are.
pub async fn finish_drafts(tx: &mut Transaction, close: &Close) -> Result<(), CloseError> {
    tx.execute(&DRAFTS_INSERT, &[close.period.into()]).await?;
    Ok(())
}

/// Drafts of a month that have no number, by organization and currency, at most `limit`.
pub async fn unissued(tx: &mut Transaction, period: Month, limit: u32) -> Result<Vec<InvoiceId>, CloseError> {
    let rows = tx.query(&UNISSUED, &[period.into(), limit.into()]).await?;
    rows.iter().map(|row| Ok(InvoiceId::named(row.text(0)?))).collect()
}

/// Gives a draft its number and books it, unless it has one already.
///
/// - The entry stands in the first month behind the last close, and takes effect with the end of the invoice's month.
/// - Errors: [`CloseError::NoInvoice`]; [`CloseError::Db`] with the refusal when the drafts of its month are not complete.
pub async fn issue(tx: &mut Transaction, invoice_id: &InvoiceId, issuer: &str, issued_at: Instant) -> Result<Issue, CloseError> {
    let stored = invoice(tx, invoice_id.as_str()).await?;
    if let Some(issue) = stored.issue {
        return Ok(issue);
    }
    let open = last_close(tx).await?.and_then(Month::next).ok_or(CloseError::Open { period: stored.invoice.period })?;
    let number = tx.query_one(&ISSUE_LAST, &[issuer.into()]).await?.unsigned(0)?.saturating_add(1);
    let entry_no = match stored.invoice.command(open)? {
        None => None,
        Some(command) => {
            let booked = platform_ledger::execute(tx, &command).await;
            Some(booked.map_err(|source| CloseError::Ledger { invoice_id: invoice_id.clone(), source })?.entry_no)
        }
    };
    let values = [
        issuer.into(),
        Value::try_from(number)?,
        invoice_id.as_str().into(),
        entry_no.map(Value::try_from).transpose()?.unwrap_or_default(),
        issued_at.into(),
    ];
    tx.execute(&ISSUE_INSERT, &values).await?;
    Ok(Issue { issuer: issuer.to_owned(), number, entry_no, issued_at })
}

/// An invoice by its id.
pub async fn invoice(tx: &mut Transaction, invoice_id: &str) -> Result<StoredInvoice, CloseError> {
    let row = tx.query_optional(&INVOICE_FIND, &[invoice_id.into()]).await?;
    let row = row.ok_or_else(|| CloseError::NoInvoice { invoice_id: invoice_id.chars().take(100).collect() })?;
    read_invoice(&row)
}

/// An invoice by the number that stands on it, as [`Issue::shown`] writes it.
pub async fn numbered_invoice(tx: &mut Transaction, number: &str) -> Result<StoredInvoice, CloseError> {
    let missing = || CloseError::NoInvoice { invoice_id: number.chars().take(100).collect() };
    let (issuer, digits) = number.rsplit_once('-').ok_or_else(missing)?;
    let digits: u32 = digits.parse().map_err(|_| missing())?;
    let row = tx.query_optional(&INVOICE_NUMBERED, &[issuer.into(), digits.into()]).await?.ok_or_else(missing)?;
    let stored = read_invoice(&row)?;
    if stored.issue.as_ref().is_some_and(|issue| issue.shown() == number) { Ok(stored) } else { Err(missing()) }
}

/// Every invoice, in order of ids.
pub async fn invoices(tx: &mut Transaction) -> Result<Vec<StoredInvoice>, CloseError> {
    let mut found: Vec<StoredInvoice> = Vec::new();
    loop {
        let after = found.last().map(|last| last.invoice.invoice_id.to_string()).unwrap_or_default();
        let page = invoices_after(tx, &after, PAGE).await?;
        if page.is_empty() {
            return Ok(found);
        }
        found.extend(page);
    }
}

/// Invoices after an id, in order of ids, at most `limit`.
pub async fn invoices_after(tx: &mut Transaction, after: &str, limit: u32) -> Result<Vec<StoredInvoice>, CloseError> {
    let rows = tx.query(&INVOICES_AFTER, &[after.into(), limit.into()]).await?;
    rows.iter().map(read_invoice).collect()
}

/// An organization's invoices of a month.
pub async fn invoices_in(tx: &mut Transaction, organization: &OrganizationId, period: Month) -> Result<Vec<StoredInvoice>, CloseError> {
    let rows = tx.query(&INVOICES_OF, &[organization.as_str().into(), period.into()]).await?;
    rows.iter().map(read_invoice).collect()
}

/// The content is digested again and must be what its row says.
fn read_invoice(row: &Row) -> Result<StoredInvoice, CloseError> {
    let invoice_id = row.text(0)?;
    let content = row.text(1)?;
    let invoice = Invoice::parse(invoice_id, content)?;
    let total = Some((row.integer(10)?, row.integer(11)?));
    let says = (row.digest(2)?, row.month(7)?, row.text(8)?, row.text(9)?, total);
    let is = (invoice.digest(), invoice.period, invoice.organization.as_str(), invoice.currency.as_str(), columns(invoice.total));
    if says != is {
        let problem = "its digest, month, organization, currency or total is not that of its content".to_owned();
        return Err(InvoiceError::Damaged { invoice_id: invoice_id.to_owned(), problem }.into());
    }
    let issue = match row.optional_text(3)? {
        None => None,
        Some(issuer) => Some(Issue {
            issuer: issuer.to_owned(),
            number: row.unsigned(4)?,
            entry_no: row.optional_integer(5)?.and_then(|entry| u64::try_from(entry).ok()),
            issued_at: row.instant(6)?,
        }),
    };
    Ok(StoredInvoice { invoice, issue })
}

/// Whether the rows of an invoice's lines are those of its content.
pub async fn lines_hold(tx: &mut Transaction, invoice: &Invoice) -> Result<bool, CloseError> {
    let rows = tx.query(&LINES_OF, &[invoice.invoice_id.as_str().into()]).await?;
    let mut stored = Vec::with_capacity(rows.len());
    for row in &rows {
        let owner = (row.text(1)?, row.text(6)?, row.month(7)?);
        if owner != (invoice.organization.as_str(), invoice.currency.as_str(), invoice.period) {
            return Ok(false);
        }
        stored.push(json!([
            row.integer(0)?,
            row.text(2)?,
            row.text(3)?,
            row.text(4)?,
            row.integer(5)?,
            row.integer(8)?,
            row.integer(9)?,
            row.integer(10)?,
            row.integer(11)?,
        ]));
    }
    Ok(stored == line_rows(invoice) && terms::hold(tx, invoice).await?)
}

/// Every running total, by key and accounting period.
pub async fn totals(tx: &mut Transaction) -> Result<Vec<KeyTotal>, CloseError> {
    let rows = tx.query(&TOTALS_ALL, &[]).await?;
    rows.iter().map(|row| read_total(row).map_err(damaged)).collect()
}

/// Records what the second engine said of a closed month; the last record counts.
pub async fn record_opinion(tx: &mut Transaction, period: Month, agrees: bool, report: &str, at: Instant) -> Result<(), CloseError> {
    let close = close_of(tx, period).await?;
    tx.execute(&OPINION_INSERT, &[close.period.into(), i64::from(agrees).into(), report.into(), at.into()]).await?;
    Ok(())
}
