//! Rating what was rated before again, under another plan: which rows take a charge back, which put another in its place, and what becomes
//! of keys and logs. It knows no registry record and no file: whoever asks brings the readings as they stand.

mod gathering;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use platform_usage::MeteredReading;
use shared_types::{Amount, Digest, IdentityHash, Incarnation, Instant, MeterId, Month, OrganizationId, Position, Quantity, Sequence};

pub use self::gathering::{Gathering, Read, Standing};
use self::gathering::{has_place, refused};
use crate::charges::{Charge, Fate, Priced};
use crate::evaluate::PriceIndex;
use crate::plan::Plan;
use crate::rate::{RateError, RatedBatch, place_of, rate};
use crate::state::{Key, KeyState, RatingState, encode_segments};
use crate::totals::Total;

/// The readings of one organization that began in one month. They share keys and a log with no other reading, so each unit is rated again
/// by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unit {
    /// Who owes.
    pub organization: OrganizationId,
    /// UTC month of their starts.
    pub month: Month,
    /// Every reading that has rows, in any order.
    pub standing: Vec<Standing>,
    /// Readings that the plan's meters read and no version before it did, in any order; each stands where its event does.
    pub born: Vec<MeteredReading>,
}

/// Where the rows of a unit that is rated again stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AtRecord {
    /// Where the record stands that asks for it.
    pub position: Position,
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

/// Rates units again, without changing the state: [`prepare`], and [`book`] at once.
pub fn rerate(
    state: &RatingState,
    plan: &Plan,
    before: &HashMap<Digest, &Plan>,
    units: Vec<(Unit, AtRecord)>,
    threads: usize,
) -> Result<RatedBatch, RerateError> {
    let (units, records): (Vec<Unit>, Vec<AtRecord>) = units.into_iter().unzip();
    let prepared = prepare(state, plan, before, units, threads)?;
    book(state, prepared.into_iter().zip(records).collect(), threads)
}

/// Rates units whole under a plan, before anybody knows where their rows will stand.
///
/// - `state`: as it stands behind the readings of the units; `plan`: what will be in force; `before`: the plans of every version that a
///   standing charge names.
/// - A unit is taken back whole and rated again whole, in the order in which its readings came: so any measure is right, not only one that
///   can give readings back. T after it is T of the readings rated once, under the plan.
/// - `threads`: how many units are rated at a time; the result is the same for any number, in the order of the units.
/// - Source: blueprint §5, versions; docs/architecture/rerating.md.
pub fn prepare(
    state: &RatingState,
    plan: &Plan,
    before: &HashMap<Digest, &Plan>,
    units: Vec<Unit>,
    threads: usize,
) -> Result<Vec<Prepared>, RerateError> {
    let prices = Prices::of(plan, before);
    let prepared = each(units, threads, |unit| {
        let mut prepared = Prepared::new(unit.organization.clone(), unit.month);
        prepared.add(state, plan, &prices, unit)?;
        Ok(prepared)
    });
    prepared.into_iter().collect()
}

/// Adds readings that came behind those of prepared units; the same as having prepared them with the others.
///
/// - `state`: as it stands behind them. Everything else is as for [`prepare`].
/// - Errors: also where a reading stands before one that was prepared.
pub fn go_on(
    state: &RatingState,
    plan: &Plan,
    before: &HashMap<Digest, &Plan>,
    units: Vec<(Prepared, Unit)>,
    threads: usize,
) -> Result<Vec<Prepared>, RerateError> {
    let prices = Prices::of(plan, before);
    let prepared = each(units, threads, |(mut prepared, more)| {
        prepared.add(state, plan, &prices, more)?;
        Ok(prepared)
    });
    prepared.into_iter().collect()
}

/// The rows of prepared units at their records, and the state after them, without changing the state.
///
/// - `state`: as it stands before the records. A unit whose readings are not all of its keys' is refused.
/// - A reading that falls under the same price, equally worded, and comes to the same amount keeps its row. Any other one gets two rows
///   that name it in `supersedes`: one with −quantity and −amount in its old key under the version that it had, one with its new fate.
///   A reading that has no price any more is quarantined by its new row, one that is not read any more has the first of the two alone.
/// - A reading in quarantine gets one row, if it has a price now or is read otherwise; one that no version read before gets one in any case.
/// - Rows stand at the record, by (ordinal, identity), what is taken back first; so do their places in the log.
/// - `threads`: as for [`prepare`].
pub fn book(state: &RatingState, units: Vec<(Prepared, AtRecord)>, threads: usize) -> Result<RatedBatch, RerateError> {
    let mut batch = RatedBatch::default();
    for unit in each(units, threads, |(prepared, record)| prepared.book(state, record)) {
        let unit = unit?;
        batch.charges.extend(unit.charges);
        batch.totals.extend(unit.totals);
        batch.overlay.keys.extend(unit.overlay.keys);
        batch.overlay.logs.extend(unit.overlay.logs);
    }
    // Rows are large: their places are sorted, then each row is moved once.
    batch.charges.sort_by_cached_key(Charge::place);
    batch.totals.sort_by(|a, b| place_of(a).cmp(&place_of(b)));
    batch.overlay.keys.sort_by(|(a, _), (b, _)| a.cmp(b));
    batch.overlay.logs.sort_by(|(a, _), (b, _)| a.cmp(b));
    Ok(batch)
}

/// What units would stand as under a plan, without booking anything: one row for each reading that stands or would, where its event stands.
///
/// - The rows of a key sum to the T that [`rerate`] leaves it: both rate the same readings in the same order.
/// - `supersedes` names the reading where [`rerate`] would put another row in the place of the one that stands.
/// - Accounting periods and times of acceptance are those of the rows that stand. Places in the log are none: they count from 0 in each unit.
pub fn rate_standing(
    state: &RatingState,
    plan: &Plan,
    before: &HashMap<Digest, &Plan>,
    units: Vec<Unit>,
    threads: usize,
) -> Result<Vec<Charge>, RerateError> {
    let prices = Prices::of(plan, before);
    let stand = |Unit { organization, month, standing, born }| -> Result<Vec<Charge>, RerateError> {
        let mut prepared = Prepared::new(organization, month);
        let mut rows = Vec::with_capacity(standing.len());
        let (standing, waiting): (Vec<Standing>, Vec<Standing>) = standing.into_iter().partition(Standing::in_place);
        for (standing, charge) in prepared.rate(state, plan, standing)? {
            let Some(charge) = charge else { continue };
            let kept = prepared.keeps(&prices, &standing, &charge)?;
            if standing.stands() || !kept {
                rows.push(Charge { supersedes: (!kept).then_some(charge.identity), ..charge });
            }
        }
        let mut places: HashMap<(IdentityHash, u16), Position> = HashMap::new();
        places.extend(born.iter().map(|reading| ((reading.identity, reading.ordinal), reading.position)));
        places.extend(waiting.iter().map(|standing| ((standing.charge.identity, standing.charge.ordinal), standing.origin)));
        (prepared.waiting, prepared.born) = (waiting, born);
        for charge in prepared.come(plan, &prices)?.charges {
            let position = places.get(&(charge.identity, charge.ordinal)).copied().unwrap_or(charge.position);
            rows.push(Charge { supersedes: Some(charge.identity), position, ..charge });
        }
        Ok(rows)
    };
    let mut rows = Vec::new();
    for unit in each(units, threads, stand) {
        rows.extend(unit?);
    }
    rows.sort_by_cached_key(Charge::place);
    Ok(rows)
}

/// Does the same to each unit, some at a time; results in the order of the units.
fn each<U: Send, T: Send>(units: Vec<U>, threads: usize, what: impl Fn(U) -> T + Sync) -> Vec<T> {
    let threads = threads.clamp(1, units.len().max(1));
    let next = Mutex::new(units.into_iter().enumerate());
    let take = || next.lock().unwrap_or_else(PoisonError::into_inner).next();
    let work = || {
        let mut done = Vec::new();
        while let Some((index, unit)) = take() {
            done.push((index, what(unit)));
        }
        done
    };
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
}

/// A unit rated whole, from an empty state, in the order in which its readings came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prepared {
    organization: OrganizationId,
    month: Month,
    /// What each key was charged before.
    booked: BTreeMap<Key, i128>,
    /// The row of each reading that stands and does not stay, and the one that takes its place.
    changed: Vec<(Option<Charge>, Option<Charge>)>,
    /// Keys as they are now, without the readings that are new.
    anew: RatingState,
    /// The last reading.
    last: Option<(Position, u16, IdentityHash)>,
    /// Readings that do not stand, but those that overflowed: what of them is rated now comes at the record, behind all others. So no reading that stands comes to another
    /// amount for it, and under the version that it has keeps its row.
    waiting: Vec<Standing>,
    /// Readings that are new: they come at the record too.
    born: Vec<MeteredReading>,
    /// What both come to there, behind what is known by now: the rows that are new.
    at_record: RatedBatch,
}

impl Prepared {
    fn new(organization: OrganizationId, month: Month) -> Self {
        Self {
            organization,
            month,
            booked: BTreeMap::new(),
            changed: Vec::new(),
            anew: RatingState::default(),
            last: None,
            waiting: Vec::new(),
            born: Vec::new(),
            at_record: RatedBatch::default(),
        }
    }

    /// How many readings get other rows.
    pub fn changed(&self) -> usize {
        self.changed.len().saturating_add(self.at_record.charges.len())
    }

    /// New rows of what has no price any more: of readings that had one, and of new ones in whose time a reading of that meter and event had one.
    pub fn lost(&self) -> impl Iterator<Item = &Charge> {
        let replaced = self.changed.iter().filter_map(|(back, anew)| back.as_ref().and(anew.as_ref()));
        let unpriced: Vec<&Charge> = self.at_record.charges.iter().filter(|charge| charge.fate.priced().is_none()).collect();
        let mut had: HashMap<(IdentityHash, &MeterId), Vec<&Charge>> = HashMap::new();
        if !unpriced.is_empty() {
            for back in self.changed.iter().filter_map(|(back, _)| back.as_ref()) {
                had.entry((back.identity, &back.meter)).or_default().push(back);
            }
        }
        let of_time = unpriced.into_iter().filter(move |charge| {
            let held = |other: &Charge| {
                let both = other.end_at.zip(charge.end_at);
                both.is_some_and(|(other_end, end)| other.start_at < end && charge.start_at < other_end)
            };
            had.get(&(charge.identity, &charge.meter)).is_some_and(|had| had.iter().any(|back| held(back)))
        });
        replaced.filter(|charge| charge.fate.priced().is_none()).chain(of_time)
    }

    /// Rates the next readings that are rated where they stand: each with its charge, which stands where the reading's first row does; none where it is not read any more.
    fn rate(
        &mut self,
        state: &RatingState,
        plan: &Plan,
        mut standing: Vec<Standing>,
    ) -> Result<Vec<(Standing, Option<Charge>)>, RerateError> {
        standing.sort_by_cached_key(Standing::place);
        if let Some(first) = standing.first().filter(|first| self.last >= Some(first.place())) {
            return Err(self.halted(RateError::Unordered { position: first.origin, ordinal: first.charge.ordinal }));
        }
        for charge in standing.iter().filter(|standing| standing.stands()).map(|standing| &standing.charge) {
            let (Some(key), Some(amount)) = (charge.key(), charge.fate.amount()) else { continue };
            let sum = self.booked.entry(key).or_default();
            *sum = sum.saturating_add(amount.units().into());
        }
        self.refuse_other_books(state)?;
        let readings: Vec<Option<MeteredReading>> = standing.iter().map(Standing::reading).collect();
        let read: Vec<bool> = readings.iter().map(Option::is_some).collect();
        let readings: Vec<MeteredReading> = readings.into_iter().flatten().collect();
        let anew = rate(&self.anew, plan, &readings, 1).map_err(|source| self.halted(source))?;
        self.anew.apply(anew.overlay);
        self.last = standing.last().map(Standing::place).or(self.last);
        let mut charges = anew.charges.into_iter();
        Ok(standing.into_iter().zip(read).map(|(standing, read)| (standing, read.then(|| charges.next()).flatten())).collect())
    }

    /// Rates readings that do not stand, and new ones, behind all others, in the order in which they come at the record. Of the former those have a
    /// row that leave quarantine, or that is otherwise now.
    fn come(&self, plan: &Plan, prices: &Prices<'_>) -> Result<RatedBatch, RerateError> {
        let waiting: HashMap<(IdentityHash, u16), &Standing> =
            self.waiting.iter().map(|standing| ((standing.charge.identity, standing.charge.ordinal), standing)).collect();
        let mut coming: Vec<MeteredReading> = self.waiting.iter().filter_map(Standing::reading).chain(self.born.iter().cloned()).collect();
        for reading in &mut coming {
            reading.position = Position { incarnation: Incarnation(u32::MAX), sequence: Sequence(u64::MAX), ..reading.position };
        }
        if coming.is_empty() {
            return Ok(RatedBatch::default());
        }
        coming.sort_by_key(|reading| (reading.ordinal, reading.identity));
        let mut batch = rate(&self.anew, plan, &coming, 1).map_err(|source| self.halted(source))?;
        let mut charges = Vec::with_capacity(batch.charges.len());
        for charge in batch.charges {
            let kept = match waiting.get(&(charge.identity, charge.ordinal)) {
                Some(standing) => self.keeps(prices, standing, &charge)?,
                None => false,
            };
            if !kept {
                charges.push(charge);
            }
        }
        batch.charges = charges;
        Ok(batch)
    }

    fn add(&mut self, state: &RatingState, plan: &Plan, prices: &Prices<'_>, unit: Unit) -> Result<(), RerateError> {
        let (standing, waiting): (Vec<Standing>, Vec<Standing>) = unit.standing.into_iter().partition(Standing::in_place);
        for (standing, charge) in self.rate(state, plan, standing)? {
            let back = standing.stands();
            let kept = match &charge {
                Some(charge) => self.keeps(prices, &standing, charge)?,
                None => !back,
            };
            if !kept {
                self.changed.push((back.then_some(standing.charge), charge));
            }
        }
        self.waiting.extend(waiting);
        self.born.extend(unit.born);
        self.at_record = self.come(plan, prices)?;
        Ok(())
    }

    /// Whether a reading keeps its row: it says the same of it, or it stays in quarantine as it was read.
    fn keeps(&self, prices: &Prices<'_>, standing: &Standing, anew: &Charge) -> Result<bool, RerateError> {
        let stands = &standing.charge;
        let alike = (stands.quantity, stands.end_at, &stands.unit, &stands.dimensions)
            == (anew.quantity, anew.end_at, &anew.unit, &anew.dimensions)
            && refused(&stands.fate) == refused(&anew.fate);
        if !standing.stands() {
            // For what overflows now its row says where: behind what came before it there.
            let stays = anew.fate.priced().is_none() && (has_place(&stands.fate) || !has_place(&anew.fate));
            return Ok(!standing.taken_back && stays && (alike || standing.read == Read::Same));
        }
        if !alike {
            return Ok(false);
        }
        let version = stands.registry_version;
        let missing = || RerateError::Version { organization: self.organization.clone(), month: self.month, version };
        let old = prices.before.get(&version).ok_or_else(missing)?;
        Ok(same(&stands.fate, old, &anew.fate, &prices.now))
    }

    /// Σ of the standing amounts is what each key was charged; else rows are missing or damaged (`RAT-6`).
    fn refuse_other_books(&self, state: &RatingState) -> Result<(), RerateError> {
        for (key, standing) in &self.booked {
            let total = state.get(key).map_or(Amount::ZERO, |state| state.total);
            if i128::from(total.units()) != *standing {
                return Err(RerateError::BookedDiffers { key: Box::new(key.clone()), standing: *standing, booked: total });
            }
        }
        Ok(())
    }

    fn book(mut self, state: &RatingState, record: AtRecord) -> Result<RatedBatch, RerateError> {
        self.refuse_other_books(state)?;
        let mut changed = std::mem::take(&mut self.changed);
        let at_record = std::mem::take(&mut self.at_record);
        self.anew.apply(at_record.overlay);
        changed.extend(at_record.charges.into_iter().map(|charge| (None, Some(charge))));
        changed.sort_by_cached_key(|(back, anew)| back.as_ref().or(anew.as_ref()).map(|charge| (charge.ordinal, charge.identity)));
        let size = state.log_size(&self.organization, self.month);
        let mut books =
            Books { unit: &self, record, size, keys: BTreeMap::new(), charges: Vec::with_capacity(changed.len().saturating_mul(2)) };
        for (back, anew) in changed {
            if let Some(stands) = back {
                books.take_back(stands)?;
            }
            if let Some(charge) = anew {
                books.write(charge)?;
            }
        }
        books.close(state)
    }

    fn halted(&self, source: RateError) -> RerateError {
        RerateError::Rate { organization: self.organization.clone(), month: self.month, source }
    }
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
    unit: &'a Prepared,
    record: AtRecord,
    /// Of the organization's log of the month.
    size: u64,
    keys: BTreeMap<Key, Sums>,
    charges: Vec<Charge>,
}

impl Books<'_> {
    /// Turns a standing row into the one that takes it back.
    fn take_back(&mut self, mut row: Charge) -> Result<(), RerateError> {
        let Some(key) = row.key() else { return Ok(()) };
        let beyond = |what| RerateError::Range { what, key: Box::new(key.clone()) };
        row.quantity = Quantity::ZERO.checked_sub(row.quantity).map_err(|_| beyond("quantity"))?;
        if let Fate::Charged { states, amount, .. } = &mut row.fate {
            *states = None;
            *amount = Amount::ZERO.checked_sub(*amount).map_err(|_| beyond("amount"))?;
        }
        self.write(row)
    }

    /// Gives a row its place at the record and in the log, and its key what it adds.
    fn write(&mut self, mut row: Charge) -> Result<(), RerateError> {
        row.position = self.record.position;
        row.accepted_at = self.record.accepted_at;
        row.accounting_period = self.record.accounting_period;
        row.supersedes = Some(row.identity);
        if let (Some(key), Some(amount)) = (row.key(), row.fate.amount()) {
            if let Fate::Charged { priced, .. } | Fate::Free { priced, .. } = &mut row.fate {
                priced.log_seq = self.size;
            }
            let full = || RateError::LogFull { organization: row.organization.clone(), month: self.unit.month };
            self.size = self.size.checked_add(1).ok_or_else(|| self.unit.halted(full()))?;
            let sums = self.keys.entry(key).or_default();
            sums.quantity = sums.quantity.saturating_add(row.quantity.units());
            sums.amount = sums.amount.saturating_add(amount.units().into());
            sums.readings = sums.readings.saturating_add(1);
        }
        self.charges.push(row);
        Ok(())
    }

    /// Totals and states of the keys that have rows. A key that all readings left owes nothing.
    fn close(mut self, state: &RatingState) -> Result<RatedBatch, RerateError> {
        let anew = &self.unit.anew;
        debug_assert!(self.unit.booked.keys().chain(anew.keys().map(|(key, _)| key)).all(|key| key.service_period == self.unit.month));
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
                    shard: self.record.position.shard,
                },
            };
            after.shard = self.record.position.shard;
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
            accounting_period: self.record.accounting_period,
            family: Arc::clone(&after.family),
            quantity: Quantity::from_units(quantity).map_err(|_| beyond("quantity"))?,
            amount: Amount::from_units(amount).map_err(|_| beyond("amount"))?,
            total: after.total,
            readings,
            state: encode_segments(&after.segments).into(),
            last_at: after.last_at,
            log_sizes: log_sizes.clone(),
            last_sequence: self.record.position.sequence,
        })
    }
}

#[cfg(test)]
mod tests;
