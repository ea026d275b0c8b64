//! What was read before is rated once it has a price: usage in quarantine is charged when somebody states the missing price and publishes it with
//! `--rerate`, whatever streams in, closes or is killed meanwhile, and the books end as if the price had been there from the beginning.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use serde_json::Value;

use crate::bundle::{duckdb, number, verifier, verify};
use crate::rerate::{events, holds, owed, rerate, send};
use crate::tally::{Tally, err, out, python, request, root};

/// A folder of documents in which input tokens have a price from an instant on.
fn priced_from(tally: &Tally, name: &str, at: &str) -> PathBuf {
    let folder = tally.scratch().join(name);
    std::fs::create_dir_all(&folder).unwrap();
    let books = std::fs::read_to_string(root().join("tests/registry/books.toml")).unwrap();
    let row = "sku = \"input\"\neffective_at = \"2020-01-01T00:00:00Z\"";
    assert!(books.contains(row));
    std::fs::write(folder.join("books.toml"), books.replacen(row, &format!("sku = \"input\"\neffective_at = \"{at}\""), 1)).unwrap();
    folder
}

const ALWAYS: &str = "2020-01-01T00:00:00Z";

fn home(at: &str) -> Tally {
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
            format!("{} {} {} {} {}", text("organization"), text("service_period"), text("before"), text("after"), line["from_quarantine"])
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
    if let (Some(python), Some(program)) = (python(), verifier()) {
        let key = tally.done(&["evidence", "key"]).trim().to_owned();
        for organization in ["acme", "globex", "initech"] {
            let folder = tally.scratch().join(format!("bundle-{organization}"));
            tally.done(&["evidence", "bundle", "--invoice", &number(&tally, organization, 202_610), "--out", folder.to_str().unwrap()]);
            assert_eq!(duckdb(&python, &folder), Vec::<String>::new(), "{organization}");
            let verdict = verify(&program, &folder, &key);
            assert!(verdict.status.success(), "{organization}: {}{}", out(&verdict), err(&verdict));
        }
        let export = tally.scratch().join("export");
        tally.done(&["evidence", "export", "--period", "2026-10", "--out", export.to_str().unwrap()]);
        let verdict = std::process::Command::new(&program).args(["--home-export", export.to_str().unwrap(), "2026-10"]).output().unwrap();
        assert!(verdict.status.success(), "{}{}", out(&verdict), err(&verdict));
    }
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
    let said = tally.done(&["rerate"]);
    assert!(said.contains("has prices for usage in quarantine"), "{said}");
    let booked = rerate(&tally, &stated, &[]);
    assert!(booked["control_no"].is_u64(), "{booked}");
    assert_eq!(quarantined(&tally), 0);
    // Nothing waits: publishing it again is nothing.
    let twice: Value =
        serde_json::from_str(&tally.done(&["--format", "json", "registry", "publish", stated.to_str().unwrap(), "--rerate"])).unwrap();
    assert_eq!(twice["changed"], false, "{twice}");
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
