//! The path of a charge stage by stage: from records in the stream to a committed batch, under the rule that a charge follows its key's state.
//!
//! One thread does all of it with the server's own functions, so the stages add up to the whole. Some stages happen inside others: what
//! lies inside is done once more by itself, and counted there alone. Folds come after the commit and are not in it.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant as Timer};

use anyhow::{Context, ensure};
use platform_ingest::batch::{Identities, ShardRecords};
use platform_ingest::header::{FORMAT, Header};
use platform_ingest::index::{Entry, Index, IndexError, IndexOptions};
use platform_ingest::store;
use platform_ingest::wire::RawEvent;
use platform_usage::Event;
use serde_json::{Value, json};
use shared_bus::{Append, Embedded, Options, RealDisk, RecordKind, Stream};
use shared_db::Database;
use shared_types::{BatchNo, Digest, IdentityHash, Instant, ShardId};

use crate::commit::committed_event;
use crate::commit::lanes::{TimedFiles, folders, write_tables};
use crate::figures::{per_second, percent, seconds, seconds_per_million, table};
use crate::machine::Used;
use crate::world::World;

/// Records of a batch at most.
const RECORDS: usize = 10_000;
/// Records of one append.
const APPEND: usize = 5_000;

/// The stages, in the order in which an event meets them.
const STAGES: [&str; 9] = [
    "stream: read",
    "decoding: events of records",
    "identity: hashes, index",
    "rows and meters",
    "price look-up",
    "arithmetic: states, totals, charges",
    "encoding: columns, digests, order, Parquet",
    "commit: files, transaction",
    "state in memory",
];

/// What it came to.
pub struct RulePath {
    events: u64,
    readings: u64,
    batches: u64,
    spent: [Duration; STAGES.len()],
    others: f64,
}

/// Takes so many events from a stream of their own to committed batches.
pub async fn run(scratch: &Path, events: u64) -> anyhow::Result<RulePath> {
    fs::create_dir_all(scratch)?;
    let log = Database::open_sqlite(scratch.join("log.db"), &["platform-ingest"]).await?;
    let mut tx = log.begin().await?;
    let at = Instant::parse("2026-11-30T00:00:00Z")?;
    let epoch = store::open_epoch(&mut tx, "bench", at).await?;
    let states = store::shard_states(&mut tx).await?;
    tx.commit().await?;
    let mut world = World::new(states)?;
    let stream = Embedded::open(&scratch.join("stream"), Arc::new(RealDisk), Options::default())?;
    let events = append(&stream, &mut world, events, at).await?;
    let index = Index::open(&scratch.join("index"), &IndexOptions::new("bench"))?.index;
    let (lake, files) = (scratch.join("lake"), TimedFiles::default());
    for folder in folders(epoch) {
        fs::create_dir_all(lake.join(folder))?;
    }
    let mut head = (BatchNo(0), Digest::ZERO);
    let mut path = RulePath { events: 0, readings: 0, batches: 0, spent: [Duration::ZERO; STAGES.len()], others: 0.0 };
    let (used, own) = (Used::now()?, crate::machine::own_time()?);
    loop {
        let mut lap = Lap::start();
        let records = next_records(&stream, &world).await?;
        let read = lap.end();
        if records.is_empty() {
            break;
        }
        let (decoded, hashed, looked_up) = apart(&world, &index, &records, &mut path.events)?;
        lap.end();
        let built = world.built(records, &Known(&index))?;
        let build = lap.end();
        let priced = {
            let readings = built.usage.first().map_or(&[][..], |group| &group.usage.readings);
            path.readings += u64::try_from(readings.len())?;
            let mut priced = 0;
            platform_rating::look_up(world.plan(), readings, |_, price| priced += usize::from(price.is_ok()));
            ensure!(priced > 0, "some reading has a price");
            lap.end()
        };
        let batch = world.rated(built, 1)?;
        let rate = lap.end();
        let on_disk = files.spent();
        let tables = write_tables(&files, &lake, epoch, &batch)?.tables;
        let (written, on_disk) = (lap.end(), files.spent().saturating_sub(on_disk));
        let header = Header {
            accepted_to: batch.built.accepted_to,
            batch_no: head.0.next().context("batch numbers are used up")?,
            format: FORMAT,
            previous: head.1,
            ranges: batch.built.ranges.clone(),
            tables,
            writer_epoch: epoch,
        };
        let mut tx = log.begin().await?;
        let digest = store::append(&mut tx, &header, &batch.before, at).await?;
        shared_db::enqueue(&mut tx, committed_event(&header, digest)).await?;
        tx.commit().await?;
        head = (header.batch_no, digest);
        let transaction = lap.end();
        index.apply(&batch.built.accepted, head.0, &head.1)?;
        let applied = lap.end();
        world.commit(batch);
        let inside = decoded + hashed + looked_up;
        let spent = [
            read,
            decoded,
            hashed + looked_up + applied,
            build.saturating_sub(inside),
            priced,
            rate.saturating_sub(priced),
            written.saturating_sub(on_disk),
            on_disk + transaction,
            lap.end(),
        ];
        path.spent.iter_mut().zip(spent).for_each(|(sum, spent)| *sum += spent);
        path.batches += 1;
    }
    ensure!(path.events == events, "{events} events were appended and {} committed", path.events);
    (_, path.others) = used.since(crate::machine::own_time()?.saturating_sub(own))?;
    log.close().await;
    Ok(path)
}

/// Fills the stream, unmeasured; with how many records.
async fn append(stream: &Embedded, world: &mut World, events: u64, accepted_at: Instant) -> anyhow::Result<u64> {
    let events: Vec<String> = world.events(events).collect();
    for some in events.chunks(APPEND) {
        let records = some.iter().map(|event| {
            let event = RawEvent::new(event.clone().into_bytes());
            Append { shard: event.shard, kind: RecordKind::Usage, accepted_at, payload: event.payload.into() }
        });
        stream.append(records.collect()).await?;
    }
    Ok(u64::try_from(events.len())?)
}

/// The next records of all shards.
async fn next_records(stream: &Embedded, world: &World) -> anyhow::Result<Vec<ShardRecords>> {
    let mut taken = Vec::new();
    let mut room = RECORDS;
    for state in world.working() {
        let records = stream.read(state.position.shard, state.position.sequence, room, usize::MAX).await?;
        room -= records.len();
        if !records.is_empty() {
            taken.push(ShardRecords { state: state.clone(), records });
        }
        if room == 0 {
            break;
        }
    }
    Ok(taken)
}

/// What lies inside building a batch, each by itself: reading events, hashing them, looking them up.
fn apart(world: &World, index: &Index, records: &[ShardRecords], counted: &mut u64) -> anyhow::Result<(Duration, Duration, Duration)> {
    let mut lap = Lap::start();
    let rules = world.rules();
    let mut events = Vec::new();
    for record in records.iter().flat_map(|shard| &shard.records) {
        events.push((record.position.shard, Event::parse(&record.payload, record.accepted_at, rules.event_limits())));
    }
    let decoded = lap.end();
    let mut identities = Vec::with_capacity(events.len());
    for (shard, event) in &events {
        // Some that are generated are refused, as they should be.
        let Ok(event) = event else { continue };
        std::hint::black_box(event.content_digest());
        identities.push((*shard, event.identity_hash(rules.identity_key())));
    }
    let hashed = lap.end();
    std::hint::black_box(index.get_many(&identities)?);
    let looked_up = lap.end();
    *counted += u64::try_from(events.len())?;
    Ok((decoded, hashed, looked_up))
}

/// The index as a batch asks it.
struct Known<'a>(&'a Index);

impl Identities for Known<'_> {
    fn look_up(&self, identities: &[(ShardId, IdentityHash)]) -> Result<Vec<Option<Entry>>, IndexError> {
        self.0.get_many(identities)
    }
}

struct Lap(Timer);

impl Lap {
    fn start() -> Self {
        Self(Timer::now())
    }

    /// Since the start or the end before.
    fn end(&mut self) -> Duration {
        let before = std::mem::replace(&mut self.0, Timer::now());
        self.0.duration_since(before)
    }
}

impl RulePath {
    fn all(&self) -> Duration {
        self.spent.iter().sum()
    }

    /// For the result.
    pub fn figures(&self) -> Value {
        let stage = |(name, spent): (&&str, &Duration)| {
            json!({
                "stage": name, "seconds": seconds(*spent), "percent": percent(*spent, self.all()),
                "microseconds_per_event": seconds_per_million(*spent, self.events),
            })
        };
        json!({
            "what": "records in the stream to a committed batch, a charge following its key's state; one thread; stages exclude each other",
            "events": self.events, "readings": self.readings, "batches": self.batches, "records_of_a_batch": RECORDS,
            "events_per_second": per_second(self.events, self.all()),
            "seconds": seconds(self.all()),
            "processors_busy_with_others_percent": self.others,
            "stages": STAGES.iter().zip(&self.spent).map(stage).collect::<Vec<_>>(),
        })
    }

    /// For people.
    pub fn text(&self) -> String {
        let mut rows = vec![["stream to committed batch, one thread", "s", "share", "µs per event"].map(ToOwned::to_owned).to_vec()];
        for (name, spent) in STAGES.iter().zip(&self.spent) {
            let each = seconds_per_million(*spent, self.events).map_or_else(|| "-".to_owned(), |each| each.to_string());
            rows.push(vec![(*name).to_owned(), format!("{:.3}", seconds(*spent)), format!("{} %", percent(*spent, self.all())), each]);
        }
        let rate = per_second(self.events, self.all());
        format!("{}{} events, {} readings, {} batches: {rate} events/s\n", table(&rows), self.events, self.readings, self.batches)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_event_is_committed_and_every_stage_takes_time() {
        let scratch = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let path = runtime.block_on(run(scratch.path(), 500)).unwrap();
        assert!(path.events == 500 && path.readings > 500 && path.batches == 1);
        let figures = path.figures();
        for (stage, spent) in figures["stages"].as_array().unwrap().iter().zip(&path.spent) {
            assert!(!spent.is_zero(), "{stage}");
        }
    }
}
