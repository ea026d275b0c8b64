//! Rating again: which usage a version reaches back over, how that usage stands in the batches, and what rating it again comes to.
//! The billing role books it at the version's record; `tally rerate --preview` only shows it. Both go through [`Work::rerate`].

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use anyhow::Context as _;
use arrow::array::{AsArray as _, BooleanArray};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{Int32Type, TimestampMicrosecondType};
use arrow::record_batch::RecordBatch;
use platform_ingest::batch::{Rules, ShardRecords, applies};
use platform_rating::{
    Charge, Gathering, Key, KeyState, Plan, RatedBatch, RatingState, Standing, Unit, charges_from_arrow, totals_from_arrow,
};
use platform_registry::{RatedKey, Reach, ReachBack, Version, reach_back, reached, refuse_rerating};
use shared_bus::RecordKind;
use shared_db::Database;
use shared_types::{BatchNo, ControlNo, Digest, Instant, Month, OrganizationId, Position, ShardId};

use crate::lake::{CHARGES, Lake, TOTALS};
use crate::registries::{Registries, Snapshot};

/// An organization and a service period: what is rated again as a whole.
pub type UnitKey = (OrganizationId, Month);

/// Readings that are rated again at once: what one batch holds, and what is in memory. One shard's are never parted.
const READINGS_MAX: u64 = 500_000;
/// Headers read at once.
const PAGE: u32 = 500;

/// What a version reaches back over.
pub struct Reached {
    /// Every change, and for each the keys that it reaches.
    pub changes: Vec<(Reach, Vec<Key>)>,
    /// Units by shard, with the number of their readings.
    pub shards: BTreeMap<ShardId, (BTreeSet<UnitKey>, u64)>,
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
        Self { changes, shards: by_shard(&units, keys.into_iter()) }
    }

    /// Everything that was rated, for a book that changes nothing.
    pub fn everything<'k>(keys: impl Iterator<Item = (&'k Key, &'k KeyState)>) -> Self {
        let keys: Vec<(&Key, &KeyState)> = keys.collect();
        let units = keys.iter().map(|(key, _)| unit_of(key)).collect();
        Self { changes: Vec::new(), shards: by_shard(&units, keys.into_iter()) }
    }

    /// Leaves only some units.
    pub fn retain(&mut self, wanted: impl Fn(&UnitKey) -> bool) {
        for (units, _) in self.shards.values_mut() {
            units.retain(&wanted);
        }
        self.shards.retain(|_, (units, _)| !units.is_empty());
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
    RatedKey { organization: key.organization.clone(), contract: key.contract.clone(), sku: key.sku.clone(), last_at: state.last_at }
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

/// Leaves the shards that stand at the earliest record that has usage rated again, each with that record alone: whether there are any.
pub fn stand_at_record(records: &mut Vec<ShardRecords>, rules: &dyn Rules) -> bool {
    let record = |shard: &ShardRecords| -> Option<ControlNo> {
        let first = shard.records.first().filter(|first| first.kind == RecordKind::Control)?;
        let effect = rules.control(&first.payload).ok()?;
        (effect.rerates && applies(&effect, &shard.state)).then_some(effect.control_no)
    };
    let Some(earliest) = records.iter().filter_map(record).min() else { return false };
    records.retain(|shard| record(shard) == Some(earliest));
    for shard in records {
        shard.records.truncate(1);
    }
    true
}

/// The state of rating after a batch: the last row of each key in `totals`.
pub async fn restore(log: &Database, lake: &Lake, through: BatchNo) -> anyhow::Result<RatingState> {
    let (mut state, mut after) = (RatingState::default(), BatchNo(0));
    while after < through {
        let headers = {
            let mut tx = log.read().await?;
            platform_ingest::store::batches_after(&mut tx, after, PAGE).await?
        };
        after = headers.last().map(|(header, _)| header.batch_no).context("the batch log ends before its head")?;
        for (header, _) in headers.iter().filter(|(header, _)| header.batch_no <= through) {
            for rows in lake.read(header, TOTALS, None)? {
                for total in totals_from_arrow(&rows)? {
                    state.absorb(&total)?;
                }
            }
        }
    }
    lake.forget();
    Ok(state)
}

/// Where a unit's rows stand.
#[derive(Clone, Copy, Debug)]
pub struct Record {
    /// The record's position.
    pub position: Position,
    /// When it entered the stream.
    pub accepted_at: Instant,
    /// The shard's oldest unclosed month.
    pub oldest_open: Option<Month>,
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
    /// How many units are rated at a time.
    pub threads: usize,
}

impl Work<'_> {
    /// Rates the units of these shards again under a plan.
    pub async fn rerate(
        &self,
        state: &RatingState,
        plan: &Plan,
        reached: &Reached,
        shards: &BTreeMap<ShardId, Record>,
    ) -> anyhow::Result<RatedBatch> {
        let wanted: BTreeSet<UnitKey> =
            shards.keys().filter_map(|shard| reached.shards.get(shard)).flat_map(|(units, _)| units).cloned().collect();
        let mut standing = self.standing(&wanted).await?;
        let snapshots = self.rated_under(standing.values().flatten()).await?;
        let before: HashMap<Digest, &Plan> = snapshots.iter().map(|(version, snapshot)| (*version, &snapshot.plan)).collect();
        let mut units = Vec::with_capacity(standing.len());
        for (shard, record) in shards {
            for (organization, month) in reached.shards.get(shard).into_iter().flat_map(|(units, _)| units) {
                let Some(standing) = standing.remove(&(organization.clone(), *month)) else { continue };
                units.push(Unit {
                    organization: organization.clone(),
                    month: *month,
                    standing,
                    record: record.position,
                    accepted_at: record.accepted_at,
                    accounting_period: record.oldest_open.map_or(*month, |oldest| oldest.max(*month)),
                });
            }
        }
        Ok(tokio::task::block_in_place(|| platform_rating::rerate(state, plan, &before, &units, self.threads))?)
    }

    /// What some units would stand as under a plan; nothing is booked.
    pub async fn stand_under(&self, state: &RatingState, plan: &Plan, units: &BTreeSet<UnitKey>) -> anyhow::Result<Vec<Charge>> {
        let standing = self.standing(units).await?;
        let snapshots = self.rated_under(standing.values().flatten()).await?;
        let before: HashMap<Digest, &Plan> = snapshots.iter().map(|(version, snapshot)| (*version, &snapshot.plan)).collect();
        let mut found = Vec::with_capacity(standing.len());
        for ((organization, month), standing) in standing {
            // Where it would be booked matters to nobody: no row stands at a record.
            let Some(record) = standing.first().map(|standing| standing.origin) else { continue };
            found.push(Unit { organization, month, standing, record, accepted_at: Instant::EPOCH, accounting_period: month });
        }
        Ok(tokio::task::block_in_place(|| platform_rating::rate_standing(state, plan, &before, &found, self.threads))?)
    }

    /// The versions under which readings stand.
    async fn rated_under(&self, standing: impl Iterator<Item = &Standing>) -> anyhow::Result<Vec<(Digest, Arc<Snapshot>)>> {
        let versions: BTreeSet<Digest> = standing.map(|standing| standing.charge.registry_version).collect();
        let mut snapshots = Vec::with_capacity(versions.len());
        for version in versions {
            snapshots.push((version, self.registries.snapshot(version).await?));
        }
        Ok(snapshots)
    }

    /// The readings of some units as they stand, out of the files of every batch.
    pub async fn standing(&self, units: &BTreeSet<UnitKey>) -> anyhow::Result<BTreeMap<UnitKey, Vec<Standing>>> {
        let organizations: BTreeSet<&str> = units.iter().map(|(organization, _)| organization.as_str()).collect();
        let mut gathering = Gathering::default();
        let mut after = BatchNo(0);
        while after < self.through && !units.is_empty() {
            let headers = {
                let mut tx = self.log.read().await?;
                platform_ingest::store::batches_after(&mut tx, after, PAGE).await?
            };
            after = headers.last().map(|(header, _)| header.batch_no).context("the batch log ends before its head")?;
            for (header, _) in headers.iter().filter(|(header, _)| header.batch_no <= self.through) {
                tokio::task::block_in_place(|| {
                    // Totals are few, and name every organization and month with a row that counts.
                    let mut touched = false;
                    for rows in self.lake.read(header, TOTALS, Some(&["organization", "service_period"]))? {
                        touched = touched || touches(&rows, units, &organizations)?;
                    }
                    if !touched {
                        return Ok(());
                    }
                    let mut charges = Vec::new();
                    for rows in self.lake.read(header, CHARGES, None)? {
                        charges.extend(charges_from_arrow(&of_units(&rows, units, &organizations)?)?);
                    }
                    charges.sort_by_key(Charge::place);
                    charges.into_iter().for_each(|charge| gathering.add(charge));
                    anyhow::Ok(())
                })?;
                // Whoever waits no more is not read for any longer.
                tokio::task::yield_now().await;
            }
        }
        self.lake.forget();
        let mut standing: BTreeMap<UnitKey, Vec<Standing>> = BTreeMap::new();
        for found in gathering.standing() {
            standing.entry((found.charge.organization.clone(), found.charge.start_at.month())).or_default().push(found);
        }
        Ok(standing)
    }
}

/// Whether rows of `totals` name one of the units.
fn touches(rows: &RecordBatch, units: &BTreeSet<UnitKey>, organizations: &BTreeSet<&str>) -> anyhow::Result<bool> {
    let names = rows.column_by_name("organization").context("totals have no organization")?.as_string::<i32>();
    let periods = rows.column_by_name("service_period").context("totals have no service period")?.as_primitive::<Int32Type>();
    for row in (0..rows.num_rows()).filter(|row| organizations.contains(names.value(*row))) {
        if units.contains(&(OrganizationId::parse(names.value(row))?, Month::from_number(periods.value(row))?)) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The rows of `charges` that belong to the units.
fn of_units(rows: &RecordBatch, units: &BTreeSet<UnitKey>, organizations: &BTreeSet<&str>) -> anyhow::Result<RecordBatch> {
    let names = rows.column_by_name("organization").context("charges have no organization")?.as_string::<i32>();
    let starts = rows.column_by_name("start_at").context("charges have no start")?.as_primitive::<TimestampMicrosecondType>();
    let mut wanted = Vec::with_capacity(rows.num_rows());
    for row in 0..rows.num_rows() {
        wanted.push(
            organizations.contains(names.value(row))
                && units.contains(&(OrganizationId::parse(names.value(row))?, Instant::from_micros(starts.value(row))?.month())),
        );
    }
    Ok(filter_record_batch(rows, &BooleanArray::from(wanted))?)
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
