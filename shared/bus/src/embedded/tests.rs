//! The embedded stream against the suite, and what only it has: files, damage, full disks, failing disks.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use shared_types::{Incarnation, Instant, Sequence, ShardId};
use tokio::task::JoinSet;

use super::files::path_of;
use super::format::SEGMENT_HEADER;
use super::{Embedded, Options};
use crate::faults::{FaultyDisk, Plan, Survival};
use crate::{Append, BusError, Disk, RealDisk, RecordKind, Stream, StreamRecord, UnsyncedInMemory, conformance};

const FOLDER: &str = "/stream";

fn small() -> Options {
    Options { segment_bytes: 16 << 10, max_record_bytes: 8 << 10, ..Options::default() }
}

fn open(disk: &FaultyDisk) -> Result<Embedded, BusError> {
    Embedded::open(Path::new(FOLDER), Arc::new(disk.clone()), small())
}

fn look(disk: &FaultyDisk) -> Result<Embedded, BusError> {
    Embedded::open_read_only(Path::new(FOLDER), Arc::new(disk.clone()))
}

fn segment(number: u64) -> PathBuf {
    path_of(Path::new(FOLDER), number)
}

fn shard(number: u8) -> ShardId {
    ShardId::new(number).unwrap()
}

fn usage(number: u8, payload: impl Into<Bytes>) -> Append {
    let accepted_at = Instant::from_micros(1_790_000_000_000_000).unwrap();
    Append { shard: shard(number), kind: RecordKind::Usage, accepted_at, payload: payload.into() }
}

async fn all(stream: &Embedded, number: u8) -> Vec<StreamRecord> {
    let first = stream.ends().await.unwrap()[usize::from(number)].first;
    stream.read(shard(number), Sequence(first.0 - 1), usize::MAX, usize::MAX).await.unwrap()
}

async fn payloads(stream: &Embedded, number: u8) -> Vec<String> {
    all(stream, number).await.iter().map(|record| String::from_utf8_lossy(&record.payload).into_owned()).collect()
}

async fn conforms(disk: impl Fn() -> Arc<dyn Disk>, options: Options) {
    let home = tempfile::tempdir().unwrap();
    let opened = async |name: &'static str| {
        let stream: Arc<dyn Stream> = Arc::new(Embedded::open(&home.path().join(name), disk(), options.clone())?);
        Ok(stream)
    };
    conformance::run(opened).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_suite_holds_on_a_real_disk() {
    conforms(|| Arc::new(RealDisk), small()).await;
}

#[tokio::test]
async fn the_suite_holds_with_large_segments() {
    conforms(|| Arc::new(RealDisk), Options::default()).await;
}

#[tokio::test]
async fn the_suite_holds_on_a_disk_that_keeps_unsynced_writes_in_memory() {
    conforms(|| Arc::new(UnsyncedInMemory::new()), small()).await;
}

#[tokio::test]
async fn the_suite_holds_on_the_disk_of_the_fault_tests() {
    let disk = FaultyDisk::new();
    conforms(move || Arc::new(disk.clone()), small()).await;
}

#[tokio::test]
async fn many_callers_share_a_sync() {
    let disk = FaultyDisk::new();
    let stream = Arc::new(open(&disk).unwrap());
    disk.plan(Plan { sync_takes: Duration::from_millis(20), ..Plan::default() });
    let before = disk.tally().syncs;
    let mut callers = JoinSet::new();
    for caller in 0..200_u8 {
        let stream = Arc::clone(&stream);
        callers.spawn(async move { stream.append(vec![usage(caller % 64, vec![caller])]).await.unwrap() });
    }
    assert_eq!(callers.join_all().await.len(), 200);
    let syncs = disk.tally().syncs - before;
    assert!((1..50).contains(&syncs), "{syncs} syncs for 200 calls");
}

#[tokio::test]
async fn a_full_queue_makes_callers_wait_and_passes_large_calls() {
    let options = Options { max_queued_bytes: 100, max_write_bytes: 1, ..small() };
    let disk = FaultyDisk::new();
    let stream = Arc::new(Embedded::open(Path::new(FOLDER), Arc::new(disk), options).unwrap());
    let mut callers = JoinSet::new();
    for caller in 0..50_u8 {
        let stream = Arc::clone(&stream);
        callers.spawn(async move { stream.append(vec![usage(0, vec![caller; 500])]).await.unwrap() });
    }
    callers.join_all().await;
    assert_eq!(all(&stream, 0).await.len(), 50);
}

#[tokio::test]
async fn a_caller_that_leaves_hinders_nobody() {
    let disk = FaultyDisk::new();
    let stream = open(&disk).unwrap();
    disk.plan(Plan { sync_takes: Duration::from_millis(20), ..Plan::default() });
    let left = tokio::time::timeout(Duration::from_millis(1), stream.append(vec![usage(0, "left")])).await;
    assert!(left.is_err());
    stream.append(vec![usage(0, "stayed")]).await.unwrap();
    assert_eq!(payloads(&stream, 0).await, ["left", "stayed"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_subscribes_misses_nothing() {
    let home = tempfile::tempdir().unwrap();
    let stream = Arc::new(Embedded::open(home.path(), Arc::new(RealDisk), small()).unwrap());
    let reader = tokio::spawn({
        let stream = Arc::clone(&stream);
        async move {
            let mut changed = stream.subscribe();
            let mut after = Sequence(0);
            while after < Sequence(800) {
                changed.borrow_and_update();
                let read = stream.read(shard(1), after, 7, 1_000).await.unwrap();
                match read.last() {
                    Some(last) => after = last.position.sequence,
                    None => changed.changed().await.unwrap(),
                }
            }
            after
        }
    });
    let mut writers = JoinSet::new();
    for _ in 0..4 {
        let stream = Arc::clone(&stream);
        writers.spawn(async move {
            for _ in 0..200 {
                stream.append(vec![usage(1, vec![1; 60]), usage(2, vec![2; 60])]).await.unwrap();
            }
        });
    }
    writers.join_all().await;
    assert_eq!(tokio::time::timeout(Duration::from_secs(30), reader).await.unwrap().unwrap(), Sequence(800));
}

#[tokio::test]
async fn a_failed_sync_or_write_ends_the_log_until_it_is_opened_again() {
    for (plan, action) in
        [(Plan { fail_sync: Some(0), ..Plan::default() }, "sync"), (Plan { fail_append: Some(0), ..Plan::default() }, "write")]
    {
        let disk = FaultyDisk::new();
        let stream = open(&disk).unwrap();
        stream.append(vec![usage(0, "before")]).await.unwrap();
        disk.plan(plan);
        let failed = stream.append(vec![usage(0, "lost"), usage(0, "lost too")]).await;
        assert!(matches!(&failed, Err(BusError::Failed { action: found, .. }) if *found == action), "{failed:?}");
        // The disk works again, but nobody may pretend that the failed write is durable.
        for _ in 0..2 {
            let later = stream.append(vec![usage(0, "later")]).await;
            assert!(matches!(later, Err(BusError::Failed { .. })), "{later:?}");
        }
        assert!(matches!(stream.reincarnate(shard(0), Incarnation(9)).await, Err(BusError::Failed { .. })));
        assert!(matches!(stream.trim(&[]).await, Err(BusError::Failed { .. })));
        assert_eq!(payloads(&stream, 0).await, ["before"]);
        drop(stream);
        disk.restore_power(Survival::Synced);
        let stream = open(&disk).unwrap();
        assert_eq!(payloads(&stream, 0).await, ["before"]);
        stream.append(vec![usage(0, "after")]).await.unwrap();
        assert_eq!(payloads(&stream, 0).await, ["before", "after"]);
    }
}

#[tokio::test]
async fn a_full_disk_refuses_whole_calls_and_recovers() {
    let disk = FaultyDisk::new();
    let stream = open(&disk).unwrap();
    stream.append(vec![usage(0, "before")]).await.unwrap();
    let used = disk.bytes(&segment(1)).unwrap().len() as u64;
    for spare in [0, 10, 80, 200, 1_000] {
        disk.plan(Plan { capacity: Some(used + spare), ..Plan::default() });
        let full = stream.append(vec![usage(0, vec![b'x'; 400]), usage(1, vec![b'x'; 700])]).await;
        assert!(matches!(full, Err(BusError::DiskFull { .. })), "{full:?}");
        assert_eq!(disk.bytes(&segment(1)).unwrap().len() as u64, used);
        assert_eq!(payloads(&look(&disk).unwrap(), 0).await, ["before"]);
    }
    disk.plan(Plan::default());
    let appended = stream.append(vec![usage(0, "after")]).await.unwrap();
    assert_eq!(appended[0].position.sequence, Sequence(2));
    drop(stream);
    assert_eq!(payloads(&open(&disk).unwrap(), 0).await, ["before", "after"]);
}

#[tokio::test]
async fn a_disk_too_full_for_a_new_segment_leaves_no_trace_of_it() {
    let disk = FaultyDisk::new();
    let stream = open(&disk).unwrap();
    for _ in 0..2 {
        stream.append(vec![usage(0, vec![1; 6_000])]).await.unwrap();
    }
    let used = disk.bytes(&segment(1)).unwrap().len() as u64;
    disk.plan(Plan { capacity: Some(used + 100), ..Plan::default() });
    let full = stream.append(vec![usage(0, vec![2; 6_000])]).await;
    assert!(matches!(full, Err(BusError::DiskFull { .. })), "{full:?}");
    assert!(disk.bytes(&segment(2)).is_err());
    disk.plan(Plan::default());
    stream.append(vec![usage(0, vec![3; 6_000])]).await.unwrap();
    drop(stream);
    assert_eq!(all(&open(&disk).unwrap(), 0).await.len(), 3);
}

#[tokio::test]
async fn a_torn_last_call_is_cut_off_wherever_it_is_torn() {
    let disk = FaultyDisk::new();
    let stream = open(&disk).unwrap();
    stream.append(vec![usage(0, "a"), usage(1, "b")]).await.unwrap();
    stream.append(vec![usage(0, "c")]).await.unwrap();
    let whole = disk.bytes(&segment(1)).unwrap().len();
    stream.append(vec![usage(0, "d"), usage(1, "e"), usage(0, "f")]).await.unwrap();
    let full = disk.bytes(&segment(1)).unwrap();
    disk.cut_power();
    drop(stream);
    disk.restore_power(Survival::All);
    for length in whole..full.len() {
        disk.damage(&segment(1), |bytes| *bytes = full[..length].to_vec()).unwrap();
        assert_eq!(payloads(&look(&disk).unwrap(), 0).await, ["a", "c"], "length {length}");
        assert_eq!(disk.bytes(&segment(1)).unwrap(), full[..length], "looking changes nothing");
        let stream = open(&disk).unwrap();
        assert_eq!(disk.bytes(&segment(1)).unwrap(), full[..whole], "length {length}");
        stream.append(vec![usage(0, "g")]).await.unwrap();
        assert_eq!(payloads(&stream, 0).await, ["a", "c", "g"]);
    }
    // Zeros and rubbish behind the end are torn writes too.
    for rubbish in [vec![0; 5_000], vec![0xf7; 300], full[whole..whole + 100].repeat(3)] {
        disk.damage(&segment(1), |bytes| *bytes = [&full[..whole], &rubbish].concat()).unwrap();
        assert_eq!(payloads(&open(&disk).unwrap(), 1).await, ["b"]);
    }
}

#[tokio::test]
async fn damage_before_the_last_write_names_file_and_offset() {
    let disk = FaultyDisk::new();
    let stream = open(&disk).unwrap();
    let mut calls = vec![];
    for call in 0..3_u8 {
        calls.push(disk.bytes(&segment(1)).unwrap().len());
        stream.append(vec![usage(0, vec![call; 20]), usage(1, vec![call; 30])]).await.unwrap();
    }
    calls.push(disk.bytes(&segment(1)).unwrap().len());
    disk.cut_power();
    drop(stream);
    disk.restore_power(Survival::All);
    let whole = disk.bytes(&segment(1)).unwrap();
    for at in 0..whole.len() {
        disk.damage(&segment(1), |bytes| bytes[at] ^= 0x10).unwrap();
        let found = look(&disk);
        match found {
            Err(BusError::Damaged { path, offset, .. }) if at < calls[2] => {
                assert_eq!(path, segment(1));
                assert!(offset <= at as u64 && (at < SEGMENT_HEADER || offset >= SEGMENT_HEADER as u64), "byte {at}: named {offset}");
            }
            Err(BusError::Format { path, .. }) if (8..12).contains(&at) => assert_eq!(path, segment(1)),
            // Of a killed owner, damage to the last write cannot be told from a torn one.
            Ok(stream) if at >= calls[2] => assert_eq!(all(&stream, 0).await.len(), 2),
            other => panic!("byte {at}: {other:?}"),
        }
        disk.damage(&segment(1), |bytes| *bytes = whole.clone()).unwrap();
    }
    // After a clean close it can.
    drop(open(&disk).unwrap());
    let marked = disk.bytes(&segment(1)).unwrap();
    for at in calls[2]..calls[3] {
        disk.damage(&segment(1), |bytes| bytes[at] ^= 0x10).unwrap();
        assert!(matches!(open(&disk), Err(BusError::Damaged { offset, .. }) if offset >= calls[2] as u64), "byte {at}");
        disk.damage(&segment(1), |bytes| *bytes = marked.clone()).unwrap();
    }
    // A mark that is itself damaged takes nothing with it, and a stream that is only opened and closed does not grow.
    disk.damage(&segment(1), |bytes| *bytes.last_mut().unwrap() ^= 1).unwrap();
    assert_eq!(all(&open(&disk).unwrap(), 0).await.len(), 3);
    for _ in 0..3 {
        drop(open(&disk).unwrap());
        assert_eq!(disk.bytes(&segment(1)).unwrap(), marked);
    }
}

#[tokio::test]
async fn damage_to_an_earlier_segment_is_never_a_torn_write() {
    let disk = FaultyDisk::new();
    let stream = open(&disk).unwrap();
    for call in 0..9_u8 {
        stream.append(vec![usage(0, vec![call; 6_000])]).await.unwrap();
    }
    drop(stream);
    let whole = disk.bytes(&segment(2)).unwrap();
    let damaged = |change: &dyn Fn(&mut Vec<u8>)| {
        disk.damage(&segment(2), |bytes| change(bytes)).unwrap();
        let found = look(&disk);
        disk.damage(&segment(2), |bytes| *bytes = whole.clone()).unwrap();
        match found {
            Err(BusError::Damaged { path, offset, .. }) => (path, offset),
            other => panic!("{other:?}"),
        }
    };
    let last = (SEGMENT_HEADER + 6_074) as u64;
    assert_eq!(damaged(&|bytes| bytes.truncate(bytes.len() - 1)), (segment(2), last));
    assert_eq!(damaged(&|bytes| *bytes.last_mut().unwrap() ^= 1), (segment(2), last));
    assert_eq!(damaged(&|bytes| bytes.truncate(SEGMENT_HEADER - 1)), (segment(2), 0));
    // A whole frame less is noticed by the header of the next segment, other frames by their place.
    assert_eq!(damaged(&|bytes| bytes.truncate(SEGMENT_HEADER + 6_074)), (segment(3), 0));
    assert_eq!(damaged(&|bytes| *bytes = without_first_frame(&whole, 6_074)), (segment(2), SEGMENT_HEADER as u64));
    disk.remove(&segment(2)).unwrap();
    assert!(matches!(look(&disk), Err(BusError::Damaged { path, .. }) if path == segment(2)));
}

/// The segment without its first frame.
fn without_first_frame(whole: &[u8], frame: usize) -> Vec<u8> {
    [&whole[..SEGMENT_HEADER], &whole[SEGMENT_HEADER + frame..]].concat()
}

#[tokio::test]
async fn a_segment_whose_creation_was_cut_is_made_again() {
    let disk = FaultyDisk::new();
    drop(open(&disk).unwrap());
    let header = disk.bytes(&segment(1)).unwrap();
    for length in 0..SEGMENT_HEADER {
        disk.damage(&segment(1), |bytes| *bytes = header[..length].to_vec()).unwrap();
        assert_eq!(look(&disk).unwrap().ends().await.unwrap().len(), 64);
        drop(open(&disk).unwrap());
        assert_eq!(disk.bytes(&segment(1)).unwrap(), header);
    }
    let stream = open(&disk).unwrap();
    for call in 0..3_u8 {
        stream.append(vec![usage(0, vec![call; 6_000])]).await.unwrap();
    }
    drop(stream);
    let header = disk.bytes(&segment(2)).unwrap();
    for length in 0..SEGMENT_HEADER {
        disk.damage(&segment(2), |bytes| *bytes = header[..length].to_vec()).unwrap();
        assert_eq!(all(&look(&disk).unwrap(), 0).await.len(), 2);
    }
    // When older segments were trimmed, the header is all that knows the ends: it was durable before they went.
    disk.damage(&segment(2), |bytes| *bytes = header.clone()).unwrap();
    let stream = open(&disk).unwrap();
    stream.trim(&[(shard(0), Sequence(3))]).await.unwrap();
    drop(stream);
    assert!(disk.bytes(&segment(1)).is_err());
    disk.damage(&segment(2), |bytes| bytes.truncate(100)).unwrap();
    assert!(matches!(open(&disk), Err(BusError::Damaged { offset: 0, .. })));
}

#[tokio::test]
async fn trimming_removes_whole_segments_in_order() {
    let disk = FaultyDisk::new();
    let stream = open(&disk).unwrap();
    for call in 0..10_u8 {
        stream.append(vec![usage(0, vec![call; 3_000]), usage(1, vec![call; 3_000])]).await.unwrap();
    }
    stream.trim(&[(shard(0), Sequence(10))]).await.unwrap();
    assert!(disk.bytes(&segment(1)).is_ok(), "shard 1 still needs it");
    stream.trim(&[(shard(1), Sequence(5))]).await.unwrap();
    let ends = stream.ends().await.unwrap();
    assert_eq!((ends[0].first, ends[1].first), (Sequence(5), Sequence(5)));
    assert!(disk.bytes(&segment(2)).is_err() && disk.bytes(&segment(3)).is_ok());
    assert_eq!(all(&stream, 1).await.len(), 6);
    stream.trim(&[(shard(1), Sequence(10))]).await.unwrap();
    assert!(disk.bytes(&segment(5)).is_ok(), "the last segment stays");
    disk.cut_power();
    drop(stream);
    disk.restore_power(Survival::Synced);
    let stream = open(&disk).unwrap();
    let ends = stream.ends().await.unwrap();
    assert_eq!((ends[0].first, ends[0].sequence, ends[2].first), (Sequence(9), Sequence(10), Sequence(1)));
    assert!(matches!(stream.read(shard(0), Sequence(3), 1, 1).await, Err(BusError::Trimmed { first: Sequence(9), .. })));
}

#[tokio::test]
async fn a_stream_has_one_owner_and_any_number_of_lookers() {
    let home = tempfile::tempdir().unwrap();
    let real = || Arc::new(RealDisk);
    let stream = Embedded::open(home.path(), real(), small()).unwrap();
    stream.append(vec![usage(0, "a")]).await.unwrap();
    assert!(matches!(Embedded::open(home.path(), real(), small()), Err(BusError::Locked { .. })));
    let looker = Embedded::open_read_only(home.path(), real()).unwrap();
    stream.append(vec![usage(0, "b")]).await.unwrap();
    assert_eq!(payloads(&looker, 0).await, ["a"]);
    assert!(matches!(looker.append(vec![usage(0, "c")]).await, Err(BusError::ReadOnly)));
    assert!(matches!(looker.trim(&[]).await, Err(BusError::ReadOnly)));
    assert!(matches!(looker.reincarnate(shard(0), Incarnation(9)).await, Err(BusError::ReadOnly)));
    drop(stream);
    let stream = Embedded::open(home.path(), real(), small()).unwrap();
    assert_eq!(payloads(&stream, 0).await, ["a", "b"]);
}

#[tokio::test]
async fn too_large_is_refused_before_it_is_written() {
    let disk = FaultyDisk::new();
    let stream = open(&disk).unwrap();
    let record = stream.append(vec![usage(0, "a"), usage(0, vec![0; 8_193])]).await;
    assert!(matches!(record, Err(BusError::RecordTooLarge { bytes: 8_193, max: 8_192 })), "{record:?}");
    let call = stream.append(vec![usage(0, vec![0; 7_000]), usage(0, vec![0; 7_000])]).await;
    assert!(matches!(call, Err(BusError::AppendTooLarge { .. })), "{call:?}");
    assert_eq!(stream.ends().await.unwrap()[0].sequence, Sequence(0));
    stream.append(vec![usage(0, vec![0; 8_192])]).await.unwrap();
}

#[test]
fn options_are_read_with_defaults_and_checked() {
    let options: Options = toml::from_str("segment_bytes = 1048576\nmax_record_bytes = 65536").unwrap();
    assert_eq!(options, Options { segment_bytes: 1 << 20, max_record_bytes: 1 << 16, ..Options::default() });
    assert!(toml::from_str::<Options>("segment_byte = 1").is_err());
    for (option, options) in [
        ("segment_bytes", Options { segment_bytes: 1 << 20, ..Options::default() }),
        ("segment_bytes", Options { segment_bytes: 2 << 30, ..Options::default() }),
        ("max_record_bytes", Options { max_record_bytes: 1 << 40, ..Options::default() }),
        ("max_write_bytes", Options { max_write_bytes: 0, ..Options::default() }),
        ("max_queued_bytes", Options { max_queued_bytes: 0, ..Options::default() }),
    ] {
        let refused = Embedded::open(Path::new(FOLDER), Arc::new(FaultyDisk::new()), options);
        assert!(matches!(&refused, Err(BusError::Option { option: found, .. }) if *found == option), "{refused:?}");
    }
}

#[test]
fn unsynced_writes_names_and_removals_are_not_on_the_real_disk() {
    let home = tempfile::tempdir().unwrap();
    let (disk, path) = (UnsyncedInMemory::new(), home.path().join("file"));
    let file = disk.create(&path).unwrap();
    file.append(b"synced").unwrap();
    file.sync().unwrap();
    file.append(b" and not").unwrap();
    assert!(!path.exists(), "the name is not durable yet");
    assert_eq!(disk.list(home.path()).unwrap(), ["file"]);
    disk.sync_directory(home.path()).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), b"synced");
    let mut bytes = [0; 20];
    assert_eq!(crate::disk::read_full_at(file.as_ref(), &mut bytes, 3).unwrap(), 11);
    assert_eq!(&bytes[..11], b"ced and not");
    file.truncate(3).unwrap();
    file.append(b"!").unwrap();
    assert_eq!((file.length().unwrap(), std::fs::read(&path).unwrap()), (4, b"synced".to_vec()));
    file.sync().unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), b"syn!");
    disk.remove(&path).unwrap();
    assert!(path.exists() && disk.list(home.path()).unwrap().is_empty());
    disk.sync_directory(home.path()).unwrap();
    assert!(!path.exists());
}

#[tokio::test]
async fn a_killed_process_loses_what_its_disk_kept_in_memory_and_nothing_else() {
    let home = tempfile::tempdir().unwrap();
    let stream = Embedded::open(home.path(), Arc::new(UnsyncedInMemory::new()), small()).unwrap();
    for call in 0..20_u8 {
        stream.append(vec![usage(0, vec![call; 3_000])]).await.unwrap();
    }
    // Another process sees the real disk, as after a kill: every answered record is there.
    let left = Embedded::open_read_only(home.path(), Arc::new(RealDisk)).unwrap();
    assert_eq!(all(&left, 0).await, all(&stream, 0).await);
}

/// Appends that, one after the other, make the frozen segment.
async fn write_what_is_frozen(stream: &Embedded) {
    let at = |micros| Instant::from_micros(micros).unwrap();
    let record = |number, kind, micros, payload: &'static str| Append {
        shard: shard(number),
        kind,
        accepted_at: at(micros),
        payload: Bytes::from_static(payload.as_bytes()),
    };
    let first = vec![
        record(63, RecordKind::Usage, 1_795_512_600_000_000, "{\"id\":\"1\"}"),
        record(0, RecordKind::Control, 1_795_512_600_000_001, "tick"),
        record(63, RecordKind::Usage, 1_795_512_600_000_002, ""),
    ];
    stream.append(first).await.unwrap();
    stream.reincarnate(shard(0), Incarnation(4)).await.unwrap();
    stream.append(vec![record(0, RecordKind::Usage, 1_795_512_600_000_003, "again")]).await.unwrap();
}

fn frozen() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/frozen/format-1")
}

#[tokio::test]
async fn the_frozen_segment_still_loads_and_is_still_written() {
    let stream = Embedded::open_read_only(&frozen(), Arc::new(RealDisk)).unwrap();
    assert_eq!(payloads(&stream, 63).await, ["{\"id\":\"1\"}", ""]);
    assert_eq!(payloads(&stream, 0).await, ["again"]);
    let ends = stream.ends().await.unwrap();
    assert_eq!((ends[0].incarnation, ends[0].sequence), (Incarnation(4), Sequence(1)));
    assert_eq!(ends[63].digest.to_string(), FROZEN_DIGEST);
    let disk = FaultyDisk::new();
    let stream = open(&disk).unwrap();
    write_what_is_frozen(&stream).await;
    drop(stream);
    assert_eq!(disk.bytes(&segment(1)).unwrap(), std::fs::read(path_of(&frozen(), 1)).unwrap());
}

/// Computed by hand with Python's hashlib from the text of `record_digest`.
const FROZEN_DIGEST: &str = "f826a86cec44b4b9edce4bbbf965461cc2267822bb153e32d279be353d231d18";

#[tokio::test]
#[ignore = "writes the frozen file of a new format"]
async fn write_the_frozen_segment() {
    std::fs::create_dir_all(frozen()).unwrap();
    let disk = FaultyDisk::new();
    let stream = open(&disk).unwrap();
    write_what_is_frozen(&stream).await;
    drop(stream);
    std::fs::write(path_of(&frozen(), 1), disk.bytes(&segment(1)).unwrap()).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures; run with --no-capture"]
async fn a_million_records() {
    let home = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
    let stream = Embedded::open(home.path(), Arc::new(RealDisk), Options::default()).unwrap();
    let started = std::time::Instant::now();
    for call in 0..1_000_u64 {
        let records = (0..1_000_u64).map(|at| usage(((call * 31 + at * 7) % 64) as u8, vec![at as u8; 250])).collect();
        stream.append(records).await.unwrap();
    }
    println!("append, 1000 records a call: {:?}", started.elapsed());
    let started = std::time::Instant::now();
    let mut count = 0;
    for number in 0..64 {
        let mut after = Sequence(0);
        loop {
            let records = stream.read(shard(number), after, 10_000, 8 << 20).await.unwrap();
            let Some(last) = records.last() else { break };
            after = last.position.sequence;
            count += records.len();
        }
    }
    println!("read {count}: {:?}", started.elapsed());
    drop(stream);
    let started = std::time::Instant::now();
    let stream = Arc::new(Embedded::open(home.path(), Arc::new(RealDisk), Options::default()).unwrap());
    println!("open: {:?}", started.elapsed());
    let started = std::time::Instant::now();
    let mut callers = JoinSet::new();
    for caller in 0..256_u64 {
        let stream = Arc::clone(&stream);
        callers.spawn(async move {
            for call in 0..400 {
                stream.append(vec![usage(((caller + call) % 64) as u8, vec![0; 250])]).await.unwrap();
            }
        });
    }
    callers.join_all().await;
    println!("append, 1 record a call, 256 callers, 102400 records: {:?}", started.elapsed());
    let started = std::time::Instant::now();
    let mut count = 0;
    for number in 0..64 {
        count += stream.read(shard(number), Sequence(15_625), usize::MAX, usize::MAX).await.unwrap().len();
    }
    println!("read {count} scattered: {:?}", started.elapsed());
}
