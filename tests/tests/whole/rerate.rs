//! Usage is rated again in the real process: a price that was ten times too high is given back on the next invoice, once, with its cause; and
//! whatever streams in, closes or is killed meanwhile, the books end as if everything had been rated once under the final book.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use datasets::Random;
use serde_json::Value;

use crate::bundle::{differences, duckdb, rewrite, verifier, verify};
use crate::tally::{Server, Tally, err, out, python, request, root};

/// For 116 hours of September a million input tokens cost this instead of 3 dollars.
pub const TEN_TIMES: &str = "30";

/// A folder of documents in which input tokens cost `slip` dollars a million for 116 hours, and 3 before and after.
pub fn book(tally: &Tally, name: &str, slip: &str) -> PathBuf {
    let folder = tally.scratch().join(name);
    std::fs::create_dir_all(&folder).unwrap();
    let books = std::fs::read_to_string(root().join("tests/registry/books.toml")).unwrap();
    let row = |id: &str, at: &str, price: &str| {
        format!(
            "[[price_book.price]]\nid = \"{id}\"\nsku = \"input\"\neffective_at = \"{at}\"\nmodel = \"per_unit\"\nper = \"1000000\"\nunit_price = \"{price}\"\n\n"
        )
    };
    let rows = row("input-slip", "2026-09-10T00:00:00Z", slip) + &row("input-after", "2026-09-14T20:00:00Z", "3");
    let text =
        books.replacen("unit_price = \"0.1500000005\"", "unit_price = \"3\"", 1).replacen("[[contract]]", &(rows + "[[contract]]"), 1);
    std::fs::write(folder.join("books.toml"), text).unwrap();
    folder
}

pub fn home(slip: &str) -> Tally {
    let tally = Tally::empty();
    tally.done(&["init"]);
    tally.done(&["registry", "publish", book(&tally, "first", slip).to_str().unwrap()]);
    tally
}

pub fn rerate(tally: &Tally, folder: &Path, more: &[&str]) -> Value {
    let arguments = [&["--format", "json", "rerate", "--book", folder.to_str().unwrap()], more].concat();
    serde_json::from_str(&tally.done(&arguments)).unwrap()
}

pub fn send(server: &Server, events: &[String]) {
    let answer = server.client().events(events).unwrap();
    assert_eq!(answer.status, 202, "{}", answer.text);
}

/// What every key owes. Rows in quarantine stay where they were, whatever became of their readings.
pub fn owed(tally: &Tally) -> String {
    let sql = "SELECT organization, contract_line, service_period, currency, sum(quantity) AS quantity, sum(amount) AS amount FROM usage.charges \
               WHERE fate <> 'quarantined' GROUP BY organization, contract_line, service_period, currency ORDER BY organization, contract_line, service_period";
    tally.sql(sql).iter().map(|row| format!("{row}\n")).collect()
}

/// What must hold of a home whatever was rated again in it.
pub fn holds(tally: &Tally) {
    tally.check().unwrap();
    assert_eq!(tally.sql("SELECT * FROM sys.conservation"), Vec::<Value>::new());
    for fold in ["ledger", "lake", "usage", "evidence"] {
        let output = tally.run(&["rebuild", fold, "--compare"]);
        assert!(output.status.success(), "{fold}: {}{}", out(&output), err(&output));
    }
    let again = tally.done(&["rerate"]);
    assert!(again.contains("nothing to book"), "the book in force books nothing: {again}");
    assert_eq!(tally.value("SELECT sum(amount) FROM usage.hours"), tally.value("SELECT sum(amount) FROM usage.charges"));
}

#[test]
fn a_price_that_was_ten_times_too_high_is_previewed_booked_once_and_credited_with_its_cause() {
    let tally = home(TEN_TIMES);
    let server = tally.serve();
    let mut events = Vec::new();
    for organization in ["acme", "globex"] {
        for (at, time) in
            ["2026-09-09T23:59:59Z", "2026-09-10T00:00:00Z", "2026-09-12T10:00:00Z", "2026-09-14T20:00:00Z"].iter().enumerate()
        {
            events.push(request(&format!("{organization}-{at}"), organization, time, 1_000_000, 10));
        }
    }
    events.push(request("later", "initech", "2026-09-20T00:00:00Z", 1_000_000, 10));
    send(&server, &events);
    server.stop();
    tally.done(&["close", "2026-09"]);
    let first = tally.done(&["--format", "json", "invoice", "list", "--period", "2026-09"]);

    let mended = book(&tally, "mended", "3");
    let refused = tally.run(&["registry", "publish", mended.to_str().unwrap()]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(err(&refused).contains("input-slip") && err(&refused).contains("--rerate"), "{}", err(&refused));
    let preview = rerate(&tally, &mended, &["--preview"]);
    assert_eq!(preview["differences"]["USD"], "-108", "2 organizations × 2 readings × 27 dollars: {preview}");
    assert_eq!(preview["lines"].as_array().unwrap().len(), 2, "initech had no usage in these hours: {preview}");
    let line = &preview["lines"][0];
    let shown = ["organization", "sku", "before", "after", "difference", "accounting_period"].map(|name| line[name].as_str().unwrap());
    assert_eq!(shown, ["acme", "input", "66", "12", "-54", "2026-10"]);
    assert!(line["causes"][0].as_str().unwrap().contains("price \"input-slip\" of sku \"input\" is altered"), "{line}");
    let one = rerate(&tally, &mended, &["--preview", "--scope", "organization=acme"]);
    assert_eq!(one["differences"]["USD"], "-54");
    let partly = tally.run(&["rerate", "--book", mended.to_str().unwrap(), "--scope", "organization=acme"]);
    assert_eq!(partly.status.code(), Some(1), "{}", err(&partly));
    assert_eq!(tally.value("SELECT count(*) FROM usage.charges WHERE supersedes IS NOT NULL"), "0", "a preview books nothing");
    assert_eq!(tally.value("SELECT count(*) FROM registry.versions"), "1");

    let booked = rerate(&tally, &mended, &[]);
    assert!(booked["control_no"].is_u64(), "{booked}");
    assert_eq!(
        tally.value("SELECT count(*) FROM usage.charges WHERE supersedes IS NOT NULL"),
        "8",
        "4 readings taken back, 4 put in their place"
    );
    let rows = tally.value("SELECT count(*) FROM usage.charges");
    let again = rerate(&tally, &mended, &[]);
    assert_eq!((again["lines"].as_array().unwrap().len(), again["control_no"].is_null()), (0, true), "{again}");
    assert_eq!(tally.value("SELECT count(*) FROM usage.charges"), rows, "twice is once");
    assert_eq!(tally.done(&["--format", "json", "invoice", "list", "--period", "2026-09"]), first, "an issued invoice never changes");

    let server = tally.serve();
    send(&server, &[request("october", "acme", "2026-10-03T00:00:00Z", 1_000_000, 10)]);
    server.stop();
    tally.done(&["close", "2026-10"]);
    let lines = tally.sql("SELECT organization, service_period, kind, amount FROM billing.invoice_lines WHERE period = 202610 AND sku_id = 'input' ORDER BY organization, service_period");
    let shown: Vec<String> = lines
        .iter()
        .map(|row| {
            format!(
                "{} {} {} {}",
                row["organization"].as_str().unwrap(),
                row["service_period"],
                row["kind"].as_str().unwrap(),
                row["amount"].as_str().unwrap()
            )
        })
        .collect();
    assert_eq!(shown, ["acme 202609 adjustment -54.000000000", "acme 202610 usage 3.000000000", "globex 202609 adjustment -54.000000000"]);
    let invoices = tally.done(&["--format", "json", "invoice", "list", "--period", "2026-10", "--organization", "globex"]);
    let invoices: Value = serde_json::from_str(&invoices).unwrap();
    let number = invoices[0]["issue"]["number"].as_str().unwrap();
    let page = tally.done(&["invoice", "show", number]);
    assert!(
        page.contains("-54 by rating again under version") && page.contains("price \"input-slip\" of sku \"input\" is altered"),
        "{page}"
    );
    assert!(!page.contains("came late") && page.contains("corrected: 12.00 now, 66.00 on earlier invoices"), "{page}");

    // Both invoices are proved, the one before and the one with the credit; a changed amount is found, and a leaf that takes usage back left out.
    let folder = |name: &str| tally.scratch().join(name);
    let bundle = |number: &str, name: &str| {
        tally.done(&["evidence", "bundle", "--invoice", number, "--out", folder(name).to_str().unwrap()]);
        folder(name)
    };
    let september: Value = serde_json::from_str(&first).unwrap();
    let before = bundle(september[0]["issue"]["number"].as_str().unwrap(), "september");
    let credit = bundle(number, "october");
    if let (Some(python), Some(program)) = (python(), verifier()) {
        let key = tally.done(&["evidence", "key"]).trim().to_owned();
        for folder in [&before, &credit] {
            assert_eq!(duckdb(&python, folder), Vec::<String>::new(), "{}", folder.display());
            let verdict = verify(&program, folder, &key);
            assert!(verdict.status.success(), "{}{}", out(&verdict), err(&verdict));
        }
        let leaf = "taken AS (SELECT month, min(log_seq) AS log_seq FROM r WHERE quantity < 0 GROUP BY month ORDER BY month LIMIT 1)";
        let dropped = format!(
            "WITH {leaf} SELECT r.* REPLACE (r.log_seq - CASE WHEN r.month = taken.month AND r.log_seq > taken.log_seq THEN 1 ELSE 0 END AS log_seq) \
             FROM r, taken WHERE r.month <> taken.month OR r.log_seq <> taken.log_seq ORDER BY r.month, r.log_seq"
        );
        rewrite(&python, &credit.join("data/readings.parquet"), &dropped);
        let found = duckdb(&python, &credit);
        assert!(found.iter().any(|row| row.starts_with("leaf that takes a reading back")), "{found:?}");
        let found = differences(&program, &credit, &key);
        assert!(found.iter().any(|found| found["stage"] == "readings" && found["what"] == "what is taken back"), "{found:?}");
        let changed = bundle(number, "changed").join("invoice.json");
        let text = std::fs::read_to_string(&changed).unwrap();
        std::fs::write(&changed, text.replace("\"amount\":\"-54\"", "\"amount\":\"-45\"")).unwrap();
        let found = duckdb(&python, &folder("changed"));
        assert!(found.iter().any(|row| row.starts_with("amount of a line")), "{found:?}");
        let found = differences(&program, &folder("changed"), &key);
        let amount = |found: &Value| found["what"] == "amount" && found["expected"] == "-54" && found["found"] == "-45";
        assert!(found.iter().any(amount), "{found:?}");
    }
    let explained = tally.done(&[
        "explain",
        &tally
            .value("SELECT DISTINCT identity FROM usage.charges WHERE supersedes IS NOT NULL AND organization = 'acme' ORDER BY 1 LIMIT 1"),
    ]);
    assert!(explained.contains("rated again: -1000000") && explained.contains("rated again: 1000000"), "{explained}");
    holds(&tally);
}

#[test]
fn changes_that_rating_again_cannot_follow_are_refused_by_name() {
    let tally = home("3");
    let server = tally.serve();
    send(&server, &[request("a", "acme", "2026-09-12T00:00:00Z", 1_000, 10)]);
    server.stop();
    let folder = book(&tally, "other", "3");
    let text = std::fs::read_to_string(folder.join("books.toml")).unwrap();
    for (from, to, named) in [
        ("value = \"input_tokens\"", "value = \"tokens\"", "missing_quantity"),
        ("value = \"input_tokens\"\nunit = \"token\"", "value = \"input_tokens\"\nunit = \"request\"", "tokens.input"),
        ("id = \"input\"\nfamily = \"token-factory\"", "id = \"input\"\nfamily = \"tokens\"", "family"),
        (
            "effective_at = \"2020-01-01T00:00:00Z\"\nmodel = \"graduated\"",
            "effective_at = \"2027-01-01T00:00:00Z\"\nmodel = \"graduated\"",
            "unpriced",
        ),
    ] {
        assert!(text.contains(from), "{from}");
        std::fs::write(folder.join("books.toml"), text.replacen(from, to, 1)).unwrap();
        for command in [&["rerate", "--book"][..], &["registry", "publish", "--rerate"]] {
            let refused = tally.run(&[command, &[folder.to_str().unwrap()]].concat());
            assert_eq!(refused.status.code(), Some(1), "{from}: {}{}", out(&refused), err(&refused));
            assert!(err(&refused).contains(named), "{from}: {}", err(&refused));
        }
    }
    assert_eq!(tally.value("SELECT count(*) FROM registry.versions"), "1");
    holds(&tally);
}

/// Usage of two months by four organizations, inside and outside the 116 hours.
pub fn events(run: u64) -> Vec<String> {
    let times = ["2026-09-09T10:00:00Z", "2026-09-11T10:00:00Z", "2026-09-13T10:00:00Z", "2026-08-15T10:00:00Z", "2026-09-20T10:00:00Z"];
    let time = |at: u64| times[usize::try_from((run + at) % 5).unwrap()];
    (0..20).map(|at| request(&format!("{run}-{at}"), &format!("org-{}", at % 4), time(at), 999 + run * 7 + at, 10 + at)).collect()
}

/// A home in which all of it is rated once, under the final book.
fn once(runs: u64, slip: &str) -> Tally {
    let tally = home(slip);
    let server = tally.serve();
    (0..runs).for_each(|run| send(&server, &events(run)));
    server.stop();
    tally
}

#[test]
fn rating_again_while_usage_streams_in_and_a_month_closes_comes_to_rating_once() {
    let tally = home(TEN_TIMES);
    let (mended, slipped) = (book(&tally, "mended", "3"), book(&tally, "slipped", TEN_TIMES));
    let server = tally.serve();
    let client = server.client();
    let (stop, runs) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let (seen, counted) = (Arc::clone(&stop), Arc::clone(&runs));
    let source = std::thread::spawn(move || {
        while !seen.load(Ordering::Relaxed) {
            let run = counted.load(Ordering::Relaxed);
            assert_eq!(client.events(&events(run)).unwrap().status, 202);
            counted.store(run + 1, Ordering::Relaxed);
        }
    });
    let a_while = || std::thread::sleep(Duration::from_millis(400));
    a_while();
    rerate(&tally, &mended, &[]);
    a_while();
    tally.done(&["close", "2026-08"]);
    rerate(&tally, &slipped, &[]);
    a_while();
    // Two at once: one waits for the other, whichever comes first.
    for mut asked in [&mended, &slipped].map(|book| tally.spawn(&["rerate", "--book", book.to_str().unwrap()])) {
        assert!(asked.wait().unwrap().success());
    }
    a_while();
    rerate(&tally, &mended, &[]);
    a_while();
    stop.store(true, Ordering::Relaxed);
    source.join().unwrap();
    server.stop();
    let again = tally.value("SELECT count(*) FROM usage.charges WHERE supersedes IS NOT NULL");
    assert!(again.parse::<u64>().unwrap() > 0);
    eprintln!("{} posts, {again} rows of usage rated again", runs.load(Ordering::Relaxed));
    assert_eq!(owed(&tally), owed(&once(runs.load(Ordering::Relaxed), "3")));
    holds(&tally);
}

#[test]
fn rating_again_survives_kills() {
    let tally = home(TEN_TIMES);
    let (mended, slipped) = (book(&tally, "mended", "3"), book(&tally, "slipped", TEN_TIMES));
    let mut random = Random::new(5);
    let mut run = 0;
    for life in 0..8_u64 {
        let server = tally.serve();
        let client = server.client();
        let killer = std::thread::spawn({
            let life = Duration::from_millis(100 + random.below(900));
            move || {
                std::thread::sleep(life);
                server.kill();
            }
        });
        let folder = if life % 2 == 0 { &mended } else { &slipped };
        let asked = tally.spawn(&["rerate", "--book", folder.to_str().unwrap()]);
        while client.events(&events(run)).is_ok() {
            run += 1;
        }
        // What was asked when it was killed is sent again, and counted once.
        run += 1;
        killer.join().unwrap();
        let mut asked = asked;
        let _ = asked.wait();
    }
    let server = tally.serve();
    (0..run).for_each(|run| send(&server, &events(run)));
    rerate(&tally, &mended, &[]);
    server.stop();
    let versions = tally.value("SELECT count(*) FROM usage.charges WHERE supersedes IS NOT NULL");
    eprintln!("{run} posts, {versions} rows of usage rated again");
    assert_eq!(owed(&tally), owed(&once(run, "3")));
    holds(&tally);
}
