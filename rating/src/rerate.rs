//! Rating what was rated before again, under another plan: which rows take a charge back, which put another in its place, and what becomes
//! of keys and logs. It knows no registry record and no file: whoever asks brings the readings as they stand.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use platform_usage::MeteredReading;
use shared_types::{Amount, Digest, IdentityHash, Instant, Month, OrganizationId, Position, Quantity};

use crate::charges::{Charge, Fate, Priced};
use crate::evaluate::PriceIndex;
use crate::plan::Plan;
use crate::rate::{RateError, RatedBatch, place_of, rate};
use crate::state::{Key, KeyState, RatingState, encode_segments};
use crate::totals::Total;

/// A reading as it stands: the row of `charges` that counts now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Where its event stands in the stream.
    pub origin: Position,
    /// The row that counts: the first one, or the one that a re-rating put in its place.
    pub charge: Charge,
}

impl Standing {
    /// What was read from the event, as rating takes it.
    pub fn reading(&self) -> MeteredReading {
        let charge = &self.charge;
        MeteredReading {
            position: self.origin,
            ordinal: charge.ordinal,
            identity: charge.identity,
            organization: charge.organization.clone(),
            project: charge.project.clone(),
            source: charge.source.clone(),
            meter: charge.meter.clone(),
            unit: charge.unit.clone(),
            dimensions: charge.dimensions.clone(),
            quantity: charge.quantity,
            start_at: charge.start_at,
            end_at: charge.end_at,
            accepted_at: charge.accepted_at,
            accounting_period: charge.accounting_period,
            commitment: charge.commitment,
            refused: None,
        }
    }
}

/// The readings of one organization that began in one month. They share keys and a log with no other reading, so each unit is rated again
/// by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unit {
    /// Who owes.
    pub organization: OrganizationId,
    /// UTC month of their starts.
    pub month: Month,
    /// Every reading that is charged or free, in any order.
    pub standing: Vec<Standing>,
    /// Where the record stands that asks for it: the rows stand there too.
    pub record: Position,
    /// When that record entered the stream.
    pub accepted_at: Instant,
    /// In whose books the differences are posted.
    pub accounting_period: Month,
}

/// Why a unit cannot be rated again: the shard halts, for going on would book something wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RerateError {
    /// Rating halted.
    #[error("could not rate the usage of organization {organization} in {month} again")]
    Rate {
        /// Who owes.
        organization: OrganizationId,
        /// Service period.
        month: Month,
        /// Why.
        #[source]
        source: RateError,
    },
    /// A registry version of a standing charge was not brought.
    #[error("a charge of organization {organization} in {month} names registry version {version}, which is not at hand")]
    Version {
        /// Who owes.
        organization: OrganizationId,
        /// Service period.
        month: Month,
        /// The version.
        version: Digest,
    },
    /// The charges that stand do not add up to the key's total (`RAT-6`).
    #[error("the charges of {key:?} that stand sum to {standing} × 10^-9, it was charged {booked}")]
    BookedDiffers {
        /// The key.
        key: Box<Key>,
        /// Σ of the rows, in units of 10^-9.
        standing: i128,
        /// T of the key.
        booked: Amount,
    },
    /// A sum leaves its range.
    #[error("the {what} of {key:?} leaves its range by rating it again")]
    Range {
        /// What was summed.
        what: &'static str,
        /// The key.
        key: Box<Key>,
    },
}

/// Rates units again, without changing the state.
///
/// - `state`: as it stands before; `plan`: what is in force behind the record; `before`: the plans of every version that a standing charge names.
/// - A key is taken back whole and rated again whole, in the order in which its readings came: so any measure is right, not only one that
///   can give readings back. T after it is T of the readings rated once, under the plan.
/// - A reading that falls under the same price, equally worded, and comes to the same amount keeps its row. Any other one gets two rows
///   that name it in `supersedes`: one with −quantity and −amount in its old key under the version that it had, one with its new fate.
///   A reading that has no price any more is quarantined by its new row.
/// - Rows stand at the record, by (ordinal, identity), what is taken back first; so do their places in the log.
/// - `threads`: how many units are rated at a time; the result is the same for any number.
/// - Source: blueprint §5, versions; docs/architecture/rerating.md.
pub fn rerate(
    state: &RatingState,
    plan: &Plan,
    before: &HashMap<Digest, &Plan>,
    units: &[Unit],
    threads: usize,
) -> Result<RatedBatch, RerateError> {
    let prices = Prices::of(plan, before);
    let mut batch = RatedBatch::default();
    for unit in each(units, threads, |unit| rerate_unit(state, plan, &prices, unit)) {
        let unit = unit?;
        batch.charges.extend(unit.charges);
        batch.totals.extend(unit.totals);
        batch.overlay.keys.extend(unit.overlay.keys);
        batch.overlay.logs.extend(unit.overlay.logs);
    }
    batch.charges.sort_by_key(Charge::place);
    batch.totals.sort_by(|a, b| place_of(a).cmp(&place_of(b)));
    batch.overlay.keys.sort_by(|(a, _), (b, _)| a.cmp(b));
    batch.overlay.logs.sort_by(|(a, _), (b, _)| a.cmp(b));
    Ok(batch)
}

/// What units would stand as under a plan, without booking anything: one row for each standing reading, where its event stands.
///
/// - The rows of a key sum to the T that [`rerate`] leaves it: both rate the same readings in the same order.
/// - `supersedes` names the reading where [`rerate`] would put another row in the place of the one that stands.
/// - Accounting periods and times of acceptance are those of the rows that stand. Places in the log are none: they count from 0 in each unit.
pub fn rate_standing(
    state: &RatingState,
    plan: &Plan,
    before: &HashMap<Digest, &Plan>,
    units: &[Unit],
    threads: usize,
) -> Result<Vec<Charge>, RerateError> {
    let prices = Prices::of(plan, before);
    let stand = |unit: &Unit| -> Result<Vec<Charge>, RerateError> {
        let again = Again::of(state, plan, unit)?;
        let mut rows = Vec::with_capacity(again.readings.len());
        for (standing, charge) in again.readings {
            let changed = !prices.keeps(unit, standing, &charge)?;
            rows.push(Charge {
                accepted_at: standing.charge.accepted_at,
                accounting_period: standing.charge.accounting_period,
                supersedes: changed.then_some(charge.identity),
                ..charge
            });
        }
        Ok(rows)
    };
    let mut rows = Vec::new();
    for unit in each(units, threads, stand) {
        rows.extend(unit?);
    }
    rows.sort_by_key(Charge::place);
    Ok(rows)
}

/// Does the same to each unit, some at a time; results in the order of the units.
fn each<T: Send>(units: &[Unit], threads: usize, what: impl Fn(&Unit) -> T + Sync) -> Vec<T> {
    let next = AtomicUsize::new(0);
    let work = || {
        let mut done = Vec::new();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(unit) = units.get(index) else { return done };
            done.push((index, what(unit)));
        }
    };
    let threads = threads.clamp(1, units.len().max(1));
    let mut done = if threads == 1 {
        work()
    } else {
        std::thread::scope(|scope| {
            let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
            let joined = workers.into_iter().map(|worker| worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
            joined.flatten().collect()
        })
    };
    done.sort_by_key(|(index, _)| *index);
    done.into_iter().map(|(_, done)| done).collect()
}

/// Price rows of the plan and of every version before it.
struct Prices<'a> {
    now: PriceIndex<'a>,
    before: HashMap<Digest, PriceIndex<'a>>,
}

impl<'a> Prices<'a> {
    fn of(plan: &'a Plan, before: &HashMap<Digest, &'a Plan>) -> Self {
        Self { now: PriceIndex::of(plan), before: before.iter().map(|(version, plan)| (*version, PriceIndex::of(plan))).collect() }
    }

    /// Whether a reading keeps its row.
    fn keeps(&self, unit: &Unit, standing: &Standing, anew: &Charge) -> Result<bool, RerateError> {
        let version = standing.charge.registry_version;
        let missing = || RerateError::Version { organization: unit.organization.clone(), month: unit.month, version };
        let old = self.before.get(&version).ok_or_else(missing)?;
        Ok(same(&standing.charge.fate, old, &anew.fate, &self.now))
    }
}

/// A unit rated whole, from an empty state, in the order in which its readings came.
struct Again<'u> {
    /// What each key was charged before.
    booked: BTreeMap<Key, i128>,
    /// What stands of each reading, and what it is charged now.
    readings: Vec<(&'u Standing, Charge)>,
    /// States of the keys now.
    keys: Vec<(Key, KeyState)>,
}

impl<'u> Again<'u> {
    fn of(state: &RatingState, plan: &Plan, unit: &'u Unit) -> Result<Self, RerateError> {
        let mut standing: Vec<&Standing> = unit.standing.iter().collect();
        standing.sort_by_key(|standing| (standing.origin, standing.charge.ordinal));
        let booked = booked_holds(state, &standing)?;
        let readings: Vec<MeteredReading> = standing.iter().map(|standing| reading(standing, unit)).collect();
        let halted = |source| RerateError::Rate { organization: unit.organization.clone(), month: unit.month, source };
        let anew = rate(&RatingState::default(), plan, &readings, 1).map_err(halted)?;
        Ok(Self { booked, readings: standing.into_iter().zip(anew.charges).collect(), keys: anew.overlay.keys })
    }
}

fn rerate_unit(state: &RatingState, plan: &Plan, prices: &Prices<'_>, unit: &Unit) -> Result<RatedBatch, RerateError> {
    let again = Again::of(state, plan, unit)?;
    let mut changed: Vec<(&Standing, Charge)> = Vec::new();
    for (standing, charge) in again.readings {
        if !prices.keeps(unit, standing, &charge)? {
            changed.push((standing, charge));
        }
    }
    changed.sort_by_key(|(standing, _)| (standing.charge.ordinal, standing.charge.identity));

    let mut books = Books { unit, size: state.log_size(&unit.organization, unit.month), keys: BTreeMap::new(), charges: Vec::new() };
    for (standing, charge) in changed {
        books.take_back(&standing.charge)?;
        books.write(charge)?;
    }
    books.close(state, again.booked, again.keys)
}

/// Σ of the standing amounts by key, which is what each was charged; else rows are missing or damaged (`RAT-6`).
fn booked_holds(state: &RatingState, standing: &[&Standing]) -> Result<BTreeMap<Key, i128>, RerateError> {
    let mut booked: BTreeMap<Key, i128> = BTreeMap::new();
    for standing in standing {
        let (Some(key), Some(amount)) = (standing.charge.key(), standing.charge.fate.amount()) else { continue };
        let sum = booked.entry(key).or_default();
        *sum = sum.saturating_add(amount.units().into());
    }
    for (key, standing) in &booked {
        let total = state.get(key).map_or(Amount::ZERO, |state| state.total);
        if i128::from(total.units()) != *standing {
            return Err(RerateError::BookedDiffers { key: Box::new(key.clone()), standing: *standing, booked: total });
        }
    }
    Ok(booked)
}

/// What was read from the event, as rating takes it at the record.
fn reading(standing: &Standing, unit: &Unit) -> MeteredReading {
    MeteredReading { accepted_at: unit.accepted_at, accounting_period: unit.accounting_period, ..standing.reading() }
}

/// Whether a reading keeps its row: same key, same price and wording of it, same amount.
fn same(old: &Fate, old_prices: &PriceIndex<'_>, new: &Fate, new_prices: &PriceIndex<'_>) -> bool {
    let (Some(before), Some(after)) = (old.priced(), new.priced()) else { return false };
    (old.code(), old.reason(), old.amount()) == (new.code(), new.reason(), new.amount())
        && names(before) == names(after)
        && old_prices.get(&before.price) == new_prices.get(&after.price)
}

/// Where it is booked and by what it was priced.
fn names(priced: &Priced) -> impl PartialEq {
    (&priced.contract, &priced.sku, &priced.currency, &priced.price, priced.rule)
}

/// What a unit's rows add to a key.
#[derive(Default)]
struct Sums {
    quantity: i128,
    amount: i128,
    readings: u64,
    family: Option<Arc<str>>,
}

/// A unit while its rows are written.
struct Books<'a> {
    unit: &'a Unit,
    /// Of the organization's log of the month.
    size: u64,
    keys: BTreeMap<Key, Sums>,
    charges: Vec<Charge>,
}

impl Books<'_> {
    /// A row that takes a standing one back.
    fn take_back(&mut self, old: &Charge) -> Result<(), RerateError> {
        let Some(key) = old.key() else { return Ok(()) };
        let beyond = |what| RerateError::Range { what, key: Box::new(key.clone()) };
        let negative = |quantity: Quantity| Quantity::ZERO.checked_sub(quantity).map_err(|_| beyond("quantity"));
        let fate = match &old.fate {
            Fate::Charged { priced, state_before, state_after, amount } => Fate::Charged {
                priced: priced.clone(),
                state_before: Arc::clone(state_after),
                state_after: Arc::clone(state_before),
                amount: Amount::ZERO.checked_sub(*amount).map_err(|_| beyond("amount"))?,
            },
            other => other.clone(),
        };
        let row = Charge { quantity: negative(old.quantity)?, fate, ..old.clone() };
        self.write(row)
    }

    /// Gives a row its place at the record and in the log, and its key what it adds.
    fn write(&mut self, mut row: Charge) -> Result<(), RerateError> {
        row.position = self.unit.record;
        row.accepted_at = self.unit.accepted_at;
        row.accounting_period = self.unit.accounting_period;
        row.supersedes = Some(row.identity);
        if let (Some(key), Some(amount)) = (row.key(), row.fate.amount()) {
            let full = RateError::LogFull { organization: row.organization.clone(), month: self.unit.month };
            if let Fate::Charged { priced, .. } | Fate::Free { priced, .. } = &mut row.fate {
                priced.log_seq = self.size;
            }
            let halted = |source| RerateError::Rate { organization: self.unit.organization.clone(), month: self.unit.month, source };
            self.size = self.size.checked_add(1).ok_or_else(|| halted(full))?;
            let sums = self.keys.entry(key).or_default();
            sums.quantity = sums.quantity.saturating_add(row.quantity.units());
            sums.amount = sums.amount.saturating_add(amount.units().into());
            sums.readings = sums.readings.saturating_add(1);
        }
        self.charges.push(row);
        Ok(())
    }

    /// Totals and states of the keys that have rows. A key that all readings left owes nothing.
    fn close(mut self, state: &RatingState, booked: BTreeMap<Key, i128>, anew: Vec<(Key, KeyState)>) -> Result<RatedBatch, RerateError> {
        let anew: BTreeMap<Key, KeyState> = anew.into_iter().collect();
        debug_assert!(booked.keys().chain(anew.keys()).all(|key| key.service_period == self.unit.month));
        let mut batch = RatedBatch { charges: std::mem::take(&mut self.charges), ..RatedBatch::default() };
        let log_sizes = BTreeMap::from([(self.unit.month, self.size)]);
        for (key, sums) in std::mem::take(&mut self.keys) {
            let old = state.get(&key);
            let mut after = match anew.get(&key) {
                Some(after) => after.clone(),
                None => KeyState {
                    segments: BTreeMap::new(),
                    total: Amount::ZERO,
                    last_at: Instant::EPOCH,
                    family: old.map(|old| Arc::clone(&old.family)).or(sums.family).unwrap_or_default(),
                    shard: self.unit.record.shard,
                },
            };
            after.shard = self.unit.record.shard;
            after.last_at = after.last_at.max(old.map_or(Instant::EPOCH, |old| old.last_at));
            batch.totals.push(self.total(&key, &after, sums.quantity, sums.amount, sums.readings, &log_sizes)?);
            batch.overlay.keys.push((key, after));
        }
        if !batch.totals.is_empty() {
            batch.overlay.logs.push(((self.unit.organization.clone(), self.unit.month), self.size));
        }
        Ok(batch)
    }

    fn total(
        &self,
        key: &Key,
        after: &KeyState,
        quantity: i128,
        amount: i128,
        readings: u64,
        log_sizes: &BTreeMap<Month, u64>,
    ) -> Result<Total, RerateError> {
        let beyond = |what| RerateError::Range { what, key: Box::new(key.clone()) };
        Ok(Total {
            shard: after.shard,
            organization: key.organization.clone(),
            contract: key.contract.clone(),
            contract_line: format!("{}/{}", key.contract, key.sku).into(),
            sku: key.sku.clone(),
            service_period: key.service_period,
            currency: key.currency.clone(),
            accounting_period: self.unit.accounting_period,
            family: Arc::clone(&after.family),
            quantity: Quantity::from_units(quantity).map_err(|_| beyond("quantity"))?,
            amount: Amount::from_units(amount).map_err(|_| beyond("amount"))?,
            total: after.total,
            readings,
            state: encode_segments(&after.segments).into(),
            last_at: after.last_at,
            log_sizes: log_sizes.clone(),
            last_sequence: self.unit.record.sequence,
        })
    }
}

/// Gathers readings as they stand out of rows of `charges`, which come in the order of their batches and, within one, of
/// [`Charge::place`].
#[derive(Clone, Debug, Default)]
pub struct Gathering {
    readings: HashMap<(IdentityHash, u16), Gathered>,
}

#[derive(Clone, Debug)]
struct Gathered {
    origin: Position,
    /// None once it was taken back and before something stands in its place.
    charge: Option<Charge>,
}

impl Gathering {
    /// Takes in the next row.
    ///
    /// Behind a row that stands the next one of the same reading takes it back, and the one behind that stands in its place: a re-rating
    /// writes both. A reading in quarantine does not stand: it is replayed, not rated again.
    pub fn add(&mut self, row: Charge) {
        let name = (row.identity, row.ordinal);
        if row.supersedes.is_none() {
            if row.fate.priced().is_some() {
                self.readings.insert(name, Gathered { origin: row.position, charge: Some(row) });
            }
            return;
        }
        let Some(known) = self.readings.get_mut(&name) else { return };
        match known.charge.take() {
            Some(_taken_back) => {}
            None if row.fate.priced().is_some() => known.charge = Some(row),
            None => {}
        }
    }

    /// What stands.
    pub fn standing(self) -> Vec<Standing> {
        let standing = self.readings.into_values();
        standing.filter_map(|known| Some(Standing { origin: known.origin, charge: known.charge? })).collect()
    }
}

#[cfg(test)]
mod tests;
