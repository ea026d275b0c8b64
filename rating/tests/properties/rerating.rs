//! Rating again under another plan comes to what rating everything once under it comes to, whatever was rated in between, and twice is once.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use platform_rating::{
    AtRecord, Charge, Gathering, Key, Plan, Prepared, RatedBatch, RatingState, Read, Standing, Unit, book, charges_from_arrow,
    charges_to_arrow, go_on, prepare, rate, rate_standing, rerate,
};
use platform_usage::MeteredReading;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestCaseResult, TestRunner};
use shared_types::{Digest, IdentityHash, Instant, Month, OrganizationId, Position, Sequence};

use crate::world::{World, sealed, world};

/// What the meters of a version make of events that were read before.
#[derive(Default)]
struct Reread {
    otherwise: BTreeMap<(IdentityHash, u16), Read>,
    born: Vec<MeteredReading>,
}

/// What a home keeps of a shard: the state and the rows, in the order of their batches.
#[derive(Default)]
struct Home {
    state: RatingState,
    rows: Vec<Charge>,
}

impl Home {
    fn take(&mut self, batch: RatedBatch) -> TestCaseResult {
        // Through the columns that batches are kept in.
        let kept = charges_to_arrow(&batch.charges).map_err(|error| TestCaseError::fail(error.to_string()))?;
        prop_assert_eq!(charges_from_arrow(&kept).unwrap(), batch.charges.clone());
        let restored = RatingState::restore(&batch.totals).map_err(|error| TestCaseError::fail(error.to_string()))?;
        self.state.apply(batch.overlay);
        for (key, state) in restored.keys() {
            prop_assert_eq!(self.state.get(key), Some(state), "totals carry the state");
        }
        self.rows.extend(batch.charges);
        Ok(())
    }

    /// Every unit, as a record at `sequence` of each shard meets it, with what the meters of its version make of the events.
    fn units(&self, sequence: u64, reread: &Reread) -> Vec<(Unit, AtRecord)> {
        let mut gathering = Gathering::default();
        self.rows.iter().for_each(|row| gathering.add(row.clone()));
        let mut units: BTreeMap<(OrganizationId, Month), (Vec<Standing>, Vec<MeteredReading>)> = BTreeMap::new();
        for mut standing in gathering.readings() {
            let name = (standing.charge.identity, standing.charge.ordinal);
            if let Some(read) = reread.otherwise.get(&name) {
                standing.read = read.clone();
            }
            units.entry((standing.charge.organization.clone(), standing.charge.start_at.month())).or_default().0.push(standing);
        }
        for reading in &reread.born {
            units.entry((reading.organization.clone(), reading.start_at.month())).or_default().1.push(reading.clone());
        }
        let unit = |((organization, month), (standing, born)): ((OrganizationId, Month), (Vec<Standing>, Vec<MeteredReading>))| {
            let somewhere = standing.first().map(|standing| standing.origin).or(born.first().map(|reading| reading.position)).unwrap();
            let record = AtRecord {
                position: Position { sequence: Sequence(sequence), ..somewhere },
                accepted_at: Instant::EPOCH,
                accounting_period: Month::from_number(202_604).unwrap(),
            };
            (Unit { organization, month, standing, born }, record)
        };
        units.into_iter().map(unit).collect()
    }

    fn reread(&mut self, sequence: u64, plan: &Plan, plans: &HashMap<Digest, &Plan>, reread: &Reread) -> Result<usize, TestCaseError> {
        let units = self.units(sequence, reread);
        // A difference that leaves its range halts; live rating quarantines what would lead there.
        let Ok(batch) = rerate(&self.state, plan, plans, units.clone(), 1) else { return Err(TestCaseError::reject("out of range")) };
        for threads in [2, 4] {
            let parallel = rerate(&self.state, plan, plans, units.clone(), threads).unwrap();
            prop_assert_eq!(&parallel, &batch);
        }
        // What is shown of a draft before it is booked is what is booked: the same sums, and the same readings changed.
        let gone: BTreeSet<(IdentityHash, u16)> =
            reread.otherwise.iter().filter(|(_, read)| **read == Read::Gone).map(|(name, _)| *name).collect();
        let stood = |standing: &&Standing| standing.stands() && !gone.contains(&(standing.charge.identity, standing.charge.ordinal));
        let stood = units.iter().flat_map(|(unit, _)| &unit.standing).filter(stood).count();
        let shown = rate_standing(&self.state, plan, plans, units.into_iter().map(|(unit, _)| unit).collect(), 4).unwrap();
        let named = |rows: &[Charge]| rows.iter().filter_map(|row| Some((row.supersedes?, row.ordinal))).collect::<BTreeSet<_>>();
        prop_assert_eq!(named(&shown), &named(&batch.charges) - &gone);
        let came = shown.iter().filter(|row| self.unknown(row)).count();
        prop_assert_eq!(shown.len(), stood + came);
        let rows = batch.charges.len();
        self.take(batch)?;
        for (key, sum) in sums(&shown) {
            prop_assert_eq!(self.state.get(&key).map(|state| i128::from(state.total.units())), Some(sum));
        }
        Ok(rows)
    }

    /// Whether a reading is neither charged nor free so far.
    fn unknown(&self, row: &Charge) -> bool {
        let last = self.rows.iter().rfind(|known| (known.identity, known.ordinal) == (row.identity, row.ordinal));
        last.is_none_or(|known| known.fate.priced().is_none())
    }

    /// T and segments of keys that owe or hold anything.
    fn keys(&self) -> BTreeMap<Key, String> {
        let keys = self.state.keys().filter(|(_, state)| !state.segments.is_empty());
        keys.map(|(key, state)| (key.clone(), format!("{} {:?}", state.total, state.segments))).collect()
    }
}

/// Σ amounts by key.
fn sums(rows: &[Charge]) -> BTreeMap<Key, i128> {
    let mut sums: BTreeMap<Key, i128> = BTreeMap::new();
    for row in rows {
        let (Some(key), Some(amount)) = (row.key(), row.fate.amount()) else { continue };
        *sums.entry(key).or_default() += i128::from(amount.units());
    }
    sums
}

/// Units that are prepared in the middle of usage and go on with what comes behind it are booked as those that are rated at the record.
fn prepared_ahead(
    old: &Plan,
    new: &Plan,
    plans: &HashMap<Digest, &Plan>,
    early: &[MeteredReading],
    late: &[MeteredReading],
    reread: &Reread,
) -> TestCaseResult {
    let mut home = Home::default();
    home.take(rate(&home.state, old, &sealed(early), 1).unwrap())?;
    let came: BTreeSet<IdentityHash> = early.iter().map(|reading| reading.identity).collect();
    let by_then = Reread {
        born: reread.born.iter().filter(|reading| came.contains(&reading.identity)).cloned().collect(),
        otherwise: reread.otherwise.clone(),
    };
    let there: Vec<Unit> = home.units(9_000, &by_then).into_iter().map(|(unit, _)| unit).collect();
    let names: Vec<(OrganizationId, Month)> = there.iter().map(|unit| (unit.organization.clone(), unit.month)).collect();
    let Ok(prepared) = prepare(&home.state, new, plans, there, 2) else { return Err(TestCaseError::reject("out of range")) };
    let mut prepared: BTreeMap<(OrganizationId, Month), Prepared> = names.into_iter().zip(prepared).collect();
    home.take(rate(&home.state, old, &sealed(&behind(late)), 1).unwrap())?;
    let units = home.units(9_000, reread);
    let Ok(whole) = rerate(&home.state, new, plans, units.clone(), 1) else { return Err(TestCaseError::reject("out of range")) };
    let mut booked = Vec::new();
    for (mut unit, record) in units {
        let ready = match prepared.remove(&(unit.organization.clone(), unit.month)) {
            Some(prepared) => {
                unit.standing.retain(|standing| !came.contains(&standing.charge.identity));
                unit.born.retain(|reading| !came.contains(&reading.identity));
                go_on(&home.state, new, plans, vec![(prepared, unit)], 1).unwrap()
            }
            None => prepare(&home.state, new, plans, vec![unit], 1).unwrap(),
        };
        booked.extend(ready.into_iter().map(|ready| (ready, record)));
    }
    prop_assert_eq!(book(&home.state, booked, 2).unwrap(), whole);
    Ok(())
}

/// Readings after the record have places behind it.
fn behind(late: &[MeteredReading]) -> Vec<MeteredReading> {
    let moved = late.iter().map(|reading| {
        let sequence = Sequence(reading.position.sequence.0 + 2_000);
        MeteredReading { position: Position { sequence, ..reading.position }, ..reading.clone() }
    });
    moved.collect()
}

/// Meters of the second version: of every third event one reads another quantity, of every fifth one reads no more, of every fourth there is
/// one more. The last two say what these come to.
fn reread(readings: &[MeteredReading]) -> (Reread, Vec<MeteredReading>) {
    let (mut reread, mut once) = (Reread::default(), Vec::new());
    for (at, reading) in readings.iter().enumerate() {
        let name = (reading.identity, reading.ordinal);
        if at % 5 == 2 {
            reread.otherwise.insert(name, Read::Gone);
        } else if at % 3 == 1 {
            let other = readings.get(at / 2).map_or(reading.quantity, |other| other.quantity);
            let otherwise = MeteredReading { quantity: other, ..reading.clone() };
            reread.otherwise.insert(name, Read::Anew(Box::new(otherwise.clone())));
            once.push(otherwise);
        } else {
            once.push(reading.clone());
        }
        if at % 4 == 3 {
            let born = MeteredReading { ordinal: reading.ordinal + 7, ..reading.clone() };
            reread.born.push(born.clone());
            once.push(born);
        }
    }
    (reread, once)
}

#[test]
fn rating_again_is_rating_once_under_the_final_plan_and_twice_is_once() {
    let (moved, replaced, lost) = (Cell::new(0_u64), Cell::new(0_u64), Cell::new(0_u64));
    let config = Config { cases: 1_500, failure_persistence: None, max_global_rejects: 20_000, ..Config::default() };
    let charged = Cell::new(0_u64);
    let worlds = (world(), world(), 0..30_usize, any::<bool>(), any::<bool>());
    let test = |(first, second, cut, back, others): (World, World, usize, bool, bool)| -> TestCaseResult {
        let (mut plan_a, mut plan_b) = (first.plan.clone(), second.plan);
        (plan_a.version, plan_b.version) = (Digest([1; 32]), Digest([2; 32]));
        let plans: HashMap<Digest, &Plan> = HashMap::from([(plan_a.version, &plan_a), (plan_b.version, &plan_b)]);
        let numbered = first.readings.iter().zip(1_u128..);
        let readings: Vec<MeteredReading> =
            numbered.map(|(reading, at)| MeteredReading { identity: IdentityHash(at.to_be_bytes()), ..reading.clone() }).collect();
        let (early, late) = readings.split_at(cut.min(readings.len()));
        let rated = |home: &Home, plan: &Plan, readings: &[MeteredReading]| rate(&home.state, plan, &sealed(readings), 1).unwrap();
        // Whether the second version's meters are others.
        let of = |readings: &[MeteredReading]| if others { reread(readings) } else { (Reread::default(), readings.to_vec()) };

        let mut home = Home::default();
        prepared_ahead(&plan_a, &plan_b, &plans, early, late, &of(&readings).0)?;
        home.take(rated(&home, &plan_a, early))?;
        let waited: BTreeSet<IdentityHash> = home.rows.iter().filter(|row| row.fate.priced().is_none()).map(|row| row.identity).collect();
        let (reread, mut all) = of(early);
        let rows = home.reread(1_000, &plan_b, &plans, &reread)?;
        let booked = || home.rows.iter().rev().take(rows);
        replaced.set(replaced.get() + u64::from(rows > 0));
        moved.set(moved.get() + u64::from(booked().any(|row| row.quantity.units() < 0)));
        lost.set(lost.get() + u64::from(booked().any(|row| row.fate.priced().is_none())));
        charged.set(charged.get() + u64::from(booked().any(|row| waited.contains(&row.identity) && row.fate.priced().is_some())));
        // What is in quarantine still says what the first version read.
        let reread = Reread { born: Vec::new(), ..reread };
        prop_assert_eq!(home.reread(1_001, &plan_b, &plans, &reread)?, 0, "twice is once");
        let late = behind(late);
        home.take(rated(&home, &plan_b, &late))?;

        // Once: all of it under the final plan alone.
        let mut once = Home::default();
        all.extend(late);
        once.take(rated(&once, &plan_b, &all))?;
        if once.rows.iter().chain(&home.rows).any(|row| row.fate.reason() == Some("amount_overflow")) {
            return Err(TestCaseError::reject("what overflows depends on the order"));
        }
        prop_assert_eq!(home.keys(), once.keys());
        // Σ rows = T, and every log is gapless.
        let mut logs: BTreeMap<(OrganizationId, Month), u64> = BTreeMap::new();
        for row in &home.rows {
            let Some(priced) = row.fate.priced() else { continue };
            let next = logs.entry((row.organization.clone(), priced.log_month)).or_default();
            prop_assert_eq!(priced.log_seq, *next);
            *next += 1;
        }
        for (key, sum) in &sums(&home.rows) {
            prop_assert_eq!(home.state.get(key).map(|state| i128::from(state.total.units())), Some(*sum));
        }
        if back {
            let before = home.reread(9_000, &plan_a, &plans, &reread)?;
            let again = home.reread(9_001, &plan_b, &plans, &reread)?;
            prop_assert!(before > 0 || again == 0);
            prop_assert_eq!(home.keys(), once.keys());
        }
        Ok(())
    };
    TestRunner::new(config).run(&worlds, test).unwrap_or_else(|error| panic!("{error}"));
    for (edge, times) in [
        ("a reading was rated again", replaced),
        ("a reading was taken back", moved),
        ("a reading lost its price", lost),
        ("a reading left quarantine", charged),
    ] {
        println!("{edge}: {}", times.get());
        assert!(times.get() > 20, "{edge} was met {} times", times.get());
    }
}
