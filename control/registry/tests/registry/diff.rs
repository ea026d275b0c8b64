//! What differs between two versions, in words; and what price a version states for usage at an instant.

use std::fmt::Write as _;

use platform_registry::{Kind, NoPrice, Priced, SourceFile, Under, Version, diff, price_at};
use platform_usage::Dimensions;
use proptest::prelude::*;
use shared_types::Instant;

/// One model of a gateway and a GPU, under a default contract.
const BASE: &str = r#"
[[unit]]
id = "token"
[[unit]]
id = "gpu-second"
[[meter]]
id = "input"
event_type = "llm.request"
aggregation = "sum"
value = "input_tokens"
unit = "token"
dimensions = { model = "model" }
[[meter]]
id = "gpu"
event_type = "gpu.lease"
aggregation = "sum"
value = "seconds"
unit = "gpu-second"
[[sku]]
id = "m-input"
family = "llm"
meter = "input"
match = { model = "m" }
description = "input tokens of model m"
[[sku]]
id = "h100"
family = "gpu"
meter = "gpu"
[[rounding]]
asset = "USD"
scale = 2
[[price_book]]
id = "list"
currency = "USD"
[[price_book.price]]
sku = "m-input"
effective_at = "2026-01-01T00:00:00Z"
model = "per_unit"
per = "1000000"
unit_price = "0.15"
[[price_book.price]]
sku = "h100"
effective_at = "2026-01-01T00:00:00Z"
model = "graduated"
per = "3600"
tiers = [{ up_to = "360000", unit_price = "2.10" }, { unit_price = "1.90" }]
[[contract]]
id = "standard"
default = true
price_book = "list"
effective_at = "2026-01-01T00:00:00Z"
"#;

fn version(text: &str) -> Version {
    Version::check(&[SourceFile { name: "all.toml".to_owned(), text: text.to_owned() }]).unwrap_or_else(|problems| panic!("{problems}"))
}

/// The base with each text replaced, or with the text appended where nothing is replaced.
fn edited(edits: &[(&str, &str)]) -> String {
    let mut text = BASE.to_owned();
    for (from, to) in edits {
        if from.is_empty() {
            text.push_str(to);
        } else {
            assert_eq!(text.matches(from).count(), 1, "{from}");
            text = text.replace(from, to);
        }
    }
    text
}

/// The differences that the edits make, in words.
#[track_caller]
fn check(edits: &[(&str, &str)], words: &[&str]) {
    let found = diff(&version(BASE), &version(&edited(edits)));
    let said: Vec<&str> = found.iter().map(|difference| difference.text.as_str()).collect();
    assert_eq!(said, words);
}

const CHEAPER: &str = r#"
[[price_book.price]]
sku = "m-input"
effective_at = "2026-11-01T00:00:00Z"
model = "per_unit"
per = "1000000"
unit_price = "0.12"
"#;

/// Rows of a book stand below its head: a new one goes before the contract.
fn with_row(row: &str) -> String {
    edited(&[("[[contract]]", &format!("{row}[[contract]]"))])
}

#[track_caller]
fn check_row(row: &str, words: &[&str]) {
    check(&[("[[contract]]", &format!("{row}[[contract]]"))], words);
}

#[test]
fn a_version_does_not_differ_from_itself() {
    check(&[], &[]);
}

#[test]
fn a_price_that_changes_is_said_once_with_what_it_was() {
    check_row(CHEAPER, &["input tokens of model m: 0.15 → 0.12 USD per 1M from 2026-11-01"]);
    check(&[("unit_price = \"0.15\"", "unit_price = \"0.16\"")], &["input tokens of model m: 0.15 → 0.16 USD per 1M from 2026-01-01"]);
    check(
        &[("per = \"1000000\"\nunit_price = \"0.15\"", "per = \"1000\"\nunit_price = \"0.00016\"")],
        &["input tokens of model m: 0.15 USD per 1M → 0.00016 USD per 1k from 2026-01-01"],
    );
    check(
        &[("unit_price = \"1.90\"", "unit_price = \"1.80\"")],
        &["h100: graduated: above 360k: 1.9 → 1.8 USD per 3600 gpu-second from 2026-01-01"],
    );
    check(
        &[("up_to = \"360000\"", "up_to = \"720000\"")],
        &["h100: graduated: up to 360k: 2.1, above 360k: 1.9 USD per 3600 gpu-second → \
           graduated: up to 720k: 2.1, above 720k: 1.9 USD per 3600 gpu-second from 2026-01-01"],
    );
}

#[test]
fn what_a_moved_or_repeated_row_means_for_usage_is_said() {
    let moved = "sku = \"m-input\"\neffective_at = \"2026-02-01T00:00:00Z\"";
    check(
        &[("sku = \"m-input\"\neffective_at = \"2026-01-01T00:00:00Z\"", moved)],
        &["input tokens of model m: 0.15 USD per 1M → no price from 2026-01-01 until 2026-02-01"],
    );
    let repeated = CHEAPER.replace("0.12", "0.15");
    check_row(&repeated, &["input tokens of model m: row list:m-input:2026-11-01T00:00:00Z repeats the price from 2026-11-01"]);
    let named = "sku = \"m-input\"\nid = \"january\"";
    check(
        &[("sku = \"m-input\"\n", &format!("{named}\n"))],
        &["input tokens of model m: row list:m-input:2026-01-01T00:00:00Z is named january from 2026-01-01"],
    );
    // A correction of a month in the middle.
    let corrected = format!("{}{}", CHEAPER.replace("11-01", "03-01"), CHEAPER.replace("11-01", "04-01").replace("0.12", "0.15"));
    check_row(&corrected, &["input tokens of model m: 0.15 → 0.12 USD per 1M from 2026-03-01 until 2026-04-01"]);
}

#[test]
fn documents_are_compared_field_by_field() {
    check(
        &[
            ("dimensions = { model = \"model\" }", "dimensions = { model = \"name\", region = \"region\" }"),
            ("value = \"input_tokens\"\n", "value = \"tokens\"\nnegative = \"accept\"\n"),
            ("family = \"gpu\"", "family = \"compute\""),
            ("scale = 2", "scale = 4\nmode = \"half_even\""),
            ("id = \"gpu-second\"\n", "id = \"gpu-second\"\ndescription = \"one second of one GPU\"\n"),
            ("default = true", "organization = \"acme\""),
        ],
        &[
            "contract standard: for every organization without a contract of its own is removed",
            "contract standard: organization acme is added",
            "meter input: dimension model model → name",
            "meter input: dimension region region is added",
            "meter input: negative values quarantined → accepted",
            "meter input: value input_tokens → tokens",
            "rounding of USD: decimal places 2 → 4",
            "rounding of USD: mode half_away_from_zero → half_even",
            "sku h100: family gpu → compute",
            "unit gpu-second: description one second of one GPU is added",
        ],
    );
}

#[test]
fn documents_that_come_and_go_are_said_with_what_they_say() {
    let more = r#"
[[meter]]
id = "requests"
event_type = "llm.request"
aggregation = "count"
unit = "token"
[[sku]]
id = "requests"
family = "llm"
meter = "requests"
[[price_book]]
id = "acme"
currency = "USD"
[[price_book.price]]
sku = "requests"
effective_at = "2026-12-01T00:00:00Z"
model = "package"
size = "1000"
package_price = "1"
[[contract]]
id = "acme-2026"
organization = "acme"
price_book = "acme"
effective_at = "2026-12-01T06:00:00Z"
"#;
    let words = [
        "contract acme-2026 is added: billing period month, from 2026-12-01T06:00:00Z, organization acme, price book acme",
        "meter requests is added: aggregation count, event type llm.request, negative values quarantined, unit token",
        "price book acme is added: currency USD",
        "price book acme, requests: no price → 1 USD per begun package of 1k token from 2026-12-01",
        "sku requests is added: family llm, meter requests",
    ];
    check(&[("", more)], &words);
    let removed = diff(&version(&edited(&[("", more)])), &version(BASE));
    let said: Vec<&str> = removed.iter().map(|difference| difference.text.as_str()).collect();
    assert_eq!(said.len(), 4, "{said:?}");
    assert_eq!(said[2], "price book acme is removed: currency USD");
}

#[test]
fn every_model_has_words() {
    let version = Version::read(&std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/models")).unwrap();
    let empty = version_without_prices(&version);
    let mut report = String::new();
    for difference in diff(&empty, &version) {
        writeln!(report, "{}", difference.text).unwrap();
    }
    crate::golden::check_frozen("models.diff.txt", &report);
}

/// The same documents, each book with its first three prices alone, which terms of contracts name.
fn version_without_prices(version: &Version) -> Version {
    let documents = version.documents().map(|document| {
        let text = document.to_toml();
        match text.match_indices("\n[[price_book.price]]").nth(3) {
            Some((end, _)) if document.kind() == Kind::PriceBook => text[..end].to_owned(),
            _ => text,
        }
    });
    self::version(&documents.collect::<Vec<_>>().join("\n"))
}

#[test]
fn only_units_and_descriptions_are_no_money() {
    let money = |edits: &[(&str, &str)]| diff(&version(BASE), &version(&edited(edits))).iter().any(|difference| difference.money);
    assert!(!money(&[("id = \"token\"\n", "id = \"token\"\nscale = 0\n")]));
    assert!(!money(&[("description = \"input tokens of model m\"", "description = \"input\"")]));
    for edit in [
        ("scale = 2", "scale = 3"),
        ("family = \"gpu\"", "family = \"compute\""),
        ("0.15", "0.14"),
        ("default = true", "organization = \"a\""),
    ] {
        assert!(money(&[edit]), "{edit:?}");
    }
}

fn instant(text: &str) -> Instant {
    Instant::parse(text).unwrap()
}

#[test]
fn the_price_of_a_sku_or_of_a_reading_is_the_one_that_rating_takes() {
    let own = "[[contract]]\nid = \"acme\"\norganization = \"acme\"\nprice_book = \"list\"\neffective_at = \"2026-06-01T00:00:00Z\"\n";
    let version = version(&(with_row(CHEAPER) + own));
    let sku = Priced::Sku("m-input".parse().unwrap());
    let reading = |model: &str| Priced::Reading("input".parse().unwrap(), Dimensions::new([("model".into(), model.into())]));
    let ask = |priced: &Priced, under: &Under, at: &str| {
        price_at(&version, priced, under, instant(at))
            .map(|stated| (stated.contract.to_string(), stated.words))
            .map_err(|error| error.to_string())
    };
    let (before, after) = (
        "input tokens of model m: 0.15 USD per 1M from 2026-01-01 until 2026-11-01".to_owned(),
        "input tokens of model m: 0.12 USD per 1M from 2026-11-01".to_owned(),
    );
    let standard = || "standard".to_owned();
    assert_eq!(ask(&sku, &Under::Default, "2026-10-31T23:59:59.999999Z"), Ok((standard(), before.clone())));
    assert_eq!(ask(&reading("m"), &Under::Default, "2026-11-01T00:00:00Z"), Ok((standard(), after.clone())));
    let [acme, globex] = ["acme", "globex"].map(|name| Under::Organization(name.parse().unwrap()));
    assert_eq!(ask(&sku, &acme, "2026-12-01T00:00:00Z"), Ok(("acme".to_owned(), after)));
    assert_eq!(ask(&sku, &globex, "2026-05-01T00:00:00Z"), Ok((standard(), before)));
    for (priced, under, at, error) in [
        (&sku, &acme, "2026-05-01T00:00:00Z", "no contract binds organization acme for usage at 2026-05-01T00:00:00Z"),
        (
            &sku,
            &Under::Contract("acme".parse().unwrap()),
            "2026-05-01T00:00:00Z",
            "contract \"acme\" begins at 2026-06-01T00:00:00Z: it prices no usage at 2026-05-01T00:00:00Z",
        ),
        (&sku, &Under::Contract("nobody".parse().unwrap()), "2026-05-01T00:00:00Z", "there is no contract \"nobody\" in the version"),
        (&Priced::Sku("x".parse().unwrap()), &Under::Default, "2026-05-01T00:00:00Z", "there is no sku \"x\" in the version"),
        (
            &reading("other"),
            &Under::Default,
            "2026-05-01T00:00:00Z",
            "price book \"list\" prices no sku that takes such a reading of meter \"input\": it is unpriced",
        ),
        (
            &Priced::Reading("nothing".parse().unwrap(), Dimensions::new([])),
            &Under::Default,
            "2026-05-01T00:00:00Z",
            "there is no meter \"nothing\" in the version",
        ),
    ] {
        assert_eq!(ask(priced, under, at), Err(error.to_owned()));
    }
    let early = version_of_one("2026-07-01T00:00:00Z");
    let unpriced = price_at(&early, &sku, &Under::Default, instant("2026-06-01T00:00:00Z")).unwrap_err();
    assert!(matches!(unpriced, NoPrice::Unpriced { .. }), "{unpriced}");
}

fn version_of_one(effective_at: &str) -> Version {
    version(&edited(&[(
        "sku = \"m-input\"\neffective_at = \"2026-01-01T00:00:00Z\"",
        &format!("sku = \"m-input\"\neffective_at = \"{effective_at}\""),
    )]))
}

/// Rows by month, each with a price of a few.
fn rows() -> impl Strategy<Value = Vec<(u32, u32)>> {
    proptest::collection::btree_map(1_u32..12, 1_u32..4, 0..5).prop_map(|rows| rows.into_iter().collect())
}

fn with_rows(rows: &[(u32, u32)]) -> Version {
    let rows = rows.iter().fold(String::new(), |mut text, (month, price)| {
        let row = CHEAPER.replace("2026-11-01", &format!("2027-{month:02}-01")).replace("0.12", &price.to_string());
        writeln!(text, "{row}").unwrap();
        text
    });
    version(&with_row(&rows))
}

/// What the rows say in a month, by looking at each of them: 0 stands for the price before them all.
fn price_in(rows: &[(u32, u32)], month: u32) -> u32 {
    rows.iter().filter(|(from, _)| *from <= month).max().map_or(0, |(_, price)| *price)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn a_difference_covers_an_instant_exactly_where_the_price_differs(old in rows(), new in rows()) {
        let (from, to) = (with_rows(&old), with_rows(&new));
        let found = diff(&from, &to);
        prop_assert_eq!(found.is_empty(), from.address() == to.address());
        for month in 1..=12_u32 {
            let at = instant(&format!("2027-{month:02}-15T00:00:00Z"));
            let covers = found.iter().filter(|difference| {
                difference.effective_at.is_some_and(|from| from <= at)
                    && difference.until.is_none_or(|until| at < until)
                    && !difference.text.contains(" row ")
            });
            let covers: Vec<_> = covers.collect();
            let (before, after) = (price_in(&old, month), price_in(&new, month));
            prop_assert_eq!(covers.len(), usize::from(before != after), "{:?}", covers);
            let named = |price: u32| if price == 0 { "0.15 USD per 1M".to_owned() } else { format!("{price} USD per 1M") };
            for difference in covers {
                prop_assert_eq!(difference.before.clone(), Some(named(before)));
                prop_assert_eq!(difference.after.clone(), Some(named(after)));
            }
        }
    }
}
