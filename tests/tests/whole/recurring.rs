//! Recurring fees of the real process: time is brought in by ticks, each fee is charged once, in its own service period, whoever is killed.

use std::path::PathBuf;
use std::time::Duration;

use datasets::Random;
use serde_json::Value;

use crate::documents::{list, units};
use crate::tally::{Tally, err, request};

/// The program whose clock can be set.
pub fn planted() -> Option<PathBuf> {
    let binary = std::env::var_os("TALLY_PLANTED_BIN").map(PathBuf::from);
    if binary.is_none() {
        assert!(std::env::var_os("TALLY_REQUIRE_TOOLS").is_none(), "TALLY_PLANTED_BIN is not set");
        eprintln!("SKIPPED: TALLY_PLANTED_BIN is not set; run `cargo xtask test whole`");
    }
    binary
}

/// A registry with a prorated support fee and two seats charged in full, of one organization.
pub fn registry(seats: &str, until: &str) -> String {
    format!(
        r#"
{units}[[meter]]
id = "support"
event_type = "tallystick.recurring"
aggregation = "prorated"
by = "microsecond"
value = "quantity"
unit = "month"
dimensions = {{ item = "item" }}
[[meter]]
id = "seats"
event_type = "tallystick.recurring.whole"
aggregation = "sum"
value = "quantity"
unit = "month"
dimensions = {{ item = "item" }}
[[sku]]
id = "premium-support"
family = "support"
meter = "support"
match = {{ item = "support" }}
[[sku]]
id = "seat"
family = "support"
meter = "seats"
match = {{ item = "seat" }}
{prices}[[contract]]
id = "acme-2026"
organization = "acme"
price_book = "list"
effective_at = "2026-01-01T00:00:00Z"
billing_period = "month"
[[contract.recurring]]
id = "support"
item = "support"
quantity = "1"
charged_at = "end"
from = "2026-08-15T00:00:00Z"
{until}
[[contract.recurring]]
id = "seats"
event_type = "tallystick.recurring.whole"
item = "seat"
quantity = "{seats}"
charged_at = "start"
from = "2026-09-01T00:00:00Z"
until = "2026-11-01T00:00:00Z"
"#,
        units = units(&["month", "request"]),
        prices = list(&[("premium-support", "310"), ("seat", "20")])
    )
}

pub fn publish(tally: &Tally, text: &str) -> std::process::Output {
    let folder = tally.scratch().join("fees");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("registry.toml"), text).unwrap();
    tally.run(&["registry", "publish", folder.to_str().unwrap()])
}

/// The same home at another time.
pub fn at(tally: &Tally, time: &str) -> Tally {
    tally.beside(planted().unwrap(), "TALLY_CLOCK", time)
}

/// What was charged for fees: SKU, service period, amount.
fn charged(tally: &Tally) -> Vec<(String, String, String)> {
    let rows = tally.sql(
        "SELECT sku_id, service_period, amount FROM usage.charges WHERE source = 'tallystick' AND fate = 'charged' ORDER BY sku_id, service_period",
    );
    rows.iter().map(|row| (text(&row["sku_id"]), text(&row["service_period"]), text(&row["amount"]))).collect()
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned)
}

fn rows(expected: &[(&str, &str, &str)]) -> Vec<(String, String, String)> {
    expected.iter().map(|(sku, period, amount)| ((*sku).to_owned(), (*period).to_owned(), (*amount).to_owned())).collect()
}

#[test]
fn fees_fall_due_with_time_and_close_with_their_month() {
    if planted().is_none() {
        return;
    }
    let home = Tally::empty();
    let tally = at(&home, "2026-08-20T00:00:00Z");
    tally.done(&["init"]);
    assert!(publish(&tally, &registry("2", "")).status.success());
    assert_eq!(charged(&tally), rows(&[]), "nothing is due yet");

    // August is over: 17 of 31 days of support, and the seats of September, which are charged when it begins.
    let tally = at(&home, "2026-09-02T00:00:00Z");
    tally.done(&["close", "2026-08"]);
    assert_eq!(charged(&tally), rows(&[("premium-support", "202608", "170.000000000"), ("seat", "202609", "40.000000000")]));
    let invoice = tally.done(&["invoice", "show", "TALLY-000001"]);
    assert!(invoice.contains("170.00") && !invoice.contains("40.00"), "{invoice}");

    // A tick that called more due than was counted is named.
    let damaged = tally.copy();
    let books = damaged.home().join("db/books.db");
    let later = "replace(payload, '2026-09-02T', '2026-10-02T')";
    crate::damage::damage(
        books.to_str().unwrap(),
        &format!("UPDATE platform_registry_controls SET payload = {later}, digest = digest({later}) WHERE kind = 'tick'"),
    );
    let found = damaged.check().unwrap_err();
    assert!(found.contains("recurring-fees") && found.contains("acme-2026/support/2026-09"), "{found}");

    // A fee that was charged is not changed behind its back; one that ends later is.
    let changed = publish(&tally, &registry("3", ""));
    assert_eq!(changed.status.code(), Some(1));
    assert!(
        err(&changed).contains("recurring fee \"seats\" of contract acme-2026 was charged to organization acme for 2026-09"),
        "{}",
        err(&changed)
    );
    assert!(publish(&tally, &registry("2", "until = \"2026-10-11T00:00:00Z\"")).status.success());

    // A server that slept for two months catches up by itself: 10 of 31 days of October.
    let tally = at(&home, "2026-11-20T00:00:00Z");
    let server = tally.serve();
    let until = std::time::Instant::now() + Duration::from_secs(20);
    let all = rows(&[
        ("premium-support", "202608", "170.000000000"),
        ("premium-support", "202609", "310.000000000"),
        ("premium-support", "202610", "100.000000000"),
        ("seat", "202609", "40.000000000"),
        ("seat", "202610", "40.000000000"),
    ]);
    while charged(&tally) != all {
        assert!(std::time::Instant::now() < until, "{:?}", charged(&tally));
        std::thread::sleep(Duration::from_millis(200));
    }
    // Nobody else speaks in the deployment's name, not even with an identity that is to come.
    let forged = request("acme-2026/support/2026-11", "acme", "2026-11-01T00:00:00Z", 1, 1).replace("\"gateway\"", "\"tallystick\"");
    assert!(forged.contains("tallystick"), "{forged}");
    assert_eq!(server.client().events(&[forged]).unwrap().status, 202);
    server.stop();
    tally.done(&["drain"]);
    let refused = tally.sql("SELECT reason, source FROM usage.quarantine");
    assert_eq!((refused.len(), text(&refused[0]["reason"])), (1, "invalid_field".to_owned()), "{refused:?}");
    tally.done(&["close", "2026-10"]);
    assert_eq!(charged(&tally), all, "nothing is charged twice");
    assert_eq!(tally.sql("SELECT * FROM sys.conservation"), Vec::<Value>::new());
    tally.check().unwrap();
    assert!(tally.done(&["rebuild", "ledger", "--compare"]).contains("equal"));
}

#[test]
fn fees_are_charged_once_across_kills() {
    let mut random = Random::new(5);
    let mut kills = 0;
    for _ in 0..6 {
        let tally = Tally::empty();
        tally.done(&["init"]);
        let folder = tally.scratch().join("fees");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("registry.toml"), registry("2", "until = \"2026-10-11T00:00:00Z\"")).unwrap();
        // Killed anywhere between the publication, its ticks and their charges; the publication is asked for until it is done.
        loop {
            let mut publication = tally.spawn(&["registry", "publish", folder.to_str().unwrap()]);
            std::thread::sleep(Duration::from_millis(random.below(120)));
            if publication.try_wait().unwrap().is_some_and(|status| status.success()) {
                break;
            }
            publication.kill().unwrap();
            publication.wait().unwrap();
            kills += 1;
            if tally.value("SELECT count(*) AS value FROM registry.versions") == "1" {
                break;
            }
        }
        tally.done(&["drain"]);
        let sum =
            tally.sql("SELECT count(*) AS fees, sum(amount) AS total FROM usage.charges WHERE source = 'tallystick' AND fate = 'charged'");
        assert_eq!((text(&sum[0]["fees"]), text(&sum[0]["total"])), ("5".to_owned(), "660.000000000".to_owned()));
        assert_eq!(tally.sql("SELECT * FROM sys.conservation"), Vec::<Value>::new());
        tally.check().unwrap();
    }
    println!("{kills} kills");
    assert!(kills >= 6, "{kills} kills: too few to have hit anything");
}
