//! Stream records become a batch: each position gets its outcome, each accepted event its readings.
//! A pure function of (records, shard states, meters, what the index knows): no clock, randomness or I/O.
//! It knows no price and no registry document; control records are explained to it by the caller.

use std::collections::HashMap;
use std::sync::Arc;

use platform_usage::{Accepted, Defect, Event, EventLimits, IdentityKey, MeterSet, OWN_SOURCE, Reason, UsageBatch, glimpse};
use shared_bus::{RecordKind, StreamRecord};
use shared_types::{ControlNo, Digest, IdentityHash, Instant, Month, Position, ShardId};

use crate::events::{EventRow, Outcome};
use crate::header::Range;
use crate::index::{Entry, EntryOutcome};

/// Where a shard stands: what the next record of it meets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardState {
    /// The last committed record; sequence 0 before the first.
    pub position: Position,
    /// Its digest; zeros before the first.
    pub digest: Digest,
    /// The last control record applied.
    pub control_no: ControlNo,
    /// The registry version in force; zeros before the first.
    pub registry_version: Digest,
    /// The oldest unclosed month; none before the first close.
    pub oldest_open: Option<Month>,
}

/// What a control record does to a shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControlEffect {
    /// Its dense number.
    pub control_no: ControlNo,
    /// The registry version that it puts in force, if it does.
    pub registry_version: Option<Digest>,
    /// The accounting month behind which nothing is booked any more, if it closes one.
    pub closes: Option<Month>,
    /// Whether what was rated before is rated again where it stands: then it is a range of its own.
    pub rerates: bool,
    /// What it is, for the row's detail, for example `registry`.
    pub kind: String,
}

/// What the batch is built with. Everything here is fixed for the deployment or the registry version.
pub trait Rules {
    /// Reads a control record; the error text halts the batch: only this program writes control records.
    fn control(&self, payload: &[u8]) -> Result<ControlEffect, String>;
    /// The meters of a registry version that was published.
    fn meters(&self, version: &Digest) -> Option<Arc<MeterSet>>;
    /// The evidence commitment of an event's source-supplied strings.
    fn commitment(&self, identity: &IdentityHash, strings: &str) -> Digest;
    /// The deployment's identity key.
    fn identity_key(&self) -> &IdentityKey;
    /// What a plausible event is.
    fn event_limits(&self) -> &EventLimits;
}

/// The records of one shard that a batch may take, in order.
pub struct ShardRecords {
    /// The shard as committed.
    pub state: ShardState,
    /// Records that follow its position.
    pub records: Vec<StreamRecord>,
}

/// Readings of one registry version, in sealed order.
pub struct VersionedUsage {
    /// The registry version under which they are rated.
    pub registry_version: Digest,
    /// The readings.
    pub usage: UsageBatch,
}

/// A built batch, before rating.
pub struct Built {
    /// A row for each position, in stream order.
    pub rows: Vec<EventRow>,
    /// Readings by the registry version of their range; a shard is in one group only.
    pub usage: Vec<VersionedUsage>,
    /// The ranges covered.
    pub ranges: Vec<Range>,
    /// The shards' states after the batch.
    pub states: Vec<ShardState>,
    /// Identities accepted: for the index, once the batch is committed.
    pub accepted: Vec<(ShardId, IdentityHash, Entry)>,
    /// The latest `accepted_at`.
    pub accepted_to: Instant,
}

/// Why a batch cannot be built. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// A record does not follow the one before: the stream lies.
    #[error("stream record {found} does not follow {after}")]
    Gap {
        /// The position before.
        after: Position,
        /// The position found.
        found: Position,
    },
    /// A control record that this program cannot have written.
    #[error("control record at {position} is unreadable: {why}")]
    Control {
        /// Where it stands.
        position: Position,
        /// What is wrong with it.
        why: String,
    },
    /// A shard names a registry version that the registry does not hold.
    #[error("shard {shard} is at registry version {version}, which the registry does not hold")]
    Version {
        /// The shard.
        shard: ShardId,
        /// The version.
        version: Digest,
    },
    /// The index could not be asked.
    #[error("could not look up identities")]
    Index(#[source] crate::index::IndexError),
}

/// Where identities of *committed* batches are looked up, in the order asked.
pub trait Identities {
    /// What is known of each identity.
    fn look_up(&self, identities: &[(ShardId, IdentityHash)]) -> Result<Vec<Option<Entry>>, crate::index::IndexError>;
}

struct Parsed {
    record: StreamRecord,
    event: Result<(Event, IdentityHash, Digest), Defect>,
}

/// Builds a batch. A control record that changes the registry version or closes a month ends its shard's range; later records of that
/// shard stay for the next batch. One that has usage rated again is a range of its own: everything before it is committed then.
pub fn build(shards: Vec<ShardRecords>, rules: &dyn Rules, identities: &dyn Identities) -> Result<Built, BuildError> {
    let mut built = Built {
        rows: Vec::new(),
        usage: Vec::new(),
        ranges: Vec::new(),
        states: Vec::new(),
        accepted: Vec::new(),
        accepted_to: Instant::EPOCH,
    };
    for shard in shards {
        build_shard(shard, rules, identities, &mut built)?;
    }
    built.rows.sort_by_key(|row| row.position);
    Ok(built)
}

fn build_shard(
    ShardRecords { mut state, records }: ShardRecords,
    rules: &dyn Rules,
    identities: &dyn Identities,
    built: &mut Built,
) -> Result<(), BuildError> {
    let Some(first) = records.first().map(|record| record.position) else { return Ok(()) };
    let meters = rules.meters(&state.registry_version);
    if meters.is_none() && state.registry_version != Digest::ZERO {
        return Err(BuildError::Version { shard: state.position.shard, version: state.registry_version });
    }
    let (rated_under, oldest_open) = (state.registry_version, state.oldest_open);
    let parsed = parse_range(records, &mut state, rules, built)?;

    let asked: Vec<(ShardId, IdentityHash)> = parsed
        .iter()
        .filter_map(|parsed| parsed.event.as_ref().ok().map(|(_, identity, _)| (parsed.record.position.shard, *identity)))
        .collect();
    let mut known = identities.look_up(&asked).map_err(BuildError::Index)?.into_iter();
    // Identities of the batch in flight: they die with it.
    let mut overlay: HashMap<IdentityHash, Entry> = HashMap::new();
    let mut usage = UsageBatch::default();
    for Parsed { record, event } in parsed {
        let row = match event {
            Err(defect) => quarantined(&record, &defect),
            Ok((event, identity, digest)) => {
                let committed = known.next().flatten();
                match committed.or_else(|| overlay.get(&identity).copied()) {
                    Some(earlier) => repeated(&record, &event, identity, digest, &earlier),
                    None => match meters.as_deref().filter(|meters| meters.reads(event.event_type())) {
                        None => unknown_type(&record, &event, identity, digest),
                        Some(meters) => {
                            let entry = Entry::new(record.position, EntryOutcome::Accepted, &digest);
                            overlay.insert(identity, entry);
                            built.accepted.push((record.position.shard, identity, entry));
                            accept(&record, &event, identity, digest, meters, oldest_open, rules, &mut usage)
                        }
                    },
                }
            }
        };
        built.rows.push(row);
    }
    match built.usage.iter_mut().find(|group| group.registry_version == rated_under) {
        Some(group) => group.usage.readings.append(&mut usage.readings),
        None if usage.readings.is_empty() => {}
        None => built.usage.push(VersionedUsage { registry_version: rated_under, usage }),
    }
    built.ranges.push(Range {
        control_no: state.control_no,
        first: first.sequence,
        incarnation: state.position.incarnation,
        last: state.position.sequence,
        last_digest: state.digest,
        oldest_open: state.oldest_open,
        registry_version: state.registry_version,
        shard: state.position.shard,
    });
    built.states.push(state);
    Ok(())
}

/// Walks a shard's records up to the first that ends the range: applies controls, parses events, moves the state.
fn parse_range(
    records: Vec<StreamRecord>,
    state: &mut ShardState,
    rules: &dyn Rules,
    built: &mut Built,
) -> Result<Vec<Parsed>, BuildError> {
    let mut parsed = Vec::with_capacity(records.len());
    for (at, record) in records.into_iter().enumerate() {
        let follows = record.position.shard == state.position.shard
            && record.position.incarnation == state.position.incarnation
            && Some(record.position.sequence) == state.position.sequence.next();
        if !follows {
            return Err(BuildError::Gap { after: state.position, found: record.position });
        }
        let control = match record.kind {
            RecordKind::Usage | RecordKind::Own => None,
            RecordKind::Control => {
                let effect = rules.control(&record.payload).map_err(|why| BuildError::Control { position: record.position, why })?;
                if effect.rerates && applies(&effect, state) && at > 0 {
                    break;
                }
                Some(effect)
            }
        };
        state.position = record.position;
        state.digest = record.digest;
        built.accepted_to = built.accepted_to.max(record.accepted_at);
        match control {
            None => {
                let event = parse_event(&record, rules).map(|event| {
                    let identity = event.identity_hash(rules.identity_key());
                    let digest = event.content_digest();
                    (event, identity, digest)
                });
                parsed.push(Parsed { record, event });
            }
            Some(effect) => {
                let ends_range = apply_control(&effect, state);
                built.rows.push(control_row(&record, &effect, ends_range.is_some()));
                if ends_range == Some(true) {
                    break;
                }
            }
        }
    }
    Ok(parsed)
}

/// Only the deployment speaks in its own name, and what it states may end in the future: a fee that is charged at the start of its period.
fn parse_event(record: &StreamRecord, rules: &dyn Rules) -> Result<Event, Defect> {
    if record.kind == RecordKind::Own {
        return Event::parse(&record.payload, record.accepted_at, &EventLimits { far_future_micros: i64::MAX });
    }
    let event = Event::parse(&record.payload, record.accepted_at, rules.event_limits())?;
    if event.source().as_str() == OWN_SOURCE {
        let remedy = "the deployment itself reports under this name; give your source another one";
        return Err(Defect::new(Reason::InvalidField, "source", OWN_SOURCE, remedy.to_owned()));
    }
    Ok(event)
}

/// Applies a control record in its dense order. `None`: ignored (a repeat, or one whose predecessor has not come: the relay
/// appends both again). `Some(true)`: what follows is rated or booked otherwise, so the range ends here.
fn apply_control(effect: &ControlEffect, state: &mut ShardState) -> Option<bool> {
    if !applies(effect, state) {
        return None;
    }
    let before = (state.registry_version, state.oldest_open);
    state.control_no = effect.control_no;
    state.registry_version = effect.registry_version.unwrap_or(state.registry_version);
    // Closed months stay closed: a close only ever moves forward.
    state.oldest_open = state.oldest_open.max(effect.closes.and_then(Month::next));
    Some((state.registry_version, state.oldest_open) != before)
}

/// Whether a control record is the next one of its shard.
pub fn applies(effect: &ControlEffect, state: &ShardState) -> bool {
    Some(effect.control_no) == state.control_no.next()
}

fn empty_row(record: &StreamRecord, outcome: Outcome) -> EventRow {
    EventRow {
        position: record.position,
        identity: None,
        content_digest: None,
        outcome,
        first: None,
        organization: None,
        project: None,
        source: None,
        event_id: None,
        event_type: None,
        subject: None,
        start_at: None,
        end_at: None,
        accepted_at: record.accepted_at,
        attributes: None,
        readings: 0,
        reason: None,
        detail: None,
        raw: None,
        lane_epoch: None,
        lane_sequence: None,
    }
}

fn control_row(record: &StreamRecord, effect: &ControlEffect, applied: bool) -> EventRow {
    let verb = if applied { "applied" } else { "ignored" };
    EventRow { detail: Some(format!("{} control record {} {verb}", effect.kind, effect.control_no)), ..empty_row(record, Outcome::Control) }
}

fn event_row(record: &StreamRecord, event: &Event, identity: IdentityHash, digest: Digest, outcome: Outcome) -> EventRow {
    EventRow {
        identity: Some(identity),
        content_digest: Some(digest),
        organization: Some(event.organization().to_string()),
        project: event.project().map(ToString::to_string),
        source: Some(event.source().to_string()),
        event_id: Some(event.id().to_owned()),
        event_type: Some(event.event_type().to_owned()),
        subject: event.subject().map(ToOwned::to_owned),
        start_at: Some(event.start_at()),
        end_at: event.end_at(),
        lane_epoch: event.lane_epoch(),
        lane_sequence: event.lane_sequence(),
        ..empty_row(record, outcome)
    }
}

/// An event that cannot be read: its raw bytes are kept, and of its envelope whatever can be seen.
fn quarantined(record: &StreamRecord, defect: &Defect) -> EventRow {
    let seen = glimpse(&record.payload);
    EventRow {
        organization: seen.organization_text,
        source: seen.source,
        event_id: seen.id,
        event_type: seen.event_type,
        reason: Some(defect.reason),
        detail: Some(defect.to_string()),
        raw: Some(record.payload.to_vec()),
        ..empty_row(record, Outcome::Quarantined)
    }
}

fn unknown_type(record: &StreamRecord, event: &Event, identity: IdentityHash, digest: Digest) -> EventRow {
    EventRow {
        reason: Some(Reason::UnknownType),
        detail: Some(format!(
            "no meter reads events of type {:?}; publish a registry version with such a meter, or correct the type",
            event.event_type()
        )),
        raw: Some(record.payload.to_vec()),
        ..event_row(record, event, identity, digest, Outcome::Quarantined)
    }
}

/// The same identity again: equal content is a duplicate, other content a conflict. Neither is counted.
fn repeated(record: &StreamRecord, event: &Event, identity: IdentityHash, digest: Digest, earlier: &Entry) -> EventRow {
    let first = Some(earlier.position(record.position.shard));
    if earlier.same_content(&digest) {
        EventRow { first, ..event_row(record, event, identity, digest, Outcome::Duplicate) }
    } else {
        EventRow { first, raw: Some(record.payload.to_vec()), ..event_row(record, event, identity, digest, Outcome::Conflict) }
    }
}

#[expect(clippy::too_many_arguments, reason = "one call site; a struct of these would only rename them")]
fn accept(
    record: &StreamRecord,
    event: &Event,
    identity: IdentityHash,
    digest: Digest,
    meters: &MeterSet,
    oldest_open: Option<Month>,
    rules: &dyn Rules,
    usage: &mut UsageBatch,
) -> EventRow {
    let commitment = rules.commitment(&identity, &event.source_strings());
    let mut readings = 0;
    let accepted = Accepted { position: record.position, identity, accepted_at: record.accepted_at, commitment };
    for reading in meters.read(event) {
        // Pieces of one event may lie in several months.
        let month = reading.start_at.month();
        let accounting_period = oldest_open.map_or(month, |oldest| oldest.max(month));
        usage.readings.push(reading.of_event(event, &accepted, accounting_period));
        readings += 1;
    }
    EventRow { attributes: Some(event.canonical().to_owned()), readings, ..event_row(record, event, identity, digest, Outcome::Accepted) }
}

#[cfg(test)]
mod tests;
