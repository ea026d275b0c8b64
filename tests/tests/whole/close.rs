//! A month closes in the real process: once, whoever asks again, while usage streams in, and across kills. What is invoiced is what was
//! charged in the books of the months that closed, to the last digit.

use std::time::{Duration, Instant};

use datasets::Random;
use serde_json::Value;

use crate::tally::{Server, Tally, request};

const JSON: &str = "application/json";

/// Events of a run: `number` says which ones, so another run sends others.
fn events(run: u64, time: &str) -> Vec<String> {
    (0..20).map(|at| request(&format!("{run}-{at}"), &format!("org-{}", at % 4), time, 1_000 + run * 7 + at, 10 + at)).collect()
}

fn send(server: &Server, events: &[String]) -> bool {
    server.client().events(events).is_ok_and(|answer| answer.status == 202)
}

/// What the books say of a closed home: every month's invoices are what was charged in its books, each customer has one, nothing is unbilled.
fn holds(tally: &Tally, months: &[i32]) {
    let mut previous = 0;
    for month in months {
        let charged = tally.value(&format!(
            "SELECT coalesce(sum(amount), 0.000000000) AS value FROM usage.charges WHERE accounting_period > {previous} AND accounting_period <= {month}"
        ));
        let invoiced =
            tally.value(&format!("SELECT coalesce(sum(exact), 0.000000000) AS value FROM billing.invoice_lines WHERE period = {month}"));
        assert_eq!(invoiced, charged, "{month}");
        let readings = tally.value(&format!(
            "SELECT count(*) AS value FROM usage.charges WHERE fate <> 'quarantined' AND accounting_period > {previous} AND accounting_period <= {month}"
        ));
        let covered = tally.value(&format!("SELECT coalesce(sum(readings), 0) AS value FROM billing.invoice_lines WHERE period = {month}"));
        assert_eq!(covered, readings, "every reading is on one line: {month}");
        previous = *month;
    }
    let twice = tally
        .sql("SELECT organization, currency, period FROM billing.invoices GROUP BY organization, currency, period HAVING count(*) > 1");
    assert_eq!(twice, Vec::<Value>::new());
    let numbers = tally.value("SELECT count(DISTINCT number) AS value FROM billing.invoices");
    assert_eq!(tally.value("SELECT count(*) AS value FROM billing.invoices WHERE state = 'issued'"), numbers);
    assert_eq!(tally.sql("SELECT * FROM sys.conservation"), Vec::<Value>::new());
    tally.check().unwrap();
    let rebuilt = tally.done(&["rebuild", "ledger", "--compare"]);
    assert!(rebuilt.contains("equal"), "{rebuilt}");
}

#[test]
fn a_month_closes_once_and_late_usage_adjusts_the_next_invoice() {
    let tally = Tally::new();
    let server = tally.serve();
    assert!(send(&server, &events(1, "2026-09-20T10:00:00Z")) && send(&server, &events(2, "2026-10-05T10:00:00Z")));
    let closed = tally.done(&["close", "2026-09"]);
    assert!(closed.contains("4 invoices, 4 of them issued"), "{closed}");
    let first = tally.done(&["--format", "json", "invoice", "list", "--period", "2026-09"]);
    // September usage that comes late, October's own, and the close of September once more.
    assert!(send(&server, &events(3, "2026-09-21T10:00:00Z")) && send(&server, &events(1, "2026-09-20T10:00:00Z")));
    tally.done(&["close", "2026-09"]);
    tally.done(&["close", "2026-10"]);
    assert_eq!(tally.done(&["--format", "json", "invoice", "list", "--period", "2026-09"]), first, "an issued invoice never changes");
    server.stop();
    let kinds = tally.sql("SELECT kind, service_period, count(*) AS lines FROM billing.invoice_lines WHERE period = 202610 GROUP BY kind, service_period ORDER BY kind");
    let shown: Vec<(&str, String)> = kinds.iter().map(|row| (row["kind"].as_str().unwrap(), row["service_period"].to_string())).collect();
    assert_eq!(shown, [("adjustment", "202609".to_owned()), ("usage", "202610".to_owned())]);
    let page = tally.done(&["invoice", "show", "TALLY-000005"]);
    assert!(page.contains("usage that came late") && page.contains("INVOICE TALLY-000005"), "{page}");
    let running = tally.run(&["close", "2999-01"]);
    assert_eq!(running.status.code(), Some(1));
    holds(&tally, &[202_609, 202_610]);
}

#[test]
fn with_the_second_opinion_awaited_drafts_get_their_numbers_when_it_agrees() {
    let tally = Tally::new().with("TALLY_BILLING_ISSUE", "after_second_opinion");
    let server = tally.serve();
    assert!(send(&server, &events(1, "2026-09-20T10:00:00Z")) && send(&server, &events(2, "2026-10-05T10:00:00Z")));
    for month in ["2026-09", "2026-10"] {
        let closed = tally.done(&["close", month]);
        assert!(closed.contains("4 invoices, 0 of them issued"), "{closed}");
    }
    let verdict = |month: &str, agrees: bool| {
        let file = tally.scratch().join("verdict.json");
        std::fs::write(&file, format!(r#"{{"period":"{month}","agrees":{agrees}}}"#)).unwrap();
        tally.done(&["period", "opinion", month, file.to_str().unwrap()])
    };
    verdict("2026-10", true);
    verdict("2026-09", false);
    assert_eq!(tally.value("SELECT count(*) AS value FROM billing.invoices WHERE state = 'issued'"), "0", "October waits for September");
    verdict("2026-09", true);
    let until = Instant::now() + Duration::from_secs(20);
    while tally.value("SELECT count(*) AS value FROM billing.invoices WHERE state = 'issued'") != "8" {
        assert!(Instant::now() < until, "{}", tally.done(&["period", "list"]));
        std::thread::sleep(Duration::from_millis(100));
    }
    server.stop();
    holds(&tally, &[202_609, 202_610]);
}

#[test]
fn a_close_survives_kills_while_usage_streams_in() {
    let tally = Tally::new();
    let mut random = Random::new(11);
    let (mut run, mut kills) = (0, 0);
    for month in ["2026-08", "2026-09", "2026-10"] {
        // Until the month is issued: a life that sends and asks for the close, and is killed somewhere in it.
        loop {
            let server = tally.serve();
            let client = server.client();
            let life = Duration::from_millis(20 + random.below(350));
            let killer = std::thread::spawn(move || {
                std::thread::sleep(life);
                server.kill();
            });
            loop {
                run += 1;
                let time =
                    ["2026-08-10T10:00:00Z", "2026-09-10T10:00:00Z", "2026-10-10T10:00:00Z"][usize::try_from(random.below(3)).unwrap()];
                if client.events(&events(run, time)).is_err() {
                    break;
                }
                if client.ask("POST", &format!("/v1/periods/{month}/close"), JSON, b"{}").is_err() {
                    break;
                }
            }
            killer.join().unwrap();
            kills += 1;
            let listed = tally.done(&["period", "list"]);
            if listed.lines().any(|line| line.starts_with(month)) && kills % 4 == 0 {
                break;
            }
        }
    }
    tally.done(&["drain"]);
    eprintln!("{kills} kills, {run} posts");
    assert_eq!(tally.value("SELECT count(*) AS value FROM billing.periods WHERE stage = 'issued'"), "3");
    holds(&tally, &[202_608, 202_609, 202_610]);
}
