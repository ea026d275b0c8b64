//! Generated usage, prices and tiers as Parquet files: the same bytes for the same number of events. It knows no engine.
//!
//! Ten files in the order of arrival, each a tenth of October 2026 and late by at most two minutes; 10,000 accounts whose usage falls with
//! their rank, 12 meters, 200 SKUs with three prices each, about 500 prices of single accounts. One row in a hundred repeats an earlier
//! one, half of them one of the file before.

use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, Decimal128Array, FixedSizeBinaryArray, Int32Array, RecordBatch, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema};
use platform_rating::per_row::{QUANTITIES, UNIT_PRICES};
use serde_json::json;
use shared_lake::{Contents, RealFiles, write_file};

const FILES: u64 = 10;
const ACCOUNTS: i32 = 10_000;
const METERS: i32 = 12;
const SKUS: i32 = 200;
/// Accounts with prices of their own are among the largest.
const OWN_PRICES: i32 = 500;
const BEGIN: i64 = 1_790_812_800_000_000;
const DAY: i64 = 86_400_000_000;
const MONTH: i64 = 30 * DAY;
const LATE: u64 = 120_000_000;
const REPEATS: u64 = 100;

/// Writes everything below a folder.
pub fn write(folder: &Path, events: u64) -> anyhow::Result<()> {
    let mut numbers = Numbers(events);
    lake_file(folder, "prices.parquet", prices(&mut numbers)?)?;
    lake_file(folder, "own_prices.parquet", own_prices(&mut numbers)?)?;
    lake_file(folder, "tiers.parquet", tiers(&mut numbers)?)?;
    let ranks = ranks();
    let mut before: Vec<Row> = Vec::new();
    for file in 0..FILES {
        let rows = events / FILES + if file == 0 { events % FILES } else { 0 };
        let repeats = rows / REPEATS;
        let fresh: Vec<Row> = (0..rows - repeats).map(|_| Row::drawn(&mut numbers, file, &ranks)).collect();
        let mut all = fresh.clone();
        for number in 0..repeats {
            let from = if number % 2 == 0 && !before.is_empty() { &before } else { &fresh };
            let chosen = numbers.below(u64::try_from(from.len())?);
            if let Some(row) = from.get(usize::try_from(chosen)?) {
                // Later, and no two of one event at one time.
                all.push(Row { accepted_at: row.accepted_at + 1_000_000 + i64::try_from(number)?, ..row.clone() });
            }
        }
        all.sort_by_key(|row| row.accepted_at);
        lake_file(folder, &format!("events/part-{file:03}.parquet"), events_of(&all)?)?;
        before = fresh;
    }
    std::fs::write(folder.join("made.json"), json!({"events": events}).to_string())?;
    Ok(())
}

/// A sequence of numbers that look random: SplitMix64.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        let product = u128::from(self.next()) * u128::from(bound);
        u64::try_from(product >> 64).unwrap_or(0)
    }

    fn between(&mut self, from: i64, until: i64) -> i64 {
        from.saturating_add_unsigned(self.below(until.abs_diff(from)))
    }
}

#[derive(Clone)]
struct Row {
    identity: [u8; 16],
    account_id: i32,
    project_id: i32,
    sku_id: i32,
    quantity: i64,
    event_at: i64,
    accepted_at: i64,
}

impl Row {
    fn drawn(numbers: &mut Numbers, file: u64, ranks: &[u64]) -> Self {
        let mut identity = [0; 16];
        identity[..8].copy_from_slice(&numbers.next().to_be_bytes());
        identity[8..].copy_from_slice(&numbers.next().to_be_bytes());
        let drawn = numbers.below(ranks.last().copied().unwrap_or(1));
        let account_id = i32::try_from(ranks.partition_point(|bound| *bound <= drawn)).unwrap_or(ACCOUNTS - 1);
        let project_id = account_id * 4 + below(numbers, 4);
        let sku_id = below(numbers, SKUS);
        // Seconds with fractions for the first meters, whole tokens for the others.
        let quantity = if sku_id % METERS < 4 { numbers.between(1, 3_600_000_000) } else { numbers.between(1, 200_000) * 1_000_000 };
        let slice = MONTH / 10;
        let event_at = BEGIN + slice * i64::try_from(file).unwrap_or(0) + numbers.between(0, slice);
        let accepted_at = event_at.saturating_add_unsigned(50_000 + numbers.below(LATE));
        Self { identity, account_id, project_id, sku_id, quantity, event_at, accepted_at }
    }
}

fn below(numbers: &mut Numbers, bound: i32) -> i32 {
    i32::try_from(numbers.below(u64::from(bound.unsigned_abs()))).unwrap_or(0)
}

/// Sums of weights that fall with the rank: where a number among them lies names an account.
fn ranks() -> Vec<u64> {
    (1..=u64::from(ACCOUNTS.unsigned_abs()))
        .scan(0, |sum, rank| Some(std::mem::replace(sum, *sum + 1_000_000_000_000 / rank) + 1_000_000_000_000 / rank))
        .collect()
}

fn events_of(rows: &[Row]) -> anyhow::Result<RecordBatch> {
    let identities = FixedSizeBinaryArray::try_from_iter(rows.iter().map(|row| row.identity))?;
    batch(vec![
        ("identity", Arc::new(identities) as ArrayRef),
        ("account_id", int32s(rows.iter().map(|row| row.account_id))),
        ("project_id", int32s(rows.iter().map(|row| row.project_id))),
        ("meter_id", int32s(rows.iter().map(|row| row.sku_id % METERS))),
        ("sku_id", int32s(rows.iter().map(|row| row.sku_id))),
        ("quantity", decimals(rows.iter().map(|row| row.quantity), QUANTITIES)),
        ("event_at", times(rows.iter().map(|row| row.event_at))),
        ("accepted_at", times(rows.iter().map(|row| row.accepted_at))),
    ])
}

struct Price {
    account_id: i32,
    sku_id: i32,
    from_at: i64,
    until_at: i64,
    unit_price: i64,
}

/// The list: three prices of each SKU, one after another.
fn prices(numbers: &mut Numbers) -> anyhow::Result<RecordBatch> {
    let mut prices = Vec::new();
    for sku_id in 0..SKUS {
        let first = BEGIN + numbers.between(MONTH / 10, MONTH / 2);
        let second = first + numbers.between(DAY, MONTH / 3);
        for (from_at, until_at) in [(BEGIN - 40 * DAY, first), (first, second), (second, BEGIN + 400 * DAY)] {
            prices.push(Price { account_id: 0, sku_id, from_at, until_at, unit_price: numbers.between(1_000, 40_000_000_000) });
        }
    }
    Ok(priced(&prices, 0)?.project(&[0, 2, 3, 4, 5])?)
}

fn own_prices(numbers: &mut Numbers) -> anyhow::Result<RecordBatch> {
    let mut keys = std::collections::BTreeSet::new();
    for _ in 0..OWN_PRICES {
        keys.insert((below(numbers, 200), below(numbers, SKUS)));
    }
    let mut prices = Vec::new();
    for (account_id, sku_id) in keys {
        let from_at = BEGIN + numbers.between(0, MONTH / 2);
        let until_at = from_at + numbers.between(MONTH / 10, MONTH / 2);
        prices.push(Price { account_id, sku_id, from_at, until_at, unit_price: numbers.between(1_000, 30_000_000_000) });
    }
    priced(&prices, 100_000)
}

fn priced(prices: &[Price], first_id: i32) -> anyhow::Result<RecordBatch> {
    batch(vec![
        ("price_id", int32s((first_id..).zip(prices).map(|(id, _)| id))),
        ("account_id", int32s(prices.iter().map(|price| price.account_id))),
        ("sku_id", int32s(prices.iter().map(|price| price.sku_id))),
        ("from_at", times(prices.iter().map(|price| price.from_at))),
        ("until_at", times(prices.iter().map(|price| price.until_at))),
        ("unit_price", decimals(prices.iter().map(|price| price.unit_price), UNIT_PRICES)),
    ])
}

fn tiers(numbers: &mut Numbers) -> anyhow::Result<RecordBatch> {
    const BOUNDS: [i64; 4] = [0, 500_000_000, 50_000_000_000, 100_000_000_000_000_000];
    let mut tiers: Vec<(i32, i64, i64, i64)> = Vec::new();
    for meter_id in 0..METERS {
        for ((above, up_to), cheaper) in BOUNDS.into_iter().zip(BOUNDS.into_iter().skip(1)).zip(1..) {
            tiers.push((meter_id, above, up_to, numbers.between(1_000, 20_000_000_000) / cheaper));
        }
    }
    batch(vec![
        ("meter_id", int32s(tiers.iter().map(|tier| tier.0))),
        ("above", decimals(tiers.iter().map(|tier| tier.1), QUANTITIES)),
        ("up_to", decimals(tiers.iter().map(|tier| tier.2), QUANTITIES)),
        ("unit_price", decimals(tiers.iter().map(|tier| tier.3), UNIT_PRICES)),
    ])
}

fn int32s(values: impl Iterator<Item = i32>) -> ArrayRef {
    Arc::new(values.collect::<Int32Array>())
}

fn decimals(values: impl Iterator<Item = i64>, kind: DataType) -> ArrayRef {
    Arc::new(values.map(|value| Some(i128::from(value))).collect::<Decimal128Array>().with_data_type(kind))
}

fn times(values: impl Iterator<Item = i64>) -> ArrayRef {
    Arc::new(values.map(Some).collect::<TimestampMicrosecondArray>().with_timezone("UTC"))
}

/// Columns without nulls, with field ids.
fn batch(columns: Vec<(&str, ArrayRef)>) -> anyhow::Result<RecordBatch> {
    let fields = columns.iter().zip(1_u32..).map(|((name, column), id)| {
        let field = Field::new(*name, column.data_type().clone(), false);
        field.with_metadata([("PARQUET:field_id".to_owned(), id.to_string())].into())
    });
    let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    Ok(RecordBatch::try_new(schema, columns.into_iter().map(|(_, column)| column).collect())?)
}

fn lake_file(folder: &Path, name: &str, batch: RecordBatch) -> anyhow::Result<()> {
    let statistics: &[&str] = if batch.column_by_name("event_at").is_some() { &["event_at"] } else { &[] };
    let contents = Contents { schema: &batch.schema(), batches: std::slice::from_ref(&batch), metadata: &[], statistics };
    write_file(&RealFiles, folder, name, &contents)?;
    Ok(())
}
