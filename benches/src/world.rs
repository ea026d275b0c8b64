//! A stream of generated usage, built and rated by the real code, for benches that need batches without a server.
//! It knows no file and no database.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Context;
use platform_evidence::SaltKey;
use platform_ingest::batch::{self, Built, ControlEffect, Identities, Rules, ShardRecords, ShardState};
use platform_ingest::header::Range;
use platform_ingest::index::{Entry, IndexError};
use platform_ingest::wire::RawEvent;
use platform_rating::{Plan, RatedBatch, RatingState};
use platform_registry::{SourceFile, Version};
use platform_usage::{EventLimits, IdentityKey, MeterSet};
use shared_bus::{FIRST_INCARNATION, RecordKind, StreamRecord, record_digest};
use shared_types::{Digest, IdentityHash, Instant, Position, Sequence, ShardId};

/// A deployment's shards and rating state, ahead of its batch log by at most one batch.
pub struct World {
    rules: DemoRules,
    plan: Plan,
    rating: RatingState,
    /// As the log has them.
    committed: Vec<ShardState>,
    /// As the next record meets them.
    working: Vec<ShardState>,
    events: Box<dyn Iterator<Item = String>>,
    accepted_at: Instant,
}

/// A batch that is built and rated but not committed.
pub struct Batch {
    /// Rows, ranges and states.
    pub built: Built,
    /// Charges and totals.
    pub rated: RatedBatch,
    /// The states that the log must have for it.
    pub before: Vec<ShardState>,
}

impl World {
    /// The demo's registry in force on every shard of a new log, and its usage waiting.
    pub fn new(committed: Vec<ShardState>) -> anyhow::Result<Self> {
        let files: Vec<SourceFile> = datasets::demo_registry()
            .iter()
            .map(|(name, text)| SourceFile { name: (*name).to_owned(), text: (*text).to_owned() })
            .collect();
        let version = Version::check(&files).map_err(|problems| anyhow::anyhow!("{problems}"))?;
        let compiled = platform_registry::compile(&version)?;
        let working = committed
            .iter()
            .map(|state| ShardState {
                position: Position { incarnation: FIRST_INCARNATION, ..state.position },
                registry_version: compiled.address,
                ..state.clone()
            })
            .collect();
        let options = datasets::Options { events: u64::from(u32::MAX), ..datasets::Options::default() };
        Ok(Self {
            rules: DemoRules {
                version: compiled.address,
                meters: Arc::new(MeterSet::new(compiled.meters)?),
                identity_key: IdentityKey::new(&[1; 32]),
                salt: SaltKey::from_bytes(&[2; 32]),
                limits: EventLimits::default(),
            },
            plan: compiled.plan,
            rating: RatingState::default(),
            committed,
            working,
            events: Box::new(datasets::events(options)),
            accepted_at: Instant::parse("2026-11-24T00:00:00Z")?,
        })
    }

    /// Takes the next events of the stream and makes them a batch.
    pub fn batch(&self, records: Vec<ShardRecords>) -> anyhow::Result<Batch> {
        self.rated(self.built(records, &NothingKnown)?, 2)
    }

    /// The first half of it: outcomes and readings.
    pub fn built(&self, records: Vec<ShardRecords>, known: &dyn Identities) -> anyhow::Result<Built> {
        Ok(batch::build(records, &self.rules, known)?)
    }

    /// The second half of it: charges and totals.
    pub fn rated(&self, built: Built, threads: usize) -> anyhow::Result<Batch> {
        let readings = built.usage.first().map_or(&[][..], |group| &group.usage.readings);
        let rated = platform_rating::rate(&self.rating, &self.plan, readings, threads)?;
        let before = built.ranges.iter().filter_map(|range| self.committed.get(range.shard.index()).cloned()).collect();
        Ok(Batch { built, rated, before })
    }

    /// What batches are built with.
    pub fn rules(&self) -> &dyn Rules {
        &self.rules
    }

    /// What is in force.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The shards as the next record meets them.
    pub fn working(&self) -> &[ShardState] {
        &self.working
    }

    /// The next events as they are posted, for a stream of the caller's.
    pub fn events(&mut self, count: u64) -> impl Iterator<Item = String> {
        self.events.by_ref().take(usize::try_from(count).unwrap_or(usize::MAX))
    }

    /// The next `count` events as records of their shards.
    pub fn records(&mut self, count: usize) -> anyhow::Result<Vec<ShardRecords>> {
        let mut shards: BTreeMap<ShardId, ShardRecords> = BTreeMap::new();
        for event in self.events.by_ref().take(count) {
            let event = RawEvent::new(event.into_bytes());
            let state = self.working.get(event.shard.index()).context("a log has 64 shards")?;
            let taken = shards.entry(event.shard).or_insert_with(|| ShardRecords { state: state.clone(), records: Vec::new() });
            let (before, digest) = taken.records.last().map_or((state.position, state.digest), |last| (last.position, last.digest));
            let position = Position { sequence: Sequence(before.sequence.0 + 1), ..before };
            taken.records.push(StreamRecord {
                position,
                digest: record_digest(&digest, position, RecordKind::Usage, self.accepted_at, &event.payload),
                kind: RecordKind::Usage,
                accepted_at: self.accepted_at,
                payload: event.payload.into(),
            });
        }
        Ok(shards.into_values().collect())
    }

    /// The batch is in the log.
    pub fn commit(&mut self, batch: Batch) {
        self.rating.apply(batch.rated.overlay);
        for state in batch.built.states {
            self.stands(state);
        }
    }

    /// Ranges like those of a batch, as long as they, right behind what is committed; and the states before them. Then they count as
    /// committed.
    pub fn pass(&mut self, like: &[Range]) -> (Vec<Range>, Vec<ShardState>) {
        let mut ranges = Vec::with_capacity(like.len());
        let mut before = Vec::with_capacity(like.len());
        for range in like {
            let Some(state) = self.working.get(range.shard.index()).cloned() else { continue };
            let first = state.position.sequence.0 + 1;
            let last = first + (range.last.0 - range.first.0);
            let digest = Digest::of(&last.to_be_bytes());
            before.extend(self.committed.get(range.shard.index()).cloned());
            ranges.push(Range { first: Sequence(first), last: Sequence(last), last_digest: digest, ..range.clone() });
            self.stands(ShardState { position: Position { sequence: Sequence(last), ..state.position }, digest, ..state });
        }
        (ranges, before)
    }

    fn stands(&mut self, state: ShardState) {
        let shard = state.position.shard.index();
        for states in [&mut self.committed, &mut self.working] {
            if let Some(slot) = states.get_mut(shard) {
                *slot = state.clone();
            }
        }
    }
}

struct DemoRules {
    version: Digest,
    meters: Arc<MeterSet>,
    identity_key: IdentityKey,
    salt: SaltKey,
    limits: EventLimits,
}

impl Rules for DemoRules {
    fn control(&self, _: &[u8]) -> Result<ControlEffect, String> {
        Err("a bench has no control records".to_owned())
    }

    fn meters(&self, version: &Digest) -> Option<Arc<MeterSet>> {
        (*version == self.version).then(|| Arc::clone(&self.meters))
    }

    fn commitment(&self, identity: &IdentityHash, strings: &str) -> Digest {
        self.salt.commitment(identity, strings)
    }

    fn identity_key(&self) -> &IdentityKey {
        &self.identity_key
    }

    fn event_limits(&self) -> &EventLimits {
        &self.limits
    }
}

/// An empty index: the events of a bench are new.
struct NothingKnown;

impl Identities for NothingKnown {
    fn look_up(&self, identities: &[(ShardId, IdentityHash)]) -> Result<Vec<Option<Entry>>, IndexError> {
        Ok(vec![None; identities.len()])
    }
}
