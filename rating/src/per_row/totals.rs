//! Totals of rated rows per account and meter, kept while they are rated: a month's totals are then read, not summed anew.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, Decimal128Array, Int32Array, Int64Array};
use arrow::datatypes::{DataType, Decimal128Type, Int32Type};
use arrow::record_batch::RecordBatch;

use super::{AMOUNTS, BuildSpread, PerRowError, QUANTITIES, RatedColumns, numbers, pair, unpaired};

/// Sums of quantities, in totals: 38 digits, 6 of them behind the point.
pub const TOTAL_QUANTITIES: DataType = DataType::Decimal128(38, 6);

/// Rows, Σ quantity and Σ amount of each account and meter. A sum does not depend on the order, so parts can be kept apart and joined.
#[derive(Debug, Default)]
pub struct RowTotals(HashMap<u64, RowTotal, BuildSpread>);

#[derive(Clone, Copy, Debug)]
struct RowTotal {
    rows: i64,
    quantity: i128,
    amount: i128,
}

impl RowTotals {
    /// Adds rated rows. An unpriced row counts with its quantity and no amount.
    ///
    /// - Units: as [`rate_rows`](super::rate_rows).
    /// - Errors: a sum beyond 127 bits.
    pub fn add(&mut self, rows: &RecordBatch, rated: &RatedColumns) -> Result<(), PerRowError> {
        let accounts = numbers::<Int32Type>(rows, "account_id", &DataType::Int32, "int32")?;
        let meters = numbers::<Int32Type>(rows, "meter_id", &DataType::Int32, "int32")?;
        let quantities = numbers::<Decimal128Type>(rows, "quantity", &QUANTITIES, "decimal(18,6)")?;
        // Under a null the value is zero.
        for (((account, meter), quantity), amount) in accounts.iter().zip(meters).zip(quantities).zip(rated.amount.values()) {
            self.sum(pair(*account, *meter), RowTotal { rows: 1, quantity: *quantity, amount: *amount })?;
        }
        Ok(())
    }

    /// Takes the totals of another part of the rows.
    ///
    /// - Errors: a sum beyond 127 bits.
    pub fn join(&mut self, other: &Self) -> Result<(), PerRowError> {
        other.0.iter().try_for_each(|(key, total)| self.sum(*key, *total))
    }

    fn sum(&mut self, key: u64, more: RowTotal) -> Result<(), PerRowError> {
        let Some(total) = self.0.get_mut(&key) else {
            self.0.insert(key, more);
            return Ok(());
        };
        let (account_id, meter_id) = unpaired(key);
        let too_large = || PerRowError::TotalTooLarge { account_id, meter_id };
        total.rows = total.rows.checked_add(more.rows).ok_or_else(too_large)?;
        total.quantity = total.quantity.checked_add(more.quantity).ok_or_else(too_large)?;
        total.amount = total.amount.checked_add(more.amount).ok_or_else(too_large)?;
        Ok(())
    }

    /// `account_id`, `meter_id`, `rows`, `quantity` (scale 6) and `amount` (scale 12), by account and meter.
    ///
    /// - Errors: a sum beyond 38 digits.
    pub fn into_columns(self) -> Result<Vec<(&'static str, ArrayRef)>, PerRowError> {
        let mut totals: Vec<((i32, i32), RowTotal)> = self.0.into_iter().map(|(key, total)| (unpaired(key), total)).collect();
        totals.sort_unstable_by_key(|(key, _)| *key);
        let keys = || totals.iter().map(|(key, _)| *key);
        let sums = || totals.iter().map(|(_, total)| total);
        let quantities: Decimal128Array = sums().map(|total| Some(total.quantity)).collect();
        let amounts: Decimal128Array = sums().map(|total| Some(total.amount)).collect();
        let (quantities, amounts) = (quantities.with_data_type(TOTAL_QUANTITIES), amounts.with_data_type(AMOUNTS));
        quantities.validate_decimal_precision(38)?;
        amounts.validate_decimal_precision(38)?;
        Ok(vec![
            ("account_id", Arc::new(keys().map(|(account, _)| account).collect::<Int32Array>()) as ArrayRef),
            ("meter_id", Arc::new(keys().map(|(_, meter)| meter).collect::<Int32Array>())),
            ("rows", Arc::new(sums().map(|total| total.rows).collect::<Int64Array>())),
            ("quantity", Arc::new(quantities)),
            ("amount", Arc::new(amounts)),
        ])
    }
}
