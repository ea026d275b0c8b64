//! Levels that are carried in the real process: three months close with a level of the first, a change that comes late corrects the later months on the
//! next invoice, whoever is killed, and what is invoiced is proved by both verifiers.

use std::time::Duration;

use datasets::Random;
use serde_json::{Value, json};

use crate::bundle::{duckdb, number, verifier, verify};
use crate::damage::damage;
use crate::documents::units;
use crate::recurring::{at, planted};
use crate::rerate::send;
use crate::tally::{Tally, err, out, python};

/// 30 for a GPU that is reserved all month; the fields of a level that is carried stand in between.
fn registry(recurring: &str) -> String {
    format!(
        r#"
{units}[[meter]]
id = "reserved"
event_type = "reservation"
aggregation = "prorated"
value = "change.gpus"
unit = "gpu"
dimensions = {{ gpu_model = "change.model" }}
negative = "accept"
{recurring}
[[sku]]
id = "reserved.h100"
family = "gpu"
meter = "reserved"
match = {{ gpu_model = "h100" }}
[[rounding]]
asset = "USD"
scale = 2
[[price_book]]
id = "list"
currency = "USD"
[[price_book.price]]
sku = "reserved.h100"
effective_at = "2026-01-01T00:00:00Z"
model = "per_unit"
unit_price = "30"
[[contract]]
id = "standard"
default = true
price_book = "list"
effective_at = "2026-01-01T00:00:00Z"
billing_period = "month"
"#,
        units = units(&["gpu"])
    )
}

const FROM_OCTOBER: &str = "recurring_from = \"2026-10-01T00:00:00Z\"";

fn publish(tally: &Tally, text: &str, options: &[&str]) -> std::process::Output {
    let folder = tally.scratch().join("levels");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("registry.toml"), text).unwrap();
    tally.run(&[&["registry", "publish", folder.to_str().unwrap()], options].concat())
}

/// What rating again under it would change, as the page of a preview.
fn preview(tally: &Tally, text: &str) -> std::process::Output {
    let folder = tally.scratch().join("levels");
    std::fs::write(folder.join("registry.toml"), text).unwrap();
    tally.run(&["rerate", "--preview", "--book", folder.to_str().unwrap()])
}

fn change(id: &str, organization: &str, time: &str, gpus: i32, model: &str) -> Value {
    json!({
        "specversion": "1.0", "id": id, "source": "portal", "type": "reservation", "organization": organization, "project": "chat",
        "time": time, "data": {"change": {"gpus": gpus, "model": model}},
    })
}

/// Sends changes at an instant, and waits until they are committed.
fn sent(home: &Tally, time: &str, changes: &[Value]) {
    let server = at(home, time).serve();
    send(&server, &changes.iter().map(Value::to_string).collect::<Vec<_>>());
    at(home, time).done(&["drain"]);
    server.stop();
}

/// What Tallystick itself stated and was charged: organization, service period, sums of quantity and amount.
fn carried(tally: &Tally) -> Vec<String> {
    let rows = tally.sql(
        "SELECT organization, service_period, sum(quantity) AS quantity, sum(amount) AS amount FROM usage.charges \
         WHERE source = 'tallystick' AND fate = 'charged' GROUP BY organization, service_period ORDER BY organization, service_period",
    );
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned);
    let row = |row: &Value| ["organization", "service_period", "quantity", "amount"].map(|column| text(&row[column])).join(" ");
    rows.iter().map(row).map(|row| row.replace(".000000000", "")).collect()
}

/// Service period and amount of an organization's lines on the invoice of a month.
fn lines(tally: &Tally, organization: &str, period: i32) -> Vec<String> {
    let rows = tally.sql(&format!(
        "SELECT service_period, amount FROM billing.invoice_lines WHERE organization = '{organization}' AND period = {period} ORDER BY service_period"
    ));
    rows.iter()
        .map(|row| format!("{} {}", row["service_period"], row["amount"].as_str().unwrap_or_default()).replace(".000000000", ""))
        .collect()
}

fn holds(tally: &Tally) {
    assert_eq!(tally.sql("SELECT * FROM sys.conservation"), Vec::<Value>::new());
    tally.check().unwrap();
    assert!(tally.done(&["rebuild", "ledger", "--compare"]).contains("equal"));
}

#[test]
fn three_months_close_with_a_level_of_the_first_and_a_late_change_corrects_them() {
    if planted().is_none() {
        return;
    }
    let home = Tally::empty();
    let september = at(&home, "2026-09-20T00:00:00Z");
    september.done(&["init"]);
    assert!(publish(&september, &registry(FROM_OCTOBER), &[]).status.success());
    let mut ends = change("a-2", "acme", "2026-09-16T00:00:00Z", 8, "h100");
    ends["endtime"] = "2026-09-17T00:00:00Z".into();
    sent(
        &home,
        "2026-09-20T00:00:00Z",
        &[
            change("a-1", "acme", "2026-09-16T00:00:00Z", 4, "h100"),
            ends,
            change("g-1", "globex", "2026-09-01T00:00:00Z", 2, "h100"),
            // Without a price: in quarantine, it changes no level.
            change("a-3", "acme", "2026-09-16T00:00:00Z", 7, "b300"),
        ],
    );
    assert_eq!(carried(&home), Vec::<String>::new());

    // Half of September for 4, a day for 8.
    let tally = at(&home, "2026-10-02T00:00:00Z");
    tally.done(&["close", "2026-09"]);
    assert_eq!(lines(&tally, "acme", 202_609), ["202609 68"]);
    assert_eq!(carried(&tally), ["acme 202610 4 120", "globex 202610 2 60"]);
    let story = tally.done(&["explain", "--organization", "acme", "--source", "tallystick", "--event", "reserved/2026-10/level-1"]);
    assert!(story.contains("as statement 1 of levels: what the level of meter reserved that is carried into 2026-10 differs"), "{story}");
    assert!(story.contains("4 gpu, charged 120 USD"), "{story}");

    // One GPU less for the last 15 and a half of 31 days.
    sent(&home, "2026-10-20T00:00:00Z", &[change("a-4", "acme", "2026-10-16T12:00:00Z", -1, "h100")]);
    let tally = at(&home, "2026-11-02T00:00:00Z");
    tally.done(&["close", "2026-10"]);
    assert_eq!(lines(&tally, "acme", 202_610), ["202610 105"]);
    assert_eq!(carried(&tally)[..2], ["acme 202610 4 120", "acme 202611 3 90"]);
    holds(&tally);

    // Two more since the middle of September, which nobody said before two closes.
    sent(&home, "2026-11-03T00:00:00Z", &[change("a-5", "acme", "2026-09-16T00:00:00Z", 2, "h100")]);
    let tally = at(&home, "2026-12-02T00:00:00Z");
    tally.done(&["close", "2026-11"]);
    assert_eq!(lines(&tally, "acme", 202_611), ["202609 30", "202610 60", "202611 150"]);
    assert_eq!(lines(&tally, "globex", 202_611), ["202611 60"]);
    assert_eq!(carried(&tally)[..3], ["acme 202610 6 180", "acme 202611 5 150", "acme 202612 5 150"]);
    holds(&tally);
    // Nothing is left to be said.
    let ticks = "SELECT count(*) AS value FROM usage.events WHERE detail LIKE 'tick%'";
    let before = tally.value(ticks);
    tally.done(&["drain"]);
    assert_eq!(tally.value(ticks), before);

    if let (Some(python), Some(program)) = (python(), verifier()) {
        let key = tally.done(&["evidence", "key"]).trim().to_owned();
        for period in [202_609, 202_610, 202_611] {
            let (invoice, bundle) = (number(&tally, "acme", period), tally.scratch().join(format!("bundle-{period}")));
            tally.done(&["evidence", "bundle", "--invoice", &invoice, "--out", bundle.to_str().unwrap()]);
            assert_eq!(duckdb(&python, &bundle), Vec::<String>::new(), "{}", bundle.display());
            let verdict = verify(&program, &bundle, &key);
            assert!(verdict.status.success(), "{}{}", out(&verdict), err(&verdict));
        }
    }

    // What is missing or altered in the books is named.
    for (statement, said) in [
        ("UPDATE platform_registry_level_sums SET quantity = '1' WHERE month = 202609 AND organization = 'acme'", "level-changes"),
        (
            "DELETE FROM platform_registry_levels WHERE level_no = 1",
            "reserved {\"gpu_model\":\"h100\"} of organization acme project chat into 2026-10",
        ),
        (
            "INSERT INTO platform_registry_levels SELECT 99, control_no, organization, project, meter, dimensions, 202610, '0', event \
             FROM platform_registry_levels WHERE level_no = 1",
            "event reserved/2026-10/level-99 of organization acme",
        ),
    ] {
        let damaged = tally.copy();
        damage(damaged.home().join("db/books.db").to_str().unwrap(), statement);
        let found = damaged.check().unwrap_err();
        assert!(found.contains(said), "{statement}: {found}");
    }
}

#[test]
fn a_version_says_from_when_on_a_level_is_carried_and_takes_it_back() {
    if planted().is_none() {
        return;
    }
    let home = Tally::empty();
    let tally = at(&home, "2026-09-20T00:00:00Z");
    tally.done(&["init"]);
    assert!(publish(&tally, &registry(""), &[]).status.success());
    sent(
        &home,
        "2026-09-20T00:00:00Z",
        &[change("a-1", "acme", "2026-09-16T00:00:00Z", 4, "h100"), change("g-1", "globex", "2026-09-16T00:00:00Z", 2, "a100")],
    );
    sent(&home, "2026-11-20T00:00:00Z", &[change("a-2", "acme", "2026-11-16T00:00:00Z", 1, "h100")]);
    let tally = at(&home, "2026-11-20T00:00:00Z");
    assert_eq!(carried(&tally), Vec::<String>::new(), "the meter carries nothing");

    // Into months that were rated, it has to be said that they are rated again.
    let refused = publish(&tally, &registry(FROM_OCTOBER), &[]);
    assert!(err(&refused).contains("from 2026-10 on, the level of meter \"reserved\" is carried otherwise"), "{}", err(&refused));
    let rerated = publish(&tally, &registry(FROM_OCTOBER), &["--rerate"]);
    assert!(rerated.status.success(), "{}", err(&rerated));
    assert_eq!(carried(&tally), ["acme 202610 4 120", "acme 202611 4 120"]);
    holds(&tally);

    // What was in quarantine changes the level once it has a price.
    let priced = registry(FROM_OCTOBER).replace("match = { gpu_model = \"h100\" }\n", "");
    let shown = preview(&tally, &priced);
    assert!(out(&shown).contains("not in these figures: the levels of reserved that are carried into later months"), "{}", out(&shown));
    assert!(publish(&tally, &priced, &["--rerate"]).status.success());
    assert_eq!(carried(&tally)[2..], ["globex 202610 2 60", "globex 202611 2 60"]);
    holds(&tally);

    // Events that state levels are read the same by later versions, or not published.
    let other = priced.replace("{ gpu_model = ", "{ region = \"change.region\", gpu_model = ");
    for refused in [preview(&tally, &other), publish(&tally, &other, &["--rerate"])] {
        assert!(err(&refused).contains("levels of meter \"reserved\" were carried into later service periods"), "{}", err(&refused));
    }

    // Until November only: what was stated for it is taken back. Then it is carried again.
    let ends = priced.replace(FROM_OCTOBER, &format!("{FROM_OCTOBER}\nrecurring_until = \"2026-11-01T00:00:00Z\""));
    let shown = preview(&tally, &ends);
    assert!(out(&shown).contains("the levels of reserved that are carried") && out(&shown).contains("changes nothing that was rated"));
    assert!(publish(&tally, &ends, &["--rerate"]).status.success());
    let taken_back = ["acme 202610 4 120", "acme 202611 0 0", "globex 202610 2 60", "globex 202611 0 0"];
    assert_eq!(carried(&tally), taken_back);
    let later = at(&home, "2026-12-20T00:00:00Z");
    later.done(&["drain"]);
    assert_eq!(carried(&later), taken_back, "a month begins into which nothing is carried");
    assert!(publish(&later, &priced, &["--rerate"]).status.success());
    let again =
        ["acme 202610 4 120", "acme 202611 4 120", "acme 202612 5 150", "globex 202610 2 60", "globex 202611 2 60", "globex 202612 2 60"];
    assert_eq!(carried(&later), again);
    holds(&later);
}

#[test]
fn levels_are_stated_once_across_kills() {
    if planted().is_none() {
        return;
    }
    let (mut random, mut kills) = (Random::new(7), 0);
    for _ in 0..5 {
        let home = Tally::empty();
        // Nobody was there for two months: each has its own statement.
        let tally = at(&home, "2026-12-20T00:00:00Z");
        tally.done(&["init"]);
        assert!(publish(&tally, &registry(FROM_OCTOBER), &[]).status.success());
        for part in 0..4 {
            let changes: Vec<String> = (0..8)
                .map(|at| {
                    let (id, organization) = (format!("c-{part}-{at}"), ["acme", "globex", "initech"][at % 3]);
                    change(&id, organization, &format!("2026-{:02}-11T00:00:00Z", 9 + part % 3), 1, "h100").to_string()
                })
                .collect();
            let server = tally.serve();
            // Killed anywhere between the changes, what is stated of them, and its charges.
            let _ = server.client().events(&changes);
            std::thread::sleep(Duration::from_millis(random.below(150)));
            server.kill();
            kills += 1;
            let server = tally.serve();
            std::thread::sleep(Duration::from_millis(random.below(80)));
            server.kill();
            send(&tally.serve(), &changes);
        }
        loop {
            let mut drain = tally.spawn(&["drain"]);
            std::thread::sleep(Duration::from_millis(random.below(400)));
            if drain.try_wait().unwrap().is_some_and(|status| status.success()) {
                break;
            }
            drain.kill().unwrap();
            drain.wait().unwrap();
            kills += 1;
        }
        // Of 32 changes 3 organizations have 12, 12 and 8; September has two parts of the four.
        let expected = [
            "acme 202610 6 180",
            "acme 202611 9 270",
            "acme 202612 12 360",
            "globex 202610 6 180",
            "globex 202611 9 270",
            "globex 202612 12 360",
            "initech 202610 4 120",
            "initech 202611 6 180",
            "initech 202612 8 240",
        ];
        assert_eq!(carried(&tally), expected);
        holds(&tally);
    }
    println!("{kills} kills");
}
