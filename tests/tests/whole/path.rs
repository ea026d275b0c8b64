//! The path from outside: usage in, counted once, rated, booked, catalogued, asked.

use std::process::Command;

use crate::tally::{Tally, err, out, python, request, root};

const DAY: &str = "2026-10-05T10:00:00Z";

fn posted(tally: &Tally, events: &[String]) {
    let server = tally.serve();
    let answer = server.client().events(events).unwrap();
    assert_eq!(answer.status, 202, "{}", answer.text);
    server.stop();
}

fn some(count: u64) -> Vec<String> {
    (0..count).map(|at| request(&format!("r{at}"), &format!("org-{}", at % 7), DAY, 100 + at, 10 + at)).collect()
}

/// Everything that must stay the same when nothing new was sent.
fn fingerprint(tally: &Tally) -> String {
    format!(
        "{:?}",
        tally.sql(
            "SELECT organization, contract_line, currency, count(*) AS readings, sum(quantity) AS quantity, sum(amount) AS amount \
             FROM usage.charges GROUP BY organization, contract_line, currency ORDER BY organization, contract_line"
        )
    )
}

#[test]
fn events_sent_again_change_nothing_whatever_happened_in_between() {
    let tally = Tally::new();
    posted(&tally, &some(500));
    let first = fingerprint(&tally);
    posted(&tally, &some(500));
    assert_eq!(fingerprint(&tally), first, "sent again after a restart");
    let mut reversed = some(500);
    reversed.reverse();
    std::fs::remove_dir_all(tally.home().join("index")).unwrap();
    posted(&tally, &reversed);
    assert_eq!(fingerprint(&tally), first, "sent again in another order after the index was deleted");
    assert_eq!(tally.value("SELECT count(*) FROM usage.events WHERE outcome = 'duplicate'"), "1000");
    // One digit changed in one event: visible, never counted.
    let mut changed = some(500);
    changed[250] = changed[250].replace("\"input_tokens\":350", "\"input_tokens\":351");
    posted(&tally, &changed[250..251]);
    assert_eq!(fingerprint(&tally), first, "a conflict counts nothing");
    assert_eq!(tally.value("SELECT count(*) FROM usage.events WHERE outcome = 'conflict'"), "1");
    tally.check().unwrap();
}

#[test]
fn every_fold_can_be_rebuilt_and_is_equal() {
    let tally = Tally::new();
    posted(&tally, &some(300));
    posted(&tally, &some(400));
    for fold in ["ledger", "lake", "usage", "evidence"] {
        let output = tally.run(&["rebuild", fold, "--compare"]);
        assert!(output.status.success(), "{fold}: {}{}", out(&output), err(&output));
        assert!(out(&output).contains("equal"), "{}", out(&output));
    }
    for fold in ["lake", "usage"] {
        tally.done(&["rebuild", fold]);
    }
    let refused = tally.run(&["rebuild", "ledger"]);
    assert_eq!(refused.status.code(), Some(1), "{}", err(&refused));
    tally.check().unwrap();
    posted(&tally, &some(450));
    tally.check().unwrap();
}

#[test]
fn the_books_balance_and_conservation_is_empty() {
    let tally = Tally::new();
    posted(&tally, &some(200));
    assert_eq!(tally.sql("SELECT * FROM sys.conservation").len(), 0);
    let charged = tally.value("SELECT sum(amount) FROM usage.charges");
    assert_eq!(tally.value("SELECT sum(amount) FROM ledger.postings"), charged);
    assert_eq!(tally.value("SELECT sum(amount) FROM usage.hours"), charged);
    assert_eq!(tally.value("SELECT sum(balance) FROM ledger.balances"), "0.000000000");
    assert_eq!(tally.value("SELECT count(*) FROM evidence.checkpoints WHERE organizations = 7").parse::<i64>().map(|n| n > 0), Ok(true));
    assert_eq!(tally.value("SELECT count(*) FROM registry.versions"), "1");
}

#[test]
fn a_price_change_applies_from_its_instant_and_a_version_that_reaches_back_is_refused() {
    let tally = Tally::new();
    let folder = tally.scratch().join("registry");
    std::fs::create_dir(&folder).unwrap();
    let books = std::fs::read_to_string(root().join("tests/registry/books.toml")).unwrap();
    let changed_at = |at: &str| {
        let change = format!(
            "[[price_book.price]]\nsku = \"request\"\neffective_at = \"{at}\"\nmodel = \"per_unit\"\nper = \"1\"\nunit_price = \"0.0002\"\n\n[[contract]]"
        );
        std::fs::write(folder.join("books.toml"), books.replacen("[[contract]]", &change, 1)).unwrap();
        tally.run(&["registry", "publish", folder.to_str().unwrap()])
    };
    posted(&tally, &[request("a", "org", "2026-10-05T10:00:00Z", 1, 1)]);
    let refused = changed_at("2026-10-05T10:00:00Z");
    assert_eq!(refused.status.code(), Some(1));
    let text = err(&refused);
    assert!(text.contains("2026-10-05T10:00:00Z") && text.contains("request"), "names the change and the rated usage: {text}");
    assert_eq!(tally.value("SELECT count(*) FROM registry.versions"), "1");
    let taken = changed_at("2026-10-06T00:00:00Z");
    assert!(taken.status.success(), "{}", err(&taken));
    posted(
        &tally,
        &[
            request("b", "org", "2026-10-05T23:59:59.999999Z", 1, 1),
            request("c", "org", "2026-10-06T00:00:00Z", 1, 1),
            request("d", "org", "2026-10-01T00:00:00Z", 1, 1),
        ],
    );
    assert_eq!(tally.value("SELECT sum(amount) FROM usage.charges WHERE sku_id = 'request'"), "0.000500000");
    tally.check().unwrap();
}

#[test]
fn stock_duckdb_reads_the_lake_while_the_server_writes() {
    let Some(python) = python() else { return };
    let tally = Tally::new();
    let server = tally.serve();
    server.client().events(&some(300)).unwrap();
    tally.done(&["drain"]);
    let script = root().join("tests/foreign/lake_sums.py");
    let attach = tally.done(&["lake", "attach"]);
    let more: Vec<String> = (0..300).map(|at| request(&format!("m{at}"), "org-0", DAY, 1, 1)).collect();
    let client = server.client();
    let writer = std::thread::spawn(move || more.chunks(10).for_each(|chunk| assert_eq!(client.events(chunk).unwrap().status, 202)));
    let read = || {
        let output = Command::new(&python).arg(&script).env("TALLY_ATTACH", &attach).output().unwrap();
        assert!(output.status.success(), "{}{}", out(&output), err(&output));
        out(&output).trim().to_owned()
    };
    read();
    writer.join().unwrap();
    tally.done(&["drain"]);
    let ours = tally.sql("SELECT count(*) AS n, sum(quantity) AS quantity, sum(amount) AS amount FROM usage.charges");
    let ours = format!("{} {} {}", ours[0]["n"], ours[0]["quantity"].as_str().unwrap(), ours[0]["amount"].as_str().unwrap());
    assert_eq!(read(), ours, "while the server runs");
    server.stop();
    assert_eq!(read(), ours, "after the server ended");
}

#[test]
fn the_demo_runs_and_everything_adds_up() {
    let tally = Tally::empty();
    let text = tally.done(&["demo", "--events", "2000", "--days", "40"]);
    assert!(text.contains("0 violations"), "{text}");
    for shown in ["nothing is booked", "every shard rates again at control record", "nothing to book", "premium-support", "it came to"] {
        assert!(text.contains(shown), "{shown}: {text}");
    }
    tally.check().unwrap();
    let again = tally.run(&["demo"]);
    assert_eq!(again.status.code(), Some(3), "a home is never overwritten: {}", err(&again));
    // The same seed gives the same figures.
    let other = Tally::empty();
    other.done(&["demo", "--events", "2000", "--days", "40"]);
    assert_eq!(fingerprint(&tally), fingerprint(&other));
}

#[test]
fn keys_and_databases_that_were_lost_are_refused_before_anything_is_written() {
    let tally = Tally::new();
    posted(&tally, &some(20));
    let key = tally.home().join("secrets/identity.key");
    let kept = std::fs::read(&key).unwrap();
    std::fs::write(&key, "05".repeat(32)).unwrap();
    let refused = tally.run(&["drain"]);
    assert_eq!(refused.status.code(), Some(3), "other keys would count everything again: {}", err(&refused));
    std::fs::write(&key, kept).unwrap();
    for name in ["log", "books", "evidence"] {
        let file = tally.home().join(format!("db/{name}.db"));
        let aside = tally.scratch().join(name);
        std::fs::rename(&file, &aside).unwrap();
        let refused = tally.run(&["drain"]);
        assert_eq!(refused.status.code(), Some(3), "{name}: {}", err(&refused));
        assert!(err(&refused).contains("backup") && !file.exists(), "{name}: {}", err(&refused));
        std::fs::rename(&aside, &file).unwrap();
    }
    // What follows from the batch log alone is folded again.
    for name in ["lake", "usage"] {
        std::fs::remove_file(tally.home().join(format!("db/{name}.db"))).unwrap();
    }
    tally.done(&["drain"]);
    tally.check().unwrap();
}

#[test]
fn folds_are_compared_and_drained_beside_a_server_that_keeps_receiving() {
    let tally = Tally::new();
    let server = tally.serve();
    let client = server.client();
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let seen = std::sync::Arc::clone(&stop);
    let source = std::thread::spawn(move || {
        for at in 0.. {
            if seen.load(std::sync::atomic::Ordering::Relaxed) {
                return;
            }
            assert_eq!(client.events(&[request(&format!("s{at}"), "org", DAY, 1, 1)]).unwrap().status, 202);
        }
    });
    std::thread::sleep(std::time::Duration::from_millis(700));
    tally.done(&["drain"]);
    for fold in ["ledger", "lake", "usage", "evidence"] {
        let output = tally.run(&["rebuild", fold, "--compare"]);
        assert!(output.status.success(), "{fold}: {}{}", out(&output), err(&output));
    }
    tally.check().unwrap();
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    source.join().unwrap();
    server.stop();
}

#[test]
fn settings_with_which_nothing_would_work_are_refused_by_name() {
    for (name, value) in [
        ("TALLY_BATCH_RECORDS_MAX", "0"),
        ("TALLY_SERVE_REQUESTS_MAX", "9223372036854775807"),
        ("TALLY_QUERY_TIMEOUT_MS", "soon"),
        ("TALLY_SERVE_LISTN", "127.0.0.1:1"),
        ("TALLY_STREAM_SEGMENT_BYTES", "300000"),
    ] {
        let tally = Tally::empty().with(name, value);
        let refused = tally.run(&["init"]);
        assert_eq!(refused.status.code(), Some(3), "{name}={value}: {}", err(&refused));
        assert!(!tally.home().join("tally.toml").exists(), "{name}: nothing is half made");
    }
}

#[test]
fn the_command_line_says_what_is_wrong() {
    let tally = Tally::empty();
    let missing = tally.run(&["sql", "SELECT 1"]);
    assert_eq!(missing.status.code(), Some(3));
    assert!(err(&missing).contains("init"), "{}", err(&missing));
    assert_eq!(tally.run(&["nonsense"]).status.code(), Some(2));
    tally.done(&["init"]);
    let far = tally.run(&["serve", "--listen", "0.0.0.0:0"]);
    assert_eq!(far.status.code(), Some(1));
    assert!(err(&far).contains("loopback"), "{}", err(&far));
    let unregistered = tally.run(&["ingest", "nofile.csv", "--map", "nomap.toml"]);
    assert!(!unregistered.status.success() && err(&unregistered).contains("nomap.toml"), "{}", err(&unregistered));
    let wrong = tally.run(&["sql", "SELECT avg(amount) FROM usage.charges"]);
    assert_eq!(wrong.status.code(), Some(1));
    assert!(err(&wrong).contains("avg"), "{}", err(&wrong));
    assert!(tally.run(&["registry", "show", "--list"]).status.success());
    let server = tally.serve();
    let second = tally.run(&["serve", "--listen", "127.0.0.1:0"]);
    assert_eq!(second.status.code(), Some(3), "a home has one owner: {}", err(&second));
    let early = server.client().events(&some(1)).unwrap();
    assert_eq!((early.status, early.retry_after.is_some()), (503, true), "without a registry nothing is accepted: {}", early.text);
}
