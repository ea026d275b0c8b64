//! Leases that were rated are cut anew: by prices and contracts that begin inside them, by ones that begin there no more, and by altered billable states. Whatever is
//! published with `--rerate`, in whatever order, the books end as if the last version had been there from the beginning, and both verifiers prove it.

use std::path::{Path, PathBuf};

use datasets::Random;
use serde_json::Value;

use crate::rerate::{holds, owed, rerate, send};
use crate::reread::proved;
use crate::tally::{Tally, err, out};

/// Begun hours of a file system, and the pieces into which its states cut it.
const STATES: &str = r#"
[[unit]]
id = "gib"
[[billable_states]]
id = "file-systems"
states = ["mounted", "unmounted"]
state = "state"
session = "file_system"
[[billable_states.meter]]
meter = "size"
rates = { mounted = "kept", unmounted = "kept" }
increment = "3600"
[[meter]]
id = "size"
event_type = "file-system"
aggregation = "prorated"
value = "gib"
unit = "gib"
billable = "file-systems"
[[sku]]
id = "file-system"
family = "storage"
meter = "size"
match = { rate = "kept" }
[[rounding]]
asset = "USD"
scale = 2
[[price_book]]
id = "list"
currency = "USD"
[[price_book.price]]
sku = "file-system"
effective_at = "2026-01-01T00:00:00Z"
model = "per_unit"
unit_price = "0.20"
[[contract]]
id = "standard"
default = true
price_book = "list"
effective_at = "2026-01-01T00:00:00Z"
"#;

const ONE_RATE: &str = "mounted = \"kept\", unmounted = \"kept\"";

/// Another price of the file system from an instant on.
fn dearer(text: &str, at: &str) -> String {
    let price = format!(
        "[[price_book.price]]\nsku = \"file-system\"\neffective_at = \"{at}\"\nmodel = \"per_unit\"\nunit_price = \"0.40\"\n[[contract]]"
    );
    text.replacen("[[contract]]", &price, 1)
}

fn altered(from: &str, to: &str) -> String {
    assert!(STATES.contains(from), "{from}");
    STATES.replacen(from, to, 1)
}

fn lease(id: &str, state: &str, from: &str, to: &str) -> String {
    serde_json::json!({
        "specversion": "1.0", "id": id, "source": "agent", "type": "file-system", "time": from, "endtime": to, "organization": "acme",
        "data": {"file_system": "f1", "gib": 200, "state": state},
    })
    .to_string()
}

/// A lease over the begin of a month, and one that ends behind the last instant at which a reading began.
fn leases() -> Vec<String> {
    vec![
        lease("a", "mounted", "2026-08-30T00:10:00Z", "2026-09-11T00:00:00Z"),
        lease("b", "unmounted", "2026-09-11T00:00:00Z", "2026-09-11T08:20:00Z"),
    ]
}

fn written(folder: &Path, text: &str) {
    std::fs::write(folder.join("registry.toml"), text).unwrap();
}

/// A home under these documents, with these events in it, and the folder of the documents.
fn leased(states: &str, events: &[String]) -> (Tally, PathBuf) {
    let tally = Tally::empty();
    tally.done(&["init"]);
    let folder = tally.scratch().join("states");
    std::fs::create_dir_all(&folder).unwrap();
    written(&folder, states);
    tally.done(&["registry", "publish", folder.to_str().unwrap()]);
    let server = tally.serve();
    send(&server, events);
    server.stop();
    (tally, folder)
}

/// Puts documents in force, and holds what was said of them before against what is booked then.
fn rerated(tally: &Tally, folder: &Path, text: &str) {
    written(folder, text);
    let preview = rerate(tally, folder, &["--preview"]);
    let sums = "SELECT sku_id, service_period, sum(amount) AS amount FROM {} WHERE fate <> 'quarantined' GROUP BY sku_id, service_period HAVING sum(amount) <> 0 ORDER BY 1, 2";
    let asked = tally.done(&["--format", "json", "sql", "--book", folder.to_str().unwrap(), &sums.replace("{}", "what_if.charges")]);
    let asked: Value = serde_json::from_str(&asked).unwrap();
    let asked = asked["rows"].as_array().or(asked.as_array()).unwrap().clone();
    let booked = rerate(tally, folder, &[]);
    assert_eq!(preview["lines"], booked["lines"], "a preview says what is booked");
    assert_eq!(asked, tally.sql(&sums.replace("{}", "usage.charges")), "what-if says what is booked");
}

#[test]
fn leases_are_cut_anew_in_both_months_and_come_to_rating_once() {
    let (tally, folder) = leased(STATES, &leases());
    tally.done(&["close", "2026-08"]);
    let check = |text: &str| {
        rerated(&tally, &folder, text);
        assert_eq!(owed(&tally), owed(&leased(text, &leases()).0));
        holds(&tally);
    };
    // Cut in two, at another rate of steps, in both months, not at all, and without the time that is not mounted any more.
    let inside = dearer(STATES, "2026-09-05T12:34:56Z");
    written(&folder, &inside);
    let preview = rerate(&tally, &folder, &["--preview"]);
    let lines = preview["lines"].as_array().unwrap();
    assert!(
        !lines.is_empty() && lines.iter().all(|line| line["not_charged_before"] == 0),
        "what is cut in two was charged before: {preview}"
    );
    check(&inside);
    assert_eq!(tally.value("SELECT max(ordinal) FROM usage.charges"), "2", "the piece that is new comes behind the others");
    check(&inside.replacen("increment = \"3600\"", "increment = \"86400\"", 1));
    check(&dearer(&dearer(STATES, "2026-09-07T00:00:00Z"), "2026-08-30T12:00:00Z"));
    check(&altered("increment = \"3600\"", "increment = \"60\""));
    check(&altered(ONE_RATE, "mounted = \"kept\""));
    let identity = tally.value("SELECT identity FROM usage.charges ORDER BY identity LIMIT 1");
    assert!(tally.done(&["explain", &identity]).contains("file-system"));
    tally.done(&["close", "2026-09"]);
    for (month, period) in [(202_608, "2026-08"), (202_609, "2026-09")] {
        proved(&tally, &["acme"], month, period);
    }
    // A rate without a price is refused before anything is booked, also of what is new in the time of a piece.
    let left = |rates: &str| altered(ONE_RATE, rates);
    for text in [left("mounted = \"left\", unmounted = \"kept\""), STATES.replacen("[[contract]]", "[[price_book]]\nid = \"none\"\ncurrency = \"USD\"\n[[contract]]\nid = \"later\"\ndefault = true\nprice_book = \"none\"\neffective_at = \"2026-09-06T00:00:00Z\"\n[[contract]]", 1)] {
        written(&folder, &text);
        let refused = tally.run(&["rerate", "--book", folder.to_str().unwrap()]);
        assert!(err(&refused).contains("unpriced"), "{}{}", out(&refused), err(&refused));
    }
    written(&folder, &altered(ONE_RATE, "mounted = \"kept\""));
    holds(&tally);
}

#[test]
fn what_would_cut_rated_leases_is_refused_unless_it_is_published_with_rerate() {
    let (tally, folder) = leased(STATES, &leases());
    let tried = |text: &str| {
        written(&folder, text);
        tally.run(&["registry", "publish", folder.to_str().unwrap()])
    };
    let refused = |text: &str, says: &[&str]| {
        let answer = tried(text);
        assert_eq!(answer.status.code(), Some(1), "{}{}", out(&answer), err(&answer));
        says.iter().for_each(|says| assert!(err(&answer).contains(says), "{says}: {}", err(&answer)));
    };
    // The last piece began at midnight and goes on until 08:20.
    refused(
        &dearer(STATES, "2026-09-11T04:00:00Z"),
        &[
            "billed time of meter \"size\" is cut where a price or contract begins: 2026-09-11T04:00:00Z",
            "rated up to 2026-09-11T08:19:59.999999Z",
            "publish with --rerate",
        ],
    );
    // A price of another SKU cuts the whole meter, as does a contract; months are cut anyway.
    let other = |at: &str| {
        let sku = "[[sku]]\nid = \"other\"\nfamily = \"storage\"\nmeter = \"size\"\nmatch = { rate = \"other\" }\n[[rounding]]";
        dearer(STATES, at).replacen("\"file-system\"\neffective_at = \"2026-09", "\"other\"\neffective_at = \"2026-09", 1).replacen(
            "[[rounding]]",
            sku,
            1,
        )
    };
    refused(&other("2026-09-11T04:00:00Z"), &["is cut where a price or contract begins: 2026-09-11T04:00:00Z"]);
    refused(&altered("effective_at = \"2026-01-01T00:00:00Z\"\nmodel", "effective_at = \"2026-08-30T00:00:01Z\"\nmodel"), &["price"]);
    for at in ["2026-09-01T00:00:00Z", "2026-09-11T08:20:00Z"] {
        let answer = tried(&other(at));
        assert!(answer.status.success(), "{at}: {}{}", out(&answer), err(&answer));
        holds(&tally);
    }
    // It ends a piece no more that ends there: nothing was rated behind it.
    let later = [leases(), vec![lease("c", "mounted", "2026-09-11T08:20:00Z", "2026-09-11T09:00:00Z")]].concat();
    let server = tally.serve();
    send(&server, &later);
    server.stop();
    refused(&other("2026-09-11T08:30:00Z"), &["is cut where a price or contract begins: 2026-09-11T08:30:00Z"]);
    refused(
        &altered("increment = \"3600\"", "increment = \"60\""),
        &["billable_states \"file-systems\" is altered", "the events are read again"],
    );
    let inside = other("2026-09-11T08:30:00Z");
    rerated(&tally, &folder, &inside);
    assert_eq!(owed(&tally), owed(&leased(&inside, &later).0));
    // An event that is sent again is a duplicate, however it was cut.
    let server = tally.serve();
    send(&server, &later);
    server.stop();
    assert_eq!(owed(&tally), owed(&leased(&inside, &later).0));
    refused(STATES, &["is cut no more where a price or contract began: 2026-09-11T08:30:00Z"]);
    tally.done(&["close", "2026-09"]);
    proved(&tally, &["acme"], 202_609, "2026-09");
    written(&folder, &inside);
    holds(&tally);
}

#[test]
fn time_in_quarantine_is_cut_as_the_version_that_charges_it_cuts() {
    let rates = |states: &str| states.replacen(ONE_RATE, "mounted = \"kept\", unmounted = \"left\"", 1);
    let (tally, folder) = leased(&rates(STATES), &leases());
    assert_eq!(tally.value("SELECT count(*) FROM usage.quarantine"), "1");
    // No price of what is in quarantine, and behind everything that was rated.
    let cut = dearer(&rates(STATES), "2026-09-11T04:00:00Z");
    written(&folder, &cut);
    tally.done(&["registry", "publish", folder.to_str().unwrap()]);
    let sku = "[[sku]]\nid = \"left\"\nfamily = \"storage\"\nmeter = \"size\"\nmatch = { rate = \"left\" }\n[[rounding]]";
    let price = |text: &str, at: &str, price: &str| {
        let row = format!(
            "[[price_book.price]]\nsku = \"left\"\neffective_at = \"{at}\"\nmodel = \"per_unit\"\nunit_price = \"{price}\"\n[[contract]]"
        );
        text.replacen("[[contract]]", &row, 1)
    };
    let priced = price(&cut.replacen("[[rounding]]", sku, 1), "2026-01-01T00:00:00Z", "0.05");
    rerated(&tally, &folder, &priced);
    assert_eq!(tally.value("SELECT count(*) FROM usage.charges WHERE sku_id = 'left'"), "2", "four hours, and what lies behind them");
    assert_eq!(tally.value("SELECT count(*) FROM usage.quarantine"), "0");
    let once = leased(&priced, &leases()).0;
    assert_eq!(owed(&tally), owed(&once));
    tally.done(&["close", "2026-09"]);
    proved(&tally, &["acme"], 202_609, "2026-09");
    holds(&tally);
}

#[test]
fn time_that_is_billed_by_a_later_version_is_proved_beside_time_that_was_billed_before() {
    let mounted = altered(ONE_RATE, "mounted = \"kept\"");
    let (tally, folder) = leased(&mounted, &leases());
    assert_eq!(tally.value("SELECT count(*) FROM usage.charges"), "2", "one for each month of the lease that is mounted");
    // The event of the other one has no reading so far.
    rerated(&tally, &folder, STATES);
    assert_eq!(tally.value("SELECT count(*) FROM usage.charges"), "3");
    assert_eq!(owed(&tally), owed(&leased(STATES, &leases()).0));
    tally.done(&["close", "2026-09"]);
    proved(&tally, &["acme"], 202_609, "2026-09");
    holds(&tally);
}

#[test]
fn leases_cut_anew_while_they_stream_in_come_to_rating_once() {
    let mut random = Random::new(11);
    let mut wave = |run: u64| -> Vec<String> {
        let at = |hours: u64| format!("2026-09-{:02}T{:02}:30:00Z", 1 + hours / 24, hours % 24);
        let mut some = Vec::new();
        for number in 0..12 {
            let (from, length) = (random.below(400), 1 + random.below(72));
            let text =
                lease(&format!("{run}-{number}"), if number % 3 == 0 { "unmounted" } else { "mounted" }, &at(from), &at(from + length));
            some.push(text.replacen("\"acme\"", &format!("\"org-{}\"", number % 4), 1));
        }
        some
    };
    let books = [
        dearer(STATES, "2026-09-05T12:34:56Z"),
        dearer(&dearer(STATES, "2026-09-09T07:00:00Z"), "2026-09-05T12:34:56Z"),
        dearer(&altered("increment = \"3600\"", "increment = \"900\""), "2026-09-09T07:00:00Z"),
        dearer(&altered(ONE_RATE, "mounted = \"kept\""), "2026-09-15T00:00:00.000001Z"),
        dearer(STATES, "2026-09-02T00:00:00.5Z"),
    ];
    let (tally, folder) = leased(STATES, &[lease("first", "mounted", "2026-09-01T00:00:00Z", "2026-09-18T00:00:00Z")]);
    let mut all = vec![lease("first", "mounted", "2026-09-01T00:00:00Z", "2026-09-18T00:00:00Z")];
    let server = tally.serve();
    for (run, book) in (0..).zip(&books) {
        let waves: Vec<Vec<String>> = (0..6).map(|more| wave(6 * run + more)).collect();
        all.extend(waves.iter().flatten().cloned());
        let client = server.client();
        let source = std::thread::spawn(move || waves.iter().for_each(|some| assert_eq!(client.events(some).unwrap().status, 202)));
        written(&folder, book);
        rerate(&tally, &folder, &[]);
        source.join().unwrap();
        if run == 2 {
            tally.done(&["close", "2026-08"]);
        }
    }
    server.stop();
    let last = books.last().unwrap();
    assert_eq!(owed(&tally), owed(&leased(last, &all).0));
    holds(&tally);
    tally.done(&["close", "2026-09"]);
    proved(&tally, &["acme", "org-0", "org-1", "org-2", "org-3"], 202_609, "2026-09");
}
