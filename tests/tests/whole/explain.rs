//! Explanations of measured quantities in the real process: of a charge and of an invoice line, on the page and in JSON; and what is at stake in totals
//! that do not add up.

use serde_json::{Value, json};

use crate::documents::{list, units};
use crate::rerate::send;
use crate::tally::Tally;

/// Peaks, a percentile of hours, GPUs held over time and different users, each at a dollar; and two parts of a total.
fn registry() -> String {
    let prices = [("peak", "1"), ("traffic", "1"), ("held", "1/3600"), ("users", "1"), ("fresh", "0.002"), ("cached", "0.0005")];
    [&units(&["gib", "gpu", "user", "token"]), SOLD, &list(&prices), EVERYONE].concat()
}

const SOLD: &str = r#"
[[meter]]
id = "peak"
event_type = "sample"
aggregation = "max"
value = "stored"
unit = "gib"
[[meter]]
id = "traffic"
event_type = "sample"
aggregation = "bucketed"
bucket = "hour"
each = "sum"
then = "p95"
value = "sent"
unit = "gib"
[[meter]]
id = "held"
event_type = "sample"
aggregation = "time_weighted"
value = "gpus"
unit = "gpu"
[[meter]]
id = "users"
event_type = "sample"
aggregation = "unique"
of = "user"
unit = "user"
dimensions = { user = "user" }
[[meter]]
id = "fresh"
event_type = "request"
aggregation = "sum"
value = "fresh"
unit = "token"
part_of = "total"
[[meter]]
id = "cached"
event_type = "request"
aggregation = "sum"
value = "cached"
unit = "token"
part_of = "total"

[[sku]]
id = "peak"
family = "storage"
meter = "peak"
[[sku]]
id = "traffic"
family = "network"
meter = "traffic"
[[sku]]
id = "held"
family = "gpu"
meter = "held"
[[sku]]
id = "users"
family = "seats"
meter = "users"
[[sku]]
id = "fresh"
family = "tokens"
meter = "fresh"
[[sku]]
id = "cached"
family = "tokens"
meter = "cached"
"#;
const EVERYONE: &str = r#"
[[contract]]
id = "everyone"
default = true
price_book = "list"
effective_at = "2026-01-01T00:00:00Z"
billing_period = "month"
"#;

fn event(id: &str, kind: &str, time: &str, end: &str, data: &Value) -> String {
    json!({
        "specversion": "1.0", "id": id, "source": "agent", "type": kind, "organization": "acme", "time": time, "endtime": end, "data": data,
    })
    .to_string()
}

fn home() -> Tally {
    let tally = Tally::empty();
    tally.done(&["init"]);
    let folder = tally.scratch().join("measures");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("registry.toml"), registry()).unwrap();
    tally.done(&["registry", "publish", folder.to_str().unwrap()]);
    tally
}

#[test]
fn a_line_says_how_its_quantity_came_about() {
    let tally = home();
    let server = tally.serve();
    let sample = |id: &str, hour: u32, stored: u32, sent: u32, user: &str| {
        let (time, end) = (format!("2026-10-02T{hour:02}:00:00Z"), format!("2026-10-02T{hour:02}:30:00Z"));
        event(id, "sample", &time, &end, &json!({"stored": stored, "sent": sent, "gpus": 2, "user": user}))
    };
    send(&server, &[sample("a", 1, 7, 5, "ann"), sample("b", 2, 11, 6, "bob"), sample("c", 3, 9, 4, "ann")]);
    tally.done(&["drain"]);
    server.stop();
    tally.done(&["close", "2026-10"]);
    // A later month goes on, and the invoice is explained as of its close.
    let server = tally.serve();
    send(&server, &[sample("late", 4, 99, 9, "eve")]);
    tally.done(&["drain"]);
    server.stop();
    let invoices: Vec<Value> = serde_json::from_str(&tally.done(&["--format", "json", "invoice", "list", "--period", "2026-10"])).unwrap();
    let number = invoices[0]["issue"]["number"].as_str().unwrap();
    let line_of = |sku: &str| tally.value(&format!("SELECT number FROM billing.invoice_lines WHERE period = 202610 AND sku_id = '{sku}'"));
    let explained = |sku: &str| -> (Value, String) {
        let name = format!("{number}:{}", line_of(sku));
        let view: Value = serde_json::from_str(&tally.done(&["--format", "json", "explain", &name])).unwrap();
        (view["after"]["parts"][0]["basis"].clone(), tally.done(&["explain", &name]))
    };
    let greatest = tally.value("SELECT identity FROM usage.charges WHERE meter = 'peak' AND quantity = 11");
    for (sku, measured, how) in [
        ("peak", "11", vec!["of 3 readings the greatest is 11".to_owned(), format!("it is {greatest}:")]),
        ("traffic", "0", vec!["3 of 744 buckets have readings".to_owned(), "number 707 of 744 is 0, in one without readings".to_owned()]),
        ("held", "10800", vec!["3 readings, the quantity of each times the seconds that it was held: 10800 together".to_owned()]),
        ("users", "2", vec!["3 readings had 2 values of user".to_owned()]),
    ] {
        let (basis, page) = explained(sku);
        assert_eq!(basis["measured"], json!([measured]), "{sku}: {basis}");
        let said = basis["how"].as_array().unwrap().iter().map(|line| line.as_str().unwrap()).collect::<Vec<_>>().join("\n");
        for sentence in how {
            assert!(said.contains(&sentence), "{sku}: {said}");
            assert!(page.contains(&sentence), "{sku}: {page}");
        }
        assert!(page.contains("How it came about"), "{page}");
    }
    let plain = serde_json::from_str::<Value>(&tally.done(&["--format", "json", "explain", &format!("{greatest}:1")])).unwrap();
    assert_eq!(plain["verdict"], "charged", "{plain}");
    tally.check().unwrap();
}

#[test]
fn a_line_shows_the_hours_that_it_asks_for() {
    let tally = home();
    let lease = |id: &str, time: &str, end: &str, gpus: u32| {
        event(id, "sample", time, end, &json!({"stored": 1, "sent": 1, "gpus": gpus, "user": "ann"}))
    };
    let month = |period: &str, events: &[String]| {
        let server = tally.serve();
        send(&server, events);
        tally.done(&["drain"]);
        server.stop();
        tally.done(&["close", period]);
        let invoices: Vec<Value> = serde_json::from_str(&tally.done(&["--format", "json", "invoice", "list", "--period", period])).unwrap();
        invoices[0]["issue"]["number"].as_str().unwrap().to_owned()
    };
    // 8 GPUs for ten hours and a half; then for twenty, and a GPU for two hours that is told late.
    let before = month("2026-08", &[lease("a", "2026-08-02T01:00:00Z", "2026-08-02T11:30:00Z", 8)]);
    let september = lease("b", "2026-09-02T01:00:00Z", "2026-09-02T21:00:00Z", 8);
    let after = month("2026-09", &[september, lease("late", "2026-08-03T01:00:00Z", "2026-08-03T03:00:00Z", 1)]);
    let shown: Value = serde_json::from_str(&tally.done(&["--format", "json", "invoice", "show", &after])).unwrap();
    let lines = shown["invoice"]["lines"].as_array().unwrap();
    let measured = |period: &str| {
        let line = lines.iter().find(|line| line["sku"] == "held" && line["service_period"] == period).unwrap();
        let number: u64 = line["number"].as_str().unwrap().parse().unwrap();
        let found = shown["measured"].as_array().unwrap().iter().find(|found| found["line"] == number);
        let (found, asked) = (found.unwrap(), line["amount"].as_str().unwrap());
        (found["quantity"].as_str().unwrap().to_owned(), found["unit"].as_str().unwrap().to_owned(), asked.to_owned())
    };
    assert_eq!(measured("202608"), ("2".to_owned(), "gpu h".to_owned(), "2".to_owned()));
    assert_eq!(measured("202609"), ("160".to_owned(), "gpu h".to_owned(), "160".to_owned()));
    let page = tally.done(&["invoice", "show", &after]);
    for said in [": 160 gpu h in 1 readings", ": 86 gpu h in 2 readings", "counted is quantity times seconds held"] {
        assert!(page.contains(said), "{said}: {page}");
    }
    let csv = tally.done(&["--format", "csv", "invoice", "show", &after]);
    assert!(csv.lines().any(|line| line.contains(",held,") && line.ends_with(",160,gpu h")), "{csv}");
    // A bill that changed: as much per hour, and more hours.
    let changes: Value = serde_json::from_str(&tally.done(&["--format", "json", "invoice", "compare", &before, &after])).unwrap();
    let line = changes["lines"].as_array().unwrap().iter().find(|line| line["contract_line"] == "everyone/held" && line["cause"] == "used");
    let line = line.unwrap();
    assert_eq!((&line["volume"], &line["price"], &line["unit"]), (&json!("76"), &json!("0"), &json!("gpu h")), "{changes}");
    assert_eq!((&line["before"]["quantity"], &line["after"]["quantity"]), (&json!("84"), &json!("160")), "{changes}");
    tally.check().unwrap();
}

#[test]
fn the_quarantine_says_what_is_at_stake() {
    let tally = home();
    let server = tally.serve();
    let request = |id: &str, total: u32| {
        event(id, "request", "2026-10-02T01:00:00Z", "2026-10-02T01:00:01Z", &json!({"fresh": 600, "cached": 400, "total": total}))
    };
    send(&server, &[request("whole", 1_000), request("differs", 1_500)]);
    tally.done(&["drain"]);
    server.stop();
    // Stated: 600 at 0.002 and 400 at 0.0005. At most: 1500 at the dearest.
    let listed: Value = serde_json::from_str(&tally.done(&["--format", "json", "quarantine", "list"])).unwrap();
    let rows = listed["rows"].as_array().unwrap();
    assert!(rows.len() == 2 && rows.iter().all(|row| row["at_stake"] == "USD 1.4 to 3" && row["event_id"] == "differs"), "{listed}");
    let shown = tally.done(&["--format", "json", "quarantine", "show", rows[0]["position"].as_str().unwrap()]);
    assert!(shown.contains("\"at_stake\":\"USD 1.4 to 3\""), "{shown}");
    let other = tally.done(&["quarantine", "list", "--reason", "unknown_type"]);
    assert!(!other.contains("USD"), "{other}");
}
