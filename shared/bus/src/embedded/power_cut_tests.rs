//! The property that the stream exists for: whatever fails and whenever the power goes, every answered call is there, and of every other
//! call all or nothing, in one intact chain. And the proof that the property can fail: disks and writers that lie.

use std::collections::BTreeMap;
use std::ops::AddAssign;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use shared_types::{Digest, Incarnation, Instant, Sequence, ShardId};
use tokio::task::JoinSet;

use super::{Embedded, Options};
use crate::faults::{FaultyDisk, Plan, Survival};
use crate::{Append, Appended, BusError, FIRST_INCARNATION, RecordKind, Stream, StreamRecord, record_digest};

const SHARDS_USED: u8 = 4;

/// One thing that happens to the stream.
#[derive(Clone, Debug)]
enum Step {
    /// Calls at the same time; of each record its shard and length.
    Append(Vec<Vec<(u8, u16)>>),
    Reincarnate(u8),
    /// Permits to forget so many of 8 parts of each shard.
    Trim(u8),
    /// A clean close, and open.
    Reopen,
    /// The power goes off and comes back.
    Power(Survival),
    /// Something will go wrong.
    Plan(Plan),
}

fn survival() -> impl Strategy<Value = Survival> {
    prop_oneof![Just(Survival::Synced), Just(Survival::All), any::<u64>().prop_map(|seed| Survival::Torn { seed })]
}

fn step() -> impl Strategy<Value = Step> {
    let call = prop::collection::vec((0..SHARDS_USED, 0..400_u16), 1..6);
    let plan = prop_oneof![
        (0..8_u64).prop_map(|count| Plan { cut_power: Some(count), ..Plan::default() }),
        (0..4_u64).prop_map(|count| Plan { fail_append: Some(count), ..Plan::default() }),
        (0..4_u64).prop_map(|count| Plan { fail_sync: Some(count), ..Plan::default() }),
        (3_000..40_000_u64).prop_map(|bytes| Plan { capacity: Some(bytes), ..Plan::default() }),
    ];
    prop_oneof![
        8 => prop::collection::vec(call, 1..5).prop_map(Step::Append),
        1 => (0..SHARDS_USED).prop_map(Step::Reincarnate),
        1 => (0..=8_u8).prop_map(Step::Trim),
        1 => Just(Step::Reopen),
        3 => survival().prop_map(Step::Power),
        2 => plan.prop_map(Step::Plan),
    ]
}

/// How a stream is opened on the disk.
type Open = fn(&FaultyDisk) -> Result<Embedded, BusError>;

fn options() -> Options {
    Options { segment_bytes: 8 << 10, max_record_bytes: 1 << 10, ..Options::default() }
}

fn honest(disk: &FaultyDisk) -> Result<Embedded, BusError> {
    Embedded::open(Path::new("/stream"), Arc::new(disk.clone()), options())
}

/// Which edges a history reached.
#[derive(Clone, Copy, Debug, Default)]
struct Edges {
    answered: u64,
    cuts: u64,
    torn: u64,
    failed: u64,
    full: u64,
    unanswered_survived: u64,
    unanswered_vanished: u64,
    reincarnated: u64,
    trimmed: u64,
}

impl AddAssign for Edges {
    fn add_assign(&mut self, other: Self) {
        self.answered += other.answered;
        self.cuts += other.cuts;
        self.torn += other.torn;
        self.failed += other.failed;
        self.full += other.full;
        self.unanswered_survived += other.unanswered_survived;
        self.unanswered_vanished += other.unanswered_vanished;
        self.reincarnated += other.reincarnated;
        self.trimmed += other.trimmed;
    }
}

/// What one shard must hold.
#[derive(Debug)]
struct Shard {
    incarnation: Incarnation,
    records: BTreeMap<u64, (Digest, Bytes)>,
    /// Up to where it may have been forgotten.
    permitted: u64,
    /// An incarnation that was asked for without an answer.
    asked: Option<Incarnation>,
}

impl Shard {
    fn fresh(incarnation: Incarnation) -> Self {
        Self { incarnation, records: BTreeMap::new(), permitted: 0, asked: None }
    }
}

/// The client's own log of what was answered.
struct Model {
    shards: Vec<Shard>,
    /// Records of the calls without an answer, by number of the call.
    unanswered: BTreeMap<u32, usize>,
    calls: u32,
    edges: Edges,
}

/// The number of the call that wrote a payload.
fn call_of(payload: &[u8]) -> u32 {
    u32::from_be_bytes(payload[..4].try_into().unwrap())
}

impl Model {
    fn new() -> Self {
        let shards = (0..SHARDS_USED).map(|_| Shard::fresh(FIRST_INCARNATION)).collect();
        Self { shards, unanswered: BTreeMap::new(), calls: 0, edges: Edges::default() }
    }

    fn records(&mut self, call: &[(u8, u16)]) -> (u32, Vec<Append>) {
        self.calls += 1;
        let record = |at: usize, shard: u8, length: u16| {
            let mut payload = self.calls.to_be_bytes().to_vec();
            payload.extend((at as u16).to_be_bytes());
            payload.resize(6 + usize::from(length), at as u8);
            let accepted_at = Instant::from_micros(i64::from(self.calls)).unwrap();
            Append { shard: ShardId::new(shard).unwrap(), kind: RecordKind::Usage, accepted_at, payload: payload.into() }
        };
        (self.calls, call.iter().enumerate().map(|(at, (shard, length))| record(at, *shard, *length)).collect())
    }

    fn learn(&mut self, appended: &Appended, payload: &Bytes) -> Result<(), String> {
        let shard = &mut self.shards[appended.position.shard.index()];
        let before = shard.records.insert(appended.position.sequence.0, (appended.digest, payload.clone()));
        if before.is_some() || appended.position.incarnation != shard.incarnation {
            return Err(format!("position {} was given twice or to another incarnation", appended.position));
        }
        Ok(())
    }

    async fn append(&mut self, stream: &Arc<Embedded>, calls: &[Vec<(u8, u16)>]) -> Result<(), String> {
        let mut running = JoinSet::new();
        for call in calls {
            let (number, records) = self.records(call);
            let stream = Arc::clone(stream);
            running.spawn(async move { (number, records.clone(), stream.append(records).await) });
        }
        for (number, records, answer) in running.join_all().await {
            match answer {
                Ok(appended) => {
                    self.edges.answered += 1;
                    appended.iter().zip(&records).try_for_each(|(appended, record)| self.learn(appended, &record.payload))?;
                }
                // Certainly not there: if it appears later it comes from nowhere.
                Err(BusError::DiskFull { .. }) => {}
                Err(BusError::Failed { .. }) => {
                    self.unanswered.insert(number, records.len());
                }
                Err(error) => return Err(format!("unexpected: {error}")),
            }
        }
        Ok(())
    }

    async fn reincarnate(&mut self, stream: &Embedded, number: u8) {
        let shard = &mut self.shards[usize::from(number)];
        let wanted = Incarnation(shard.incarnation.0 + 2);
        match stream.reincarnate(ShardId::new(number).unwrap(), wanted).await {
            Ok(()) => {
                self.edges.reincarnated += 1;
                *shard = Shard::fresh(wanted);
            }
            Err(BusError::DiskFull { .. }) => {}
            Err(_) => shard.asked = Some(wanted),
        }
    }

    async fn trim(&mut self, stream: &Embedded, parts: u8) {
        let ends = stream.ends().await.unwrap();
        let through = |number: u8| (ShardId::new(number).unwrap(), Sequence(ends[usize::from(number)].sequence.0 * u64::from(parts) / 8));
        let through: Vec<(ShardId, Sequence)> = (0..SHARDS_USED).map(through).collect();
        for (shard, sequence) in &through {
            let permitted = &mut self.shards[shard.index()].permitted;
            *permitted = sequence.0.max(*permitted);
        }
        // It may fail; then less was forgotten than permitted.
        stream.trim(&through).await.ok();
        self.edges.trimmed += stream.ends().await.unwrap().iter().filter(|end| end.first > Sequence(1)).count() as u64;
    }

    /// Compares a stream that was just opened with what was answered.
    async fn verify(&mut self, stream: &Embedded) -> Result<(), String> {
        let mut strangers: BTreeMap<u32, Vec<StreamRecord>> = BTreeMap::new();
        for number in 0..SHARDS_USED {
            for stranger in self.verify_shard(stream, number).await? {
                strangers.entry(call_of(&stranger.payload)).or_default().push(stranger);
            }
        }
        for (call, records) in strangers {
            match self.unanswered.remove(&call) {
                Some(count) if count == records.len() => self.edges.unanswered_survived += 1,
                Some(count) => return Err(format!("{} of {count} records of call {call} are there", records.len())),
                None => return Err(format!("records of call {call} come from nowhere")),
            }
            for StreamRecord { position, digest, payload, .. } in records {
                self.learn(&Appended { position, digest }, &payload)?;
            }
        }
        self.edges.unanswered_vanished += self.unanswered.len() as u64;
        self.unanswered.clear();
        Ok(())
    }

    /// The records of a shard that were not answered.
    async fn verify_shard(&mut self, stream: &Embedded, number: u8) -> Result<Vec<StreamRecord>, String> {
        let shard = &mut self.shards[usize::from(number)];
        let end = stream.ends().await.unwrap()[usize::from(number)];
        if shard.asked.take() == Some(end.incarnation) {
            *shard = Shard::fresh(end.incarnation);
        }
        if end.incarnation != shard.incarnation {
            return Err(format!("shard {number} is in {}, not in {}", end.incarnation, shard.incarnation));
        }
        if end.first.0 > shard.permitted + 1 {
            return Err(format!("shard {number} lost records before {}, permitted were {}", end.first, shard.permitted));
        }
        let id = ShardId::new(number).unwrap();
        let found = stream.read(id, Sequence(end.first.0 - 1), usize::MAX, usize::MAX).await.map_err(|error| error.to_string())?;
        let mut before = if end.first == Sequence(1) { Some(Digest::ZERO) } else { None };
        let mut sequence = end.first.0;
        for record in &found {
            let StreamRecord { position, digest, kind, accepted_at, payload } = record;
            let chained = before.is_none_or(|before| *digest == record_digest(&before, *position, *kind, *accepted_at, payload));
            if !chained || position.sequence.0 != sequence {
                return Err(format!("the chain of shard {number} breaks at {position}"));
            }
            before = Some(*digest);
            sequence += 1;
        }
        if sequence != end.sequence.0 + 1 {
            return Err(format!("shard {number} ends at {}, but its records at {}", end.sequence, sequence - 1));
        }
        let mut found: BTreeMap<u64, StreamRecord> = found.into_iter().map(|record| (record.position.sequence.0, record)).collect();
        for (sequence, (digest, payload)) in shard.records.range(end.first.0..) {
            match found.remove(sequence) {
                Some(record) if record.digest == *digest && record.payload == *payload => {}
                Some(_) => return Err(format!("record {number}/{sequence} is another one than was answered")),
                None => return Err(format!("record {number}/{sequence} was answered and is lost")),
            }
        }
        Ok(found.into_values().collect())
    }
}

/// Lives through a history; says which edges it reached, or what broke.
async fn live(history: &[Step], open: Open, base: Plan) -> Result<Edges, String> {
    let disk = FaultyDisk::new();
    disk.plan(base);
    let mut model = Model::new();
    let mut stream = Arc::new(open(&disk).map_err(|error| error.to_string())?);
    let last = [Step::Power(Survival::Torn { seed: history.len() as u64 }), Step::Append(vec![vec![(0, 9)]]), Step::Reopen];
    for step in history.iter().chain(&last) {
        match step {
            Step::Append(calls) => model.append(&stream, calls).await?,
            Step::Reincarnate(shard) => model.reincarnate(&stream, *shard).await,
            Step::Trim(parts) => model.trim(&stream, *parts).await,
            Step::Plan(plan) => disk.plan(Plan { lying_sync: base.lying_sync, ..*plan }),
            Step::Reopen => {
                drop(stream);
                stream = match open(&disk) {
                    Ok(opened) => Arc::new(opened),
                    // The plan hit while it was opened.
                    Err(_) => restart(&disk, Survival::Torn { seed: 7 }, open, base)?,
                };
                model.verify(&stream).await?;
            }
            Step::Power(survival) => {
                disk.cut_power();
                drop(stream);
                stream = restart(&disk, *survival, open, base)?;
                model.verify(&stream).await?;
            }
        }
    }
    let tally = disk.tally();
    Ok(Edges { cuts: tally.cuts, torn: tally.torn, failed: tally.failed, full: tally.full, ..model.edges })
}

fn restart(disk: &FaultyDisk, survival: Survival, open: Open, base: Plan) -> Result<Arc<Embedded>, String> {
    disk.restore_power(survival);
    disk.plan(base);
    open(disk).map(Arc::new).map_err(|error| format!("does not open after a power cut: {error}"))
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap()
}

/// Tries many histories; the edges of all of them, or the smallest history that breaks.
fn try_histories(cases: u32, open: Open, base: Plan) -> Result<Edges, String> {
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let edges = parking_lot::Mutex::new(Edges::default());
    let result = runner.run(&prop::collection::vec(step(), 1..14), |history| {
        let reached = runtime().block_on(live(&history, open, base)).map_err(TestCaseError::fail)?;
        *edges.lock() += reached;
        Ok(())
    });
    result.map_err(|error| error.to_string())?;
    Ok(edges.into_inner())
}

#[test]
fn every_answered_call_outlives_every_power_cut() {
    let edges = try_histories(1_000, honest, Plan::default()).unwrap();
    println!("{edges:?}");
    let Edges { answered, cuts, torn, failed, full, unanswered_survived, unanswered_vanished, reincarnated, trimmed } = edges;
    for reached in [answered, cuts, torn, failed, full, unanswered_survived, unanswered_vanished, reincarnated, trimmed] {
        assert!(reached >= 5, "an edge was hardly reached: {edges:?}");
    }
}

#[test]
fn a_disk_that_lies_about_syncs_is_caught() {
    let lying = Plan { lying_sync: true, ..Plan::default() };
    let broken = try_histories(1_000, honest, lying).unwrap_err();
    assert!(broken.contains("was answered and is lost") || broken.contains("does not open after a power cut"), "{broken}");
}

#[cfg(feature = "plant")]
#[test]
fn a_writer_that_answers_before_it_syncs_is_caught() {
    use super::plant::Plant;
    use super::writer::Writer;
    use super::{recover, take_lock};

    fn planted(disk: &FaultyDisk) -> Result<Embedded, BusError> {
        let directory = Path::new("/stream");
        let lock = take_lock(disk, directory)?;
        let recovered = recover(disk, directory)?;
        let mut writer = Writer::new(Arc::new(disk.clone()), directory.to_owned(), options(), recovered)?;
        writer.plant = Plant::acknowledge_before_sync();
        Embedded::start(writer, lock)
    }
    let broken = try_histories(1_000, planted, Plan::default()).unwrap_err();
    assert!(broken.contains("was answered and is lost"), "{broken}");
}
