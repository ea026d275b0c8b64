//! Graduated tiers event by event: each event is split where its key's running total meets the bound of a tier.
//!
//! A key is (account, meter, UTC month of the event). Its events count in the order of time and identity, whatever the order in which
//! their rows arrive: [`EventOrder`] holds rows back until no earlier one can come. The worth of a key is summed exactly and rounded once.
//!
//! Rows mostly arrive in the order of their times and a little late. So stretches of them are sorted by spreading them over spans of time,
//! and joined by sorting anew only where two of them overlap; rows in any other order cost a sort.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, Decimal128Array, Int32Array};
use arrow::datatypes::{DataType, Decimal128Type, Int32Type, TimestampMicrosecondType};
use arrow::record_batch::RecordBatch;
use shared_types::{Instant, Month};

use super::cells::Cells;
use super::repeats::identities;
use super::{AMOUNTS, BuildSpread, PerRowError, QUANTITIES, UNIT_PRICES, numbers, round};
use crate::columns::{RowError, instants};

/// How many times as much as what comes may be sorted anew where it overlaps with what is there.
const OVERLAP: usize = 4;
/// How many runs wait beside each other before they are made one.
const RUNS: usize = 16;

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

/// Events in their order, gathered from stretches of rows.
#[derive(Debug, Default)]
pub struct OrderedEvents {
    /// In their order, unless `shuffled`.
    events: Vec<Event>,
    /// Stretches overlapped so much that all is sorted at the end.
    shuffled: bool,
    spans: Spans,
}

/// What spreading events over spans of time needs, kept from one stretch to the next.
#[derive(Debug, Default)]
struct Spans {
    stretch: Vec<Event>,
    ends: Vec<u32>,
}

/// Events that wait until no earlier one can come.
#[derive(Debug, Default)]
pub struct EventOrder {
    /// Runs of events in their order; of each, those from an index on still wait.
    waiting: Vec<(Vec<Event>, usize)>,
}

/// Running totals of keys.
#[derive(Debug)]
pub struct TieredTotals<'a> {
    tiers: &'a TierTable,
    months: Vec<MonthTotals<'a>>,
    /// The index of the last event's month: nearly always that of the next one too.
    last: usize,
}

#[derive(Debug)]
struct MonthTotals<'a> {
    month: Month,
    /// The microseconds that it spans.
    from_at: i64,
    until_at: i64,
    /// By account and meter.
    totals: Cells<Option<Running<'a>>>,
}

#[derive(Clone, Copy, Debug)]
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

/// The rows of a batch as events.
///
/// - Units: `quantity` scale 6, `event_at` in microseconds.
/// - Nulls: none may be in `identity`, `account_id`, `meter_id`, `event_at`, `quantity`.
/// - Errors: a quantity beyond 64 bits, named by its row.
pub fn events(rows: &RecordBatch, into: &mut Vec<Event>) -> Result<(), PerRowError> {
    counted(rows, 0, &[], into)
}

/// As [`events`], but for the rows that [`repeats`](super::repeats()) names; `first_row` is the number of the first row of the batch.
fn counted(rows: &RecordBatch, first_row: u64, repeats: &[u64], into: &mut Vec<Event>) -> Result<(), PerRowError> {
    let accounts = numbers::<Int32Type>(rows, "account_id", &DataType::Int32, "int32")?;
    let meters = numbers::<Int32Type>(rows, "meter_id", &DataType::Int32, "int32")?;
    let times = numbers::<TimestampMicrosecondType>(rows, "event_at", &instants(), "timestamp(µs, UTC)")?;
    let quantities = numbers::<Decimal128Type>(rows, "quantity", &QUANTITIES, "decimal(18,6)")?;
    let mut repeats = repeats.get(repeats.partition_point(|row| *row < first_row)..).unwrap_or_default().iter().copied().peekable();
    let columns = identities(rows)?.iter().zip(accounts).zip(meters).zip(times).zip(quantities);
    for (row, ((((identity, account_id), meter_id), event_at), quantity)) in columns.enumerate() {
        if repeats.next_if_eq(&first_row.wrapping_add(row as u64)).is_some() {
            continue;
        }
        let quantity = i64::try_from(*quantity).map_err(|_| RowError::Value { column: "quantity", row })?;
        let identity = u128::from_be_bytes(*identity);
        let identity = ((identity >> 64) as u64, identity as u64);
        into.push(Event { event_at: *event_at, identity, account_id: *account_id, meter_id: *meter_id, quantity });
    }
    Ok(())
}

impl OrderedEvents {
    /// With room for so many.
    pub fn with_capacity(events: usize) -> Self {
        Self { events: Vec::with_capacity(events), ..Self::default() }
    }

    /// Takes the rows of a batch, but for the repeats among them. `first_row` is the number of its first row.
    ///
    /// - Units, nulls, errors: as [`events`]; `repeats` as [`repeats`](super::repeats()) names them.
    pub fn take(&mut self, rows: &RecordBatch, first_row: u64, repeats: &[u64]) -> Result<(), PerRowError> {
        let mut stretch = std::mem::take(&mut self.spans.stretch);
        stretch.clear();
        counted(rows, first_row, repeats, &mut stretch)?;
        self.join(&stretch);
        self.spans.stretch = stretch;
        Ok(())
    }

    /// All that was taken, in its order.
    pub fn into_events(mut self) -> Vec<Event> {
        if self.shuffled {
            self.events.sort_unstable();
        }
        self.events
    }

    fn join(&mut self, stretch: &[Event]) {
        let (before, length) = (self.events.len(), stretch.len());
        self.spans.sort(stretch, &mut self.events);
        let last = before.checked_sub(1).and_then(|last| self.events.get(last)).copied();
        let (Some(last), Some(first)) = (last, self.events.get(before).copied()) else { return };
        if self.shuffled || last < first {
            return;
        }
        // Only the end of what was there and the beginning of what came are out of order.
        let from = self.events.get(..before).unwrap_or_default().partition_point(|event| *event < first);
        let until = self.events.get(before..).unwrap_or_default().partition_point(|event| *event < last).saturating_add(before);
        if before.saturating_sub(from) > length.saturating_mul(OVERLAP) {
            self.shuffled = true;
        } else if let Some(overlap) = self.events.get_mut(from..until) {
            // This sort finds the two runs and merges them.
            overlap.sort();
        }
    }
}

impl Spans {
    /// Sorts events behind others: each goes to the span of time that it lies in, and then only its neighbours there are compared.
    fn sort(&mut self, events: &[Event], into: &mut Vec<Event>) {
        let begin = into.len();
        let times = || events.iter().map(|event| event.event_at);
        let (Some(first), Some(last)) = (times().min(), times().max()) else { return };
        // About as many spans as events, of a power of two of microseconds.
        let each = last.abs_diff(first).checked_div(events.len() as u64).unwrap_or_default();
        let shift = each.checked_ilog2().map_or(0, |exponent| exponent.saturating_add(1));
        let span = |event: &Event| (event.event_at.abs_diff(first) >> shift) as usize;
        self.ends.clear();
        self.ends.resize(((last.abs_diff(first) >> shift) as usize).saturating_add(1), 0);
        into.extend_from_slice(events);
        let Some(sorted) = into.get_mut(begin..) else { return };
        for event in events {
            if let Some(end) = self.ends.get_mut(span(event)) {
                *end = end.wrapping_add(1);
            }
        }
        let mut begun = 0_u32;
        for end in &mut self.ends {
            begun = begun.wrapping_add(std::mem::replace(end, begun));
        }
        for event in events {
            if let Some(end) = self.ends.get_mut(span(event)) {
                if let Some(place) = sorted.get_mut(*end as usize) {
                    *place = *event;
                }
                *end = end.wrapping_add(1);
            }
        }
        let mut from = 0;
        for end in &self.ends {
            let until = *end as usize;
            if until.wrapping_sub(from) > 1
                && let Some(events) = sorted.get_mut(from..until)
            {
                events.sort_unstable();
            }
            from = until;
        }
    }
}

impl EventOrder {
    /// Takes events, in any order; best in theirs.
    pub fn hold(&mut self, mut events: Vec<Event>) {
        if !events.is_sorted() {
            events.sort_unstable();
        }
        if self.waiting.len() >= RUNS {
            let waiting = std::mem::take(&mut self.waiting);
            let mut all: Vec<Event> = waiting.iter().flat_map(|(events, from)| events.get(*from..).unwrap_or_default()).copied().collect();
            // This sort finds the runs and merges them.
            all.sort();
            self.waiting.push((all, 0));
        }
        if !events.is_empty() {
            self.waiting.push((events, 0));
        }
    }

    /// Gives, in order and piece by piece, the events before an instant: none that is earlier may come any more. Without an instant all
    /// of them.
    pub fn release<E>(&mut self, before: Option<i64>, mut give: impl FnMut(&[Event]) -> Result<(), E>) -> Result<(), E> {
        let due = |event: &Event| before.is_none_or(|before| event.event_at < before);
        loop {
            // The run whose next event is the first of all, and the next event of any other run.
            let (mut first, mut bound): (Option<(usize, &Event)>, Option<&Event>) = (None, None);
            for (number, (events, from)) in self.waiting.iter().enumerate() {
                let Some(next) = events.get(*from) else { continue };
                match first {
                    Some((_, event)) if event <= next => bound = Some(bound.map_or(next, |bound| bound.min(next))),
                    _ => {
                        bound = first.map(|(_, event)| event);
                        first = Some((number, next));
                    }
                }
            }
            let Some((number, _)) = first.filter(|(_, event)| due(event)) else { break };
            let bound = bound.copied();
            let Some((events, from)) = self.waiting.get_mut(number) else { break };
            let rest = events.get(*from..).unwrap_or_default();
            let free = |event: &Event| due(event) && bound.is_none_or(|bound| *event <= bound);
            let until = leading(rest, free);
            give(rest.get(..until).unwrap_or_default())?;
            *from = from.saturating_add(until);
        }
        self.waiting.retain(|(events, from)| *from < events.len());
        Ok(())
    }
}

/// How many events at the beginning are so, where none behind the first that is not is so either: looked for in growing steps, for mostly they
/// are few or all.
fn leading(events: &[Event], so: impl Fn(&Event) -> bool) -> usize {
    if events.last().is_some_and(&so) {
        return events.len();
    }
    let mut reach = 1_usize;
    while events.get(reach).is_some_and(&so) {
        reach = reach.saturating_mul(2);
    }
    let from = reach / 2;
    let until = reach.min(events.len());
    events.get(from..until).unwrap_or_default().partition_point(so).saturating_add(from)
}

impl<'a> TieredTotals<'a> {
    /// Nothing counted yet.
    pub fn new(tiers: &'a TierTable) -> Self {
        Self { tiers, months: Vec::new(), last: 0 }
    }

    /// Counts events; those of one key come in their order.
    ///
    /// - Errors: a meter without tiers, a quantity below zero (its tiers would have to be walked down again: that takes the state of
    ///   [`crate::rate()`]), a total beyond the last tier.
    pub fn count(&mut self, events: &[Event]) -> Result<(), PerRowError> {
        events.iter().try_for_each(|event| self.count_one(event).map_err(|reason| event.refused(reason)))
    }

    fn count_one(&mut self, event: &Event) -> Result<(), &'static str> {
        let tiers = self.tiers;
        let running = self.month_of(event.event_at)?.totals.get_mut(event.account_id, event.meter_id);
        match running {
            Some(running) => running.count(event.quantity),
            None => {
                let tiers = tiers.0.get(&event.meter_id).ok_or("its meter has no tiers")?;
                running.insert(Running { tiers, total: 0, worth: 0 }).count(event.quantity)
            }
        }
    }

    fn month_of(&mut self, at: i64) -> Result<&mut MonthTotals<'a>, &'static str> {
        let holds = |month: &MonthTotals<'_>| month.from_at <= at && at < month.until_at;
        if !self.months.get(self.last).is_some_and(holds) {
            self.last = match self.months.iter().position(holds) {
                Some(index) => index,
                None => {
                    let month = Instant::from_micros(at).map_err(|_| "its time is out of range")?.month();
                    let until_at = month.next().map_or(i64::MAX, |next| next.start().micros());
                    self.months.push(MonthTotals { month, from_at: month.start().micros(), until_at, totals: Cells::default() });
                    self.months.len().saturating_sub(1)
                }
            };
        }
        self.months.get_mut(self.last).ok_or("its month was not kept")
    }

    /// `account_id`, `meter_id`, `month` (yyyymm) and `amount` (scale 12, half to even), by account, meter and month.
    pub fn into_columns(self) -> Vec<(&'static str, ArrayRef)> {
        let of_month = |month: &MonthTotals<'_>| {
            let number = month.month.number();
            let kept = month.totals.iter().filter_map(|(key, running)| Some((key, running.as_ref()?.worth)));
            kept.map(|(key, worth)| (key, number, round(worth))).collect::<Vec<_>>()
        };
        let mut totals: Vec<((i32, i32), i32, i128)> = self.months.iter().flat_map(of_month).collect();
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
