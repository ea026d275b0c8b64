//! The per-row kernel mode: every row of usage alone, at the price in force when it happened, rounded on its own.
//!
//! It is what a batch engine does with a price list: repeats dropped, as-of price, exact product, half to even. Nothing is charged this way: a
//! charge comes from its key's state ([`crate::rate()`]) and is rounded once per key. This mode answers questions over past usage, and
//! it is what rating is compared with other engines by.
//!
//! Kernels take and return Arrow columns and know no file and no thread. `tests/properties/per_row_scalar.rs` is the same one row at a
//! time and without haste: what the tests compare them with.

mod cells;
pub mod prices;
pub mod repeats;
pub mod tiers;
pub mod totals;

use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

use arrow::array::{ArrayRef, ArrowPrimitiveType, Decimal128Array, Int32Array, PrimitiveArray};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, Decimal128Type, Int32Type, TimestampMicrosecondType};
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;

use crate::columns::{RowError, column, instants};
pub use prices::PriceTable;
pub use repeats::{Arrivals, Noted, Suspected, repeats};
pub use tiers::{Event, EventOrder, OrderedEvents, TierTable, TieredTotals};
pub use totals::{RowTotals, account_totals};

/// Quantities: 18 digits, 6 of them behind the point.
pub const QUANTITIES: DataType = DataType::Decimal128(18, 6);
/// Unit prices: 18 digits, 10 of them behind the point.
pub const UNIT_PRICES: DataType = DataType::Decimal128(18, 10);
/// Amounts: 12 digits behind the point.
pub const AMOUNTS: DataType = DataType::Decimal128(38, 12);

/// Why rows are not rated.
#[derive(Debug, thiserror::Error)]
pub enum PerRowError {
    /// A column is missing, of another type, or holds what it must not.
    #[error("the rows cannot be read")]
    Row(#[from] RowError),
    /// Two prices of one SKU at one time.
    #[error("price {price_id} begins before price {before} of the same SKU ends")]
    Overlap {
        /// The later price.
        price_id: i32,
        /// The earlier one.
        before: i32,
    },
    /// Tiers that do not follow each other from zero.
    #[error("tier {tier} of meter {meter_id} does not begin where the one before it ends")]
    Tier {
        /// The meter.
        meter_id: i32,
        /// Which tier, from 0.
        tier: usize,
    },
    /// A row that event-level tiers have no answer for.
    #[error("the row of account {account_id} and meter {meter_id} at {event_at} µs: {reason}")]
    Tiered {
        /// Its account.
        account_id: i32,
        /// Its meter.
        meter_id: i32,
        /// When it happened, in microseconds since 1970.
        event_at: i64,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A sum beyond 38 digits.
    #[error("the totals of account {account_id} and meter {meter_id} do not fit 38 digits")]
    TotalTooLarge {
        /// The account.
        account_id: i32,
        /// The meter.
        meter_id: i32,
    },
    /// Arrow refused.
    #[error("the columns do not fit each other")]
    Arrow(#[from] ArrowError),
}

/// What rating adds to rows of usage.
#[derive(Clone, Debug)]
pub struct RatedColumns {
    /// The price row; null where no price was in force.
    pub price_id: Int32Array,
    /// Its unit price, scale 10; null where no price was in force.
    pub unit_price: Decimal128Array,
    /// Quantity × unit price, scale 12; null where no price was in force.
    pub amount: Decimal128Array,
}

impl RatedColumns {
    /// The columns with the names and types they have in files.
    pub fn into_columns(self) -> [(&'static str, ArrayRef); 3] {
        [("unit_price", Arc::new(self.unit_price)), ("price_id", Arc::new(self.price_id)), ("amount", Arc::new(self.amount))]
    }
}

/// Rates rows of usage, each alone.
///
/// - Units: `quantity` scale 6, unit prices scale 10, amounts scale 12, `event_at` in microseconds.
/// - Nulls: none may be in `account_id`, `sku_id`, `event_at`, `quantity`. A row whose SKU has no price at its time is null: unpriced,
///   never zero.
/// - Errors: a quantity beyond 64 bits, named by its row. A product of two 64-bit numbers always fits.
/// - Source: blueprint §11, the per-row kernel mode (half to even).
pub fn rate_rows(rows: &RecordBatch, prices: &PriceTable) -> Result<RatedColumns, PerRowError> {
    let accounts = numbers::<Int32Type>(rows, "account_id", &DataType::Int32, "int32")?;
    let skus = numbers::<Int32Type>(rows, "sku_id", &DataType::Int32, "int32")?;
    let times = numbers::<TimestampMicrosecondType>(rows, "event_at", &instants(), "timestamp(µs, UTC)")?;
    let quantities = numbers::<Decimal128Type>(rows, "quantity", &QUANTITIES, "decimal(18,6)")?;
    let (mut ids, mut unit_prices, mut amounts) = (column_of(rows), column_of(rows), column_of(rows));
    let mut priced = Vec::new();
    for (row, (((account, sku), at), quantity)) in accounts.iter().zip(skus).zip(times).zip(quantities).enumerate() {
        let quantity = i64::try_from(*quantity).map_err(|_| RowError::Value { column: "quantity", row })?;
        let (id, unit_price) = match prices.at(*account, *sku, *at) {
            Some(price) => price,
            None => {
                if priced.is_empty() {
                    priced = vec![true; rows.num_rows()];
                }
                if let Some(priced) = priced.get_mut(row) {
                    *priced = false;
                }
                (0, 0)
            }
        };
        ids.push(id);
        unit_prices.push(i128::from(unit_price));
        amounts.push(amount(quantity, unit_price));
    }
    let nulls = (!priced.is_empty()).then(|| NullBuffer::from(priced));
    Ok(RatedColumns {
        price_id: Int32Array::new(ids.into(), nulls.clone()),
        unit_price: Decimal128Array::new(unit_prices.into(), nulls.clone()).with_data_type(UNIT_PRICES),
        amount: Decimal128Array::new(amounts.into(), nulls).with_data_type(AMOUNTS),
    })
}

fn column_of<T>(rows: &RecordBatch) -> Vec<T> {
    Vec::with_capacity(rows.num_rows())
}

/// What a quantity costs at a unit price.
///
/// - Units: `quantity` scale 6, `unit_price` scale 10, result scale 12, half to even.
pub fn amount(quantity: i64, unit_price: i64) -> i128 {
    // A product of two 64-bit numbers fits 128 bits.
    round(i128::from(quantity).wrapping_mul(i128::from(unit_price)))
}

/// From scale 16 to scale 12, half to even.
///
/// The machine divides 64 bits by a constant with one multiplication, but 128 bits in a loop: so it is done in three steps by hand, as
/// on paper, with digits of 32 bits.
pub(crate) fn round(exact: i128) -> i128 {
    const STEP: u64 = 10_000;
    const DIGIT: u64 = 0xffff_ffff;
    let magnitude = exact.unsigned_abs();
    let (high, low) = ((magnitude >> 64) as u64, magnitude as u64);
    let middle = ((high % STEP) << 32) | (low >> 32);
    let last = ((middle % STEP) << 32) | (low & DIGIT);
    let quotient = (u128::from(high / STEP) << 64) | (u128::from(middle / STEP) << 32) | u128::from(last / STEP);
    let rest = last % STEP;
    let up = rest > STEP / 2 || (rest == STEP / 2 && quotient & 1 == 1);
    // A quotient by 10,000 has room for one more and for its sign.
    let rounded = (quotient as i128).wrapping_add(i128::from(up));
    if exact < 0 { rounded.wrapping_neg() } else { rounded }
}

/// The values of a column that has no nulls.
pub(crate) fn numbers<'a, T: ArrowPrimitiveType>(
    rows: &'a RecordBatch,
    name: &'static str,
    kind: &DataType,
    expected: &'static str,
) -> Result<&'a [T::Native], RowError> {
    Ok(column::<PrimitiveArray<T>>(rows, name, kind, expected)?.without_nulls()?.values())
}

/// Two 32-bit numbers as one key.
pub(crate) fn pair(high: i32, low: i32) -> u64 {
    (u64::from(high.cast_unsigned()) << 32) | u64::from(low.cast_unsigned())
}

/// Spreads keys that are not chosen by an opponent: one multiplication, both halves of its result.
#[derive(Default)]
pub(crate) struct Spread(u64);

pub(crate) type BuildSpread = BuildHasherDefault<Spread>;

impl Hasher for Spread {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u64(&mut self, key: u64) {
        self.0 = spread(self.0 ^ key);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

pub(crate) fn spread(key: u64) -> u64 {
    // 2^64 over the golden ratio; the product of two 64-bit numbers fits 128 bits.
    let product = u128::from(key ^ 0x9e37_79b9_7f4a_7c15).wrapping_mul(0xd6e8_feb8_6659_fd93);
    (product as u64) ^ ((product >> 64) as u64)
}
