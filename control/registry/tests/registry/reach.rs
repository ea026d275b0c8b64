//! Which changes reach back over what, and what is said about it.

use std::fmt::Write as _;
use std::time::Duration;

use platform_registry::{RatedKey, SourceFile, Version, compile, reach_back, refuse_reach_back};
use shared_types::Instant;

/// Two models under a default contract and one under a contract of its own, priced in two books.
const BASE: &str = r#"
[[unit]]
id = "token"
description = "a token"
[[meter]]
id = "tokens"
event_type = "llm.request"
aggregation = "sum"
value = "tokens"
unit = "token"
dimensions = { model = "model", region = "region" }
[[sku]]
id = "any"
family = "llm"
meter = "tokens"
[[sku]]
id = "m1"
family = "llm"
meter = "tokens"
match = { model = "m1" }
[[rounding]]
asset = "USD"
scale = 2
[[price_book]]
id = "list"
currency = "USD"
[[price_book.price]]
sku = "any"
effective_at = "2026-01-01T00:00:00Z"
model = "per_unit"
unit_price = "3"
[[price_book.price]]
id = "m1-january"
sku = "m1"
effective_at = "2026-01-01T00:00:00Z"
model = "per_unit"
unit_price = "2"
[[price_book]]
id = "special"
currency = "USD"
[[price_book.price]]
sku = "m1"
effective_at = "2026-01-01T00:00:00Z"
model = "per_unit"
unit_price = "1"
[[contract]]
id = "standard"
default = true
price_book = "list"
effective_at = "2026-01-01T00:00:00Z"
[[contract]]
id = "acme-2026"
organization = "acme"
price_book = "special"
effective_at = "2026-03-01T00:00:00Z"
"#;

fn version(text: &str) -> Version {
    let file = SourceFile { name: "all.toml".to_owned(), text: text.to_owned() };
    Version::check(&[file]).unwrap_or_else(|problems| panic!("{problems}"))
}

fn key(organization: &str, contract: &str, sku: &str, last_at: &str) -> RatedKey {
    RatedKey {
        organization: organization.parse().unwrap(),
        contract: contract.parse().unwrap(),
        sku: sku.parse().unwrap(),
        service_period: Instant::parse(last_at).unwrap().month(),
        last_at: Instant::parse(last_at).unwrap(),
    }
}

fn rated() -> Vec<RatedKey> {
    vec![
        key("acme", "acme-2026", "m1", "2026-05-05T00:00:00Z"),
        key("globex", "standard", "m1", "2026-06-06T00:00:00Z"),
        key("initech", "standard", "m1", "2026-06-01T00:00:00Z"),
        key("globex", "standard", "any", "2026-04-04T00:00:00Z"),
    ]
}

/// Publishing `new` over the base: the changes, one a line, then `published` or the refusal.
#[track_caller]
fn check(new: &str, expected: &str) {
    let reaches = reach_back(&version(BASE), &version(new));
    let mut found = String::new();
    for reach in &reaches {
        let at = reach.effective_at.map_or_else(|| "quiet".to_owned(), |at| at.to_string());
        writeln!(found, "{at} {}", reach.what).unwrap();
    }
    match refuse_reach_back(&reaches, &rated()) {
        Ok(()) => found += "published",
        Err(refusal) => found += &refusal.to_string(),
    }
    let expected: Vec<&str> = expected.trim().lines().map(|line| line.strip_prefix("        ").unwrap_or(line)).collect();
    assert!(found == expected.join("\n"), "found:\n{found}");
}

#[track_caller]
fn replaced(from: &str, to: &str) -> String {
    assert!(BASE.contains(from), "{from}");
    BASE.replacen(from, to, 1)
}

fn with_price(row: &str) -> String {
    replaced("[[price_book]]\nid = \"special\"", &format!("[[price_book.price]]\n{row}\n[[price_book]]\nid = \"special\""))
}

#[test]
fn nothing_changes_nothing() {
    check(BASE, "published");
}

#[test]
fn a_price_after_the_last_usage_is_published() {
    check(
        &with_price("sku = \"m1\"\neffective_at = \"2026-06-06T00:00:00.000001Z\"\nmodel = \"per_unit\"\nunit_price = \"9\""),
        r#"
        2026-06-06T00:00:00.000001Z price "list:m1:2026-06-06T00:00:00.000001Z" of sku "m1" is added
        published"#,
    );
}

#[test]
fn a_price_at_the_last_usage_is_refused_with_key_and_instant() {
    check(
        &with_price("sku = \"m1\"\neffective_at = \"2026-06-01T00:00:00Z\"\nmodel = \"per_unit\"\nunit_price = \"9\""),
        r#"
        2026-06-01T00:00:00Z price "list:m1:2026-06-01T00:00:00Z" of sku "m1" is added
        the registry version reaches back over usage that was already rated
        price "list:m1:2026-06-01T00:00:00Z" of sku "m1" is added: this reaches back to 2026-06-01T00:00:00Z, but usage of organization globex under contract standard for sku m1 was already rated up to 2026-06-06T00:00:00Z (and one more key)
            remedy: give it an effective_at after 2026-06-06T00:00:00Z, or publish with --rerate: that usage is rated again"#,
    );
}

#[test]
fn altering_renaming_or_removing_a_price_that_keys_were_rated_with_is_refused() {
    check(
        &replaced("unit_price = \"2\"", "unit_price = \"2.5\""),
        r#"
        2026-01-01T00:00:00Z price "m1-january" of sku "m1" is altered
        the registry version reaches back over usage that was already rated
        price "m1-january" of sku "m1" is altered: this reaches back to 2026-01-01T00:00:00Z, but usage of organization globex under contract standard for sku m1 was already rated up to 2026-06-06T00:00:00Z (and one more key)
            remedy: leave price "m1-january" as it was and give a new price an effective_at after 2026-06-06T00:00:00Z, or publish with --rerate: that usage is rated again"#,
    );
    check(
        &replaced("id = \"m1-january\"\n", ""),
        r#"
        2026-01-01T00:00:00Z price "m1-january" of sku "m1" is altered and is now named "list:m1:2026-01-01T00:00:00Z"
        the registry version reaches back over usage that was already rated
        price "m1-january" of sku "m1" is altered and is now named "list:m1:2026-01-01T00:00:00Z": this reaches back to 2026-01-01T00:00:00Z, but usage of organization globex under contract standard for sku m1 was already rated up to 2026-06-06T00:00:00Z (and one more key)
            remedy: leave price "m1-january" as it was and give a new price an effective_at after 2026-06-06T00:00:00Z, or publish with --rerate: that usage is rated again"#,
    );
    check(
        &replaced(
            "[[price_book.price]]\nid = \"m1-january\"\nsku = \"m1\"\neffective_at = \"2026-01-01T00:00:00Z\"\nmodel = \"per_unit\"\nunit_price = \"2\"\n",
            "",
        ),
        r#"
        2026-01-01T00:00:00Z price "m1-january" of sku "m1" is removed
        the registry version reaches back over usage that was already rated
        price "m1-january" of sku "m1" is removed: this reaches back to 2026-01-01T00:00:00Z, but usage of organization globex under contract standard for sku m1 was already rated up to 2026-06-06T00:00:00Z (and one more key)
            remedy: leave price "m1-january" as it was and give a new price an effective_at after 2026-06-06T00:00:00Z, or publish with --rerate: that usage is rated again"#,
    );
}

#[test]
fn meters_reach_back_to_the_beginning() {
    check(
        &replaced("value = \"tokens\"", "value = \"usage.tokens\""),
        r#"
        1970-01-01T00:00:00Z meter "tokens" is altered
        the registry version reaches back over usage that was already rated
        meter "tokens" is altered: this reaches back to all usage from the beginning, but usage of organization globex under contract standard for sku m1 was already rated up to 2026-06-06T00:00:00Z (and 3 more keys)
            remedy: leave meter "tokens" as it was, or publish with --rerate: the events are read again, and that usage is rated again"#,
    );
}

#[test]
fn what_a_sku_matches_reaches_back_to_the_beginning() {
    check(
        &replaced("match = { model = \"m1\" }", "match = { model = \"m2\" }"),
        r#"
        1970-01-01T00:00:00Z match of sku "m1" is altered
        1970-01-01T00:00:00Z in price book "list", sku "m1" takes readings from sku "any"
        the registry version reaches back over usage that was already rated
        match of sku "m1" is altered: this reaches back to all usage from the beginning, but usage of organization globex under contract standard for sku m1 was already rated up to 2026-06-06T00:00:00Z (and 2 more keys)
            remedy: leave sku "m1" as it was, price another SKU in a new price book and give the contract that binds it an effective_at after 2026-06-06T00:00:00Z, or publish with --rerate: that usage is rated again
        in price book "list", sku "m1" takes readings from sku "any": this reaches back to all usage from the beginning, but usage of organization globex under contract standard for sku any was already rated up to 2026-04-04T00:00:00Z
            remedy: price sku "m1" in a new price book only and give the contract that binds it an effective_at after 2026-04-04T00:00:00Z, or publish with --rerate: that usage is rated again"#,
    );
}

#[test]
fn a_new_sku_that_wins_over_a_rated_one_is_refused_whenever_its_price_begins() {
    let sku = "[[sku]]\nid = \"m2\"\nfamily = \"llm\"\nmeter = \"tokens\"\nmatch = { model = \"m2\" }\n";
    let text = with_price("sku = \"m2\"\neffective_at = \"2027-01-01T00:00:00Z\"\nmodel = \"per_unit\"\nunit_price = \"9\"") + sku;
    check(
        &text,
        r#"
        quiet sku "m2" is added
        2027-01-01T00:00:00Z price "list:m2:2027-01-01T00:00:00Z" of sku "m2" is added
        1970-01-01T00:00:00Z in price book "list", sku "m2" takes readings from sku "any"
        the registry version reaches back over usage that was already rated
        in price book "list", sku "m2" takes readings from sku "any": this reaches back to all usage from the beginning, but usage of organization globex under contract standard for sku any was already rated up to 2026-04-04T00:00:00Z
            remedy: price sku "m2" in a new price book only and give the contract that binds it an effective_at after 2026-04-04T00:00:00Z, or publish with --rerate: that usage is rated again"#,
    );
}

#[test]
fn another_currency_reaches_back_for_the_contracts_of_the_book() {
    let text = replaced("id = \"special\"\ncurrency = \"USD\"", "id = \"special\"\ncurrency = \"EUR\"")
        + "[[rounding]]\nasset = \"EUR\"\nscale = 2\n";
    check(
        &text,
        r#"
        1970-01-01T00:00:00Z currency of price book "special" changes from USD to EUR
        quiet rounding of EUR is added
        the registry version reaches back over usage that was already rated
        currency of price book "special" changes from USD to EUR: this reaches back to all usage from the beginning, but usage of organization acme under contract acme-2026 for sku m1 was already rated up to 2026-05-05T00:00:00Z
            remedy: leave price book "special" as it was, write a new one and give the contract that binds it an effective_at after 2026-05-05T00:00:00Z; rating again cannot carry this out"#,
    );
}

#[test]
fn contracts_count_by_what_they_mean_for_each_organization() {
    let contract =
        |covers: &str, at: &str| format!("{BASE}[[contract]]\nid = \"new\"\n{covers}\nprice_book = \"special\"\neffective_at = \"{at}\"\n");
    check(
        &contract("organization = \"acme\"", "2026-07-01T00:00:00Z"),
        r#"
        2026-07-01T00:00:00Z organization "acme" falls under contract "new" (price book "special") instead of contract "acme-2026" (price book "special")
        published"#,
    );
    // A contract of its own hides the default one altogether, so all its usage is concerned.
    check(
        &contract("organizations = [\"globex\", \"umbrella\"]", "2026-07-01T00:00:00Z"),
        r#"
        2026-01-01T00:00:00Z organization "globex" and 1 more fall under no contract instead of contract "standard" (price book "list")
        the registry version reaches back over usage that was already rated
        organization "globex" and 1 more fall under no contract instead of contract "standard" (price book "list"): this reaches back to 2026-01-01T00:00:00Z, but usage of organization globex under contract standard for sku m1 was already rated up to 2026-06-06T00:00:00Z (and one more key)
            remedy: leave the contracts as they were and give a new contract an effective_at after 2026-06-06T00:00:00Z, or publish with --rerate: that usage is rated again"#,
    );
    check(
        &contract("default = true", "2026-06-01T00:00:00Z"),
        r#"
        2026-06-01T00:00:00Z every organization without a contract of its own falls under contract "new" (price book "special") instead of contract "standard" (price book "list")
        the registry version reaches back over usage that was already rated
        every organization without a contract of its own falls under contract "new" (price book "special") instead of contract "standard" (price book "list"): this reaches back to 2026-06-01T00:00:00Z, but usage of organization globex under contract standard for sku m1 was already rated up to 2026-06-06T00:00:00Z (and one more key)
            remedy: leave the contracts as they were and give a new contract an effective_at after 2026-06-06T00:00:00Z, or publish with --rerate: that usage is rated again"#,
    );
    check(
        &replaced("effective_at = \"2026-03-01T00:00:00Z\"", "effective_at = \"2026-05-06T00:00:00Z\""),
        r#"
        2026-03-01T00:00:00Z organization "acme" falls under no contract instead of contract "acme-2026" (price book "special")
        the registry version reaches back over usage that was already rated
        organization "acme" falls under no contract instead of contract "acme-2026" (price book "special"): this reaches back to 2026-03-01T00:00:00Z, but usage of organization acme under contract acme-2026 for sku m1 was already rated up to 2026-05-05T00:00:00Z
            remedy: leave the contracts as they were and give a new contract an effective_at after 2026-05-05T00:00:00Z, or publish with --rerate: that usage is rated again"#,
    );
}

#[test]
fn what_rates_nothing_differently_is_told_and_published() {
    let text = replaced("description = \"a token\"\n", "").replace("scale = 2", "scale = 3");
    check(
        &text,
        r#"
        quiet rounding of USD is altered
        quiet unit "token" is altered
        published"#,
    );
}

#[test]
fn three_thousand_skus_with_three_prices_each_are_checked_and_compiled_quickly() {
    let mut text = BASE.to_owned();
    for number in 0..3_000 {
        write!(text, "[[sku]]\nid = \"sku-{number}\"\nfamily = \"llm\"\nmeter = \"tokens\"\nmatch = {{ model = \"x{number}\" }}\n")
            .unwrap();
    }
    text += "[[price_book]]\nid = \"large\"\ncurrency = \"USD\"\n";
    for number in 0..3_000 {
        for month in ["2026-01", "2026-02", "2026-03"] {
            write!(
                text,
                "[[price_book.price]]\nsku = \"sku-{number}\"\neffective_at = \"{month}-01T00:00:00Z\"\nmodel = \"per_unit\"\nunit_price = \"1\"\n"
            )
            .unwrap();
        }
    }
    let began = std::time::Instant::now();
    let large = version(&text);
    let compiled = compile(&large).unwrap();
    let lines = &compiled.plan.books[0].lines[&"tokens".parse().unwrap()];
    assert_eq!((lines.len(), lines[0].prices.len()), (3_000, 3));
    assert_eq!(reach_back(&version(BASE), &large).len(), 3_000 + 9_000);
    assert!(refuse_reach_back(&reach_back(&version(BASE), &large), &rated()).is_ok());
    // Quadratic work would take minutes.
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
}

/// A file system whose time is billed by states, at a rate that has a price and one that has none.
const LEASED: &str = r#"
[[unit]]
id = "gib"
[[billable_states]]
id = "file-systems"
states = ["mounted"]
state = "state"
[[billable_states.meter]]
meter = "size"
rates = { mounted = "kept" }
[[meter]]
id = "size"
event_type = "file-system"
aggregation = "prorated"
value = "gib"
unit = "gib"
billable = "file-systems"
[[sku]]
id = "kept"
family = "storage"
meter = "size"
match = { rate = "kept" }
[[sku]]
id = "spare"
family = "storage"
meter = "size"
match = { rate = "spare" }
[[rounding]]
asset = "USD"
scale = 2
[[price_book]]
id = "list"
currency = "USD"
[[price_book.price]]
sku = "kept"
effective_at = "2026-01-01T00:00:00Z"
model = "per_unit"
unit_price = "3"
[[contract]]
id = "standard"
default = true
price_book = "list"
effective_at = "2026-01-01T00:00:00Z"
"#;

/// Cuts by which a version is refused over another, as instant and key; one that is also another change is told as that too.
#[track_caller]
fn check_cuts(old: &str, new: &str, expected: &[&str]) {
    let rated = [
        key("acme", "standard", "kept", "2026-05-20T11:59:59.999999Z"),
        key("acme", "standard", "kept", "2026-06-20T11:59:59.999999Z"),
        key("globex", "standard", "kept", "2026-06-08T00:00:00Z"),
    ];
    let reaches = reach_back(&version(old), &version(new));
    let found: Vec<String> = match refuse_reach_back(&reaches, &rated) {
        Ok(()) => Vec::new(),
        Err(refusal) => refusal
            .conflicts
            .iter()
            .filter_map(|conflict| {
                let cut = conflict.reach.what.strip_prefix("billed time of meter \"size\" is ")?;
                Some(format!("{cut}, {} {} of {}", conflict.key.organization, conflict.key.last_at, conflict.keys))
            })
            .collect(),
    };
    assert_eq!(found, expected);
}

#[test]
fn what_begins_inside_billed_time_reaches_every_key_of_the_meter_in_that_month() {
    let spare = |at: &str| {
        let row = format!(
            "[[price_book.price]]\nsku = \"spare\"\neffective_at = \"{at}\"\nmodel = \"per_unit\"\nunit_price = \"9\"\n[[contract]]"
        );
        LEASED.replacen("[[contract]]", &row, 1)
    };
    let begins = "cut where a price or contract begins: ";
    check_cuts(LEASED, &spare("2026-06-08T00:00:00Z"), &[&format!("{begins}2026-06-08T00:00:00Z, acme 2026-06-20T11:59:59.999999Z of 2")]);
    check_cuts(LEASED, &spare("2026-06-20T11:00:00Z"), &[&format!("{begins}2026-06-20T11:00:00Z, acme 2026-06-20T11:59:59.999999Z of 1")]);
    // At the end of the last piece, in a month without time, and where every month begins.
    for at in ["2026-06-20T12:00:00Z", "2026-05-20T12:00:00Z", "2026-04-09T00:00:00Z", "2026-06-01T00:00:00Z"] {
        check_cuts(LEASED, &spare(at), &[]);
    }
    // Where a piece ended it goes on.
    let no_more = "cut no more where a price or contract began: ";
    let ended = format!("{no_more}2026-06-20T12:00:00Z, acme 2026-06-20T11:59:59.999999Z of 1");
    check_cuts(&spare("2026-06-20T12:00:00Z"), LEASED, &[&ended]);
    check_cuts(&spare("2026-06-20T12:00:00.000001Z"), LEASED, &[]);
}

#[test]
fn an_organization_is_cut_where_its_own_contracts_and_their_books_begin() {
    let own = |contract: &str, price: &str| {
        format!(
            "{LEASED}[[price_book]]\nid = \"own\"\ncurrency = \"USD\"\n[[price_book.price]]\nsku = \"kept\"\neffective_at = \"{price}\"\nmodel = \"per_unit\"\nunit_price = \"2\"\n\
             [[contract]]\nid = \"acme-now\"\norganization = \"acme\"\nprice_book = \"list\"\neffective_at = \"2026-01-01T00:00:00Z\"\n\
             [[contract]]\nid = \"acme-own\"\norganization = \"acme\"\nprice_book = \"own\"\neffective_at = \"{contract}\"\n"
        )
    };
    let old = own("2026-09-01T00:00:00Z", "2026-01-01T00:00:00Z");
    let begins = "cut where a price or contract begins: ";
    // A contract that begins later has prices that begin inside what was rated: nothing else would reach that.
    let found = format!("{begins}2026-06-08T00:00:00Z, acme 2026-06-20T11:59:59.999999Z of 1");
    check_cuts(&old, &own("2026-09-01T00:00:00Z", "2026-06-08T00:00:00Z"), &[&found]);
    let found = format!("{begins}2026-06-10T00:00:00Z, acme 2026-06-20T11:59:59.999999Z of 1");
    check_cuts(&old, &own("2026-06-10T00:00:00Z", "2026-01-01T00:00:00Z"), &[&found]);
}
