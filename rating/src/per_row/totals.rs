//! Totals of rated rows per account and meter, kept while they are rated: a month's totals are then read, not summed anew.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, Decimal128Array, Int32Array, Int64Array};
use arrow::datatypes::{DataType, Decimal128Type, Int32Type};
use arrow::record_batch::RecordBatch;

use super::cells::Cells;
use super::{AMOUNTS, PerRowError, QUANTITIES, RatedColumns, numbers};
use crate::columns::RowError;

/// Sums of quantities, in totals: 38 digits, 6 of them behind the point.
pub const TOTAL_QUANTITIES: DataType = DataType::Decimal128(38, 6);

/// Amounts of accounts: 38 digits, 2 of them behind the point.
pub const ACCOUNT_TOTALS: DataType = DataType::Decimal128(38, 2);

/// Rows, Σ quantity and Σ amount of each account and meter. A sum does not depend on the order, so parts can be kept apart and joined.
#[derive(Debug, Default)]
pub struct RowTotals {
    totals: Cells<RowTotal>,
    /// What of a quantity has been carried over because it left 64 bits.
    carried: HashMap<(i32, i32), i128>,
}

/// In half of a processor's line: most of the time goes by waiting for it.
#[derive(Clone, Copy, Debug, Default)]
struct RowTotal {
    /// None for an account and meter without rows.
    rows: i64,
    quantity: i64,
    amount: i128,
}

impl RowTotals {
    /// Adds rated rows. An unpriced row counts with its quantity and no amount.
    ///
    /// - Units: as [`rate_rows`](super::rate_rows).
    /// - Errors: a quantity beyond 64 bits, a sum beyond 127 bits.
    pub fn add(&mut self, rows: &RecordBatch, rated: &RatedColumns) -> Result<(), PerRowError> {
        let accounts = numbers::<Int32Type>(rows, "account_id", &DataType::Int32, "int32")?;
        let meters = numbers::<Int32Type>(rows, "meter_id", &DataType::Int32, "int32")?;
        let quantities = numbers::<Decimal128Type>(rows, "quantity", &QUANTITIES, "decimal(18,6)")?;
        // Under a null the value is zero.
        let columns = accounts.iter().zip(meters).zip(quantities).zip(rated.amount.values());
        for (row, (((account, meter), quantity), amount)) in columns.enumerate() {
            let quantity = i64::try_from(*quantity).map_err(|_| RowError::Value { column: "quantity", row })?;
            self.sum((*account, *meter), RowTotal { rows: 1, quantity, amount: *amount })?;
        }
        Ok(())
    }

    /// Takes the totals of another part of the rows.
    ///
    /// - Errors: a sum beyond 127 bits.
    pub fn join(&mut self, other: &Self) -> Result<(), PerRowError> {
        other.kept().try_for_each(|(key, total)| self.sum(key, *total))?;
        other.carried.iter().try_for_each(|(key, quantity)| self.carry(*key, *quantity))
    }

    #[inline]
    fn sum(&mut self, key: (i32, i32), more: RowTotal) -> Result<(), PerRowError> {
        let total = self.totals.get_mut(key.0, key.1);
        let (rows, amount) = (total.rows.checked_add(more.rows), total.amount.checked_add(more.amount));
        let (Some(rows), Some(amount)) = (rows, amount) else { return Err(too_large(key)) };
        (total.rows, total.amount) = (rows, amount);
        let before = total.quantity;
        match before.checked_add(more.quantity) {
            Some(quantity) => total.quantity = quantity,
            None => {
                total.quantity = more.quantity;
                self.carry(key, before.into())?;
            }
        }
        Ok(())
    }

    #[cold]
    fn carry(&mut self, key: (i32, i32), quantity: i128) -> Result<(), PerRowError> {
        let carried = self.carried.entry(key).or_default();
        *carried = carried.checked_add(quantity).ok_or_else(|| too_large(key))?;
        Ok(())
    }

    fn kept(&self) -> impl Iterator<Item = ((i32, i32), &RowTotal)> {
        self.totals.iter().filter(|(_, total)| total.rows != 0)
    }

    /// `account_id`, `meter_id`, `rows`, `quantity` (scale 6) and `amount` (scale 12), by account and meter.
    ///
    /// - Errors: a sum beyond 38 digits.
    pub fn into_columns(self) -> Result<Vec<(&'static str, ArrayRef)>, PerRowError> {
        let mut totals: Vec<((i32, i32), RowTotal)> = self.kept().map(|(key, total)| (key, *total)).collect();
        totals.sort_unstable_by_key(|(key, _)| *key);
        let keys = || totals.iter().map(|(key, _)| *key);
        let sums = || totals.iter().map(|(_, total)| total);
        // A carried sum beyond 127 bits is beyond 38 digits too, and refused as that.
        let carried = |key: &(i32, i32)| self.carried.get(key).copied().unwrap_or_default();
        let quantity = |(key, total): &((i32, i32), RowTotal)| carried(key).saturating_add(total.quantity.into());
        let quantities: Decimal128Array = totals.iter().map(|total| Some(quantity(total))).collect();
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

fn too_large((account_id, meter_id): (i32, i32)) -> PerRowError {
    PerRowError::TotalTooLarge { account_id, meter_id }
}

/// Each account's amount to two digits, from totals as [`RowTotals::into_columns`] leaves them.
///
/// - Units: `amount` scale 12; the result `account_id` and `total`, scale 2, half to even, by account.
/// - Nulls: none may be in `account_id` and `amount`.
/// - Errors: a row whose account lies before that of the row above it, named by its index; a sum beyond 127 bits.
pub fn account_totals(totals: &RecordBatch) -> Result<Vec<(&'static str, ArrayRef)>, PerRowError> {
    let accounts = numbers::<Int32Type>(totals, "account_id", &DataType::Int32, "int32")?;
    let meters = numbers::<Int32Type>(totals, "meter_id", &DataType::Int32, "int32")?;
    let amounts = numbers::<Decimal128Type>(totals, "amount", &AMOUNTS, "decimal(38,12)")?;
    let (mut ids, mut sums): (Vec<i32>, Vec<i128>) = (Vec::new(), Vec::new());
    for (row, ((account_id, meter_id), amount)) in accounts.iter().zip(meters).zip(amounts).enumerate() {
        match (ids.last(), sums.last_mut()) {
            (Some(last), Some(sum)) if last == account_id => {
                let too_large = || PerRowError::TotalTooLarge { account_id: *account_id, meter_id: *meter_id };
                *sum = sum.checked_add(*amount).ok_or_else(too_large)?;
            }
            (Some(last), _) if last > account_id => return Err(RowError::Value { column: "account_id", row }.into()),
            _ => {
                ids.push(*account_id);
                sums.push(*amount);
            }
        }
    }
    let totals: Decimal128Array = sums.into_iter().map(|sum| Some(to_cents(sum))).collect();
    Ok(vec![("account_id", Arc::new(Int32Array::from(ids)) as ArrayRef), ("total", Arc::new(totals.with_data_type(ACCOUNT_TOTALS)))])
}

/// From scale 12 to scale 2, half to even.
fn to_cents(sum: i128) -> i128 {
    const STEP: i128 = 10_000_000_000;
    let (floor, rest) = (sum.div_euclid(STEP), sum.rem_euclid(STEP));
    let up = rest > STEP / 2 || (rest == STEP / 2 && floor & 1 == 1);
    // A quotient by 10^10 has room for one more.
    floor.wrapping_add(i128::from(up))
}

#[cfg(test)]
mod tests {
    use arrow::array::AsArray;

    use super::*;

    #[test]
    fn quantities_beyond_64_bits_are_summed_exactly() {
        const LARGEST: i128 = 999_999_999_999_999_999;
        let quantities = Decimal128Array::from(vec![LARGEST; 25]).with_data_type(QUANTITIES);
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("account_id", Arc::new(Int32Array::from(vec![7; 25]))),
            ("meter_id", Arc::new(Int32Array::from(vec![3; 25]))),
            ("quantity", Arc::new(quantities)),
        ];
        let rows = RecordBatch::try_from_iter(columns).unwrap();
        let rated = RatedColumns {
            price_id: Int32Array::new_null(25),
            unit_price: Decimal128Array::from(vec![0; 25]),
            amount: Decimal128Array::from(vec![i128::MAX / 100; 25]),
        };
        let (mut totals, mut other) = (RowTotals::default(), RowTotals::default());
        totals.add(&rows, &rated).unwrap();
        other.add(&rows, &rated).unwrap();
        totals.join(&other).unwrap();
        let columns: HashMap<_, _> = totals.into_columns().unwrap().into_iter().collect();
        assert_eq!(columns["rows"].as_primitive::<arrow::datatypes::Int64Type>().value(0), 50);
        assert_eq!(columns["quantity"].as_primitive::<Decimal128Type>().value(0), LARGEST * 50);
        assert_eq!(columns["amount"].as_primitive::<Decimal128Type>().value(0), i128::MAX / 100 * 50);
    }
}
