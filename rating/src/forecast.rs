//! What a running service period will come to: the usage of the last days once more, day by day, until the period is over, and what else is
//! known to come, rated by the code that rates live usage. No quantity is multiplied or divided, no amount is scaled: readings are repeated,
//! and F goes over all of them. It knows no schedule, no clock and no book's documents.

use std::collections::BTreeMap;

use platform_usage::MeteredReading;
use shared_types::{Amount, Incarnation, Instant, Position, Quantity, Sequence, UnitId};

use crate::basis::Measure;
use crate::charges::{Charge, Fate};
use crate::plan::Plan;
use crate::rate::{RateError, rate};
use crate::state::{Key, RatingState};

/// Days before the instant of a forecast whose usage is taken once more: a week, so that each weekday stands for the ones to come.
pub const DAYS: i64 = 7;

const DAY_MICROS: i64 = 86_400_000_000;

/// From when to when usage is repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Horizon {
    /// The instant of the forecast: usage before it has happened.
    pub as_of: Instant,
    /// Where the service period is over.
    pub end: Instant,
    /// How many days before the instant are taken once more, at least one.
    pub days: i64,
}

impl Horizon {
    /// For usage of which the first began at this instant: it repeats [`DAYS`] days, or those that it has, begun ones counted.
    pub fn of(as_of: Instant, end: Instant, first_at: Instant) -> Self {
        let since = as_of.micros().saturating_sub(first_at.micros());
        let begun = since.saturating_add(DAY_MICROS.saturating_sub(1)).checked_div(DAY_MICROS).unwrap_or(DAYS);
        Self { as_of, end, days: begun.clamp(1, DAYS) }
    }

    /// How much later each repetition lies.
    fn step_micros(&self) -> i64 {
        self.days.max(1).saturating_mul(DAY_MICROS)
    }
}

/// The readings of the last days once more, and again, until the period is over.
///
/// - `readings`: of one organization, any of them: only those that began in the days before the instant are repeated.
/// - What is held over time without an end is held to the end of the period already: it is not repeated.
/// - An interval that would go on behind the period ends with it; its quantity stays.
/// - Result: in the order of their starts, at positions behind every real one, numbered from `from`.
pub fn repeated(plan: &Plan, readings: &[MeteredReading], horizon: &Horizon, from: u64) -> Vec<MeteredReading> {
    let (step, as_of) = (horizon.step_micros(), horizon.as_of.micros());
    let Some(since) = as_of.checked_sub(step) else { return Vec::new() };
    let mut found = Vec::new();
    for reading in readings.iter().filter(|reading| (since..as_of).contains(&reading.start_at.micros())) {
        if reading.end_at.is_none() && is_held(plan, reading) {
            continue;
        }
        let mut later = 0_i64;
        loop {
            later = later.saturating_add(step);
            let shift = |at: Instant| at.micros().checked_add(later).and_then(|micros| Instant::from_micros(micros).ok());
            let Some(start_at) = shift(reading.start_at).filter(|start_at| *start_at < horizon.end) else { break };
            let end_at = reading.end_at.and_then(shift).map(|end_at| end_at.min(horizon.end));
            let accounting_period = start_at.month();
            found.push(MeteredReading { start_at, end_at, accepted_at: start_at, accounting_period, ..reading.clone() });
        }
    }
    found.sort_by_key(|reading| (reading.start_at, reading.identity, reading.ordinal));
    for (reading, sequence) in found.iter_mut().zip(from..) {
        reading.position = behind(reading.position, sequence);
    }
    found
}

/// A position behind every real one of the shard.
pub fn behind(position: Position, sequence: u64) -> Position {
    Position { incarnation: Incarnation(u32::MAX), sequence: Sequence(sequence), ..position }
}

/// Whether the price of a reading counts the time for which it is held.
fn is_held(plan: &Plan, reading: &MeteredReading) -> bool {
    let resolved = plan.resolve(&reading.organization, &reading.meter, &reading.dimensions, reading.start_at);
    resolved.is_ok_and(|resolved| {
        matches!(resolved.price.basis.measure, Measure::TimeWeighted { .. } | Measure::Prorated { .. } | Measure::Stepped(_))
    })
}

/// What a key has come to and will come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForecastLine {
    /// The running total.
    pub key: Key,
    /// What its quantity counts.
    pub unit: UnitId,
    /// What has happened.
    pub so_far: Stage,
    /// What is known to come.
    pub known: Stage,
    /// What is repeated.
    pub repeated: Stage,
    /// T at the end of the period.
    pub at_end: Amount,
}

/// What some readings add to a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Stage {
    /// How many readings.
    pub readings: u64,
    /// Σ quantity.
    pub quantity: Quantity,
    /// By how much T moves.
    pub amount: Amount,
}

impl Stage {
    fn add(&mut self, charge: &Charge) -> Result<(), &'static str> {
        self.readings = self.readings.saturating_add(1);
        self.quantity = self.quantity.checked_add(charge.quantity).map_err(|_| "quantity")?;
        self.amount = self.amount.checked_add(charge.fate.amount().unwrap_or(Amount::ZERO)).map_err(|_| "amount")?;
        Ok(())
    }
}

/// What a service period will come to.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Forecast {
    /// By key.
    pub lines: Vec<ForecastLine>,
    /// Readings to come that have no price, and the like, by reason: they are in no line.
    pub unrated: BTreeMap<&'static str, u64>,
}

/// Why there is no forecast.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ForecastError {
    /// Rating halted.
    #[error("could not rate what is to come")]
    Rate(#[from] RateError),
    /// A sum leaves its range.
    #[error("the {what} of {key:?} leaves its range until the end of the period")]
    Range {
        /// What was summed.
        what: &'static str,
        /// The key.
        key: Box<Key>,
    },
}

/// Rates what has happened, what is known to come and what is repeated, one behind the other, from an empty state.
///
/// - Each of the three in sealed order; positions rise from one to the next.
/// - T at the end is that of all readings rated once, and the stages' amounts add up to it: tiers, packages and measures see all of them.
pub fn forecast(
    plan: &Plan,
    so_far: &[MeteredReading],
    known: &[MeteredReading],
    repeated: &[MeteredReading],
) -> Result<Forecast, ForecastError> {
    let mut state = RatingState::default();
    let mut lines: BTreeMap<Key, (UnitId, [Stage; 3])> = BTreeMap::new();
    let mut unrated: BTreeMap<&'static str, u64> = BTreeMap::new();
    for (stage, readings) in [so_far, known, repeated].into_iter().enumerate() {
        let batch = rate(&state, plan, readings, 1)?;
        for charge in &batch.charges {
            match (charge.key(), &charge.fate) {
                (Some(key), _) => {
                    let line = lines.entry(key.clone()).or_insert_with(|| (charge.unit.clone(), [Stage::default(); 3]));
                    let added = line.1.get_mut(stage).map_or(Ok(()), |sums| sums.add(charge));
                    added.map_err(|what| ForecastError::Range { what, key: Box::new(key) })?;
                }
                (None, Fate::Quarantined { reason }) if stage > 0 => {
                    let count = unrated.entry(reason.code()).or_default();
                    *count = count.saturating_add(1);
                }
                (None, _) => {}
            }
        }
        state.apply(batch.overlay);
    }
    let line = |(key, (unit, [so_far, known, repeated])): (Key, (UnitId, [Stage; 3]))| {
        let at_end = state.get(&key).map_or(Amount::ZERO, |state| state.total);
        ForecastLine { key, unit, so_far, known, repeated, at_end }
    };
    Ok(Forecast { lines: lines.into_iter().map(line).collect(), unrated })
}

#[cfg(test)]
mod tests;
