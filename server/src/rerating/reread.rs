//! Reading again: which meters a version has read otherwise, which events these read, and what becomes of their readings. A reading is known by its
//! meter and begin; what none of an event's readings is matched by is new, and has a number behind all of them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use anyhow::Context as _;
use arrow::array::{Array as _, AsArray as _, BooleanArray, PrimitiveArray};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{Int32Type, Int64Type, TimestampMicrosecondType};
use arrow::record_batch::RecordBatch;
use platform_ingest::batch::Rules as _;
use platform_ingest::header::Header;
use platform_rating::{Read, Standing, Unit};
use platform_registry::Compiled;
use platform_usage::{Accepted, Changes, Event, EventLimits, Meter, MeterSet, MeteredReading};
use shared_types::{BatchNo, IdentityHash, Incarnation, Instant, MeterId, Month, OrganizationId, Position, Sequence, ShardId};

use super::{UnitKey, Work};
use crate::lake::{EVENTS, Lake};
use crate::roles::billing::NotRerated;

/// Columns that say whether an event is read again, and which months it may touch.
const NARROW: &[&str] = &["outcome", "event_type", "organization", "shard", "start_at", "end_at"];
/// Columns of the event itself.
const WIDE: &[&str] =
    &["outcome", "event_type", "organization", "identity", "shard", "incarnation", "sequence", "accepted_at", "attributes"];

/// Meters of a version by what they read.
pub struct Meters(BTreeMap<MeterId, Meter>);

impl Meters {
    /// Of a version.
    pub fn of(compiled: &Compiled) -> Self {
        Self(compiled.meters.iter().map(|meter| (meter.id.clone(), meter.clone())).collect())
    }

    /// Whether another version reads this meter's readings as this one does: by the same meter, of a total by the same parts.
    pub fn alike(&self, other: &Self, meter: &MeterId) -> bool {
        let (Some(here), Some(there)) = (self.0.get(meter), other.0.get(meter)) else { return false };
        plain(here) == plain(there) && self.parts(here) == other.parts(here)
    }

    /// The meters that make up the total of which this one is a part, if it is.
    fn parts(&self, of: &Meter) -> Vec<Meter> {
        let parts = self.0.values().filter(|meter| meter.part_of.is_some());
        parts.filter(|meter| (&meter.event_type, &meter.part_of) == (&of.event_type, &of.part_of)).map(plain).collect()
    }

    /// Meters that another version reads otherwise, or that only one of both has.
    pub fn otherwise(&self, other: &Self) -> BTreeSet<MeterId> {
        let all: BTreeSet<&MeterId> = self.0.keys().chain(other.0.keys()).collect();
        all.into_iter().filter(|meter| !self.alike(other, meter)).cloned().collect()
    }

    /// Meters of billed time that both versions have and cut at other instants.
    pub fn cut_otherwise(&self, other: &Self) -> BTreeMap<MeterId, Cuts> {
        let pairs = self.0.values().filter_map(|here| Some((here, here.billable.as_ref()?, other.0.get(&here.id)?.billable.as_ref()?)));
        let cuts = pairs.map(|(meter, here, there)| (meter.id.clone(), Cuts::between(&here.changes, &there.changes)));
        cuts.filter(|(_, cuts)| cuts.any()).collect()
    }
}

/// Instants at which one of two versions cuts billed time and the other does not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cuts {
    own: BTreeMap<OrganizationId, BTreeSet<Instant>>,
    default: BTreeSet<Instant>,
}

impl Cuts {
    fn between(before: &Changes, after: &Changes) -> Self {
        // Months begin under both.
        let set = |instants: &[Instant]| -> BTreeSet<Instant> { instants.iter().copied().filter(|at| *at != at.month().start()).collect() };
        let of = |changes: &Changes, organization: &OrganizationId| set(changes.of(organization));
        let named: BTreeSet<&OrganizationId> = before.own.keys().chain(after.own.keys()).collect();
        let own = named.into_iter().map(|organization| (organization.clone(), &of(before, organization) ^ &of(after, organization)));
        Self { own: own.collect(), default: &set(&before.default) ^ &set(&after.default) }
    }

    fn any(&self) -> bool {
        !self.default.is_empty() || self.own.values().any(|own| !own.is_empty())
    }

    /// Whether any lies inside a stretch of time, or at an end of it.
    pub fn meet(&self, organization: &OrganizationId, start: Instant, end: Instant) -> bool {
        self.own.get(organization).unwrap_or(&self.default).range(start..=end).next().is_some()
    }

    /// With those of others. An organization that only one of both names has the instants of all others in the other one.
    fn and(self, more: &Self) -> Self {
        let named: BTreeSet<&OrganizationId> = self.own.keys().chain(more.own.keys()).collect();
        let of = |cuts: &Self, organization: &OrganizationId| cuts.own.get(organization).unwrap_or(&cuts.default).clone();
        let own = named.into_iter().map(|organization| (organization.clone(), &of(&self, organization) | &of(more, organization)));
        Self { own: own.collect(), default: &self.default | &more.default }
    }
}

/// Without the instants at which prices begin: which of an event's pieces these make is asked of its own time.
fn plain(meter: &Meter) -> Meter {
    let billable = meter.billable.as_ref().map(|states| {
        let mut states = (**states).clone();
        states.changes = Arc::default();
        Arc::new(states)
    });
    Meter { billable, ..meter.clone() }
}

/// What a version reads otherwise than the one before.
#[derive(Clone, Debug)]
pub struct Otherwise {
    /// The new version's meters.
    meters: Arc<MeterSet>,
    /// Those that differ, by the event types that they read, or read before.
    altered: HashMap<Arc<str>, BTreeSet<MeterId>>,
    /// Those that cut at other instants, by event type.
    cuts: HashMap<Arc<str>, BTreeMap<MeterId, Cuts>>,
}

impl Otherwise {
    /// None where every meter reads as before.
    pub fn between(old: &Compiled, new: &Compiled) -> anyhow::Result<Option<Self>> {
        let (before, after) = (Meters::of(old), Meters::of(new));
        let mut altered: HashMap<Arc<str>, BTreeSet<MeterId>> = HashMap::new();
        for id in before.otherwise(&after) {
            for meter in [before.0.get(&id), after.0.get(&id)].into_iter().flatten() {
                altered.entry(Arc::clone(&meter.event_type)).or_default().insert(id.clone());
            }
        }
        let mut cuts: HashMap<Arc<str>, BTreeMap<MeterId, Cuts>> = HashMap::new();
        for (id, of_meter) in before.cut_otherwise(&after) {
            if let Some(meter) = after.0.get(&id) {
                cuts.entry(Arc::clone(&meter.event_type)).or_default().insert(id, of_meter);
            }
        }
        let none = altered.is_empty() && cuts.is_empty();
        Ok(if none { None } else { Some(Self { meters: Arc::new(MeterSet::new(new.meters.clone())?), altered, cuts }) })
    }

    /// Whether any meter may read events of the type otherwise.
    fn reads(&self, event_type: &str) -> bool {
        self.altered.contains_key(event_type) || self.cuts.contains_key(event_type)
    }

    /// The meters that read an event of a type otherwise.
    fn of(&self, event_type: &str, organization: &OrganizationId, start: Instant, end: Instant) -> BTreeSet<MeterId> {
        let mut of = self.altered.get(event_type).cloned().unwrap_or_default();
        let cuts = self.cuts.get(event_type).into_iter().flatten();
        of.extend(cuts.filter(|(_, cuts)| cuts.meet(organization, start, end)).map(|(meter, _)| meter.clone()));
        of
    }

    /// With more meters of the new version, and with more cuts of its meters; none where it has them already.
    pub fn and_more(
        known: Option<&Self>,
        more: &BTreeSet<MeterId>,
        more_cuts: &[(&MeterId, &Cuts)],
        new: &Compiled,
    ) -> anyhow::Result<Option<Self>> {
        let mut altered = known.map(|known| known.altered.clone()).unwrap_or_default();
        let mut grown = false;
        for meter in new.meters.iter().filter(|meter| more.contains(&meter.id)) {
            grown |= altered.entry(Arc::clone(&meter.event_type)).or_default().insert(meter.id.clone());
        }
        let mut cuts = known.map(|known| known.cuts.clone()).unwrap_or_default();
        for (id, more) in more_cuts {
            let Some(meter) = new.meters.iter().find(|meter| meter.id == **id) else { continue };
            let of_meter = cuts.entry(Arc::clone(&meter.event_type)).or_default().entry((*id).clone()).or_default();
            let sum = std::mem::take(of_meter).and(more);
            grown |= &sum != of_meter;
            *of_meter = sum;
        }
        Ok(if grown { Some(Self { meters: Arc::new(MeterSet::new(new.meters.clone())?), altered, cuts }) } else { None })
    }
}

/// Events that are read again.
#[derive(Clone, Debug, Default)]
pub struct Events {
    /// Units that they may have readings in: shard, how many events, and the last batch with one.
    pub units: BTreeMap<UnitKey, (ShardId, u64, BatchNo)>,
    /// Where they lie.
    batches: BTreeMap<OrganizationId, BTreeSet<BatchNo>>,
}

impl Events {
    /// Whether an organization has any.
    pub fn of(&self, organization: &OrganizationId) -> bool {
        self.batches.contains_key(organization)
    }

    /// Takes in the events of a batch.
    pub fn take(&mut self, batch_no: BatchNo, found: Vec<(UnitKey, ShardId)>) {
        for (unit, shard) in found {
            match self.batches.get_mut(&unit.0) {
                Some(batches) => drop(batches.insert(batch_no)),
                None => drop(self.batches.insert(unit.0.clone(), BTreeSet::from([batch_no]))),
            }
            let (_, events, last) = self.units.entry(unit).or_insert((shard, 0, batch_no));
            (*events, *last) = (events.saturating_add(1), batch_no);
        }
    }
}

/// The units of a batch's events that are read again, once for each event.
pub fn touched(lake: &Lake, header: &Header, otherwise: &Otherwise) -> anyhow::Result<Vec<(UnitKey, ShardId)>> {
    let mut found = Vec::new();
    for rows in lake.read(header, EVENTS, Some(NARROW))? {
        let column = |name: &str| rows.column_by_name(name).with_context(|| format!("events have no {name}"));
        let (outcomes, types) = (column("outcome")?.as_string::<i32>(), column("event_type")?.as_string::<i32>());
        let (organizations, shards) = (column("organization")?.as_string::<i32>(), column("shard")?.as_primitive::<Int32Type>());
        let (starts, ends) =
            (column("start_at")?.as_primitive::<TimestampMicrosecondType>(), column("end_at")?.as_primitive::<TimestampMicrosecondType>());
        for row in 0..rows.num_rows() {
            if outcomes.value(row) != "accepted" || !otherwise.reads(types.value(row)) {
                continue;
            }
            let organization = OrganizationId::parse(organizations.value(row))?;
            let (start, end) = stretch(starts, ends, row)?;
            if otherwise.of(types.value(row), &organization, start, end).is_empty() {
                continue;
            }
            let shard = u8::try_from(shards.value(row)).ok().and_then(ShardId::new).context("an event has no shard")?;
            let (first, last) = (start.month(), Instant::from_micros(end.micros().saturating_sub(1).max(start.micros()))?.month());
            let months = std::iter::successors(Some(first), |month| month.next()).take_while(|month| *month <= last);
            found.extend(months.map(|month| ((organization.clone(), month), shard)));
        }
    }
    Ok(found)
}

/// When an event begins and ends; one without an end ends where it begins.
fn stretch(
    starts: &PrimitiveArray<TimestampMicrosecondType>,
    ends: &PrimitiveArray<TimestampMicrosecondType>,
    row: usize,
) -> anyhow::Result<(Instant, Instant)> {
    let start = starts.value(row);
    Ok((Instant::from_micros(start)?, Instant::from_micros(if ends.is_null(row) { start } else { ends.value(row) })?))
}

/// An event that was read again.
struct Reread {
    position: Position,
    identity: IdentityHash,
    altered: BTreeSet<MeterId>,
    readings: Vec<MeteredReading>,
}

impl Work<'_> {
    /// Has the events of some units, in the batches behind one, read again, and says in these units what became of their readings.
    ///
    /// - `units`: with every row of these events.
    pub(super) async fn read_again(
        &self,
        otherwise: &Otherwise,
        events: &Events,
        wanted: &BTreeSet<UnitKey>,
        after: BatchNo,
        units: &mut BTreeMap<UnitKey, Unit>,
    ) -> anyhow::Result<()> {
        let organizations: BTreeSet<&str> =
            wanted.iter().filter(|unit| events.units.contains_key(unit)).map(|(organization, _)| organization.as_str()).collect();
        let batches: BTreeSet<BatchNo> =
            events.batches.iter().filter(|(of, _)| organizations.contains(of.as_str())).flat_map(|(_, batches)| batches).copied().collect();
        let read = |lake: &Lake, headers: &[&Header]| {
            let mut found = Vec::new();
            for header in headers.iter().filter(|header| batches.contains(&header.batch_no)) {
                for rows in lake.read(header, EVENTS, Some(WIDE))? {
                    self.read_rows(&rows, otherwise, &organizations, &mut found)?;
                }
            }
            Ok(found)
        };
        let mut found: Vec<Reread> = Vec::new();
        if !batches.is_empty() {
            self.each_file(after, read, |some| found.extend(some)).await?;
        }
        found.sort_by_key(|event| event.position);
        tokio::task::block_in_place(|| matched(found, wanted, units))
    }

    fn read_rows(
        &self,
        rows: &RecordBatch,
        otherwise: &Otherwise,
        organizations: &BTreeSet<&str>,
        found: &mut Vec<Reread>,
    ) -> anyhow::Result<()> {
        let of = |name: &str| rows.column_by_name(name).with_context(|| format!("events have no {name}"));
        let (outcomes, types, names) =
            (of("outcome")?.as_string::<i32>(), of("event_type")?.as_string::<i32>(), of("organization")?.as_string::<i32>());
        let again =
            |row: usize| outcomes.value(row) == "accepted" && otherwise.reads(types.value(row)) && organizations.contains(names.value(row));
        let again: BooleanArray = (0..rows.num_rows()).map(|row| Some(again(row))).collect();
        let rows = filter_record_batch(rows, &again)?;
        let of = |name: &str| rows.column_by_name(name).with_context(|| format!("events have no {name}"));
        let (identities, shards) = (of("identity")?.as_fixed_size_binary(), of("shard")?.as_primitive::<Int32Type>());
        let (incarnations, sequences) = (of("incarnation")?.as_primitive::<Int64Type>(), of("sequence")?.as_primitive::<Int64Type>());
        let (accepted, attributes) = (of("accepted_at")?.as_primitive::<TimestampMicrosecondType>(), of("attributes")?.as_string::<i32>());
        for row in 0..rows.num_rows() {
            let identity = IdentityHash::from_slice(identities.value(row)).context("an event has no identity")?;
            let position = Position {
                shard: u8::try_from(shards.value(row)).ok().and_then(ShardId::new).context("an event has no shard")?,
                incarnation: Incarnation(u32::try_from(incarnations.value(row))?),
                sequence: Sequence(u64::try_from(sequences.value(row))?),
            };
            let accepted_at = Instant::from_micros(accepted.value(row))?;
            // What was accepted was plausible when it was.
            let limits = EventLimits { far_future_micros: i64::MAX };
            let event = Event::parse(attributes.value(row).as_bytes(), accepted_at, &limits)
                .map_err(|defect| anyhow::anyhow!("the event at {position} does not read: {defect}"))?;
            let altered =
                otherwise.of(event.event_type(), event.organization(), event.start_at(), event.end_at().unwrap_or(event.start_at()));
            if !altered.is_empty() {
                found.push(self.event(otherwise, &event, altered, identity, position, accepted_at));
            }
        }
        Ok(())
    }

    /// What the altered meters make of an event.
    fn event(
        &self,
        otherwise: &Otherwise,
        event: &Event,
        altered: BTreeSet<MeterId>,
        identity: IdentityHash,
        position: Position,
        accepted_at: Instant,
    ) -> Reread {
        let commitment = self.registries.commitment(&identity, &event.source_strings());
        let accepted = Accepted { position, identity, accepted_at, commitment };
        let readings = otherwise.meters.read(event).into_iter().filter(|reading| altered.contains(&reading.meter));
        let readings = readings.map(|reading| {
            let month = reading.start_at.month();
            reading.of_event(event, &accepted, month)
        });
        Reread { position, identity, readings: readings.collect(), altered }
    }
}

/// Says of every reading of these events what became of it; new ones go to their units.
fn matched(found: Vec<Reread>, wanted: &BTreeSet<UnitKey>, units: &mut BTreeMap<UnitKey, Unit>) -> anyhow::Result<()> {
    let asked: BTreeSet<IdentityHash> = found.iter().map(|event| event.identity).collect();
    let mut known: HashMap<IdentityHash, Vec<&mut Standing>> = HashMap::new();
    for standing in units.values_mut().flat_map(|unit| &mut unit.standing) {
        if asked.contains(&standing.charge.identity) {
            known.entry(standing.charge.identity).or_default().push(standing);
        }
    }
    let mut born = Vec::new();
    for Reread { position, identity, altered, readings } in found {
        let mut of_event = known.remove(&identity).unwrap_or_default();
        let mut next = of_event.iter().map(|standing| u32::from(standing.charge.ordinal) + 1).max().unwrap_or(0);
        of_event.retain(|standing| altered.contains(&standing.charge.meter));
        let mut places: HashMap<(MeterId, Instant), &mut Standing> = HashMap::new();
        for standing in of_event {
            standing.read = Read::Gone;
            places.insert((standing.charge.meter.clone(), standing.charge.start_at), standing);
        }
        for reading in readings {
            match places.get_mut(&(reading.meter.clone(), reading.start_at)) {
                Some(standing) => standing.read = Read::Anew(Box::new(reading)),
                None => {
                    let ordinal = u16::try_from(next).map_err(|_| {
                        NotRerated(format!("the event at {position} would have more than 65536 readings, old ones and new ones"))
                    })?;
                    next = next.saturating_add(1);
                    born.push(MeteredReading { ordinal, ..reading });
                }
            }
        }
    }
    for reading in born {
        let unit = (reading.organization.clone(), reading.start_at.month());
        if wanted.contains(&unit) {
            let of_unit = |(organization, month): &(OrganizationId, Month)| Unit {
                organization: organization.clone(),
                month: *month,
                standing: Vec::new(),
                born: Vec::new(),
            };
            units.entry(unit).or_insert_with_key(of_unit).born.push(reading);
        }
    }
    Ok(())
}
