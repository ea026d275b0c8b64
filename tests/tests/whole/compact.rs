//! Compaction by the real process: SQL and stock DuckDB answer the same before, during and after it, whenever it is killed, and bugs that
//! were planted in it are found. The answers are those that the client's own events make.

use std::collections::BTreeSet;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use datasets::Random;

use crate::tally::{Tally, err, out, python, request, root};

/// Batches of a home: each event is committed before the next is sent.
const BATCHES: u64 = 45;

/// What every answer must be: from SQL, and from DuckDB where it is there.
#[derive(Debug, PartialEq, Eq)]
struct Answers {
    sums: Vec<String>,
    organizations: Vec<String>,
    duckdb: Option<String>,
}

/// Counts and sums of the lake's charges and events in one transaction of stock DuckDB.
const DUCKDB: &str = r#"
import os, sys, tempfile, duckdb
from duckdb_extensions import import_extension
connection = duckdb.connect(config={"extension_directory": tempfile.mkdtemp()})
for extension in ("sqlite_scanner", "ducklake"):
    import_extension(extension, con=connection)
connection.execute(os.environ["TALLY_ATTACH"])
connection.execute("BEGIN")
charges = connection.execute("SELECT count(*), sum(quantity), sum(amount), count(DISTINCT identity) FROM tally.charges").fetchone()
events = connection.execute("SELECT count(*), count(DISTINCT (shard, incarnation, sequence)) FROM tally.events WHERE outcome = 'accepted'").fetchone()
totals = connection.execute("SELECT sum(amount), sum(readings)::BIGINT FROM tally.totals").fetchone()
print(*charges, *events, *totals)
"#;

fn duckdb(tally: &Tally, python: &Path) -> String {
    let attach = tally.done(&["lake", "attach"]);
    let output = Command::new(python).args(["-c", DUCKDB]).env("TALLY_ATTACH", attach).output().unwrap();
    assert!(output.status.success(), "{}", err(&output));
    out(&output).trim().to_owned()
}

fn answers(tally: &Tally) -> Answers {
    let text = |sql: &str| tally.sql(sql).into_iter().map(|row| row.to_string()).collect();
    let sums = "SELECT count(*) AS readings, sum(quantity) AS quantity, sum(amount) AS amount, count(DISTINCT identity) AS events FROM usage.charges";
    let by =
        "SELECT organization, meter, sum(amount) AS amount FROM usage.charges GROUP BY organization, meter ORDER BY organization, meter";
    Answers { sums: text(sums), organizations: text(by), duckdb: python().map(|python| duckdb(tally, &python)) }
}

fn event(number: u64) -> String {
    request(&format!("e{number}"), &format!("org-{}", number % 5), "2026-10-05T10:00:00Z", 100 + number, 1 + number % 90)
}

/// A home of many small batches.
fn small(tally: Tally) -> Tally {
    tally.done(&["init"]);
    tally.done(&["registry", "publish", root().join("tests/registry").to_str().unwrap()]);
    {
        let tally = &tally;
        let server = tally.serve();
        let client = server.client();
        for number in 0..BATCHES {
            let answer = client.events(&[event(number)]).unwrap();
            assert_eq!(answer.status, 202, "{}", answer.text);
            // However slow the machine: the next one finds this one committed, so each event is a batch of its own.
            loop {
                let progress = client.ask("GET", "/v1/progress", "", b"").unwrap().text;
                let progress: serde_json::Value = serde_json::from_str(&progress).unwrap();
                if progress["waiting"] == 0 {
                    break;
                }
                std::thread::sleep(Duration::from_millis(2));
            }
        }
        server.stop();
    }
    tally
}

fn quick() -> Tally {
    // No server of a test compacts by itself unless it says so.
    Tally::empty().with("TALLY_BATCH_INTERVAL_MS", "0").with("TALLY_COMPACT_INTERVAL_S", "86400")
}

fn unmerged(tally: &Tally) -> u64 {
    tally.value("SELECT coalesce(sum(files), 0) FROM sys.files WHERE table_name = 'events' AND level = 'batch'").parse().unwrap()
}

/// Every file below the lake's folder.
fn lake_names(tally: &Tally) -> BTreeSet<PathBuf> {
    let root = tally.home().join("lake");
    let (mut folders, mut names) = (vec![root.clone()], BTreeSet::new());
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else {
                names.insert(path.strip_prefix(&root).unwrap().to_owned());
            }
        }
    }
    names
}

#[test]
fn sql_and_duckdb_answer_the_same_before_and_after_compaction_and_every_fold_is_rebuilt_from_merged_files() {
    let tally = small(quick());
    let before = answers(&tally);
    assert!(unmerged(&tally) > 30, "{} files", unmerged(&tally));
    let said = tally.done(&["compact"]);
    assert!(said.starts_with("1 merges: each table has 1 files"), "{said}");
    assert_eq!(tally.value("SELECT count(*) FROM audit.events WHERE action = 'home.lake.compact' AND principal = 'local'"), "1");
    assert_eq!(unmerged(&tally), 0);
    assert_eq!(answers(&tally), before);
    tally.check().unwrap();
    // Comparing writes nothing beside the lake's files: what is missing there stays missing.
    let published = lake_names(&tally);
    let record = published.iter().find(|path| path.starts_with("merges")).unwrap();
    let record = tally.home().join("lake").join(record);
    let text = std::fs::read(&record).unwrap();
    std::fs::remove_file(&record).unwrap();
    for fold in ["ledger", "lake", "usage", "evidence"] {
        tally.done(&["rebuild", fold, "--compare"]);
    }
    assert!(!record.exists());
    std::fs::write(&record, text).unwrap();
    assert_eq!(lake_names(&tally), published);
    // A catalog that is lost is made from the merged files, not from those that they replaced.
    for ending in ["", "-wal", "-shm"] {
        let _ = std::fs::remove_file(tally.home().join(format!("db/lake.db{ending}")));
    }
    tally.done(&["drain"]);
    tally.check().unwrap();
    assert_eq!(answers(&tally), before);
    tally.done(&["rebuild", "lake"]);
    tally.done(&["rebuild", "lake", "--compare"]);
    // What was merged is merged again with what comes later, and replaced files go when nothing may read them any more.
    let tally = tally.with("TALLY_COMPACT_KEEP_S", "0");
    let server = tally.serve();
    for number in BATCHES..BATCHES + 5 {
        assert_eq!(server.client().events(&[event(number)]).unwrap().status, 202);
    }
    server.stop();
    let before = answers(&tally);
    tally.done(&["compact"]);
    tally.done(&["compact"]);
    assert_eq!(answers(&tally), before);
    let files: usize = std::fs::read_dir(tally.home().join("lake/events"))
        .unwrap()
        .map(|epoch| std::fs::read_dir(epoch.unwrap().path()).unwrap().count())
        .sum();
    assert_eq!(files, 1, "replaced files are removed");
    tally.check().unwrap();
}

#[test]
fn a_server_compacts_while_it_takes_events_and_every_answer_is_whole() {
    let tally = small(quick()).with("TALLY_COMPACT_INTERVAL_S", "1");
    let server = tally.serve();
    let client = server.client();
    let writer = std::thread::spawn(move || {
        for number in BATCHES..BATCHES + 600 {
            assert_eq!(client.events(&[event(number)]).unwrap().status, 202);
            std::thread::sleep(Duration::from_millis(10));
        }
    });
    let (mut last, mut asked) = (0, 0);
    let python = python();
    while !writer.is_finished() {
        let row = tally.sql("SELECT count(*) AS readings, count(DISTINCT identity) AS events FROM usage.charges").remove(0);
        let number = |name: &str| row[name].as_str().map_or_else(|| row[name].as_u64(), |text| text.parse().ok()).unwrap();
        assert_eq!(number("readings"), 3 * number("events"), "each event has three readings");
        assert!(number("events") >= last, "{} events after {last}", number("events"));
        last = number("events");
        if let Some(python) = &python {
            let found = duckdb(&tally, python);
            let [readings, _, amount, identities, events, positions, total, counted] = found.split(' ').collect::<Vec<_>>()[..] else {
                panic!("{found}")
            };
            assert_eq!((identities, positions, total, counted), (events, events, amount, readings), "{found}");
        }
        // Neither a check nor a comparison takes what is merged meanwhile for damage.
        if asked % 2 == 0 {
            tally.check().unwrap();
        } else {
            tally.done(&["rebuild", "lake", "--compare"]);
        }
        asked += 1;
    }
    writer.join().unwrap();
    tally.done(&["drain"]);
    let merged: u64 = tally.value("SELECT count(*) FROM sys.files WHERE level = 'part' AND table_name = 'events'").parse().unwrap();
    println!("{asked} answers while the server compacted");
    assert!(asked > 2 && merged > 0 && unmerged(&tally) < 50, "{asked} answers, {} files", unmerged(&tally));
    let refused = tally.run(&["compact"]);
    assert!(refused.status.code() == Some(1) && err(&refused).contains("compacts it every 1 seconds"), "{}", err(&refused));
    server.stop();
    tally.check().unwrap();
}

/// Kills `tally compact` until it ends by itself: by turns as soon as it has written something, and after a random time; after each kill
/// everything answers as before. How many kills came after something was written, and how many before.
fn killed(tally: &Tally, random: &mut Random) -> Result<(u32, u32), String> {
    let before = answers(tally);
    let (mut amid, mut early) = (0, 0);
    for attempt in 0..200 {
        let found = lake_names(tally);
        let mut child = tally.spawn(&["compact"]);
        let patience = if attempt % 2 == 0 {
            while lake_names(tally) == found && child.try_wait().map_err(|error| error.to_string())?.is_none() {
                std::thread::sleep(Duration::from_millis(1));
            }
            random.below(15)
        } else {
            5 + random.below(150 + 5 * attempt)
        };
        std::thread::sleep(Duration::from_millis(patience));
        let _ = child.kill();
        let status = child.wait().map_err(|error| error.to_string())?;
        match (status.signal(), status.code()) {
            (Some(_), _) if lake_names(tally) == found => early += 1,
            (Some(_), _) => amid += 1,
            (None, Some(0)) => break,
            (None, code) => return Err(format!("compact ended with {code:?}: {}", err(&tally.run(&["compact"])))),
        }
        tally.check()?;
        let after = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| answers(tally))).map_err(|_| "no answer after the kill")?;
        if after != before {
            return Err(format!("{after:?} after {amid} and {early} kills, {before:?} before"));
        }
    }
    tally.check()?;
    if answers(tally) != before {
        return Err("another answer at the end".to_owned());
    }
    Ok((amid, early))
}

#[test]
fn a_kill_at_any_time_leaves_the_old_files_or_the_new_ones() {
    let seed = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let mut random = Random::new(seed);
    let template = small(quick()).with("TALLY_COMPACT_KEEP_S", "0");
    let (mut amid, mut early) = (0, 0);
    // A run is short: whoever comes too late tries again with another copy.
    for _ in 0..20 {
        let tally = template.copy();
        let kills = killed(&tally, &mut random).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        assert_eq!(unmerged(&tally), 0);
        (amid, early) = (amid + kills.0, early + kills.1);
        if amid > 0 {
            break;
        }
    }
    println!("{amid} kills after something was written, {early} before");
    assert!(amid > 0, "no run was killed at work");
}

fn planted() -> Option<PathBuf> {
    let binary = std::env::var_os("TALLY_PLANTED_BIN").map(PathBuf::from);
    if binary.is_none() {
        assert!(std::env::var_os("TALLY_REQUIRE_TOOLS").is_none(), "TALLY_PLANTED_BIN is not set");
        eprintln!("SKIPPED: TALLY_PLANTED_BIN is not set; run `cargo xtask test whole`");
    }
    binary
}

/// Dies at a named moment; what is left must check and answer as before, and the next run finishes the work.
fn dies(template: &Tally, binary: &Path, moment: &str) -> Result<(), String> {
    let before = answers(template);
    let tally = template.copy().binary(binary.to_owned()).with("TALLY_COMPACT_KEEP_S", "0").with("TALLY_PLANT", moment);
    // What is removed was merged by a run before; the plant acts where there is something to do.
    for _ in 0..3 {
        let ended = tally.run(&["compact"]);
        if ended.status.signal().is_some() {
            let tally = tally.with("TALLY_PLANT", "");
            tally.check().map_err(|found| format!("{moment}: {found}"))?;
            let after = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| answers(&tally)));
            if after.map_err(|_| format!("{moment}: no answer"))? != before {
                return Err(format!("{moment}: another answer"));
            }
            tally.done(&["compact"]);
            tally.check().map_err(|found| format!("{moment}, after the next run: {found}"))?;
            return if answers(&tally) == before && unmerged(&tally) == 0 { Ok(()) } else { Err(format!("{moment}: not finished")) };
        }
        if !ended.status.success() {
            return Err(format!("{moment}: {}", err(&ended)));
        }
    }
    Err(format!("{moment}: the process never died"))
}

#[test]
fn a_death_between_writing_recording_publishing_and_removing_loses_nothing() {
    let Some(binary) = planted() else { return };
    let template = small(quick());
    for moment in ["die-after-write", "die-after-record", "die-after-catalog", "die-after-expire", "die-while-removing"] {
        dies(&template, &binary, moment).unwrap();
    }
}

#[test]
fn the_test_finds_files_that_are_deleted_before_the_merge_is_published() {
    let Some(binary) = planted() else { return };
    let template = small(quick());
    let found = dies(&template, &binary, "delete-before-publish");
    println!("{found:?}");
    assert!(found.is_err(), "the planted bug was not found");
}

#[test]
fn a_merged_file_that_does_not_reproduce_its_batches_is_never_published() {
    let Some(binary) = planted() else { return };
    let template = small(quick());
    let before = answers(&template);
    let tally = template.copy().binary(binary).with("TALLY_PLANT", "merge-loses-a-row");
    let ended = tally.run(&["compact"]);
    let said = err(&ended);
    assert!(ended.status.code() == Some(4) && said.contains("does not reproduce batch") && said.contains("not published"), "{said}");
    tally.check().unwrap();
    assert_eq!(answers(&tally), before);
    assert!(unmerged(&tally) > 30);
}
