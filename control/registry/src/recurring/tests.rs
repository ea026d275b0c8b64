//! What falls due when, what a tick leaves to the next, and which changes are refused.

use super::*;
use crate::folder::SourceFile;

const BASE: &str = r#"
[[unit]]
id = "month"
[[meter]]
id = "support"
event_type = "tallystick.recurring"
aggregation = "prorated"
by = "microsecond"
value = "quantity"
unit = "month"
dimensions = { item = "item" }
[[sku]]
id = "premium-support"
family = "support"
meter = "support"
match = { item = "premium-support" }
[[rounding]]
asset = "USD"
scale = 2
[[price_book]]
id = "list"
currency = "USD"
[[price_book.price]]
sku = "premium-support"
effective_at = "2026-01-01T00:00:00Z"
model = "per_unit"
unit_price = "310"
"#;

fn contract(id: &str, effective_at: &str, fees: &str) -> String {
    format!(
        "[[contract]]\nid = \"{id}\"\norganization = \"acme\"\nprice_book = \"list\"\neffective_at = \"{effective_at}\"\nbilling_period = \"month\"\n{fees}"
    )
}

fn fee(charged_at: &str, rest: &str) -> String {
    format!(
        "[[contract.recurring]]\nid = \"support\"\nitem = \"premium-support\"\nquantity = \"1\"\ncharged_at = \"{charged_at}\"\n{rest}\n"
    )
}

fn schedule(contracts: &[String]) -> Schedule {
    let file = SourceFile { name: "registry.toml".to_owned(), text: format!("{BASE}{}", contracts.concat()) };
    Schedule::of(&Version::check(&[file]).unwrap_or_else(|problems| panic!("{problems}")))
}

fn at(text: &str) -> Instant {
    Instant::parse(text).unwrap()
}

/// Period, start, end and due instant of each fee.
fn shown(fees: &[Fee]) -> Vec<String> {
    fees.iter().map(|fee| format!("{} {} {} {}", fee.period, fee.start_at, fee.end_at, fee.due_at)).collect()
}

#[test]
fn parts_of_periods_fall_due_at_their_ends_or_starts() {
    let contract = |charged_at: &str| {
        let rest = "from = \"2026-01-15T12:00:00Z\"\nuntil = \"2026-03-02T00:00:00Z\"";
        contract("acme-2026", "2026-01-01T00:00:00Z", &fee(charged_at, rest))
    };
    let end = schedule(&[contract("end")]);
    assert_eq!(
        shown(&end.due(at("2026-03-01T00:00:00Z"), None)),
        [
            "2026-01 2026-01-15T12:00:00Z 2026-02-01T00:00:00Z 2026-02-01T00:00:00Z",
            "2026-02 2026-02-01T00:00:00Z 2026-03-01T00:00:00Z 2026-03-01T00:00:00Z",
        ]
    );
    assert_eq!(end.due(at("2027-03-01T00:00:00Z"), None).len(), 3);
    let start = schedule(&[contract("start")]);
    assert_eq!(
        shown(&start.due(at("2026-01-31T00:00:00Z"), None)),
        ["2026-01 2026-01-15T12:00:00Z 2026-02-01T00:00:00Z 2026-01-15T12:00:00Z"]
    );
    assert_eq!(start.due(at("2026-01-15T11:59:59.999999Z"), None), []);
    assert_eq!(start.next_due(None), Some(at("2026-01-15T12:00:00Z")));
}

#[test]
fn what_one_tick_stated_the_next_leaves_out() {
    let schedule = schedule(&[contract("acme-2026", "2026-01-01T00:00:00Z", &fee("end", ""))]);
    let stated = Tick { schedule: schedule.clone(), at: at("2026-03-01T00:00:00Z") };
    assert_eq!(
        shown(&schedule.due(at("2026-04-30T00:00:00Z"), Some(&stated))),
        ["2026-03 2026-03-01T00:00:00Z 2026-04-01T00:00:00Z 2026-04-01T00:00:00Z"]
    );
    assert_eq!(schedule.due(at("2026-03-31T23:59:59Z"), Some(&stated)), []);
    assert_eq!(schedule.next_due(Some(&stated)), Some(at("2026-04-01T00:00:00Z")));
    assert!(Schedule::default().next_due(Some(&stated)).is_none());
}

#[test]
fn a_contract_ends_where_the_next_begins() {
    let contracts = [
        contract("acme-2026", "2026-01-01T00:00:00Z", &fee("end", "")),
        contract("acme-new", "2026-02-11T00:00:00Z", &fee("end", "from = \"2026-01-01T00:00:00Z\"")),
    ];
    assert_eq!(
        shown(&schedule(&contracts).due(at("2026-03-01T00:00:00Z"), None)),
        [
            "2026-01 2026-01-01T00:00:00Z 2026-02-01T00:00:00Z 2026-02-01T00:00:00Z",
            "2026-02 2026-02-01T00:00:00Z 2026-02-11T00:00:00Z 2026-02-11T00:00:00Z",
            "2026-02 2026-02-11T00:00:00Z 2026-03-01T00:00:00Z 2026-03-01T00:00:00Z",
        ]
    );
}

#[test]
fn the_event_is_frozen() {
    let schedule = schedule(&[contract("acme-2026", "2026-01-01T00:00:00Z", &fee("end", ""))]);
    let fees = schedule.due(at("2026-02-01T00:00:00Z"), None);
    assert_eq!(
        fees[0].event(),
        "{\"data\":{\"item\":\"premium-support\",\"quantity\":\"1\"},\"endtime\":\"2026-02-01T00:00:00Z\",\"id\":\"acme-2026/support/2026-01\",\
         \"organization\":\"acme\",\"source\":\"tallystick\",\"specversion\":\"1.0\",\"subject\":\"acme-2026/support\",\
         \"time\":\"2026-01-01T00:00:00Z\",\"type\":\"tallystick.recurring\"}"
    );
}

#[test]
fn what_was_charged_is_not_changed() {
    let of = |rest: &str| schedule(&[contract("acme-2026", "2026-01-01T00:00:00Z", &fee("end", rest))]);
    let before = of("");
    let stated = Tick { schedule: before.clone(), at: at("2026-02-01T00:00:00Z") };
    assert_eq!(of("until = \"2026-02-01T00:00:00Z\"").refuse_changed(&stated), Ok(()));
    let changed = of("until = \"2026-01-31T00:00:00Z\"").refuse_changed(&stated).unwrap_err();
    assert!(
        changed.to_string().starts_with("recurring fee \"support\" of contract acme-2026 was charged to organization acme for 2026-01")
    );
    assert!(of("from = \"2026-01-02T00:00:00Z\"").refuse_changed(&stated).is_err());
    assert!(Schedule::default().refuse_changed(&stated).is_err());
    let none = Tick { at: at("2026-01-31T00:00:00Z"), ..stated };
    assert_eq!(Schedule::default().refuse_changed(&none), Ok(()));
}
