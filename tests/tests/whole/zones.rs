//! Days of another zone in the real process: readings around the day of 25 hours and at the month's end are counted by local dates, priced window
//! by window, closed with the UTC month, explained by local clocks, and proved by both verifiers. A zone that changes reaches back.

use serde_json::{Value, json};

use crate::bundle::{duckdb, number, verifier, verify};
use crate::documents::units;
use crate::rerate::send;
use crate::tally::{Tally, err, out, python};

/// Berlin: clocks go back on October 25, 2026, at 01:00 UTC. The UTC month touches the 32 dates from October 1 to November 1.
const REGISTRY: &str = r#"
[[meter]]
id = "days"
event_type = "gpu"
aggregation = "bucketed"
bucket = "day"
each = "sum"
then = "alone"
zone = "Europe/Berlin"
value = "gpus"
unit = "gpu"
[[meter]]
id = "users"
event_type = "gpu"
aggregation = "unique"
of = "user"
per = "day"
zone = "Europe/Berlin"
unit = "gpu"
dimensions = { user = "user" }
[[meter]]
id = "desks"
event_type = "tallystick.recurring"
aggregation = "prorated"
by = "day"
zone = "Europe/Berlin"
value = "quantity"
unit = "gpu"
[[sku]]
id = "days"
family = "gpu"
meter = "days"
[[sku]]
id = "users"
family = "seats"
meter = "users"
[[sku]]
id = "desks"
family = "seats"
meter = "desks"
[[rounding]]
asset = "USD"
scale = 2
[[price_book]]
id = "list"
currency = "USD"
[[price_book.price]]
sku = "days"
effective_at = "2026-01-01T00:00:00Z"
model = "per_unit"
unit_price = "1"
window_commitment = { amount = "4", overage_factor = "2", true_up = "owed_always" }
[[price_book.price]]
sku = "users"
effective_at = "2026-01-01T00:00:00Z"
model = "per_unit"
unit_price = "32"
[[price_book.price]]
sku = "desks"
effective_at = "2026-01-01T00:00:00Z"
model = "per_unit"
unit_price = "744"
[[contract]]
id = "acme"
organization = "acme"
price_book = "list"
effective_at = "2026-01-01T00:00:00Z"
billing_period = "month"
[[contract.recurring]]
id = "desks"
item = "desk"
quantity = "2"
charged_at = "start"
from = "2026-10-25T12:00:00Z"
until = "2026-11-01T00:00:00Z"
"#;

fn event(id: &str, time: &str, gpus: u32, user: &str) -> String {
    json!({
        "specversion": "1.0", "id": id, "source": "agent", "type": "gpu", "organization": "acme", "time": time, "data": {"gpus": gpus, "user": user},
    })
    .to_string()
}

#[test]
fn a_local_day_is_counted_priced_explained_and_proved() {
    let tally = Tally::empty();
    tally.done(&["init"]);
    let folder = tally.scratch().join("zones");
    std::fs::create_dir(&folder).unwrap();
    let publish = |text: &str| {
        std::fs::write(folder.join("registry.toml"), units(&["gpu"]) + text).unwrap();
        tally.run(&["registry", "publish", folder.to_str().unwrap()])
    };
    assert!(publish(REGISTRY).status.success());
    let server = tally.serve();
    send(
        &server,
        &[
            event("before", "2026-10-24T21:59:59.999999Z", 3, "ann"),
            event("midnight", "2026-10-24T22:00:00Z", 2, "ann"),
            event("last hour", "2026-10-25T22:59:59.999999Z", 5, "ann"),
            event("next day", "2026-10-25T23:00:00Z", 7, "bob"),
            event("cut day", "2026-10-31T23:00:00Z", 11, "bob"),
            event("next month", "2026-11-01T00:00:00Z", 13, "bob"),
        ],
    );
    tally.done(&["drain"]);
    server.stop();
    tally.done(&["close", "2026-10"]);

    let amount = |sku: &str| tally.value(&format!("SELECT amount FROM billing.invoice_lines WHERE period = 202610 AND sku_id = '{sku}'"));
    // Windows of 3, 7, 7 and 11 against 4 each: 4, 4 + 2 x 3 twice, 4 + 2 x 7; and 28 days without usage at 4.
    assert_eq!(amount("days"), "154.000000000");
    // Ann on two days and Bob on two, of 32.
    assert_eq!(amount("users"), "4.000000000");
    // All of the 25th, which has 25 hours, six days, and the first hour of November 1: 170 hours of 744, twice.
    assert_eq!(amount("desks"), "340.000000000");

    let invoice = number(&tally, "acme", 202_610);
    let line = tally.value("SELECT number FROM billing.invoice_lines WHERE period = 202610 AND sku_id = 'days'");
    let page = tally.done(&["explain", &format!("{invoice}:{line}")]);
    for said in [
        "the sum of the readings in every day, each priced alone, by the clocks of Europe/Berlin",
        "4 of 32 buckets have readings",
        "7 from 2026-10-25T00:00:00+02:00 costs 7",
        "7 from 2026-10-26T00:00:00+01:00 costs 7",
        "11 from 2026-11-01T00:00:00+01:00 costs 11",
    ] {
        assert!(page.contains(said), "{said}: {page}");
    }

    let shown: Value = serde_json::from_str(&tally.done(&["--format", "json", "invoice", "show", &invoice])).unwrap();
    assert!(shown.to_string().contains("\"498"), "{shown}");
    if let (Some(python), Some(program)) = (python(), verifier()) {
        let key = tally.done(&["evidence", "key"]).trim().to_owned();
        let bundle = tally.scratch().join("bundle");
        tally.done(&["evidence", "bundle", "--invoice", &invoice, "--out", bundle.to_str().unwrap()]);
        assert_eq!(duckdb(&python, &bundle), Vec::<String>::new(), "{}", bundle.display());
        let verdict = verify(&program, &bundle, &key);
        assert!(verdict.status.success(), "{}{}", out(&verdict), err(&verdict));
    }

    // Another zone is another way to count: it reaches back over what was rated.
    let refused = publish(&REGISTRY.replacen("Europe/Berlin", "Europe/London", 1));
    assert!(!refused.status.success() && err(&refused).contains("meter \"days\""), "{}", err(&refused));
    tally.check().unwrap();
}
