//! A trickle through the real code at many times its speed: one event a second, each a batch of its own, with a clock that is set by hand.
//! What it counts are files that were really written; CI runs an hour, `cargo xtask campaign trickle` a day.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant as Stopwatch;

use arrow::array::RecordBatch;
use platform_ingest::wire::{RawEvent, WireLimits};
use shared_bus::Stream;
use shared_db::Database;
use shared_lake::ducklake;
use shared_types::{BatchNo, Instant};
use tokio::sync::{RwLock, watch};

use super::{Compaction, Compactor, sweep};
use crate::check;
use crate::clock;
use crate::home::{Home, Lock, Store};
use crate::lake::{CHARGES, EVENTS, Lake, TABLES};
use crate::read_models::Readers;
use crate::registries::Registries;
use crate::roles::billing::Billing;
use crate::roles::folds::{EvidenceFold, Fold, LakeFold, LedgerFold, UsageFold, page};
use crate::roles::intake::{Intake, Lag};
use crate::roles::open_stream;

/// 2026-10-01T00:00:00Z.
const START: i64 = 1_790_812_800_000_000;

fn at(second: u64) -> Instant {
    Instant::from_micros(START + i64::try_from(second).unwrap() * 1_000_000).unwrap()
}

/// The roles of a home, moved by hand.
struct Works {
    home: Home,
    log: Database,
    catalog: Database,
    lake: Lake,
    stream: Arc<dyn Stream>,
    intake: Intake,
    billing: Billing,
    folds: Vec<Box<dyn Fold>>,
    compactor: Compactor,
    stop: watch::Receiver<bool>,
    _kept: (watch::Sender<bool>, watch::Sender<bool>, Lock),
}

impl Works {
    /// A fresh home with the tests' registry in force, or the one that is there. Also how long the start took.
    async fn open(folder: &Path) -> (Self, std::time::Duration) {
        clock::simulate(at(0));
        let home = match Home::open(folder) {
            Ok(home) => home,
            Err(_) => {
                let home = Home::create(folder).unwrap();
                let books = home.database(Store::Books).await.unwrap();
                for store in [Store::Log, Store::Lake, Store::Usage, Store::Evidence] {
                    home.database(store).await.unwrap().close().await;
                }
                let registry = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/registry");
                let version = crate::commands::registry::read_version(&registry).unwrap();
                let mut tx = books.begin().await.unwrap();
                platform_registry::store::publish(&mut tx, &version, false, at(0)).await.unwrap();
                tx.commit().await.unwrap();
                books.close().await;
                home
            }
        };
        let lock = home.lock(None).unwrap();
        let started = Stopwatch::now();
        let secrets = home.secrets().unwrap();
        let stream = open_stream(&home).unwrap();
        let (log, books) = (home.database(Store::Log).await.unwrap(), home.database(Store::Books).await.unwrap());
        let lake = Lake::open(&home, &log).await.unwrap();
        let (gate, lag) = (Arc::new(RwLock::new(())), Lag::default());
        let registries = Arc::new(Registries::new(books.clone(), &secrets));
        let billing =
            Billing::open(&home, Arc::clone(&stream), log.clone(), books.clone(), registries, Arc::clone(&gate), lag.clone(), lake.clone())
                .await
                .unwrap();
        let catalog = home.database(Store::Lake).await.unwrap();
        let fold = LakeFold::open(log.clone(), catalog.clone(), lake.clone()).await.unwrap();
        sweep(&log, &catalog, &lake, billing.epoch()).await.unwrap();
        let took = started.elapsed();
        let settings = &home.settings.compact;
        let compactor = Compactor::new(log.clone(), catalog.clone(), fold.clone(), lake.clone(), billing.epoch(), settings);
        let usage = home.database(Store::Usage).await.unwrap();
        let evidence = home.database(Store::Evidence).await.unwrap();
        let evidence =
            EvidenceFold::open(&home, &secrets, log.clone(), books.clone(), evidence, lake.clone(), home.path("tiles")).await.unwrap();
        let folds: Vec<Box<dyn Fold>> = vec![
            Box::new(LedgerFold::new(log.clone(), books, lake.clone())),
            Box::new(fold),
            Box::new(UsageFold::new(log.clone(), usage, lake.clone())),
            Box::new(evidence),
        ];
        let (published, registry) = watch::channel(true);
        let (stopped, stop) = watch::channel(false);
        let intake = Intake::new(Arc::clone(&stream), gate, registry, lag, u64::MAX, WireLimits::default());
        let kept = (published, stopped, lock);
        (Self { home, log, catalog, lake, stream, intake, billing, folds, compactor, stop, _kept: kept }, took)
    }

    /// One event in a batch of its own.
    async fn event(&mut self, second: u64) {
        clock::simulate(at(second));
        let event = serde_json::json!({
            "specversion": "1.0", "id": format!("e{second}"), "source": "gateway", "type": "llm.request", "time": at(second).to_string(),
            "organization": format!("org-{}", second % 7), "data": {"input_tokens": 1 + second % 5_000, "output_tokens": 1 + second % 300},
        });
        let permit = crate::access::local(platform_iam::Action::EventsSend).unwrap();
        self.intake.append(&permit, vec![RawEvent::new(event.to_string().into_bytes())]).await.unwrap();
        while self.billing.step().await.unwrap() > 0 {}
    }

    async fn fold(&mut self) -> BatchNo {
        let end = *self.billing.commits().borrow();
        for fold in &mut self.folds {
            while fold.cursor().await.unwrap() < end {
                fold.cut(end).await.unwrap();
            }
        }
        end
    }

    async fn compact(&mut self, second: u64, whole: bool) -> Compaction {
        let through = self.fold().await;
        clock::simulate(at(second));
        self.compactor.pass(through, at(second), whole, &self.stop).await.unwrap()
    }

    /// Files of each table: what the catalog shows, and what lies on the disk.
    async fn files(&self) -> BTreeMap<&'static str, (usize, usize)> {
        let mut tx = self.catalog.read().await.unwrap();
        let mut counts = BTreeMap::new();
        for table in TABLES {
            let shown = ducklake::files(&mut tx, table, None).await.unwrap().len();
            let mut there = 0;
            for epoch in std::fs::read_dir(self.lake.root().join(table)).unwrap() {
                there += std::fs::read_dir(epoch.unwrap().path()).unwrap().count();
            }
            counts.insert(table, (shown, there));
        }
        counts
    }

    async fn close(self) {
        self.log.close().await;
        self.catalog.close().await;
        drop(self.stream);
    }

    async fn violations(&self) -> Vec<String> {
        let report = check::everything(&Readers::open(&self.home).await.unwrap()).await.unwrap();
        report.violations.iter().map(|found| format!("{} {} {}", found.check, found.subject, found.detail)).collect()
    }

    async fn adds_up(&self) {
        assert_eq!(self.violations().await, Vec::<String>::new());
    }
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().map_or(default, |text| text.parse().unwrap())
}

/// Where the home of a long run lies; a memory disk makes it quick.
fn folder() -> tempfile::TempDir {
    match std::env::var_os("TALLY_TRICKLE_FOLDER") {
        Some(folder) => tempfile::tempdir_in(folder).unwrap(),
        None => tempfile::tempdir().unwrap(),
    }
}

/// The bound of a day is sixty files; a shorter trickle has fewer hours behind it.
#[tokio::test(flavor = "multi_thread")]
async fn a_trickle_of_an_event_a_second_leaves_few_files() {
    let seconds = number("TALLY_TRICKLE_SECONDS", 1_800);
    let bound = 37 + usize::try_from(seconds / 3_600).unwrap().min(23);
    let folder = folder();
    let (mut works, _) = Works::open(&folder.path().join("home")).await;
    let (mut most, started) = (0, Stopwatch::now());
    for second in 0..seconds {
        works.event(second).await;
        if second % 10 == 9 {
            works.compact(second, false).await;
            let shown = works.files().await.into_values().map(|(shown, _)| shown).max().unwrap();
            assert!(shown <= bound, "{shown} files of a table after {second} seconds");
            most = most.max(shown);
        }
        if second % 3_600 == 3_599 {
            println!("{} h: {:?}, {} s", (second + 1) / 3_600, works.files().await, started.elapsed().as_secs());
        }
    }
    let done = works.compact(seconds, false).await;
    let ended = works.files().await;
    println!(
        "{seconds} seconds of one event: at most {most} files of a table at any time; at the end {ended:?} (shown, on disk); {done:?}"
    );
    assert!(ended.values().all(|(shown, _)| *shown <= bound), "{ended:?}");
    assert!(*works.billing.commits().borrow() >= BatchNo(seconds), "each event is a batch of its own");
    works.adds_up().await;
    // When everything has expired, only what is shown lies on the disk: the hours of the day are one file of each table.
    for later in [1, 2, 3] {
        works.compact(seconds + later * 86_400, false).await;
    }
    let settled = works.files().await;
    println!("three days later: {settled:?}");
    // Beside them at most the file without rows that batches of this reign share, which the next start removes.
    assert!(settled.values().all(|(shown, there)| *shown <= 2 && *there <= shown + 1), "{settled:?}");
    works.adds_up().await;
    // The headers of an hour are one object, and one that is not as it was is named.
    let headers = works.lake.root().join("headers");
    let names = shared_lake::objects(&shared_lake::RealFiles, &headers).unwrap();
    assert!(names.iter().all(|name| name.ends_with(".jsonl")), "{} objects", names.len());
    let bundle = headers.join(&names[0]);
    let text = std::fs::read_to_string(&bundle).unwrap();
    std::fs::write(&bundle, text.replacen("\"format\":1", "\"format\":1 ", 1)).unwrap();
    let found = works.violations().await;
    assert!(found.len() == 1 && found[0].starts_with("lake-header") && found[0].contains(&names[0]), "{found:?}");
    std::fs::write(&bundle, text).unwrap();
    works.close().await;
}

/// Rating, index and folds start from merged files as from those of each batch. The times are for the record, not a condition.
#[tokio::test(flavor = "multi_thread")]
async fn a_start_over_merged_files_comes_to_the_same_state() {
    let batches = number("TALLY_TRICKLE_BATCHES", 150);
    let folder = folder();
    let home = folder.path().join("home");
    let (mut works, _) = Works::open(&home).await;
    for second in 0..batches {
        works.event(second).await;
    }
    works.fold().await;
    let state = |works: &Works| works.billing.rating_digest();
    let kept = state(&works);
    works.close().await;
    let (mut works, before) = Works::open(&home).await;
    assert_eq!(state(&works), kept);
    let files = works.files().await;
    works.compact(batches, true).await;
    let merged = works.files().await;
    works.close().await;
    let (mut works, after) = Works::open(&home).await;
    assert_eq!(state(&works), kept);
    println!("start with {batches} batches: {before:?} over {files:?} files, {after:?} over {merged:?}");
    // And it goes on from there.
    works.event(batches + 1).await;
    works.compact(batches + 1, true).await;
    works.adds_up().await;
    works.close().await;
}

/// A file that does not read holds up the merge of its own hour: not those of other hours, nor what is to be removed.
#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_file_holds_up_its_own_merge_alone() {
    let folder = folder();
    let (mut works, _) = Works::open(&folder.path().join("home")).await;
    for second in [0, 1, 2, 3_600, 3_601, 7_200] {
        works.event(second).await;
    }
    let through = works.fold().await;
    let headers = page(&works.log, BatchNo(0), through, 100).await.unwrap();
    let damaged = headers[0].0.table(EVENTS).unwrap().path.clone();
    let file = works.lake.root().join(&damaged);
    let bytes = std::fs::read(&file).unwrap();
    std::fs::write(&file, &bytes[..bytes.len() / 2]).unwrap();
    let mut told = Vec::new();
    for later in [4 * 3_600, 86_400 + 4 * 3_600, 2 * 86_400 + 4 * 3_600] {
        clock::simulate(at(later));
        let failed = works.compactor.pass(through, at(later), false, &works.stop).await.unwrap_err();
        assert!(format!("{failed:#}").contains(&damaged), "{failed:#}");
        told.push(*works.compactor.done().borrow());
    }
    assert!(told.iter().all(|done| done.backlog >= 3), "the hour waits: {told:?}");
    assert_eq!(told.iter().map(|done| done.merges).collect::<Vec<_>>(), [1, 2, 2], "the second hour, then it and the third as a day");
    assert!(told[1].expired > 0 && told[2].removed > 0, "{told:?}");
    std::fs::write(&file, bytes).unwrap();
    let done = works.compact(3 * 86_400, false).await;
    assert_eq!((done.backlog, done.files), (0, 1));
    works.adds_up().await;
    works.close().await;
}

/// Files are merged only as far as their rows fit into memory, whatever they take on the disk; what fits with no neighbour stays alone.
#[tokio::test(flavor = "multi_thread")]
async fn rows_that_take_too_much_memory_do_not_become_one_file() {
    let folder = folder();
    let (mut works, _) = Works::open(&folder.path().join("home")).await;
    for second in 0..30 {
        works.event(second).await;
    }
    let through = works.fold().await;
    works.compactor.rows_bytes_max = 1;
    let done = works.compact(30, true).await;
    assert_eq!((done.merges, done.files), (0, through.0), "no two fit, and that is no failure");
    let mut bytes = 0;
    for (header, _) in page(&works.log, BatchNo(0), through, 100).await.unwrap() {
        let path = works.lake.root().join(&header.table(EVENTS).unwrap().path);
        bytes += shared_lake::read_file(&path, None).unwrap().iter().map(RecordBatch::get_array_memory_size).sum::<usize>();
    }
    works.compactor.large.clear();
    works.compactor.rows_bytes_max = bytes / 2;
    let done = works.compact(31, true).await;
    assert!(done.merges > 1 && done.files < through.0, "not all at once: {done:?}");
    works.adds_up().await;
    works.close().await;
}

/// Batches of one reign share the file without rows of a table: one that is being written may name what a merge has done with.
#[tokio::test(flavor = "multi_thread")]
async fn the_file_without_rows_that_a_reign_shares_is_removed_by_the_next() {
    let folder = folder();
    let home = folder.path().join("home");
    let (mut works, _) = Works::open(&home).await;
    // The registry's records are a batch without charges.
    while works.billing.step().await.unwrap() > 0 {}
    for second in 1..4 {
        works.event(second).await;
    }
    let first = page(&works.log, BatchNo(0), BatchNo(1), 1).await.unwrap().remove(0).0;
    let charges = first.table(CHARGES).unwrap();
    assert_eq!(charges.rows, 0);
    let shared = works.lake.root().join(&charges.path);
    assert_eq!(works.compact(4, true).await.files, 1);
    assert!(shared.exists());
    works.close().await;
    let (works, _) = Works::open(&home).await;
    assert!(!shared.exists());
    works.adds_up().await;
    works.close().await;
}
