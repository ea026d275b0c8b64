//! Statements of billing and how its rows are read. It decides nothing.

use std::collections::BTreeMap;

use shared_db::{DbError, Row, Statement, statement};
use shared_types::{Amount, AssetId, ContractId, Month, OrganizationId, Quantity, SkuId};

use crate::invoice::PriceSum;

pub(crate) const PASSES_LAST: Statement = statement!("passes_last");
pub(crate) const PASSES_INSERT: Statement = statement!("passes_insert");
pub(crate) const PASSED_BY_ALL: Statement = statement!("passed_by_all");
pub(crate) const CLOSE_INSERT: Statement = statement!("close_insert");
pub(crate) const CLOSE_LAST: Statement = statement!("close_last");
pub(crate) const CLOSES: Statement = statement!("closes");
pub(crate) const TOTALS_FIND: Statement = statement!("totals_find");
pub(crate) const TOTALS_PUT: Statement = statement!("totals_put");
pub(crate) const TOTALS_OF: Statement = statement!("totals_of");
pub(crate) const TOTALS_ALL: Statement = statement!("totals_all");
pub(crate) const ORGANIZATIONS_AFTER: Statement = statement!("organizations_after");
pub(crate) const LINES_BEFORE: Statement = statement!("lines_before");
pub(crate) const LINES_OF: Statement = statement!("lines_of");
pub(crate) const LINES_INSERT: Statement = statement!("lines_insert");
pub(crate) const TERMS_BEFORE: Statement = statement!("terms_before");
pub(crate) const TERMS_OF: Statement = statement!("terms_of");
pub(crate) const TERMS_INSERT: Statement = statement!("terms_insert");
pub(crate) const INVOICE_INSERT: Statement = statement!("invoice_insert");
pub(crate) const INVOICE_FIND: Statement = statement!("invoice_find");
pub(crate) const INVOICE_NUMBERED: Statement = statement!("invoice_numbered");
pub(crate) const INVOICES_OF: Statement = statement!("invoices_of");
pub(crate) const INVOICES_AFTER: Statement = statement!("invoices_after");
pub(crate) const DRAFTS_INSERT: Statement = statement!("drafts_insert");
pub(crate) const UNISSUED: Statement = statement!("unissued");
pub(crate) const ISSUE_LAST: Statement = statement!("issue_last");
pub(crate) const ISSUE_INSERT: Statement = statement!("issue_insert");
pub(crate) const OPINION_INSERT: Statement = statement!("opinion_insert");
pub(crate) const HELD_INSERT: Statement = statement!("held_insert");
pub(crate) const HELD_ALL: Statement = statement!("held_all");
pub(crate) const RERATINGS_INSERT: Statement = statement!("reratings_insert");
pub(crate) const RERATINGS_OF: Statement = statement!("reratings_of");
pub(crate) const RERATINGS_ALL: Statement = statement!("reratings_all");

/// Every statement of billing, for the test that prepares them on both engines.
pub const STATEMENTS: [Statement; 32] = [
    PASSES_LAST,
    PASSES_INSERT,
    PASSED_BY_ALL,
    CLOSE_INSERT,
    CLOSE_LAST,
    CLOSES,
    TOTALS_FIND,
    TOTALS_PUT,
    TOTALS_OF,
    TOTALS_ALL,
    ORGANIZATIONS_AFTER,
    LINES_BEFORE,
    LINES_OF,
    LINES_INSERT,
    TERMS_BEFORE,
    TERMS_OF,
    TERMS_INSERT,
    INVOICE_INSERT,
    INVOICE_FIND,
    INVOICE_NUMBERED,
    INVOICES_OF,
    INVOICES_AFTER,
    DRAFTS_INSERT,
    UNISSUED,
    ISSUE_LAST,
    ISSUE_INSERT,
    OPINION_INSERT,
    HELD_INSERT,
    HELD_ALL,
    RERATINGS_INSERT,
    RERATINGS_OF,
    RERATINGS_ALL,
];

/// What one key came to in one accounting period.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyTotal {
    /// Who owes.
    pub organization: OrganizationId,
    /// Under which agreement.
    pub contract: ContractId,
    /// Which line of it.
    pub contract_line: String,
    /// For what.
    pub sku: SkuId,
    /// When the usage happened.
    pub service_period: Month,
    /// In which currency.
    pub currency: AssetId,
    /// In whose books.
    pub accounting_period: Month,
    /// Σ quantity of the period.
    pub quantity: Quantity,
    /// Σ amount of the period.
    pub amount: Amount,
    /// Readings of the period.
    pub readings: u64,
    /// T of the key after its last reading of the period.
    pub total: Amount,
    /// State of the key then.
    pub prices: Vec<PriceSum>,
    /// Sizes of the organization's logs then, by month.
    pub log_sizes: BTreeMap<Month, u64>,
}

/// Why a stored total is none: the text names the key.
pub(crate) type Unreadable = String;

pub(crate) fn read_total(row: &Row) -> Result<KeyTotal, Unreadable> {
    let read = || -> Result<KeyTotal, String> {
        let text = |error: DbError| error.to_string();
        let id = |error: shared_types::IdError| error.to_string();
        let amount = |column| -> Result<Amount, String> {
            Amount::from_units(row.integer(column).map_err(text)?.into()).map_err(|error| error.to_string())
        };
        Ok(KeyTotal {
            organization: OrganizationId::parse(row.text(0).map_err(text)?).map_err(id)?,
            contract: ContractId::parse(row.text(1).map_err(text)?).map_err(id)?,
            contract_line: row.text(2).map_err(text)?.to_owned(),
            sku: SkuId::parse(row.text(3).map_err(text)?).map_err(id)?,
            service_period: row.month(4).map_err(text)?,
            currency: AssetId::parse(row.text(5).map_err(text)?).map_err(id)?,
            accounting_period: row.month(6).map_err(text)?,
            quantity: Quantity::parse(row.text(7).map_err(text)?).map_err(|error| error.to_string())?,
            amount: amount(8)?,
            readings: row.unsigned(9).map_err(text)?,
            total: amount(10)?,
            prices: serde_json::from_str(row.text(11).map_err(text)?).map_err(|error| error.to_string())?,
            log_sizes: read_log_sizes(row.text(12).map_err(text)?)?,
        })
    };
    let name = |column| row.text(column).unwrap_or("?").to_owned();
    read().map_err(|problem| format!("the total of {} for {} in {}: {problem}", name(0), name(2), row.integer(4).unwrap_or_default()))
}

/// As the row of a JSON array, in the order of `totals_put.sql`.
pub(crate) fn total_row(total: &KeyTotal) -> serde_json::Value {
    let sizes: BTreeMap<String, String> =
        total.log_sizes.iter().map(|(month, size)| (month.number().to_string(), size.to_string())).collect();
    serde_json::json!([
        total.organization,
        total.contract,
        total.contract_line,
        total.sku,
        total.service_period.number(),
        total.currency,
        total.accounting_period.number(),
        total.quantity,
        total.amount.units(),
        total.readings,
        total.total.units(),
        serde_json::json!(total.prices).to_string(),
        serde_json::json!(sizes).to_string(),
    ])
}

fn read_log_sizes(text: &str) -> Result<BTreeMap<Month, u64>, String> {
    let sizes: BTreeMap<String, String> = serde_json::from_str(text).map_err(|error| error.to_string())?;
    sizes
        .iter()
        .map(|(month, size)| {
            let size = size.parse().map_err(|_| format!("{size:?} is no size of a log"))?;
            Ok((Month::parse(month).map_err(|error| error.to_string())?, size))
        })
        .collect()
}
