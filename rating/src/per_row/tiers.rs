//! Graduated tiers event by event: each event is split where its key's running total meets the bound of a tier.
//!
//! A key is (account, meter, UTC month of the event). Its events count in the order of time and identity, whatever the order in which
//! their rows arrive: [`EventOrder`] holds rows back until no earlier one can come. The worth of a key is summed exactly and rounded once.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, Decimal128Array, Int32Array};
use arrow::datatypes::{DataType, Decimal128Type, Int32Type, TimestampMicrosecondType};
use arrow::record_batch::RecordBatch;
use shared_types::{Instant, Month};

use super::repeats::identities;
use super::{AMOUNTS, BuildSpread, PerRowError, QUANTITIES, UNIT_PRICES, numbers, pair, round, unpaired};
use crate::columns::{RowError, instants};

/// The tiers of each meter, from zero upwards without a gap.
#[derive(Debug, Default)]
pub struct TierTable(HashMap<i32, Vec<Tier>, BuildSpread>);

#[derive(Clone, Copy, Debug)]
struct Tier {
    up_to: i64,
    unit_price: i64,
}

/// An event of some meter, in the order in which events count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Event {
    event_at: i64,
    /// In two halves: aligned to eight bytes an event has forty, and sorting moves them.
    identity: (u64, u64),
    account_id: i32,
    meter_id: i32,
    quantity: i64,
}

/// Events that wait until no earlier one can come.
#[derive(Debug, Default)]
pub struct EventOrder {
    waiting: Vec<Event>,
}

/// Running totals of keys.
#[derive(Debug)]
pub struct TieredTotals<'a> {
    tiers: &'a TierTable,
    /// By account and meter, and month.
    totals: HashMap<(u64, i32), Running<'a>, BuildSpread>,
    /// The month of the last event, with the microseconds it spans: nearly always that of the next one too.
    month: Option<(i64, i64, Month)>,
}

#[derive(Debug)]
struct Running<'a> {
    /// The tier that the total lies in, and those above it.
    tiers: &'a [Tier],
    /// Σ quantity, scale 6.
    total: i64,
    /// Σ part × unit price, scale 16.
    worth: i128,
}

impl TierTable {
    /// Reads `meter_id`, `above`, `up_to`, `unit_price`, the tiers of a meter in their order.
    ///
    /// - Units: bounds scale 6, cumulative, the upper one inclusive; `unit_price` scale 10 for one unit.
    /// - Nulls: none; the last tier has an upper bound too, and a total beyond it is an error.
    /// - Errors: a tier that does not begin where the one before it ends, or ends where it begins.
    pub fn new(rows: &RecordBatch) -> Result<Self, PerRowError> {
        let meters = numbers::<Int32Type>(rows, "meter_id", &DataType::Int32, "int32")?;
        let above = numbers::<Decimal128Type>(rows, "above", &QUANTITIES, "decimal(18,6)")?;
        let up_to = numbers::<Decimal128Type>(rows, "up_to", &QUANTITIES, "decimal(18,6)")?;
        let unit_prices = numbers::<Decimal128Type>(rows, "unit_price", &UNIT_PRICES, "decimal(18,10)")?;
        let mut table: HashMap<i32, Vec<Tier>, BuildSpread> = HashMap::default();
        for (row, (((meter_id, above), up_to), unit_price)) in meters.iter().zip(above).zip(up_to).zip(unit_prices).enumerate() {
            let tiers = table.entry(*meter_id).or_default();
            let up_to = i64::try_from(*up_to).map_err(|_| RowError::Value { column: "up_to", row })?;
            let unit_price = i64::try_from(*unit_price).map_err(|_| RowError::Value { column: "unit_price", row })?;
            let begins_at = tiers.last().map_or(0, |tier| tier.up_to);
            if *above != i128::from(begins_at) || up_to <= begins_at {
                return Err(PerRowError::Tier { meter_id: *meter_id, tier: tiers.len() });
            }
            tiers.push(Tier { up_to, unit_price });
        }
        Ok(Self(table))
    }
}

/// The rows of a batch as events, in the order in which they count.
///
/// - Units: `quantity` scale 6, `event_at` in microseconds.
/// - Nulls: none may be in `identity`, `account_id`, `meter_id`, `event_at`, `quantity`.
/// - Errors: a quantity beyond 64 bits, named by its row.
pub fn events(rows: &RecordBatch, into: &mut Vec<Event>) -> Result<(), PerRowError> {
    let accounts = numbers::<Int32Type>(rows, "account_id", &DataType::Int32, "int32")?;
    let meters = numbers::<Int32Type>(rows, "meter_id", &DataType::Int32, "int32")?;
    let times = numbers::<TimestampMicrosecondType>(rows, "event_at", &instants(), "timestamp(µs, UTC)")?;
    let quantities = numbers::<Decimal128Type>(rows, "quantity", &QUANTITIES, "decimal(18,6)")?;
    let columns = identities(rows)?.iter().zip(accounts).zip(meters).zip(times).zip(quantities);
    for (row, ((((identity, account_id), meter_id), event_at), quantity)) in columns.enumerate() {
        let quantity = i64::try_from(*quantity).map_err(|_| RowError::Value { column: "quantity", row })?;
        let identity = u128::from_be_bytes(*identity);
        let identity = ((identity >> 64) as u64, identity as u64);
        into.push(Event { event_at: *event_at, identity, account_id: *account_id, meter_id: *meter_id, quantity });
    }
    Ok(())
}

impl EventOrder {
    /// Takes events, best already in their order.
    pub fn hold(&mut self, events: Vec<Event>) {
        if self.waiting.is_empty() {
            self.waiting = events;
        } else {
            self.waiting.extend(events);
        }
    }

    /// Gives, in order, the events before an instant: none that is earlier may come any more. Without an instant all of them.
    pub fn release(&mut self, before: Option<i64>) -> Vec<Event> {
        // This sort finds the runs that are in order and merges them.
        self.waiting.sort();
        let due = before.map_or(self.waiting.len(), |before| self.waiting.partition_point(|event| event.event_at < before));
        let later = self.waiting.split_off(due);
        std::mem::replace(&mut self.waiting, later)
    }
}

impl<'a> TieredTotals<'a> {
    /// Nothing counted yet.
    pub fn new(tiers: &'a TierTable) -> Self {
        Self { tiers, totals: HashMap::default(), month: None }
    }

    /// Counts events; those of one key come in their order.
    ///
    /// - Errors: a meter without tiers, a quantity below zero (its tiers would have to be walked down again: that takes the state of
    ///   [`crate::rate()`]), a total beyond the last tier.
    pub fn count(&mut self, events: &[Event]) -> Result<(), PerRowError> {
        events.iter().try_for_each(|event| self.count_one(event).map_err(|reason| event.refused(reason)))
    }

    fn count_one(&mut self, event: &Event) -> Result<(), &'static str> {
        let month = self.month_of(event.event_at)?;
        let key = (pair(event.account_id, event.meter_id), month.number());
        if let Some(running) = self.totals.get_mut(&key) {
            return running.count(event.quantity);
        }
        let tiers = self.tiers.0.get(&event.meter_id).ok_or("its meter has no tiers")?;
        self.totals.entry(key).or_insert(Running { tiers, total: 0, worth: 0 }).count(event.quantity)
    }

    fn month_of(&mut self, at: i64) -> Result<Month, &'static str> {
        if let Some((from, until, month)) = self.month
            && (from..until).contains(&at)
        {
            return Ok(month);
        }
        let month = Instant::from_micros(at).map_err(|_| "its time is out of range")?.month();
        let until = month.next().map_or(i64::MAX, |next| next.start().micros());
        self.month = Some((month.start().micros(), until, month));
        Ok(month)
    }

    /// `account_id`, `meter_id`, `month` (yyyymm) and `amount` (scale 12, half to even), by account, meter and month.
    pub fn into_columns(self) -> Vec<(&'static str, ArrayRef)> {
        let mut totals: Vec<((i32, i32), i32, i128)> =
            self.totals.into_iter().map(|((key, month), running)| (unpaired(key), month, round(running.worth))).collect();
        totals.sort_unstable();
        // Below 2^127 divided by 10,000: within 38 digits.
        let amounts: Decimal128Array = totals.iter().map(|(_, _, amount)| Some(*amount)).collect();
        vec![
            ("account_id", Arc::new(totals.iter().map(|((account_id, _), _, _)| *account_id).collect::<Int32Array>()) as ArrayRef),
            ("meter_id", Arc::new(totals.iter().map(|((_, meter_id), _, _)| *meter_id).collect::<Int32Array>())),
            ("month", Arc::new(totals.iter().map(|(_, month, _)| *month).collect::<Int32Array>())),
            ("amount", Arc::new(amounts.with_data_type(AMOUNTS))),
        ]
    }
}

impl Event {
    fn refused(&self, reason: &'static str) -> PerRowError {
        PerRowError::Tiered { account_id: self.account_id, meter_id: self.meter_id, event_at: self.event_at, reason }
    }
}

impl Running<'_> {
    /// Splits a quantity over the tiers that it reaches.
    fn count(&mut self, quantity: i64) -> Result<(), &'static str> {
        const TOO_LARGE: &str = "its running total leaves the last tier";
        if quantity < 0 {
            return Err("its quantity is below zero");
        }
        let mut rest = quantity;
        while rest > 0 {
            let (tier, above) = self.tiers.split_first().ok_or(TOO_LARGE)?;
            // The total never exceeds the bound of its tier.
            let part = rest.min(tier.up_to.saturating_sub(self.total));
            if part == 0 {
                self.tiers = above;
                continue;
            }
            // A product of two 64-bit numbers fits 128 bits.
            let worth = i128::from(part).wrapping_mul(i128::from(tier.unit_price));
            self.worth = self.worth.checked_add(worth).ok_or("the worth of its key does not fit")?;
            self.total = self.total.checked_add(part).ok_or(TOO_LARGE)?;
            rest = rest.saturating_sub(part);
        }
        Ok(())
    }
}
