//! One key while a batch changes it: its state with each reading, what that is worth, and its rows of totals. It finds no price and no key.

use std::collections::BTreeMap;
use std::sync::Arc;

use platform_usage::{MeteredReading, Reason};
use shared_types::{Amount, Instant, Month, PriceId, Quantity, Sequence, ShardId};

use super::{Desk, RateError};
use crate::amount::Exact;
use crate::basis::Measure;
use crate::evaluate::{EvaluateError, worth};
use crate::plan::PriceRow;
use crate::state::{Fact, Key, KeyState, Refused, SegmentState, encode_into};
use crate::totals::Total;

/// A key while a batch changes it.
pub(super) struct OpenKey {
    pub(super) key: Key,
    pub(super) state: KeyState,
    /// What each segment of the state is worth.
    worths: Vec<(PriceId, Exact)>,
    /// The state's segments, encoded.
    encoded: Arc<[u8]>,
    pub(super) rows: Vec<Row>,
}

/// What a charged reading did to its key.
pub(super) struct Booked {
    pub(super) before: Arc<[u8]>,
    pub(super) after: Arc<[u8]>,
    pub(super) amount: Amount,
}

impl OpenKey {
    /// The key as the state before the batch has it; halts where the plan no longer gives what was booked (`RAT-2`, `RAT-3`).
    pub(super) fn of(key: &Key, desk: &Desk<'_>, shard: ShardId, family: &Arc<str>) -> Result<Self, RateError> {
        let known = desk.state.get(key).cloned();
        let state = known.unwrap_or_else(|| KeyState {
            segments: BTreeMap::new(),
            last_at: Instant::EPOCH,
            total: Amount::ZERO,
            family: Arc::clone(family),
            shard,
        });
        if state.shard != shard {
            return Err(RateError::ShardMoved { organization: key.organization.clone(), shard: state.shard, other: shard });
        }
        let halt = |source| RateError::Evaluate { key: Box::new(key.clone()), source };
        let mut worths = Vec::with_capacity(state.segments.len());
        let mut sum = Exact::default();
        for (price, segment) in &state.segments {
            let row = desk.prices.get(price).ok_or_else(|| halt(EvaluateError::PriceMissing { price: price.clone() }))?;
            let worth = worth(row, segment, |_| {}).map_err(halt)?;
            sum.add(&worth).ok_or_else(|| halt(EvaluateError::Overflow))?;
            worths.push((price.clone(), worth));
        }
        let evaluated = sum.round().ok_or_else(|| halt(EvaluateError::Overflow))?;
        if evaluated != state.total {
            return Err(RateError::TotalDiffers { key: Box::new(key.clone()), booked: state.total, evaluated });
        }
        let mut encoded = Vec::new();
        encode_into(&state.segments, &mut encoded);
        Ok(Self { key: key.clone(), state, worths, encoded: encoded.into(), rows: Vec::new() })
    }

    /// Adds a reading under a price row and charges T after minus T before; a reason, and nothing changed, where a number leaves its range or
    /// the reading lacks what is counted.
    pub(super) fn book(&mut self, row: &PriceRow, fact: &Fact<'_>, scratch: &mut Vec<u8>) -> Result<Result<Booked, Reason>, RateError> {
        let with = self.state.segments.get(&row.id).map_or_else(|| SegmentState::default().with(row, fact), |known| known.with(row, fact));
        let segment = match with {
            Ok(segment) => segment,
            Err(Refused::Range) => return Ok(Err(Reason::AmountOverflow)),
            Err(Refused::WithoutDimension) => return Ok(Err(Reason::InvalidDimension)),
        };
        let worth = match worth(row, &segment, |_| {}) {
            Ok(worth) => worth,
            Err(EvaluateError::Overflow) => return Ok(Err(Reason::AmountOverflow)),
            Err(source) => return Err(RateError::Evaluate { key: Box::new(self.key.clone()), source }),
        };
        let Some(total) = self.total_with(&row.id, &worth) else { return Ok(Err(Reason::AmountOverflow)) };
        let Ok(amount) = total.checked_sub(self.state.total) else { return Ok(Err(Reason::AmountOverflow)) };
        self.state.total = total;
        match self.worths.iter_mut().find(|(price, _)| *price == row.id) {
            Some((_, known)) => *known = worth,
            None => self.worths.push((row.id.clone(), worth)),
        }
        match self.state.segments.get_mut(&row.id) {
            Some(known) => *known = segment,
            None => drop(self.state.segments.insert(row.id.clone(), segment)),
        }
        encode_into(&self.state.segments, scratch);
        let after: Arc<[u8]> = Arc::from(scratch.as_slice());
        let before = std::mem::replace(&mut self.encoded, Arc::clone(&after));
        Ok(Ok(Booked { before, after, amount }))
    }

    /// T, were a price row's segment worth this.
    fn total_with(&self, price: &PriceId, worth: &Exact) -> Option<Amount> {
        let mut others = self.worths.iter().filter(|(known, _)| known != price).map(|(_, worth)| worth).peekable();
        if others.peek().is_none() {
            return worth.round();
        }
        let mut sum = worth.clone();
        others.try_for_each(|other| sum.add(other))?;
        sum.round()
    }

    /// Notes a charged or free reading in the key's rows of totals.
    pub(super) fn touch(&mut self, reading: &MeteredReading, price: &PriceRow, amount: Amount, family: &Arc<str>) {
        self.state.last_at = self.state.last_at.max(last_at(reading, price));
        if self.state.family != *family {
            self.state.family = Arc::clone(family);
        }
        let period = reading.accounting_period;
        let open = self.rows.iter_mut().rev().find(|row| row.accounting_period == period);
        if open.and_then(|row| row.add(reading, amount)).is_none() {
            self.rows.push(Row {
                accounting_period: period,
                quantity: reading.quantity,
                amount,
                readings: 1,
                last_sequence: reading.position.sequence,
            });
        }
    }
}

/// The last instant that decides what a reading costs: its start, of billed time its last one, for what begins before that cuts it.
fn last_at(reading: &MeteredReading, price: &PriceRow) -> Instant {
    let billed = reading.end_at.filter(|_| matches!(price.basis.measure, Measure::Stepped(_)));
    let last = billed.and_then(|end| Instant::from_micros(end.micros().saturating_sub(1)).ok());
    last.map_or(reading.start_at, |last| last.max(reading.start_at))
}

/// A row of totals in the making.
pub(super) struct Row {
    accounting_period: Month,
    quantity: Quantity,
    amount: Amount,
    readings: u64,
    last_sequence: Sequence,
}

impl Row {
    /// Adds a reading; none, and nothing changed, where a sum would leave its range.
    fn add(&mut self, reading: &MeteredReading, amount: Amount) -> Option<()> {
        let quantity = self.quantity.checked_add(reading.quantity).ok()?;
        let amount = self.amount.checked_add(amount).ok()?;
        let readings = self.readings.checked_add(1)?;
        (self.quantity, self.amount, self.readings) = (quantity, amount, readings);
        self.last_sequence = reading.position.sequence;
        Some(())
    }

    pub(super) fn total(&self, open: &OpenKey, log_sizes: &BTreeMap<Month, u64>) -> Total {
        let (key, state) = (&open.key, &open.state);
        Total {
            shard: state.shard,
            organization: key.organization.clone(),
            contract: key.contract.clone(),
            contract_line: format!("{}/{}", key.contract, key.sku).into(),
            sku: key.sku.clone(),
            service_period: key.service_period,
            currency: key.currency.clone(),
            accounting_period: self.accounting_period,
            family: Arc::clone(&state.family),
            quantity: self.quantity,
            amount: self.amount,
            total: state.total,
            readings: self.readings,
            state: Arc::clone(&open.encoded),
            last_at: state.last_at,
            log_sizes: log_sizes.clone(),
            last_sequence: self.last_sequence,
        }
    }
}
