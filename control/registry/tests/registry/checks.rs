//! Each thing that a registry must not say is refused with file, line and remedy: one mistake at a time, in an otherwise right folder.

use platform_registry::{Problem, SourceFile, Version};

const RIGHT: &str = r#"
[[unit]]
id = "token"
[[meter]]
id = "tokens"
event_type = "llm.request"
aggregation = "sum"
value = "tokens"
unit = "token"
[[sku]]
id = "tokens"
family = "llm"
meter = "tokens"
[[rounding]]
asset = "USD"
scale = 2
[[price_book]]
id = "list"
currency = "USD"
[[price_book.price]]
sku = "tokens"
effective_at = "2026-01-01T00:00:00Z"
model = "graduated"
tiers = [
    { up_to = "1000", unit_price = "3" },
    { up_to = "2000", unit_price = "2" },
    { unit_price = "1" },
]
[[price_book.price]]
sku = "tokens"
effective_at = "2026-07-01T00:00:00Z"
model = "per_unit"
unit_price = "0.5"
[[contract]]
id = "first"
organization = "acme"
price_book = "list"
effective_at = "2026-01-01T00:00:00Z"
[[contract]]
id = "second"
organization = "acme"
price_book = "list"
effective_at = "2026-07-01T00:00:00Z"
"#;

/// The mistake (a text and what it becomes) is the only problem, on the line where it stands, in these words.
#[track_caller]
fn check(from: &str, to: &str, message: &str, remedy: &str) {
    assert_eq!(RIGHT.matches(from).count(), 1, "{from}");
    let text = RIGHT.replace(from, to);
    let common = from.bytes().zip(to.bytes()).take_while(|(a, b)| a == b).count();
    let at = RIGHT.find(from).unwrap() + common;
    let line = text[..at].matches('\n').count() + 1;
    let files = [SourceFile { name: "prices/all.toml".to_owned(), text }];
    let problems = Version::check(&files).unwrap_err().0;
    let [Problem { file, line: found, column, message: said, remedy: do_this }] = &problems[..] else { panic!("{problems:?}") };
    assert_eq!((file.as_str(), *found, said.as_str(), do_this.as_str()), ("prices/all.toml", Some(line), message, remedy));
    assert!(column.is_some());
}

#[test]
fn the_folder_is_right_without_a_mistake() {
    let file = SourceFile { name: "prices/all.toml".to_owned(), text: RIGHT.to_owned() };
    assert!(Version::check(&[file]).is_ok());
}

#[test]
fn a_currency_exists() {
    check(
        "currency = \"USD\"",
        "currency = \"EUR\"",
        "price book \"list\" names rounding \"EUR\", which does not exist",
        "add a [[rounding]] with asset = \"EUR\", or correct the name",
    );
}

#[test]
fn references_lead_somewhere() {
    check(
        "unit = \"token\"",
        "unit = \"tokem\"",
        "meter \"tokens\" names unit \"tokem\", which does not exist",
        "did you mean \"token\"? add a [[unit]] with id = \"tokem\", or correct the name",
    );
    check(
        "meter = \"tokens\"",
        "meter = \"words\"",
        "sku \"tokens\" names meter \"words\", which does not exist",
        "add a [[meter]] with id = \"words\", or correct the name",
    );
    check(
        "sku = \"tokens\"\neffective_at = \"2026-07-01",
        "sku = \"gpu\"\neffective_at = \"2026-07-01",
        "price \"list:gpu:2026-07-01T00:00:00Z\" names sku \"gpu\", which does not exist",
        "add a [[sku]] with id = \"gpu\", or correct the name",
    );
    check(
        "price_book = \"list\"\neffective_at = \"2026-07-01",
        "price_book = \"lost\"\neffective_at = \"2026-07-01",
        "contract \"second\" names price_book \"lost\", which does not exist",
        "did you mean \"list\"? add a [[price_book]] with id = \"lost\", or correct the name",
    );
}

#[test]
fn tiers_rise_and_the_last_one_is_open() {
    check(
        "up_to = \"2000\"",
        "up_to = \"1000\"",
        "up_to of tier 2 of the price of sku \"tokens\" is 1000, not above 1000",
        "write the tiers by rising bounds",
    );
    check(
        "    { unit_price = \"1\" },\n",
        "    { up_to = \"9000\", unit_price = \"1\" },\n",
        "tier 3 of the price of sku \"tokens\" is the last one and ends",
        "remove up_to, or add a tier without up_to: usage beyond the last bound needs a price",
    );
}

#[test]
fn prices_and_contracts_do_not_overlap() {
    check(
        "effective_at = \"2026-07-01T00:00:00Z\"\nmodel",
        "effective_at = \"2026-01-01T01:00:00+01:00\"\nmodel",
        "sku \"tokens\" has two prices from 2026-01-01T00:00:00Z on in book \"list\", first at prices/all.toml:20",
        "remove one of them, or give it another effective_at",
    );
    check(
        "price_book = \"list\"\neffective_at = \"2026-07-01T00:00:00Z\"",
        "price_book = \"list\"\neffective_at = \"2026-01-01T00:00:00Z\"",
        "contract \"second\" and contract \"first\" (prices/all.toml:38) both begin at 2026-01-01T00:00:00Z for organization \"acme\"",
        "give one of them another effective_at, or remove it",
    );
}

#[test]
fn contracts_name_no_contract_so_they_cannot_be_circular() {
    let fields =
        "the fields are id, organization, organizations, default, price_book, effective_at, billing_period, recurring, term, terms_over";
    check("id = \"first\"\n", "id = \"first\"\nextends = \"second\"\n", "unknown field \"extends\" in contract \"first\"", fields);
    check(
        "price_book = \"list\"\neffective_at = \"2026-01-01",
        "price_book = \"second\"\neffective_at = \"2026-01-01",
        "contract \"first\" names price_book \"second\", which does not exist",
        "add a [[price_book]] with id = \"second\", or correct the name",
    );
}

#[test]
fn numbers_are_exact_or_refused() {
    let forty = "1".repeat(40);
    check(
        "unit_price = \"0.5\"",
        &format!("unit_price = \"0{forty}\""),
        &format!("unit_price of the price of sku \"tokens\": \"0{forty}\" does not fit: at most 20 digits before the decimal point"),
        "check the digits: the number is too large to be meant",
    );
    check(
        "unit_price = \"0.5\"",
        "unit_price = \"0.5.5\"",
        "unit_price of the price of sku \"tokens\": \"0.5.5\" is not a decimal number",
        "write a plain decimal number, without exponent or plus, for example \"1234.50\"",
    );
    check(
        "unit_price = \"0.5\"",
        "unit_price = 0.5",
        "unit_price of the price of sku \"tokens\" is the number 0.5 without quotes",
        "write unit_price = \"0.5\": numbers are quoted so that no digit is lost",
    );
}

#[test]
fn numbers_are_plain_decimals() {
    let remedy = "remedy: write a plain decimal number, without exponent or plus, for example \"1234.50\"";
    for number in ["+1", "1e3", "1E-3", "-0", "-0.00", " 1", "1 ", "1.", ".5", "--1", ""] {
        let text = RIGHT.replacen("unit_price = \"0.5\"", &format!("unit_price = \"{number}\""), 1);
        let problems = Version::check(&[SourceFile { name: "registry.toml".to_owned(), text }]).expect_err(number).to_string();
        assert!(
            problems.contains("unit_price of the price of sku \"tokens\"") && problems.contains("registry.toml:"),
            "{number}: {problems}"
        );
        assert!(
            number.is_empty() || problems.contains(remedy) && problems.contains(&format!("{number:?} is not a decimal number")),
            "{problems}"
        );
    }
    for (from, to) in [("up_to = \"1000\"", "up_to = \"1e3\""), ("unit_price = \"2\"", "unit_price = \"+2\"")] {
        let text = RIGHT.replacen(from, to, 1);
        let problems = Version::check(&[SourceFile { name: "registry.toml".to_owned(), text }]).expect_err(to).to_string();
        assert!(problems.contains(remedy), "{problems}");
    }
}
