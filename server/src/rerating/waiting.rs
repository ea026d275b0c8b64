//! What a version has rated beside the keys that it reaches: readings in quarantine that its plan prices, and events that its meters read otherwise.
//! They are in no key, so they are found in the batches, by a few columns of `charges` and `events`, which say which units they belong to and where
//! they lie. A batch in which an organization has nothing else has no totals that would name it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use anyhow::Context as _;
use arrow::array::{Array as _, AsArray as _};
use arrow::datatypes::{Int32Type, TimestampMicrosecondType};
use arrow::record_batch::RecordBatch;
use platform_ingest::header::Header;
use platform_rating::{Key, KeyState, Plan, PriceFinder};
use platform_registry::Version;
use platform_usage::{Dimensions, Reason};
use shared_types::{BatchNo, Digest, IdentityHash, Instant, MeterId, OrganizationId, ShardId};

use super::reread::{self, Cuts, Events, Meters, Otherwise};
use super::{Reached, UnitKey, Work, unit_of};
use crate::lake::{CHARGES, Lake};

/// What says whether a batch has anything to look at.
const NARROW: &[&str] = &["fate", "supersedes"];
/// What says which reading it is, and whether it has a price.
const WIDE: &[&str] = &[
    "identity",
    "ordinal",
    "shard",
    "organization",
    "meter",
    "dimensions",
    "start_at",
    "end_at",
    "fate",
    "reason",
    "registry_version",
    "supersedes",
];

/// A reading: the event's identity and its number there.
type Name = (IdentityHash, u16);

/// What waits for a version, up to a batch.
#[derive(Clone, Debug, Default)]
pub struct Waiting {
    /// The version before it.
    before: Digest,
    /// The last batch that was looked at.
    through: BatchNo,
    /// Where rows in quarantine lie, of whatever became of them.
    rows: BTreeMap<UnitKey, BTreeSet<BatchNo>>,
    /// Readings that have a price under the plan and are still there.
    priced: HashMap<Name, (ShardId, UnitKey)>,
    /// How events are read again, where any meter reads otherwise.
    otherwise: Option<Arc<Otherwise>>,
    /// Those that are.
    events: Events,
}

/// What a row says of a reading.
enum Seen {
    /// It is in quarantine, read by a meter of a version; whether the plan prices it.
    Quarantined { unit: UnitKey, name: Name, shard: ShardId, by: (Digest, MeterId), priced: bool, times: (Instant, Instant) },
    /// It is charged or free from here on.
    Counted(Name),
}

impl Waiting {
    /// How many readings or events wait, by unit.
    pub fn units(&self) -> BTreeMap<&UnitKey, (ShardId, u64)> {
        let mut units: BTreeMap<&UnitKey, (ShardId, u64)> = BTreeMap::new();
        let events = self.events.units.iter().map(|(unit, (shard, events, _))| (unit, *shard, *events));
        for (unit, shard, more) in self.priced.values().map(|(shard, unit)| (unit, *shard, 1)).chain(events) {
            let (_, waits) = units.entry(unit).or_insert((shard, 0));
            *waits = waits.saturating_add(more);
        }
        units
    }

    /// Whether anything waits.
    pub fn any(&self) -> bool {
        !self.priced.is_empty() || !self.events.units.is_empty()
    }

    /// Whether a batch behind one has rows of the unit in quarantine, or events of it that are read again.
    pub(super) fn came_behind(&self, unit: &UnitKey, after: BatchNo) -> bool {
        let events = self.events.units.get(unit).map(|(_, _, last)| *last);
        self.rows.get(unit).and_then(BTreeSet::last).copied().max(events).is_some_and(|last| last > after)
    }

    /// Whether the organization has events that are read again.
    pub(super) fn reads_again(&self, organization: &OrganizationId) -> bool {
        self.events.of(organization)
    }

    /// How events are read again, and which.
    pub(super) fn rereading(&self) -> Option<(&Otherwise, &Events)> {
        self.otherwise.as_deref().map(|otherwise| (otherwise, &self.events))
    }

    /// Batches with rows of some units in quarantine.
    pub(super) fn batches(&self, units: &BTreeSet<UnitKey>) -> BTreeSet<BatchNo> {
        units.iter().filter_map(|unit| self.rows.get(unit)).flatten().copied().collect()
    }
}

impl Reached {
    /// With the units of what waits.
    ///
    /// - `keys`: those of the shards that are looked at, of these units at least.
    #[must_use]
    pub fn and_waiting<'k>(
        mut self,
        waiting: Arc<Waiting>,
        keys: impl Iterator<Item = (&'k Key, &'k KeyState)>,
        here: impl Fn(ShardId) -> bool,
    ) -> Self {
        let units = waiting.units();
        let known: BTreeSet<&UnitKey> = self.shards.values().flat_map(|(units, _)| units).collect();
        let mut readings: BTreeMap<ShardId, u64> = BTreeMap::new();
        for (key, state) in keys {
            let unit = unit_of(key);
            if units.contains_key(&unit) && !known.contains(&unit) {
                let sum = readings.entry(state.shard).or_default();
                *sum = state.segments.values().fold(*sum, |sum, segment| sum.saturating_add(segment.readings));
            }
        }
        for (unit, (shard, waits)) in units.into_iter().filter(|(_, (shard, _))| here(*shard)) {
            let sum = readings.entry(shard).or_default();
            *sum = sum.saturating_add(waits);
            self.shards.entry(shard).or_default().0.insert(unit.clone());
        }
        for (shard, more) in readings {
            if let Some((_, readings)) = self.shards.get_mut(&shard) {
                *readings = readings.saturating_add(more);
            }
        }
        self.waiting = waiting;
        self
    }
}

impl Work<'_> {
    /// Looks at the batches that were not looked at so far.
    ///
    /// - `before`: what is in force; `version`: what is to price and read, `plan` its plan. What is known of another one before it is dropped.
    /// - Readings in quarantine that the version's meters would not read as they were read have these meters read all their events again; where these
    ///   would cut them, or what stands beside them, otherwise, the events that are cut.
    pub async fn wait(&self, before: &Version, version: &Version, plan: &Plan, known: Arc<Waiting>) -> anyhow::Result<Arc<Waiting>> {
        let same = known.before == before.address();
        if same && known.through >= self.through {
            return Ok(known);
        }
        let new = platform_registry::compile(version)?;
        let mut waiting = if same { Arc::unwrap_or_clone(known) } else { Waiting { before: before.address(), ..Waiting::default() } };
        if !same {
            waiting.otherwise = Otherwise::between(&platform_registry::compile(before)?, &new)?.map(Arc::new);
        }
        let after = waiting.through;
        let mut found = Vec::new();
        self.each_file(after, |lake, headers| seen(lake, headers, plan), |some| found.extend(some)).await?;
        let mut alike: HashMap<(Digest, MeterId), (bool, Option<Cuts>)> = HashMap::new();
        let mut cut: BTreeSet<(Digest, MeterId)> = BTreeSet::new();
        for (batch_no, seen) in found {
            match seen {
                Seen::Counted(name) => drop(waiting.priced.remove(&name)),
                Seen::Quarantined { unit, name, shard, by, priced, times: (start, end) } => {
                    if !alike.contains_key(&by) {
                        let snapshot = self.registries.snapshot(by.0).await?;
                        let (then, now) = (Meters::of(&platform_registry::compile(&snapshot.version)?), Meters::of(&new));
                        let found = (then.alike(&now, &by.1), then.cut_otherwise(&now).remove(&by.1));
                        alike.insert(by.clone(), found);
                    }
                    let (alike, cuts) = alike.get(&by).map_or((false, None), |(alike, cuts)| (*alike, cuts.as_ref()));
                    if cuts.is_some_and(|cuts| cuts.meet(&unit.0, start, end)) {
                        cut.insert(by);
                    }
                    if priced && alike {
                        waiting.priced.insert(name, (shard, unit.clone()));
                    } else {
                        waiting.priced.remove(&name);
                    }
                    waiting.rows.entry(unit).or_default().insert(batch_no);
                }
            }
        }
        let others: BTreeSet<MeterId> = alike.iter().filter(|(_, (alike, _))| !alike).map(|((_, meter), _)| meter.clone()).collect();
        let cuts = cut.iter().filter_map(|by| Some((&by.1, alike.get(by)?.1.as_ref()?)));
        let more = Otherwise::and_more(waiting.otherwise.as_deref(), &others, &cuts.collect::<Vec<_>>(), &new)?;
        let from = if more.is_some() { BatchNo(0) } else { after };
        if let Some(more) = more {
            (waiting.otherwise, waiting.events) = (Some(Arc::new(more)), Events::default());
        }
        if let Some(otherwise) = waiting.otherwise.clone() {
            let read = |lake: &Lake, headers: &[&Header]| {
                let found = headers.iter().map(|header| Ok((header.batch_no, reread::touched(lake, header, &otherwise)?)));
                found.collect::<anyhow::Result<Vec<_>>>()
            };
            let take = |found: Vec<_>| found.into_iter().for_each(|(batch_no, found)| waiting.events.take(batch_no, found));
            self.each_file(from, read, take).await?;
        }
        waiting.through = self.through;
        Ok(Arc::new(waiting))
    }
}

/// The rows of some batches that say something of readings in quarantine, in their order.
fn seen(lake: &Lake, headers: &[&Header], plan: &Plan) -> anyhow::Result<Vec<(BatchNo, Seen)>> {
    let mut there = Vec::new();
    for header in headers {
        for rows in lake.read(header, CHARGES, Some(NARROW))? {
            let fates = rows.column_by_name("fate").context("charges have no fate")?.as_string::<i32>();
            let supersedes = rows.column_by_name("supersedes").context("charges have no supersedes")?;
            if supersedes.null_count() < rows.num_rows() || fates.iter().flatten().any(|fate| fate == "quarantined") {
                there.push(*header);
                break;
            }
        }
    }
    let (mut seen, mut prices) = (Vec::new(), PriceFinder::of(plan));
    for header in there {
        for rows in lake.read(header, CHARGES, Some(WIDE))? {
            look(&rows, &mut prices, header.batch_no, &mut seen)?;
        }
    }
    Ok(seen)
}

fn look(rows: &RecordBatch, prices: &mut PriceFinder<'_>, batch_no: BatchNo, seen: &mut Vec<(BatchNo, Seen)>) -> anyhow::Result<()> {
    let column = |name: &str| rows.column_by_name(name).with_context(|| format!("charges have no {name}"));
    let (identities, ordinals) = (column("identity")?.as_fixed_size_binary(), column("ordinal")?.as_primitive::<Int32Type>());
    let (shards, starts) = (column("shard")?.as_primitive::<Int32Type>(), column("start_at")?.as_primitive::<TimestampMicrosecondType>());
    let (organizations, meters) = (column("organization")?.as_string::<i32>(), column("meter")?.as_string::<i32>());
    let (dimensions, fates) = (column("dimensions")?.as_string::<i32>(), column("fate")?.as_string::<i32>());
    let (reasons, supersedes) = (column("reason")?.as_string::<i32>(), column("supersedes")?);
    let versions = column("registry_version")?.as_fixed_size_binary();
    let ends = column("end_at")?.as_primitive::<TimestampMicrosecondType>();
    for row in 0..rows.num_rows() {
        let name = || -> anyhow::Result<Name> {
            let identity = IdentityHash::from_slice(identities.value(row)).context("a charge has no identity")?;
            Ok((identity, u16::try_from(ordinals.value(row))?))
        };
        if fates.value(row) != "quarantined" {
            if !supersedes.is_null(row) {
                seen.push((batch_no, Seen::Counted(name()?)));
            }
            continue;
        }
        let start_at = Instant::from_micros(starts.value(row))?;
        let organization = OrganizationId::parse(organizations.value(row))?;
        let waits = Reason::from_code(reasons.value(row)).is_some_and(|reason| matches!(reason, Reason::NoContract | Reason::Unpriced));
        let meter = MeterId::parse(meters.value(row))?;
        let version = Digest::from_slice(versions.value(row)).context("a charge names no version")?;
        let priced = match waits {
            true => {
                let dimensions = Dimensions::parse(dimensions.value(row)).context("a charge has no dimensions")?;
                prices.resolve(&organization, &meter, &dimensions, start_at).is_ok()
            }
            false => false,
        };
        let shard = u8::try_from(shards.value(row)).ok().and_then(ShardId::new).context("a charge has no shard")?;
        let unit = (organization, start_at.month());
        let end_at = if ends.is_null(row) { start_at } else { Instant::from_micros(ends.value(row))? };
        seen.push((batch_no, Seen::Quarantined { unit, name: name()?, shard, by: (version, meter), priced, times: (start_at, end_at) }));
    }
    Ok(())
}
