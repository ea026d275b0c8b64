//! What every adapter of the stream port must keep, as one suite that an adapter's tests run. It knows no adapter.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use shared_types::{Digest, Incarnation, Instant, Position, SHARDS, Sequence, ShardId};
use tokio::task::JoinSet;

use crate::{Append, Appended, BusError, FIRST_INCARNATION, RecordKind, ShardEnd, Stream, StreamRecord, record_digest};

/// What an adapter broke.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    /// It did something else than the port says.
    #[error("{rule}: {found}")]
    Rule {
        /// What the port says.
        rule: &'static str,
        /// What was found instead.
        found: String,
    },
    /// It failed where it must not.
    #[error("the stream failed")]
    Failed(#[from] BusError),
}

type Case = Result<(), Broken>;

/// Runs the suite. `open` opens the stream of a name: a name not used before is a new and empty stream, one used before is the same
/// stream again (its earlier handle has been dropped).
pub async fn run<Open>(open: Open) -> Result<(), Broken>
where
    Open: AsyncFn(&'static str) -> Result<Arc<dyn Stream>, BusError>,
{
    a_new_stream_is_empty(open("new").await?.as_ref()).await?;
    sequences_are_dense_and_chained(open("dense").await?.as_ref()).await?;
    an_answer_comes_after_the_record_can_be_read(open("durable").await?.as_ref()).await?;
    reads_keep_their_limits(open("limits").await?.as_ref()).await?;
    concurrent_calls_lose_and_repeat_nothing(open("concurrent").await?).await?;
    a_stream_is_the_same_when_it_is_opened_again(&open).await?;
    trimming_takes_no_more_than_permitted(&open).await?;
    a_new_incarnation_starts_at_one(&open).await
}

fn holds(rule: &'static str, truth: bool, found: impl Debug) -> Case {
    if truth { Ok(()) } else { Err(Broken::Rule { rule, found: format!("{found:?}") }) }
}

fn equal<T: PartialEq + Debug>(rule: &'static str, found: &T, wanted: &T) -> Case {
    holds(rule, found == wanted, (found, "instead of", wanted))
}

fn shard(number: u8) -> ShardId {
    ShardId::all().nth(usize::from(number % SHARDS)).unwrap_or(ShardId::of_organization(""))
}

fn record(number: u8, kind: RecordKind, micros: i64, payload: impl Into<Bytes>) -> Append {
    let accepted_at = Instant::from_micros(micros).unwrap_or(Instant::EPOCH);
    Append { shard: shard(number), kind, accepted_at, payload: payload.into() }
}

fn usage(number: u8, payload: impl Into<Bytes>) -> Append {
    record(number, RecordKind::Usage, 1_790_000_000_000_000, payload)
}

async fn end(stream: &dyn Stream, number: u8) -> Result<ShardEnd, Broken> {
    let ends = stream.ends().await?;
    equal("there is one end for each shard", &ends.len(), &usize::from(SHARDS))?;
    ends.get(usize::from(number)).copied().ok_or(Broken::Rule { rule: "ends are in shard order", found: String::new() })
}

async fn all(stream: &dyn Stream, number: u8) -> Result<Vec<StreamRecord>, Broken> {
    let ShardEnd { first, .. } = end(stream, number).await?;
    let mut after = Sequence(first.0.saturating_sub(1));
    let mut records: Vec<StreamRecord> = Vec::new();
    loop {
        let more = stream.read(shard(number), after, 1_000, 1 << 20).await?;
        match more.last() {
            Some(last) => after = last.position.sequence,
            None => return Ok(records),
        }
        records.extend(more);
    }
}

/// Checks that the records are a dense, chained run of an incarnation, and follow the given end.
fn follow(
    number: u8,
    incarnation: Incarnation,
    before: (Sequence, Digest),
    records: &[StreamRecord],
) -> Result<(Sequence, Digest), Broken> {
    let (mut sequence, mut digest) = before;
    for record in records {
        sequence = Sequence(sequence.0 + 1);
        let position = Position { shard: shard(number), incarnation, sequence };
        equal("sequences are dense", &record.position, &position)?;
        let link = record_digest(&digest, position, record.kind, record.accepted_at, &record.payload);
        equal("each digest follows from its predecessor", &record.digest, &link)?;
        digest = link;
    }
    Ok((sequence, digest))
}

async fn a_new_stream_is_empty(stream: &dyn Stream) -> Case {
    let fresh = ShardEnd { incarnation: FIRST_INCARNATION, sequence: Sequence(0), digest: Digest::ZERO, first: Sequence(1) };
    equal("the shards of a new stream are empty", &stream.ends().await?, &vec![fresh; usize::from(SHARDS)])?;
    equal("an empty shard has no records", &stream.read(shard(0), Sequence(0), 10, 10).await?, &Vec::new())?;
    equal("appending nothing answers nothing", &stream.append(Vec::new()).await?, &Vec::new())?;
    let beyond = stream.read(shard(0), Sequence(1), 10, 10).await;
    holds("reading beyond the end is refused", matches!(beyond, Err(BusError::BeyondEnd { .. })), beyond)
}

async fn sequences_are_dense_and_chained(stream: &dyn Stream) -> Case {
    let sent = vec![
        record(3, RecordKind::Usage, 5, "a"),
        record(63, RecordKind::Control, 4, vec![0; 3_000]),
        record(63, RecordKind::Own, 4, "own"),
        record(3, RecordKind::Control, 3, ""),
        record(0, RecordKind::Usage, 0, vec![255, 0, 10]),
        record(3, RecordKind::Usage, 253_402_300_799_999_999, "c"),
    ];
    for round in 0..3_usize {
        let appended = stream.append(sent.clone()).await?;
        let shards: Vec<ShardId> = appended.iter().map(|appended| appended.position.shard).collect();
        equal("answers are in the order of the call", &shards, &sent.iter().map(|record| record.shard).collect::<Vec<_>>())?;
        for number in [0, 3, 63] {
            let records = all(stream, number).await?;
            let (sequence, digest) = follow(number, FIRST_INCARNATION, (Sequence(0), Digest::ZERO), &records)?;
            let wanted = ShardEnd { incarnation: FIRST_INCARNATION, sequence, digest, first: Sequence(1) };
            equal("the end of a shard is its last record", &end(stream, number).await?, &wanted)?;
            let mine = || sent.iter().zip(&appended).filter(|(sent, _)| sent.shard == shard(number));
            equal("nothing is lost or added", &records.len(), &((round + 1) * mine().count()))?;
            for (record, (sent, appended)) in records.iter().skip(round * mine().count()).zip(mine()) {
                let StreamRecord { position, digest, kind, accepted_at, payload } = record.clone();
                equal("a record is read as it was answered", &Appended { position, digest }, appended)?;
                equal("a record is read as it was sent", &Append { shard: position.shard, kind, accepted_at, payload }, sent)?;
            }
        }
    }
    Ok(())
}

async fn an_answer_comes_after_the_record_can_be_read(stream: &dyn Stream) -> Case {
    let mut changed = stream.subscribe();
    for sequence in 1..=20_u64 {
        changed.borrow_and_update();
        let appended = stream.append(vec![usage(9, "x")]).await?;
        let end = end(stream, 9).await?;
        equal("an answered record is the end of its shard", &end.sequence, &Sequence(sequence))?;
        let read = stream.read(shard(9), Sequence(sequence - 1), 10, 10).await?;
        let read: Vec<Appended> =
            read.iter().map(|StreamRecord { position, digest, .. }| Appended { position: *position, digest: *digest }).collect();
        equal("an answered record can be read", &read, &appended)?;
        let woken = tokio::time::timeout(Duration::from_secs(10), changed.changed()).await;
        holds("whoever subscribed is woken", matches!(woken, Ok(Ok(()))), woken)?;
    }
    Ok(())
}

async fn reads_keep_their_limits(stream: &dyn Stream) -> Case {
    stream.append((0..10).map(|_| usage(1, vec![7; 100])).collect()).await?;
    stream.append(vec![usage(2, "between"), usage(1, vec![8; 5_000])]).await?;
    for (after, max_records, max_bytes, wanted) in [
        (0, 0, 1_000, 0),
        (0, 3, 1_000, 3),
        (0, 100, 1_000, 10),
        (0, 100, 250, 2),
        (0, 100, 0, 1),
        (5, 100, 300, 3),
        (10, 5, 10, 1),
        (8, 9, 5_200, 3),
    ] {
        let read = stream.read(shard(1), Sequence(after), max_records, max_bytes).await?;
        let (first, count) = (read.first().map(|record| record.position.sequence), read.len());
        let begins = if wanted == 0 { None } else { Some(Sequence(after + 1)) };
        equal("a read begins after its cursor", &first, &begins)?;
        equal("a read gives what its limits allow, at least one record", &count, &wanted)?;
    }
    equal("a read at the end is empty", &stream.read(shard(1), Sequence(11), 10, 10).await?, &Vec::new())?;
    let beyond = stream.read(shard(1), Sequence(12), 10, 10).await;
    holds("reading beyond the end is refused", matches!(beyond, Err(BusError::BeyondEnd { .. })), beyond)
}

async fn concurrent_calls_lose_and_repeat_nothing(stream: Arc<dyn Stream>) -> Case {
    const CALLERS: u8 = 32;
    const CALLS: u8 = 20;
    let mut callers = JoinSet::new();
    for caller in 0..CALLERS {
        let stream = Arc::clone(&stream);
        callers.spawn(async move {
            let mut answers = Vec::new();
            for call in 0..CALLS {
                let records =
                    vec![usage(caller % 4, vec![caller, call, 0]), usage(5, vec![caller, call]), usage(caller % 4, vec![caller, call, 1])];
                answers.push((records.clone(), stream.append(records).await?));
            }
            Ok::<_, BusError>(answers)
        });
    }
    let mut answered = Vec::new();
    while let Some(joined) = callers.join_next().await {
        let answers = joined.map_err(|error| Broken::Rule { rule: "no call panics", found: error.to_string() })?;
        for (records, answers) in answers? {
            let positions: Vec<Sequence> = answers.iter().map(|answer| answer.position.sequence).collect();
            holds("records of one call keep their order", matches!(positions.as_slice(), [first, _, last] if first < last), positions)?;
            answered.extend(answers.into_iter().zip(records).map(|(answer, record)| (answer.position, answer.digest, record.payload)));
        }
    }
    let mut found = Vec::new();
    for number in [0, 1, 2, 3, 5] {
        let records = all(stream.as_ref(), number).await?;
        follow(number, FIRST_INCARNATION, (Sequence(0), Digest::ZERO), &records)?;
        found.extend(records.into_iter().map(|record| (record.position, record.digest, record.payload)));
    }
    answered.sort_unstable_by_key(|(position, ..)| *position);
    found.sort_unstable_by_key(|(position, ..)| *position);
    equal("every answered record is there once, at its position", &found, &answered)
}

async fn a_stream_is_the_same_when_it_is_opened_again<Open>(open: &Open) -> Case
where
    Open: AsyncFn(&'static str) -> Result<Arc<dyn Stream>, BusError>,
{
    let (mut ends, mut records) = (Vec::new(), Vec::new());
    for round in 0..4_u8 {
        let stream = open("again").await?;
        if round > 0 {
            equal("ends outlive the process", &stream.ends().await?, &ends)?;
            equal("records outlive the process", &all(stream.as_ref(), 7).await?, &records)?;
        }
        for call in 0..10 {
            stream.append(vec![usage(7, vec![round, call]), usage(8, vec![call; 2_000])]).await?;
        }
        ends = stream.ends().await?;
        records = all(stream.as_ref(), 7).await?;
        follow(7, FIRST_INCARNATION, (Sequence(0), Digest::ZERO), &records)?;
    }
    Ok(())
}

async fn trimming_takes_no_more_than_permitted<Open>(open: &Open) -> Case
where
    Open: AsyncFn(&'static str) -> Result<Arc<dyn Stream>, BusError>,
{
    let stream = open("trim").await?;
    for call in 0..40_u8 {
        stream.append(vec![usage(1, vec![call; 1_000]), usage(2, vec![call; 1_000])]).await?;
    }
    let (whole, kept) = (all(stream.as_ref(), 1).await?, all(stream.as_ref(), 2).await?);
    stream.trim(&[(shard(1), Sequence(25)), (shard(2), Sequence(10))]).await?;
    let beyond = stream.trim(&[(shard(1), Sequence(41))]).await;
    holds("trimming beyond the end is refused", matches!(beyond, Err(BusError::BeyondEnd { .. })), beyond)?;
    let ends = stream.ends().await?;
    let check = async |stream: &dyn Stream| -> Case {
        equal("trimming moves no end, and reopening no first record", &stream.ends().await?, &ends)?;
        for (number, through, before) in [(1, 25, &whole), (2, 10, &kept)] {
            let end = end(stream, number).await?;
            holds("what was not permitted to go is kept", end.first.0 <= through + 1 && end.sequence == Sequence(40), end)?;
            let skipped = usize::try_from(end.first.0 - 1).unwrap_or(usize::MAX);
            let wanted: Vec<StreamRecord> = before.iter().skip(skipped).cloned().collect();
            equal("what is kept can be read", &all(stream, number).await?, &wanted)?;
            if end.first > Sequence(1) {
                let trimmed = stream.read(shard(number), Sequence(end.first.0 - 2), 10, 10).await;
                holds("reading what was trimmed is refused", matches!(trimmed, Err(BusError::Trimmed { .. })), trimmed)?;
            }
        }
        Ok(())
    };
    check(stream.as_ref()).await?;
    drop(stream);
    let stream = open("trim").await?;
    check(stream.as_ref()).await?;
    let appended = stream.append(vec![usage(1, "after")]).await?;
    let sequences: Vec<Sequence> = appended.iter().map(|appended| appended.position.sequence).collect();
    equal("sequences go on after a trim", &sequences, &vec![Sequence(41)])
}

async fn a_new_incarnation_starts_at_one<Open>(open: &Open) -> Case
where
    Open: AsyncFn(&'static str) -> Result<Arc<dyn Stream>, BusError>,
{
    let stream = open("incarnation").await?;
    stream.append(vec![usage(4, "old"), usage(6, "other"), usage(4, "old too")]).await?;
    let higher = Incarnation(FIRST_INCARNATION.0 + 5);
    let mut changed = stream.subscribe();
    changed.borrow_and_update();
    stream.reincarnate(shard(4), higher).await?;
    holds("whoever subscribed learns of a reincarnation", changed.has_changed().unwrap_or(false), ())?;
    let fresh = ShardEnd { incarnation: higher, sequence: Sequence(0), digest: Digest::ZERO, first: Sequence(1) };
    equal("a new incarnation is empty", &end(stream.as_ref(), 4).await?, &fresh)?;
    equal("earlier incarnations cannot be read", &all(stream.as_ref(), 4).await?, &Vec::new())?;
    for lower in [FIRST_INCARNATION, higher] {
        let refused = stream.reincarnate(shard(4), lower).await;
        holds("an incarnation must rise", matches!(refused, Err(BusError::NotHigher { .. })), refused)?;
    }
    drop(stream);
    let stream = open("incarnation").await?;
    equal("an incarnation outlives the process", &end(stream.as_ref(), 4).await?, &fresh)?;
    stream.append(vec![usage(4, "new"), usage(6, "other too"), usage(4, "newer")]).await?;
    drop(stream);
    let stream = open("incarnation").await?;
    let records = all(stream.as_ref(), 4).await?;
    follow(4, higher, (Sequence(0), Digest::ZERO), &records)?;
    let payloads: Vec<&[u8]> = records.iter().map(|record| record.payload.as_ref()).collect();
    equal("a new incarnation holds its own records", &payloads, &vec![b"new".as_slice(), b"newer"])?;
    let other = all(stream.as_ref(), 6).await?;
    follow(6, FIRST_INCARNATION, (Sequence(0), Digest::ZERO), &other)?;
    equal("other shards are not touched", &other.len(), &2)
}
