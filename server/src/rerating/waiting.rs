//! Readings in quarantine that a plan prices. They are in no key, so they are found in the batches: a few columns of `charges` say which units they
//! belong to and where their rows lie. A batch in which an organization has nothing else has no totals that would name it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use anyhow::Context as _;
use arrow::array::{Array as _, AsArray as _};
use arrow::datatypes::{Int32Type, TimestampMicrosecondType};
use arrow::record_batch::RecordBatch;
use platform_ingest::header::Header;
use platform_rating::{Key, KeyState, Plan, PriceFinder};
use platform_registry::{Compiled, Version};
use platform_usage::{Dimensions, Meter, Reason};
use shared_types::{BatchNo, Digest, IdentityHash, Instant, MeterId, OrganizationId, ShardId};

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
    "fate",
    "reason",
    "registry_version",
    "supersedes",
];

/// A reading: the event's identity and its number there.
type Name = (IdentityHash, u16);

/// What is in quarantine, up to a batch.
#[derive(Clone, Debug, Default)]
pub struct Waiting {
    /// The last batch that was looked at.
    through: BatchNo,
    /// Where rows in quarantine lie, of whatever became of them.
    rows: BTreeMap<UnitKey, BTreeSet<BatchNo>>,
    /// Readings that have a price under the plan and are still there.
    priced: HashMap<Name, (ShardId, UnitKey)>,
}

/// What a row says of a reading.
enum Seen {
    /// It is in quarantine; where the plan prices it, by what meter of which version it was read.
    Quarantined { unit: UnitKey, name: Name, shard: ShardId, priced: Option<(Digest, MeterId)> },
    /// It is charged or free from here on.
    Counted(Name),
}

impl Waiting {
    /// Readings that have a price, by unit.
    pub fn units(&self) -> BTreeMap<&UnitKey, (ShardId, u64)> {
        let mut units: BTreeMap<&UnitKey, (ShardId, u64)> = BTreeMap::new();
        for (shard, unit) in self.priced.values() {
            let (_, readings) = units.entry(unit).or_insert((*shard, 0));
            *readings = readings.saturating_add(1);
        }
        units
    }

    /// Whether any reading has a price.
    pub fn any(&self) -> bool {
        !self.priced.is_empty()
    }

    /// Whether a batch behind one has rows of the unit in quarantine.
    pub(super) fn came_behind(&self, unit: &UnitKey, after: BatchNo) -> bool {
        self.rows.get(unit).and_then(BTreeSet::last).is_some_and(|last| *last > after)
    }

    /// Batches with rows of some units in quarantine.
    pub(super) fn batches(&self, units: &BTreeSet<UnitKey>) -> BTreeSet<BatchNo> {
        units.iter().filter_map(|unit| self.rows.get(unit)).flatten().copied().collect()
    }
}

impl Reached {
    /// With the units of what waits in quarantine.
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
    /// Looks for readings in quarantine in the batches that were not looked at so far.
    ///
    /// - `version`: what is to price them, `plan` its plan. A reading that its meters would not read as it was read is left where it is.
    pub async fn wait(&self, version: &Version, plan: &Plan, known: Arc<Waiting>) -> anyhow::Result<Arc<Waiting>> {
        if known.through >= self.through {
            return Ok(known);
        }
        let after = known.through;
        let mut waiting = Arc::unwrap_or_clone(known);
        let mut read: HashMap<(Digest, MeterId), bool> = HashMap::new();
        let meters = Meters::of(&platform_registry::compile(version)?);
        let mut found = Vec::new();
        self.each_file(after, |lake, headers| seen(lake, headers, plan), |some| found.extend(some)).await?;
        for (batch_no, seen) in found {
            match seen {
                Seen::Counted(name) => drop(waiting.priced.remove(&name)),
                Seen::Quarantined { unit, name, shard, priced } => {
                    if let Some(by) = priced {
                        let alike = match read.get(&by) {
                            Some(alike) => *alike,
                            None => {
                                let snapshot = self.registries.snapshot(by.0).await?;
                                let alike = Meters::of(&platform_registry::compile(&snapshot.version)?).alike(&meters, &by.1);
                                read.insert(by, alike);
                                alike
                            }
                        };
                        if alike {
                            waiting.priced.insert(name, (shard, unit.clone()));
                        }
                    }
                    waiting.rows.entry(unit).or_default().insert(batch_no);
                }
            }
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
        let waits = Reason::from_code(reasons.value(row))
            .is_some_and(|reason| matches!(reason, Reason::NoContract | Reason::Unpriced | Reason::AmountOverflow));
        let priced = if waits {
            let meter = MeterId::parse(meters.value(row))?;
            let dimensions = Dimensions::parse(dimensions.value(row)).context("a charge has no dimensions")?;
            let version = Digest::from_slice(versions.value(row)).context("a charge names no version")?;
            prices.resolve(&organization, &meter, &dimensions, start_at).is_ok().then_some((version, meter))
        } else {
            None
        };
        let shard = u8::try_from(shards.value(row)).ok().and_then(ShardId::new).context("a charge has no shard")?;
        seen.push((batch_no, Seen::Quarantined { unit: (organization, start_at.month()), name: name()?, shard, priced }));
    }
    Ok(())
}

/// Meters of a version by what they read.
struct Meters(BTreeMap<MeterId, Meter>);

impl Meters {
    fn of(compiled: &Compiled) -> Self {
        Self(compiled.meters.iter().map(|meter| (meter.id.clone(), meter.clone())).collect())
    }

    /// Whether another version reads this meter's readings as this one does: by the same meter, of a total by the same parts.
    fn alike(&self, other: &Self, meter: &MeterId) -> bool {
        let (Some(here), Some(there)) = (self.0.get(meter), other.0.get(meter)) else { return false };
        let parts = |of: &Self| -> Vec<Meter> {
            let parts = of.0.values().filter(|meter| meter.part_of.is_some());
            parts.filter(|meter| (&meter.event_type, &meter.part_of) == (&here.event_type, &here.part_of)).map(plain).collect()
        };
        plain(here) == plain(there) && parts(self) == parts(other)
    }
}

/// Without the instants at which prices begin: a reading in quarantine is what these made of it.
fn plain(meter: &Meter) -> Meter {
    let billable = meter.billable.as_ref().map(|states| {
        let mut states = (**states).clone();
        states.changes = Arc::default();
        Arc::new(states)
    });
    Meter { billable, ..meter.clone() }
}
