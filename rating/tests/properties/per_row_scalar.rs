//! The per-row mode one row at a time, on big rationals: the oracle of the kernels. It shares no code with them.

use std::collections::BTreeMap;

use num_bigint::BigInt;
use num_rational::BigRational;

/// A row of usage.
#[derive(Clone, Debug)]
pub struct Row {
    pub identity: u128,
    pub account_id: i32,
    pub meter_id: i32,
    pub sku_id: i32,
    pub quantity: i64,
    pub event_at: i64,
    pub accepted_at: i64,
}

/// A price of the list, or of one account.
#[derive(Clone, Debug)]
pub struct Price {
    pub price_id: i32,
    pub account_id: Option<i32>,
    pub sku_id: i32,
    pub from_at: i64,
    pub until_at: i64,
    pub unit_price: i64,
}

/// A tier of a meter.
#[derive(Clone, Debug)]
pub struct Tier {
    pub meter_id: i32,
    pub up_to: i64,
    pub unit_price: i64,
}

/// The rows that count: of each identity the one that arrived first, in their own order.
pub fn first_of_each(rows: &[Row]) -> Vec<Row> {
    let mut first: BTreeMap<u128, (i64, usize)> = BTreeMap::new();
    for (number, row) in rows.iter().enumerate() {
        let arrival = (row.accepted_at, number);
        let known = first.entry(row.identity).or_insert(arrival);
        *known = arrival.min(*known);
    }
    let counts = |number: usize, row: &Row| first.get(&row.identity).is_some_and(|first| first.1 == number);
    rows.iter().enumerate().filter(|(number, row)| counts(*number, row)).map(|(_, row)| row.clone()).collect()
}

/// The price row, unit price and amount of a row.
pub fn rate(row: &Row, prices: &[Price]) -> Option<(i32, i64, i128)> {
    let in_force = |price: &&Price| price.sku_id == row.sku_id && price.from_at <= row.event_at && row.event_at < price.until_at;
    let of_account = prices.iter().filter(in_force).find(|price| price.account_id == Some(row.account_id));
    let price = of_account.or_else(|| prices.iter().filter(in_force).find(|price| price.account_id.is_none()))?;
    let exact = decimal(row.quantity, 6) * decimal(price.unit_price, 10);
    Some((price.price_id, price.unit_price, half_even(&exact)))
}

/// The worth of each account, meter and month (yyyymm), events split one after another.
pub fn tiered(rows: &[Row], tiers: &[Tier]) -> BTreeMap<(i32, i32, i32), i128> {
    let mut rows = rows.to_vec();
    rows.sort_by_key(|row| (row.event_at, row.identity));
    let mut running: BTreeMap<(i32, i32, i32), (BigRational, BigRational)> = BTreeMap::new();
    let zero = || decimal(0, 0);
    for row in rows {
        let month = jiff::Timestamp::from_microsecond(row.event_at).unwrap().to_zoned(jiff::tz::TimeZone::UTC);
        let month = i32::from(month.year()) * 100 + i32::from(month.month());
        let (total, worth) = running.entry((row.account_id, row.meter_id, month)).or_insert_with(|| (zero(), zero()));
        let (before, after) = (total.clone(), &*total + decimal(row.quantity, 6));
        let mut above = zero();
        for tier in tiers.iter().filter(|tier| tier.meter_id == row.meter_id) {
            let up_to = decimal(tier.up_to, 6);
            let part = after.clone().min(up_to.clone()) - before.clone().max(above);
            *worth += part.max(zero()) * decimal(tier.unit_price, 10);
            above = up_to;
        }
        *total = after;
    }
    running.into_iter().map(|(key, (_, worth))| (key, half_even(&worth))).collect()
}

/// To 12 digits, a half to the even neighbour; in units of the last digit.
pub fn half_even(exact: &BigRational) -> i128 {
    even(&(exact * BigRational::from_integer(BigInt::from(10).pow(12))))
}

/// From 12 digits to 2.
pub fn cents(amount: i128) -> i128 {
    even(&BigRational::new(amount.into(), BigInt::from(10).pow(10)))
}

fn even(scaled: &BigRational) -> i128 {
    let floor = scaled.floor();
    let rest = scaled - &floor;
    let half = BigRational::new(1.into(), 2.into());
    let odd = floor.to_integer() % 2 != BigInt::from(0);
    let rounded = if rest > half || (rest == half && odd) { floor + BigRational::from_integer(1.into()) } else { floor };
    i128::try_from(rounded.to_integer()).unwrap()
}

fn decimal(units: i64, scale: u32) -> BigRational {
    BigRational::new(units.into(), BigInt::from(10).pow(scale))
}
