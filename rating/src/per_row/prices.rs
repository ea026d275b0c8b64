//! The price in force: by SKU and instant, an account's own price before the list's.

use std::collections::HashMap;
use std::ops::Range;

use arrow::datatypes::{DataType, Decimal128Type, Int32Type, TimestampMicrosecondType};
use arrow::record_batch::RecordBatch;

use super::{BuildSpread, PerRowError, UNIT_PRICES, numbers, pair};
use crate::columns::{RowError, instants};

/// Prices with the half-open intervals in which they are in force.
#[derive(Debug, Default)]
pub struct PriceTable {
    list: Prices,
    own: Prices,
}

/// Prices by key, those of one key in the order of time.
#[derive(Debug, Default)]
struct Prices {
    of_key: HashMap<u64, Range<usize>, BuildSpread>,
    prices: Vec<Price>,
}

#[derive(Clone, Copy, Debug)]
struct Price {
    from_at: i64,
    until_at: i64,
    id: i32,
    unit_price: i64,
}

impl PriceTable {
    /// Reads the list's prices (`price_id`, `sku_id`, `from_at`, `until_at`, `unit_price`) and accounts' own, which have `account_id` too.
    ///
    /// - Units: `unit_price` scale 10 for one unit; a price is in force from `from_at` until just before `until_at`.
    /// - Nulls: none.
    /// - Errors: two prices of one key at one time; a unit price beyond 64 bits.
    pub fn new(list: &RecordBatch, own: &RecordBatch) -> Result<Self, PerRowError> {
        let accounts = numbers::<Int32Type>(own, "account_id", &DataType::Int32, "int32")?;
        let accounts = |row: usize| accounts.get(row).copied().unwrap_or_default();
        Ok(Self { list: Prices::read(list, |_, sku| pair(0, sku))?, own: Prices::read(own, |row, sku| pair(accounts(row), sku))? })
    }

    /// The price row and unit price for an account's usage of a SKU at an instant; none when none is in force.
    pub fn at(&self, account_id: i32, sku_id: i32, at: i64) -> Option<(i32, i64)> {
        let price = self.own.at(pair(account_id, sku_id), at).or_else(|| self.list.at(pair(0, sku_id), at))?;
        Some((price.id, price.unit_price))
    }
}

impl Prices {
    fn read(rows: &RecordBatch, key: impl Fn(usize, i32) -> u64) -> Result<Self, PerRowError> {
        let ids = numbers::<Int32Type>(rows, "price_id", &DataType::Int32, "int32")?;
        let skus = numbers::<Int32Type>(rows, "sku_id", &DataType::Int32, "int32")?;
        let from = numbers::<TimestampMicrosecondType>(rows, "from_at", &instants(), "timestamp(µs, UTC)")?;
        let until = numbers::<TimestampMicrosecondType>(rows, "until_at", &instants(), "timestamp(µs, UTC)")?;
        let unit_prices = numbers::<Decimal128Type>(rows, "unit_price", &UNIT_PRICES, "decimal(18,10)")?;
        let mut keyed = Vec::with_capacity(rows.num_rows());
        for (row, ((((id, sku), from_at), until_at), unit_price)) in ids.iter().zip(skus).zip(from).zip(until).zip(unit_prices).enumerate()
        {
            let unit_price = i64::try_from(*unit_price).map_err(|_| RowError::Value { column: "unit_price", row })?;
            keyed.push((key(row, *sku), Price { from_at: *from_at, until_at: *until_at, id: *id, unit_price }));
        }
        keyed.sort_by_key(|(key, price)| (*key, price.from_at));
        let mut table = Self::default();
        for (number, (key, price)) in keyed.into_iter().enumerate() {
            let range = table.of_key.entry(key).or_insert(number..number);
            let before = table.prices.last().filter(|_| range.start < range.end);
            if let Some(before) = before.filter(|before| before.until_at > price.from_at) {
                return Err(PerRowError::Overlap { price_id: price.id, before: before.id });
            }
            range.end = number.saturating_add(1);
            table.prices.push(price);
        }
        Ok(table)
    }

    fn at(&self, key: u64, at: i64) -> Option<&Price> {
        let prices = self.prices.get(self.of_key.get(&key)?.clone())?;
        let begun = prices.partition_point(|price| price.from_at <= at);
        prices.get(begun.checked_sub(1)?).filter(|price| at < price.until_at)
    }
}
