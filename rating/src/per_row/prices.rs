//! The price in force: by SKU and instant, an account's own price before the list's.

use arrow::datatypes::{DataType, Decimal128Type, Int32Type, TimestampMicrosecondType};
use arrow::record_batch::RecordBatch;

use super::cells::Cells;
use super::{PerRowError, UNIT_PRICES, numbers};
use crate::columns::{RowError, instants};

/// Prices of one key that are looked through from end to end.
const FEW: usize = 8;

/// Prices with the half-open intervals in which they are in force.
#[derive(Debug, Default)]
pub struct PriceTable {
    list: Prices,
    own: Prices,
}

/// Prices by key, those of one key in the order of time.
#[derive(Debug, Default)]
struct Prices {
    of_key: Cells<Stretch>,
    prices: Vec<Price>,
}

/// Where the prices of a key lie.
#[derive(Clone, Copy, Debug, Default)]
struct Stretch {
    from: usize,
    until: usize,
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
        Ok(Self { list: Prices::read(list, |_| 0)?, own: Prices::read(own, accounts)? })
    }

    /// The price row and unit price for an account's usage of a SKU at an instant; none when none is in force.
    pub fn at(&self, account_id: i32, sku_id: i32, at: i64) -> Option<(i32, i64)> {
        let price = self.own.at(account_id, sku_id, at).or_else(|| self.list.at(0, sku_id, at))?;
        Some((price.id, price.unit_price))
    }
}

impl Prices {
    fn read(rows: &RecordBatch, account: impl Fn(usize) -> i32) -> Result<Self, PerRowError> {
        let ids = numbers::<Int32Type>(rows, "price_id", &DataType::Int32, "int32")?;
        let skus = numbers::<Int32Type>(rows, "sku_id", &DataType::Int32, "int32")?;
        let from = numbers::<TimestampMicrosecondType>(rows, "from_at", &instants(), "timestamp(µs, UTC)")?;
        let until = numbers::<TimestampMicrosecondType>(rows, "until_at", &instants(), "timestamp(µs, UTC)")?;
        let unit_prices = numbers::<Decimal128Type>(rows, "unit_price", &UNIT_PRICES, "decimal(18,10)")?;
        let mut keyed = Vec::with_capacity(rows.num_rows());
        for (row, ((((id, sku), from_at), until_at), unit_price)) in ids.iter().zip(skus).zip(from).zip(until).zip(unit_prices).enumerate()
        {
            let unit_price = i64::try_from(*unit_price).map_err(|_| RowError::Value { column: "unit_price", row })?;
            keyed.push(((account(row), *sku), Price { from_at: *from_at, until_at: *until_at, id: *id, unit_price }));
        }
        keyed.sort_by_key(|(key, price)| (*key, price.from_at));
        let mut table = Self::default();
        for (number, ((account_id, sku_id), price)) in keyed.into_iter().enumerate() {
            let stretch = table.of_key.get_mut(account_id, sku_id);
            if stretch.from == stretch.until {
                stretch.from = number;
            } else if let Some(before) = table.prices.last().filter(|before| before.until_at > price.from_at) {
                return Err(PerRowError::Overlap { price_id: price.id, before: before.id });
            }
            stretch.until = number.saturating_add(1);
            table.prices.push(price);
        }
        Ok(table)
    }

    fn at(&self, account_id: i32, sku_id: i32, at: i64) -> Option<&Price> {
        let Stretch { from, until } = self.of_key.get(account_id, sku_id)?;
        let prices = self.prices.get(*from..*until)?;
        // Of a few prices it is quicker to look at all than to guess which half.
        let begun = if prices.len() <= FEW {
            prices.iter().filter(|price| price.from_at <= at).count()
        } else {
            prices.partition_point(|price| price.from_at <= at)
        };
        prices.get(begun.checked_sub(1)?).filter(|price| at < price.until_at)
    }
}
