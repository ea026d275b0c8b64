//! Rating again: which usage a version reaches back over, how that usage stands in the batches, and what rating it again comes to.
//! The billing role books it at the version's record; `tally rerate --preview` only shows it. Both go through [`Work::rerate`].

mod ahead;
mod gather;
pub mod reread;
mod waiting;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use anyhow::Context as _;
use platform_ingest::batch::{Rules, ShardRecords, ShardState, applies};
use platform_rating::{
    AtRecord, Charge, Gathering, Key, KeyState, Plan, Prepared, RatedBatch, RatingState, Standing, Unit, totals_from_arrow,
};
use platform_registry::{RatedKey, Reach, ReachBack, Version, reach_back, reached, refuse_rerating};
use shared_bus::RecordKind;
use shared_db::Database;
use shared_types::{BatchNo, ControlNo, Digest, Instant, Month, OrganizationId, Position, Sequence, ShardId};

use crate::lake::{Lake, TOTALS};
use crate::registries::{Registries, Snapshot};

pub use ahead::Ahead;
pub use waiting::Waiting;

/// An organization and a service period: what is rated again as a whole.
pub type UnitKey = (OrganizationId, Month);

/// Readings that are rated again at once: what one batch holds, and what is in memory for it. One shard's are never parted.
const READINGS_MAX: u64 = 50_000;
/// Headers read at once.
const PAGE: u32 = 500;

/// What a version reaches back over.
pub struct Reached {
    /// Every change, and for each the keys that it reaches.
    pub changes: Vec<(Reach, Vec<Key>)>,
    /// Units by shard, with the number of their readings.
    pub shards: BTreeMap<ShardId, (BTreeSet<UnitKey>, u64)>,
    /// What waits for the version beside its keys.
    pub waiting: Arc<Waiting>,
}

impl Reached {
    /// Of the keys of a state.
    pub fn of<'k>(old: &Version, new: &Version, keys: impl Iterator<Item = (&'k Key, &'k KeyState)>) -> Self {
        let keys: Vec<(&Key, &KeyState)> = keys.collect();
        let rated: Vec<RatedKey> = keys.iter().copied().map(rated_key).collect();
        let reaches = reach_back(old, new);
        let found = reached(&reaches, &rated);
        let mut changes = Vec::new();
        let mut units = BTreeSet::new();
        for (reach, keys_reached) in reaches.into_iter().zip(found) {
            let keys_reached: Vec<Key> = keys_reached.into_iter().filter_map(|at| keys.get(at).map(|(key, _)| (*key).clone())).collect();
            units.extend(keys_reached.iter().map(unit_of));
            if !keys_reached.is_empty() {
                changes.push((reach, keys_reached));
            }
        }
        Self { changes, shards: by_shard(&units, keys.into_iter()), waiting: Arc::default() }
    }

    /// Everything that was rated, for a book that changes nothing.
    pub fn everything<'k>(keys: impl Iterator<Item = (&'k Key, &'k KeyState)>) -> Self {
        let keys: Vec<(&Key, &KeyState)> = keys.collect();
        let units = keys.iter().map(|(key, _)| unit_of(key)).collect();
        Self { changes: Vec::new(), shards: by_shard(&units, keys.into_iter()), waiting: Arc::default() }
    }

    /// Leaves only some units.
    pub fn retain(&mut self, wanted: impl Fn(&UnitKey) -> bool) {
        for (units, _) in self.shards.values_mut() {
            units.retain(&wanted);
        }
        self.shards.retain(|_, (units, _)| !units.is_empty());
    }

    /// What of it belongs to some shards; it is gone here.
    pub fn take(&mut self, shards: &BTreeSet<ShardId>) -> Self {
        let shards = self.shards.extract_if(.., |shard, _| shards.contains(shard)).collect();
        Self { changes: Vec::new(), shards, waiting: Arc::clone(&self.waiting) }
    }

    /// Shards that are rated again together, in order.
    pub fn groups(&self) -> Vec<Vec<ShardId>> {
        let mut groups: Vec<(Vec<ShardId>, u64)> = Vec::new();
        for (shard, (_, readings)) in &self.shards {
            match groups.last_mut() {
                Some((group, sum)) if sum.saturating_add(*readings) <= READINGS_MAX => {
                    group.push(*shard);
                    *sum = sum.saturating_add(*readings);
                }
                _ => groups.push((vec![*shard], *readings)),
            }
        }
        groups.into_iter().map(|(group, _)| group).collect()
    }
}

/// A key as the registry asks for it.
pub fn rated_key((key, state): (&Key, &KeyState)) -> RatedKey {
    RatedKey {
        organization: key.organization.clone(),
        contract: key.contract.clone(),
        sku: key.sku.clone(),
        service_period: key.service_period,
        last_at: state.last_at,
    }
}

/// The unit that a key belongs to.
pub fn unit_of(key: &Key) -> UnitKey {
    (key.organization.clone(), key.service_period)
}

fn by_shard<'k>(
    units: &BTreeSet<UnitKey>,
    keys: impl Iterator<Item = (&'k Key, &'k KeyState)>,
) -> BTreeMap<ShardId, (BTreeSet<UnitKey>, u64)> {
    let mut shards: BTreeMap<ShardId, (BTreeSet<UnitKey>, u64)> = BTreeMap::new();
    for (key, state) in keys {
        let unit = unit_of(key);
        if units.contains(&unit) {
            let shard = shards.entry(state.shard).or_default();
            shard.0.insert(unit);
            shard.1 = state.segments.values().fold(shard.1, |sum, segment| sum.saturating_add(segment.readings));
        }
    }
    shards
}

/// Changes of a version, against the one in force, that rating these keys again cannot follow: readings, families, currencies would be others.
pub async fn not_followed(books: &Database, version: &Version, keys: &[RatedKey]) -> anyhow::Result<Option<ReachBack>> {
    let active = platform_registry::store::active(&mut books.read().await?).await?;
    Ok(active.and_then(|active| refuse_rerating(&reach_back(&active, version), keys).err()))
}

/// Parts that hold no more readings than there is room for, in order; or the first that finds no room by itself, with its readings.
pub fn parts<K: Ord>(units: BTreeMap<K, u64>, room: u64) -> Result<VecDeque<BTreeSet<K>>, (K, u64)> {
    let mut parts: VecDeque<BTreeSet<K>> = VecDeque::new();
    let mut left = 0_u64;
    for (unit, readings) in units {
        if readings > room {
            return Err((unit, readings));
        }
        match parts.back_mut().filter(|_| readings <= left) {
            Some(part) => drop(part.insert(unit)),
            None => {
                parts.push_back(BTreeSet::from([unit]));
                left = room;
            }
        }
        left = left.saturating_sub(readings);
    }
    Ok(parts)
}

/// The record at which a shard stands, where it has usage rated again.
pub fn record_of(shard: &ShardRecords, rules: &dyn Rules) -> Option<ControlNo> {
    let first = shard.records.first().filter(|first| first.kind == RecordKind::Control)?;
    let effect = rules.control(&first.payload).ok()?;
    (effect.rerates && applies(&effect, &shard.state)).then_some(effect.control_no)
}

/// Takes out the shards that stand at a record that has usage rated again: those at the earliest one are returned, each with that record alone;
/// the others wait for it.
pub fn take_at_record(records: &mut Vec<ShardRecords>, rules: &dyn Rules) -> Vec<ShardRecords> {
    let Some(earliest) = records.iter().filter_map(|shard| record_of(shard, rules)).min() else { return Vec::new() };
    let (mut standing, rest): (Vec<_>, Vec<_>) = std::mem::take(records).into_iter().partition(|shard| record_of(shard, rules).is_some());
    *records = rest;
    standing.retain(|shard| record_of(shard, rules) == Some(earliest));
    for shard in &mut standing {
        shard.records.truncate(1);
    }
    standing
}

/// The state of rating after a batch: the last row of each key in `totals`.
pub async fn restore(log: &Database, lake: &Lake, through: BatchNo) -> anyhow::Result<RatingState> {
    restore_units(log, lake, through, |_| true).await
}

/// What of it is of some units.
pub async fn restore_units(
    log: &Database,
    lake: &Lake,
    through: BatchNo,
    wanted: impl Fn(&UnitKey) -> bool,
) -> anyhow::Result<RatingState> {
    let (mut state, mut after) = (RatingState::default(), BatchNo(0));
    while after < through {
        let headers = {
            let mut tx = log.read().await?;
            platform_ingest::store::batches_after(&mut tx, after, PAGE).await?
        };
        after = headers.last().map(|(header, _)| header.batch_no).context("the batch log ends before its head")?;
        for (header, _) in headers.iter().filter(|(header, _)| header.batch_no <= through) {
            for rows in lake.read(header, TOTALS, None)? {
                for total in totals_from_arrow(&rows)?.into_iter().filter(|total| wanted(&unit_of(&total.key()))) {
                    state.absorb(&total)?;
                }
            }
        }
    }
    lake.forget();
    Ok(state)
}

/// Where the rows of a shard's units stand.
#[derive(Clone, Copy, Debug)]
pub struct Record {
    /// The record's position.
    pub position: Position,
    /// When it entered the stream.
    pub accepted_at: Instant,
    /// The shard's oldest unclosed month.
    pub oldest_open: Option<Month>,
}

impl Record {
    /// For the units of a month.
    fn of(&self, month: Month) -> AtRecord {
        let accounting_period = self.oldest_open.map_or(month, |oldest| oldest.max(month));
        AtRecord { position: self.position, accepted_at: self.accepted_at, accounting_period }
    }
}

/// Where usage that is rated again is read from.
pub struct Work<'a> {
    /// The batch log.
    pub log: &'a Database,
    /// Batch files.
    pub lake: &'a Lake,
    /// Compiled versions.
    pub registries: &'a Registries,
    /// The last batch that is looked at: the one after which the state stands.
    pub through: BatchNo,
    /// How many files are read, and how many units rated, at a time.
    pub threads: usize,
}

impl Work<'_> {
    /// What of some units a version reaches that is not in force, with what waits for it.
    pub async fn reached_by(
        &self,
        state: &RatingState,
        (active, version): (&Version, &Version),
        plan: &Plan,
        wanted: impl Fn(&UnitKey) -> bool,
    ) -> anyhow::Result<Reached> {
        let reached = if version.address() == active.address() {
            Reached::everything(state.keys())
        } else {
            Reached::of(active, version, state.keys())
        };
        let waiting = self.wait(active, version, plan, Arc::default()).await?;
        let mut reached = reached.and_waiting(waiting, state.keys(), |_| true);
        reached.retain(wanted);
        Ok(reached)
    }

    /// Rates under a plan, beside the owner, what is reached, some shards at a time; what it comes to is taken as it is made, and nothing is booked.
    ///
    /// - `ends`: where the shards stand; `at`: when it would be booked.
    pub async fn foresee(
        &self,
        state: &RatingState,
        plan: &Plan,
        reached: &Reached,
        (ends, at): (&[ShardState], Instant),
        mut take: impl FnMut(&RatedBatch) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        for group in reached.groups() {
            let mut shards = BTreeMap::new();
            for end in ends.iter().filter(|end| group.contains(&end.position.shard)) {
                let position = Position { sequence: Sequence(u64::MAX), ..end.position };
                shards.insert(position.shard, Record { position, accepted_at: at, oldest_open: end.oldest_open });
            }
            take(&self.rerate(state, plan, reached, &shards, None).await?)?;
        }
        Ok(())
    }

    /// Rates the units of these shards again under a plan.
    ///
    /// - `ahead`: what was rated again before; its units of these shards are taken out of it.
    pub async fn rerate(
        &self,
        state: &RatingState,
        plan: &Plan,
        reached: &Reached,
        shards: &BTreeMap<ShardId, Record>,
        ahead: Option<&mut Ahead>,
    ) -> anyhow::Result<RatedBatch> {
        let mut records: BTreeMap<&UnitKey, AtRecord> = BTreeMap::new();
        for (shard, record) in shards {
            let units = reached.shards.get(shard).into_iter().flat_map(|(units, _)| units);
            records.extend(units.map(|unit| (unit, record.of(unit.1))));
        }
        let wanted: BTreeSet<UnitKey> = records.keys().map(|unit| (*unit).clone()).collect();
        let prepared = match ahead {
            Some(ahead) => self.ready(state, plan, &reached.waiting, &wanted, ahead).await?,
            None => self.prepare(state, plan, &reached.waiting, &wanted).await?,
        };
        let units = prepared.into_iter().filter_map(|(unit, prepared)| Some((prepared, *records.get(&unit)?))).collect();
        Ok(tokio::task::block_in_place(|| platform_rating::book(state, units, self.threads))?)
    }

    /// Rates some units whole under a plan, before anybody knows where their rows stand.
    async fn prepare(
        &self,
        state: &RatingState,
        plan: &Plan,
        waiting: &Waiting,
        units: &BTreeSet<UnitKey>,
    ) -> anyhow::Result<BTreeMap<UnitKey, Prepared>> {
        let units = self.units(waiting, units).await?;
        let snapshots = self.rated_under(&units).await?;
        let before = plans(&snapshots);
        let names: Vec<UnitKey> = units.iter().map(|unit| (unit.organization.clone(), unit.month)).collect();
        let prepared = tokio::task::block_in_place(|| platform_rating::prepare(state, plan, &before, units, self.threads))?;
        Ok(names.into_iter().zip(prepared).collect())
    }

    /// What some units would stand as under a plan; nothing is booked.
    pub async fn stand_under(
        &self,
        state: &RatingState,
        plan: &Plan,
        waiting: &Waiting,
        units: &BTreeSet<UnitKey>,
    ) -> anyhow::Result<Vec<Charge>> {
        let units = self.units(waiting, units).await?;
        let snapshots = self.rated_under(&units).await?;
        let before = plans(&snapshots);
        Ok(tokio::task::block_in_place(|| platform_rating::rate_standing(state, plan, &before, units, self.threads))?)
    }

    /// The versions under which readings stand.
    async fn rated_under(&self, units: impl IntoIterator<Item = &Unit>) -> anyhow::Result<Vec<(Digest, Arc<Snapshot>)>> {
        let standing = units.into_iter().flat_map(|unit| &unit.standing).filter(|standing| standing.stands());
        let versions: BTreeSet<Digest> = standing.map(|standing| standing.charge.registry_version).collect();
        let mut snapshots = Vec::with_capacity(versions.len());
        for version in versions {
            snapshots.push((version, self.registries.snapshot(version).await?));
        }
        Ok(snapshots)
    }

    /// Some units with everything that has rows in them, out of the files of every batch.
    async fn units(&self, waiting: &Waiting, units: &BTreeSet<UnitKey>) -> anyhow::Result<Vec<Unit>> {
        Ok(self.units_behind(waiting, units, BatchNo(0)).await?.into_values().collect())
    }

    /// What of it is in the batches behind one.
    async fn units_behind(&self, waiting: &Waiting, wanted: &BTreeSet<UnitKey>, after: BatchNo) -> anyhow::Result<BTreeMap<UnitKey, Unit>> {
        let rows = self.rows(wanted, &waiting.batches(wanted), after).await?;
        let mut units = rows.into_iter().map(|(unit, rows)| (unit.clone(), unit_with(unit, rows))).collect();
        if let Some((otherwise, events)) = waiting.rereading() {
            self.read_again(otherwise, events, wanted, after, &mut units).await?;
        }
        Ok(units)
    }

    /// The charged and free readings of some units as they stand, out of the files of every batch.
    pub async fn standing(&self, units: &BTreeSet<UnitKey>) -> anyhow::Result<BTreeMap<UnitKey, Vec<Standing>>> {
        let mut standing = BTreeMap::new();
        for (unit, rows) in self.rows(units, &BTreeSet::new(), BatchNo(0)).await? {
            let mut stands = gathered(rows);
            stands.retain(Standing::stands);
            if !stands.is_empty() {
                standing.insert(unit, stands);
            }
        }
        Ok(standing)
    }
}

/// The readings of one unit, out of all its rows.
fn gathered(rows: Vec<Charge>) -> Vec<Standing> {
    let mut gathering = Gathering::default();
    rows.into_iter().for_each(|row| gathering.add(row));
    gathering.readings()
}

fn unit_with((organization, month): UnitKey, rows: Vec<Charge>) -> Unit {
    Unit { organization, month, standing: gathered(rows), born: Vec::new() }
}

fn plans(snapshots: &[(Digest, Arc<Snapshot>)]) -> HashMap<Digest, &Plan> {
    snapshots.iter().map(|(version, snapshot)| (*version, &snapshot.plan)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_fit_into_the_room_and_what_fits_nowhere_is_named() {
        let units = BTreeMap::from([("a", 4), ("b", 4), ("c", 3), ("d", 9)]);
        let sizes: Vec<usize> = parts(units.clone(), 9).unwrap().iter().map(BTreeSet::len).collect();
        assert_eq!(sizes, [2, 1, 1]);
        assert_eq!(parts(units, 8), Err(("d", 9)));
    }
}
