//! Usage in quarantine is charged when somebody states the missing price and publishes it with `--rerate`, and meters that a version adds or alters read
//! old events too: whatever streams in, closes or is killed meanwhile, the books end as if the last version had been there from the beginning.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use datasets::Random;
use serde_json::Value;

use crate::bundle::{duckdb, number, verifier, verify};
use crate::rerate::{events, holds, owed, rerate, send};
use crate::tally::{Tally, err, out, python, request, root};

/// A folder of documents in which input tokens have a price from an instant on.
pub fn priced_from(tally: &Tally, name: &str, at: &str) -> PathBuf {
    let folder = tally.scratch().join(name);
    std::fs::create_dir_all(&folder).unwrap();
    let books = std::fs::read_to_string(root().join("tests/registry/books.toml")).unwrap();
    let row = "sku = \"input\"\neffective_at = \"2020-01-01T00:00:00Z\"";
    assert!(books.contains(row));
    std::fs::write(folder.join("books.toml"), books.replacen(row, &format!("sku = \"input\"\neffective_at = \"{at}\""), 1)).unwrap();
    folder
}

pub const ALWAYS: &str = "2020-01-01T00:00:00Z";

pub fn home(at: &str) -> Tally {
    let tally = Tally::empty();
    tally.done(&["init"]);
    tally.done(&["registry", "publish", priced_from(&tally, "first", at).to_str().unwrap()]);
    tally
}

fn quarantined(tally: &Tally) -> usize {
    tally.done(&["quarantine", "list", "--format", "csv"]).lines().skip(1).count()
}

#[test]
fn usage_without_a_price_is_charged_once_somebody_states_it_and_both_verifiers_prove_it() {
    let tally = home("2026-09-20T00:00:00Z");
    let server = tally.serve();
    let mut sent = vec![request("other", "acme", "2026-09-21T00:00:00Z", 1_000_000, 10)];
    for organization in ["acme", "globex"] {
        sent.extend((0..3).map(|at| request(&format!("{organization}-{at}"), organization, "2026-09-12T10:00:00Z", 1_000_000, 0)));
    }
    // Nothing but this event is known of initech in August.
    sent.push(request("august", "initech", "2026-08-12T10:00:00Z", 2_000_000, 0));
    send(&server, &sent);
    server.stop();
    assert_eq!(quarantined(&tally), 7);
    tally.done(&["close", "2026-09"]);

    let stated = priced_from(&tally, "stated", ALWAYS);
    let preview = rerate(&tally, &stated, &["--preview"]);
    let lines: Vec<String> = preview["lines"]
        .as_array()
        .unwrap()
        .iter()
        .map(|line| {
            let text = |name: &str| line[name].as_str().unwrap();
            format!(
                "{} {} {} {} {}",
                text("organization"),
                text("service_period"),
                text("before"),
                text("after"),
                line["not_charged_before"]
            )
        })
        .collect();
    assert_eq!(lines, ["acme 2026-09 0.15 0.600000002 3", "globex 2026-09 0 0.450000002 3", "initech 2026-08 0 0.300000001 1"]);
    assert_eq!(tally.value("SELECT count(*) FROM usage.charges WHERE supersedes IS NOT NULL"), "0", "a preview books nothing");
    assert_eq!(quarantined(&tally), 7);

    rerate(&tally, &stated, &[]);
    assert_eq!(
        tally.value("SELECT count(*) FROM usage.charges WHERE supersedes IS NOT NULL"),
        "9",
        "one row for each, and two for the reading whose price now begins earlier"
    );
    assert_eq!(quarantined(&tally), 0);
    assert_eq!(tally.value("SELECT count(*) FROM usage.quarantine"), "0");
    let again = rerate(&tally, &stated, &[]);
    assert!(again["lines"].as_array().unwrap().is_empty() && again["control_no"].is_null(), "{again}");
    let identity = tally
        .value("SELECT identity FROM usage.charges WHERE supersedes IS NOT NULL AND organization = 'globex' ORDER BY identity LIMIT 1");
    let page = tally.done(&["explain", &identity]);
    assert!(page.contains("unpriced") && page.contains("0.1500000005"), "{page}");
    holds(&tally);

    let server = tally.serve();
    send(&server, &[request("october", "acme", "2026-10-03T00:00:00Z", 1_000_000, 10)]);
    server.stop();
    tally.done(&["close", "2026-10"]);
    let billed = tally.sql("SELECT organization, kind, service_period, amount FROM billing.invoice_lines WHERE period = 202610 AND sku_id = 'input' ORDER BY 1, 3");
    let billed: Vec<String> = billed
        .iter()
        .map(|line| {
            format!(
                "{} {} {} {}",
                line["organization"].as_str().unwrap(),
                line["service_period"],
                line["kind"].as_str().unwrap(),
                line["amount"].as_str().unwrap()
            )
        })
        .collect();
    assert_eq!(
        billed,
        [
            "acme 202609 adjustment 0.450000000",
            "acme 202610 usage 0.150000000",
            "globex 202609 usage 0.450000000",
            "initech 202608 usage 0.300000000",
        ]
    );
    proved(&tally, &["acme", "globex", "initech"], 202_610, "2026-10");
    holds(&tally);
}

#[test]
fn a_price_that_was_published_without_rating_again_is_booked_by_publishing_it_once_more() {
    let tally = home("2026-09-20T00:00:00Z");
    let server = tally.serve();
    send(&server, &[request("a", "acme", "2026-09-12T10:00:00Z", 1_000_000, 10)]);
    server.stop();
    let stated = priced_from(&tally, "stated", ALWAYS);
    tally.done(&["registry", "publish", stated.to_str().unwrap()]);
    assert_eq!(quarantined(&tally), 1);
    // Charged under the version that rates again: of two million tokens one comes to a billionth more than the other, whichever is the second.
    let server = tally.serve();
    send(&server, &[request("b", "acme", "2026-09-13T10:00:00Z", 1_000_000, 10)]);
    server.stop();
    let said = tally.done(&["rerate"]);
    assert!(said.contains("has prices for usage in quarantine"), "{said}");
    let booked = rerate(&tally, &stated, &[]);
    assert!(booked["control_no"].is_u64(), "{booked}");
    assert_eq!(quarantined(&tally), 0);
    assert_eq!(tally.value("SELECT count(*) FROM usage.charges WHERE supersedes IS NOT NULL"), "1", "what stands under the version stays");
    assert_eq!(tally.value("SELECT max(amount) FROM usage.charges WHERE sku_id = 'input'"), "0.150000001");
    // Nothing waits: publishing it again is nothing.
    let twice: Value =
        serde_json::from_str(&tally.done(&["--format", "json", "registry", "publish", stated.to_str().unwrap(), "--rerate"])).unwrap();
    assert_eq!(twice["changed"], false, "{twice}");
    let [identity, ordinal] =
        ["identity", "ordinal"].map(|column| tally.value(&format!("SELECT {column} FROM usage.charges WHERE supersedes IS NOT NULL")));
    let page = tally.done(&["explain", &format!("{identity}:{ordinal}")]);
    assert!(page.contains("0.150000001 USD") && !page.contains("not charged"), "{page}");
    let story = tally.done(&["explain", &identity]);
    assert!(story.contains("in entry"), "also a row of rating again says where it was posted: {story}");
    tally.done(&["close", "2026-09"]);
    proved(&tally, &["acme"], 202_609, "2026-09");
    holds(&tally);
}

#[test]
fn a_price_is_stated_while_usage_streams_in_and_a_month_closes_and_it_comes_to_rating_once() {
    let tally = home("2026-09-20T00:00:00Z");
    let books = ["2026-09-12T00:00:00Z", "2026-08-20T00:00:00Z", ALWAYS].map(|at| priced_from(&tally, &at[..10], at));
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
    for book in &books {
        std::thread::sleep(Duration::from_millis(400));
        rerate(&tally, book, &[]);
        tally.done(&["close", "2026-08"]);
    }
    std::thread::sleep(Duration::from_millis(400));
    stop.store(true, Ordering::Relaxed);
    source.join().unwrap();
    server.stop();
    let runs = runs.load(Ordering::Relaxed);
    let once = home(ALWAYS);
    let server = once.serve();
    (0..runs).for_each(|run| send(&server, &events(run)));
    server.stop();
    let left = tally.value("SELECT count(*) FROM usage.charges WHERE supersedes IS NOT NULL");
    assert!(left.parse::<u64>().unwrap() > 0);
    eprintln!("{runs} posts, {left} rows of usage rated again");
    assert_eq!(owed(&tally), owed(&once));
    assert_eq!(quarantined(&tally), 0);
    holds(&tally);
}

/// A meter that the first books lack: what is bought of memory with each token that comes out.
const MEMORY: &str = r#"
[[meter]]
id = "memory"
event_type = "llm.request"
aggregation = "sum"
value = "output_tokens"
unit = "token"
[[sku]]
id = "memory"
family = "token-factory"
meter = "memory"
"#;
const MEMORY_PRICE: &str = "[[price_book.price]]\nsku = \"memory\"\neffective_at = \"2020-01-01T00:00:00Z\"\nmodel = \"graduated\"\nper = \"1000\"\ntiers = [\n    { up_to = \"100\", unit_price = \"0.25\" },\n    { unit_price = \"0.2\" },\n]\n\n";

/// The books with other meters: `memory` where it is asked for, and each of these texts in the place of another.
pub fn metered(tally: &Tally, name: &str, memory: bool, others: &[(&str, &str)]) -> PathBuf {
    let folder = priced_from(tally, name, ALWAYS);
    let mut text = std::fs::read_to_string(folder.join("books.toml")).unwrap();
    if memory {
        text = text.replacen("[[contract]]", &format!("{MEMORY_PRICE}[[contract]]"), 1) + MEMORY;
    }
    for (from, to) in others {
        assert!(text.contains(from), "{from}");
        text = text.replacen(from, to, 1);
    }
    std::fs::write(folder.join("books.toml"), text).unwrap();
    folder
}

/// Input tokens are what comes out, told apart by what the source says of the model.
const INPUT_IS_OUTPUT: (&str, &str) = ("value = \"input_tokens\"", "value = \"output_tokens\"");
const BY_SIZE: (&str, &str) = (
    "unit = \"token\"\n\n[[meter]]\nid = \"tokens.output\"",
    "unit = \"token\"\ndimensions = { size = \"output_tokens\" }\n\n[[meter]]\nid = \"tokens.output\"",
);

/// The same usage in a home that had the last book from the beginning.
fn once(book: impl Fn(&Tally) -> PathBuf, usage: &[Vec<String>]) -> Tally {
    let tally = Tally::empty();
    tally.done(&["init"]);
    tally.done(&["registry", "publish", book(&tally).to_str().unwrap()]);
    let server = tally.serve();
    usage.iter().for_each(|some| send(&server, some));
    server.stop();
    tally
}

/// Invoices of a month are proved from their bundles, and the month from its export.
pub fn proved(tally: &Tally, organizations: &[&str], month: u32, period: &str) {
    let (Some(python), Some(program)) = (python(), verifier()) else { return };
    let key = tally.done(&["evidence", "key"]).trim().to_owned();
    for organization in organizations {
        let folder = tally.scratch().join(format!("bundle-{organization}-{month}"));
        tally.done(&["evidence", "bundle", "--invoice", &number(tally, organization, month), "--out", folder.to_str().unwrap()]);
        assert_eq!(duckdb(&python, &folder), Vec::<String>::new(), "{organization}");
        let verdict = verify(&program, &folder, &key);
        assert!(verdict.status.success(), "{organization}: {}{}", out(&verdict), err(&verdict));
    }
    let export = tally.scratch().join(format!("export-{month}"));
    tally.done(&["evidence", "export", "--period", period, "--out", export.to_str().unwrap()]);
    let verdict = std::process::Command::new(&program).args(["--home-export", export.to_str().unwrap(), period]).output().unwrap();
    assert!(verdict.status.success(), "{}{}", out(&verdict), err(&verdict));
}

#[test]
fn meters_that_are_added_or_altered_read_old_events_and_both_verifiers_prove_it() {
    let tally = home(ALWAYS);
    let usage = [events(1), events(2), vec![request("october", "org-1", "2026-10-03T00:00:00Z", 1_000, 10)]];
    let server = tally.serve();
    send(&server, &usage[0]);
    send(&server, &usage[1]);
    server.stop();
    tally.done(&["close", "2026-09"]);

    // From now on only.
    let added = metered(&tally, "added", true, &[]);
    let preview = rerate(&tally, &added, &["--preview"]);
    assert!(preview["lines"].as_array().unwrap().iter().all(|line| line["sku"] == "memory"), "{preview}");
    rerate(&tally, &added, &[]);
    assert_eq!(tally.value("SELECT count(*) FROM usage.charges WHERE supersedes IS NOT NULL"), "40", "one row for each event");
    holds(&tally);
    // The same readings, read otherwise.
    let altered = metered(&tally, "altered", true, &[INPUT_IS_OUTPUT, BY_SIZE]);
    let refused = tally.run(&["registry", "publish", altered.to_str().unwrap()]);
    assert!(err(&refused).contains("the events are read again"), "{}", err(&refused));
    let preview = rerate(&tally, &altered, &["--preview"]);
    assert!(preview["lines"].as_array().unwrap().iter().all(|line| line["sku"] == "input"), "{preview}");
    rerate(&tally, &altered, &[]);
    holds(&tally);
    let server = tally.serve();
    send(&server, &usage[2]);
    server.stop();
    tally.done(&["close", "2026-10"]);
    let last = once(|tally| metered(tally, "last", true, &[INPUT_IS_OUTPUT, BY_SIZE]), &usage);
    assert_eq!(owed(&tally), owed(&last));
    proved(&tally, &["org-0", "org-1"], 202_610, "2026-10");
    holds(&tally);
}

#[test]
fn a_reading_that_no_meter_reads_any_more_is_given_back_and_no_bundle_speaks_of_it() {
    let tally = home(ALWAYS);
    let server = tally.serve();
    send(&server, &events(1));
    server.stop();
    tally.done(&["close", "2026-09"]);
    let moved = metered(
        &tally,
        "moved",
        false,
        &[("id = \"requests\"\nevent_type = \"llm.request\"", "id = \"requests\"\nevent_type = \"other\"")],
    );
    rerate(&tally, &moved, &[]);
    assert_eq!(tally.value("SELECT count(*) FROM usage.charges WHERE supersedes IS NOT NULL"), "20");
    assert_eq!(tally.value("SELECT sum(amount) FROM usage.charges WHERE sku_id = 'request'"), "0.000000000");
    holds(&tally);
    let server = tally.serve();
    send(&server, &[request("october", "org-1", "2026-10-03T00:00:00Z", 1_000, 10)]);
    server.stop();
    tally.done(&["close", "2026-10"]);
    let folder = tally.scratch().join("bundle");
    let refused = tally.run(&["evidence", "bundle", "--invoice", &number(&tally, "org-1", 202_610), "--out", folder.to_str().unwrap()]);
    assert!(err(&refused).contains("meter requests") && err(&refused).contains("does not read any more"), "{}", err(&refused));
    // It is read again, under the number that it had.
    rerate(&tally, &metered(&tally, "back", false, &[]), &[]);
    assert_eq!(tally.value("SELECT max(ordinal) FROM usage.charges"), "2");
    holds(&tally);
}

#[test]
fn parts_that_did_not_add_up_are_charged_by_the_meter_that_was_missing() {
    let part = |id: &str| {
        format!(
            "[[meter]]\nid = \"{id}\"\nevent_type = \"llm\"\naggregation = \"sum\"\nvalue = \"{id}\"\nunit = \"token\"\npart_of = \"total\"\n[[sku]]\nid = \"{id}\"\nfamily = \"token-factory\"\nmeter = \"{id}\"\n"
        )
    };
    let price = |id: &str| {
        format!(
            "[[price_book.price]]\nsku = \"{id}\"\neffective_at = \"2020-01-01T00:00:00Z\"\nmodel = \"per_unit\"\nunit_price = \"2\"\n\n"
        )
    };
    let with = |tally: &Tally, name: &str, ids: &[&str]| {
        let prices: String = ids.iter().map(|id| price(id)).collect();
        let folder = metered(tally, name, false, &[("[[contract]]", &format!("{prices}[[contract]]"))]);
        let text = std::fs::read_to_string(folder.join("books.toml")).unwrap();
        std::fs::write(folder.join("books.toml"), text + &ids.iter().map(|id| part(id)).collect::<String>()).unwrap();
        folder
    };
    let tally = Tally::empty();
    tally.done(&["init"]);
    tally.done(&["registry", "publish", with(&tally, "first", &["fresh"]).to_str().unwrap()]);
    let event = |id: &str, fresh: u32, cached: u32| {
        serde_json::json!({
            "specversion": "1.0", "id": id, "source": "gateway", "type": "llm", "time": "2026-09-12T00:00:00Z", "organization": "acme",
            "data": {"fresh": fresh, "cached": cached, "total": fresh + cached},
        })
        .to_string()
    };
    let server = tally.serve();
    send(&server, &[event("a", 3, 4), event("b", 5, 0), event("c", 0, 6)]);
    server.stop();
    assert_eq!(quarantined(&tally), 2, "cached tokens are in no part");
    let both = with(&tally, "both", &["cached", "fresh"]);
    rerate(&tally, &both, &[]);
    assert_eq!(quarantined(&tally), 1, "the third event has no fresh tokens: what refused them stays");
    let sums = tally.sql("SELECT sku_id, sum(quantity) AS quantity, sum(amount) AS amount FROM usage.charges WHERE fate <> 'quarantined' GROUP BY sku_id ORDER BY sku_id");
    let sums: Vec<String> = sums
        .iter()
        .map(|row| format!("{} {} {}", row["sku_id"].as_str().unwrap(), row["quantity"].as_str().unwrap(), row["amount"].as_str().unwrap()))
        .collect();
    assert_eq!(sums, ["cached 10.000000000 20.000000000", "fresh 8.000000000 16.000000000"]);
    holds(&tally);
    tally.done(&["close", "2026-09"]);
    proved(&tally, &["acme"], 202_609, "2026-09");
}

#[test]
fn meters_are_added_and_altered_while_usage_streams_in_and_a_month_closes_and_it_comes_to_rating_once() {
    let tally = home("2026-09-12T00:00:00Z");
    let books = [
        metered(&tally, "added", true, &[]),
        metered(&tally, "altered", true, &[INPUT_IS_OUTPUT]),
        metered(&tally, "by-size", true, &[INPUT_IS_OUTPUT, BY_SIZE]),
    ];
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
    for book in &books {
        std::thread::sleep(Duration::from_millis(400));
        rerate(&tally, book, &[]);
        tally.done(&["close", "2026-08"]);
    }
    std::thread::sleep(Duration::from_millis(400));
    stop.store(true, Ordering::Relaxed);
    source.join().unwrap();
    server.stop();
    let usage: Vec<Vec<String>> = (0..runs.load(Ordering::Relaxed)).map(events).collect();
    let last = once(|tally| metered(tally, "last", true, &[INPUT_IS_OUTPUT, BY_SIZE]), &usage);
    assert_eq!(owed(&tally), owed(&last));
    assert_eq!(quarantined(&tally), 0);
    holds(&tally);
}

#[test]
fn reading_again_survives_kills() {
    let tally = home("2026-09-12T00:00:00Z");
    let (added, altered) = (metered(&tally, "added", true, &[]), metered(&tally, "altered", true, &[INPUT_IS_OUTPUT]));
    let mut random = Random::new(7);
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
        let mut asked = tally.spawn(&["rerate", "--book", if life % 2 == 0 { &added } else { &altered }.to_str().unwrap()]);
        while client.events(&events(run)).is_ok() {
            run += 1;
        }
        // What was asked when it was killed is sent again, and counted once.
        run += 1;
        killer.join().unwrap();
        let _ = asked.wait();
    }
    let usage: Vec<Vec<String>> = (0..run).map(events).collect();
    let server = tally.serve();
    usage.iter().for_each(|some| send(&server, some));
    rerate(&tally, &altered, &[]);
    server.stop();
    assert_eq!(owed(&tally), owed(&once(|tally| metered(tally, "last", true, &[INPUT_IS_OUTPUT]), &usage)));
    holds(&tally);
}
