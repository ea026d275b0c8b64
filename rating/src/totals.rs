//! The `totals` table of a batch: what the batch added to each key, and the key's state after it.
//! It knows the table's shape, not how totals come about ([`mod@crate::rate`]).

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, SchemaRef};
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use serde_json::Value;
use shared_types::{Amount, AssetId, ContractId, Instant, Month, OrganizationId, Quantity, Sequence, ShardId, SkuId, canonical_json};

use crate::columns::{
    AMOUNTS, QUANTITIES, RowError, amount_column, amounts, as_amount, as_count, as_instant, as_month, as_quantity, bytes, bytes_column,
    instant_column, instants, int32, int32_column, int64, int64_column, quantities, quantity_column, schema_of, text, text_column,
    timestamps,
};
use crate::state::Key;

/// One row of `totals`: a key and an accounting period that charged or free readings of the batch touched.
///
/// - A key and accounting period have one row, or more only where the sum of their charges or quantities in this batch would leave its
///   range; rows add up.
/// - Free readings count in `quantity` and `readings` and add nothing to `amount` or `state`, so that every log size can be recovered.
/// - All rows of a key in one batch carry the same `total`, `state`, `last_at` and `family`: those after the batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Total {
    /// Shard of the organization.
    pub shard: ShardId,
    /// Who owes.
    pub organization: OrganizationId,
    /// Under which agreement.
    pub contract: ContractId,
    /// `<contract>/<sku>`.
    pub contract_line: Arc<str>,
    /// What is sold.
    pub sku: SkuId,
    /// When the usage happened.
    pub service_period: Month,
    /// In which currency.
    pub currency: AssetId,
    /// In whose books it is posted.
    pub accounting_period: Month,
    /// Revenue family.
    pub family: Arc<str>,
    /// Σ quantity of the row's charged and free readings, in the meter's unit.
    pub quantity: Quantity,
    /// Σ charges of the row's readings.
    pub amount: Amount,
    /// T of the key after the batch.
    pub total: Amount,
    /// How many charged and free readings.
    pub readings: u64,
    /// The key's state after the batch: [`crate::encode_segments`].
    pub state: Arc<[u8]>,
    /// Latest start of a charged or free reading of the key so far; of billed time the last instant of the latest piece.
    pub last_at: Instant,
    /// Sizes after the batch of the organization's logs that the row's readings went to.
    pub log_sizes: BTreeMap<Month, u64>,
    /// Stream sequence of the row's last reading.
    pub last_sequence: Sequence,
}

impl Total {
    /// The key.
    pub fn key(&self) -> Key {
        Key {
            organization: self.organization.clone(),
            contract: self.contract.clone(),
            sku: self.sku.clone(),
            service_period: self.service_period,
            currency: self.currency.clone(),
        }
    }
}

/// Columns by which the rows of a batch are ordered and digested; `last_sequence` parts rows that would have left their range as one.
pub const TOTALS_ORDER: &[&str] =
    &["organization", "contract", "sku_id", "service_period", "currency", "accounting_period", "last_sequence"];
/// Columns by which the file is sorted.
pub const TOTALS_SORT: &[&str] = TOTALS_ORDER;

/// The frozen shape of `totals`; field ids are dense from 1.
pub fn totals_schema() -> SchemaRef {
    schema_of(&[
        ("shard", DataType::Int32, false),
        ("organization", DataType::Utf8, false),
        ("contract", DataType::Utf8, false),
        ("contract_line", DataType::Utf8, false),
        ("sku_id", DataType::Utf8, false),
        ("service_period", DataType::Int32, false),
        ("currency", DataType::Utf8, false),
        ("accounting_period", DataType::Int32, false),
        ("family", DataType::Utf8, false),
        ("quantity", QUANTITIES, false),
        ("amount", AMOUNTS, false),
        ("total", AMOUNTS, false),
        ("readings", DataType::Int64, false),
        ("state", DataType::Binary, false),
        ("last_at", instants(), false),
        ("log_sizes", DataType::Utf8, false),
        ("last_sequence", DataType::Int64, false),
    ])
}

/// Rows as Arrow columns in the order given.
///
/// - Errors: only Arrow's own, when a column cannot be built.
pub fn totals_to_arrow(rows: &[Total]) -> Result<RecordBatch, ArrowError> {
    RecordBatch::try_new(
        totals_schema(),
        vec![
            int32(rows.iter().map(|row| Some(i32::from(row.shard.number())))),
            text(rows.iter().map(|row| Some(row.organization.as_str()))),
            text(rows.iter().map(|row| Some(row.contract.as_str()))),
            text(rows.iter().map(|row| Some(&row.contract_line))),
            text(rows.iter().map(|row| Some(row.sku.as_str()))),
            int32(rows.iter().map(|row| Some(row.service_period.number()))),
            text(rows.iter().map(|row| Some(row.currency.as_str()))),
            int32(rows.iter().map(|row| Some(row.accounting_period.number()))),
            text(rows.iter().map(|row| Some(&row.family))),
            quantities(rows.iter().map(|row| Some(row.quantity))),
            amounts(rows.iter().map(|row| Some(row.amount))),
            amounts(rows.iter().map(|row| Some(row.total))),
            int64(rows.iter().map(|row| Some(row.readings))),
            bytes(rows.iter().map(|row| Some(&row.state))),
            timestamps(rows.iter().map(|row| Some(row.last_at))),
            text(rows.iter().map(|row| Some(log_sizes_text(&row.log_sizes)))),
            int64(rows.iter().map(|row| Some(row.last_sequence.0))),
        ],
    )
}

/// Reads what [`totals_to_arrow`] wrote; columns are found by name.
///
/// - Nulls: none are allowed.
/// - Errors: a missing or mistyped column, or the first row with a value it cannot have.
pub fn totals_from_arrow(batch: &RecordBatch) -> Result<Vec<Total>, RowError> {
    let shard = int32_column(batch, "shard")?;
    let organization = text_column(batch, "organization")?;
    let contract = text_column(batch, "contract")?;
    let contract_line = text_column(batch, "contract_line")?;
    let sku = text_column(batch, "sku_id")?;
    let service_period = int32_column(batch, "service_period")?;
    let currency = text_column(batch, "currency")?;
    let accounting_period = int32_column(batch, "accounting_period")?;
    let family = text_column(batch, "family")?;
    let quantity = quantity_column(batch, "quantity")?;
    let amount = amount_column(batch, "amount")?;
    let total = amount_column(batch, "total")?;
    let readings = int64_column(batch, "readings")?;
    let state = bytes_column(batch, "state")?;
    let last_at = instant_column(batch, "last_at")?;
    let log_sizes = text_column(batch, "log_sizes")?;
    let last_sequence = int64_column(batch, "last_sequence")?;
    (0..batch.num_rows())
        .map(|row| {
            Ok(Total {
                shard: shard.required(row, |number| u8::try_from(number).ok().and_then(ShardId::new))?,
                organization: organization.required(row, |id| OrganizationId::parse(id).ok())?,
                contract: contract.required(row, |id| ContractId::parse(id).ok())?,
                contract_line: contract_line.required(row, |line| Some(Arc::from(line)))?,
                sku: sku.required(row, |id| SkuId::parse(id).ok())?,
                service_period: service_period.required(row, as_month)?,
                currency: currency.required(row, |id| AssetId::parse(id).ok())?,
                accounting_period: accounting_period.required(row, as_month)?,
                family: family.required(row, |family| Some(Arc::from(family)))?,
                quantity: quantity.required(row, as_quantity)?,
                amount: amount.required(row, as_amount)?,
                total: total.required(row, as_amount)?,
                readings: readings.required(row, as_count)?,
                state: state.required(row, |state| Some(Arc::from(state)))?,
                last_at: last_at.required(row, as_instant)?,
                log_sizes: log_sizes.required(row, log_sizes_of)?,
                last_sequence: last_sequence.required(row, |number| as_count(number).map(Sequence))?,
            })
        })
        .collect()
}

/// Canonical JSON, for example `{"202611":"12"}`.
fn log_sizes_text(sizes: &BTreeMap<Month, u64>) -> String {
    let members = sizes.iter().map(|(month, size)| (month.number().to_string(), Value::from(*size)));
    // 64-bit integers always have a canonical form.
    canonical_json(&Value::Object(members.collect())).unwrap_or_default()
}

fn log_sizes_of(text: &str) -> Option<BTreeMap<Month, u64>> {
    let members: BTreeMap<String, String> = serde_json::from_str(text).ok()?;
    members.iter().map(|(month, size)| Some((as_month(month.parse().ok()?)?, size.parse().ok()?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(crate) fn sample() -> Total {
        Total {
            shard: ShardId::new(7).unwrap(),
            organization: OrganizationId::parse("acme").unwrap(),
            contract: ContractId::parse("c-1").unwrap(),
            contract_line: "c-1/tokens".into(),
            sku: SkuId::parse("tokens").unwrap(),
            service_period: Month::from_number(202_611).unwrap(),
            currency: AssetId::parse("USD").unwrap(),
            accounting_period: Month::from_number(202_612).unwrap(),
            family: "token-factory".into(),
            quantity: "-12.000000001".parse().unwrap(),
            amount: "-0.5".parse().unwrap(),
            total: "9223372036.854775807".parse().unwrap(),
            readings: 3,
            state: Arc::from([1, 0, 0, 0, 0]),
            last_at: Instant::parse("2026-11-30T23:59:59.999999Z").unwrap(),
            log_sizes: BTreeMap::from([(Month::from_number(202_611).unwrap(), 12)]),
            last_sequence: Sequence(99),
        }
    }

    #[test]
    fn rows_survive_the_way_through_arrow() {
        let rows = vec![sample(), Total { amount: "1".parse().unwrap(), ..sample() }];
        assert_eq!(totals_from_arrow(&totals_to_arrow(&rows).unwrap()), Ok(rows));
        assert_eq!(totals_from_arrow(&totals_to_arrow(&[]).unwrap()), Ok(vec![]));
    }

    #[test]
    fn log_sizes_are_canonical_json() {
        assert_eq!(log_sizes_text(&sample().log_sizes), r#"{"202611":"12"}"#);
        assert_eq!(log_sizes_of(r#"{"202613":"12"}"#), None);
    }

    #[test]
    fn a_missing_column_is_named() {
        let batch = totals_to_arrow(&[sample()]).unwrap().project(&[0, 1]).unwrap();
        assert_eq!(totals_from_arrow(&batch), Err(RowError::Column { column: "contract", expected: "utf8" }));
    }
}
