//! Which terms hold when, and which changes of closed months are refused.

use super::*;
use crate::folder::SourceFile;

const BASE: &str = r#"
[[unit]]
id = "hour"
[[meter]]
id = "hours"
event_type = "gpu"
aggregation = "sum"
value = "hours"
unit = "hour"
[[sku]]
id = "h100"
family = "gpu"
meter = "hours"
[[rounding]]
asset = "USD"
scale = 2
[[rounding]]
asset = "EUR"
scale = 2
[[price_book]]
id = "list"
currency = "USD"
price = [{ sku = "h100", effective_at = "2026-01-01T00:00:00Z", model = "per_unit", unit_price = "2" }]
[[price_book]]
id = "list-eur"
currency = "EUR"
price = [{ sku = "h100", effective_at = "2026-01-01T00:00:00Z", model = "per_unit", unit_price = "2" }]
"#;

fn contract(id: &str, covers: &str, from: &str, terms: &str) -> String {
    format!(
        "[[contract]]\nid = \"{id}\"\n{covers}\nprice_book = \"list\"\neffective_at = \"{from}T00:00:00Z\"\nbilling_period = \"month\"\n{terms}"
    )
}

fn least(amount: &str) -> String {
    format!("[[contract.term]]\nid = \"least\"\nkind = \"minimum_spend\"\namount = \"{amount}\"\n")
}

const OFF: &str = "[[contract.term]]\nid = \"off\"\nkind = \"discount\"\npercent = \"10\"\n";
const ACME: &str = "organization = \"acme\"";

fn schedule(contracts: &[String]) -> TermSchedule {
    let file = SourceFile { name: "registry.toml".to_owned(), text: format!("{BASE}{}", contracts.concat()) };
    TermSchedule::of(&Version::check(&[file]).unwrap_or_else(|problems| panic!("{problems}")))
}

fn month(text: &str) -> Month {
    Month::parse(text).unwrap()
}

#[test]
fn a_contract_has_its_terms_until_the_next_one_and_hides_the_default() {
    let schedule = schedule(&[
        contract("everyone", "default = true", "2026-01-01", OFF),
        contract("acme-1", ACME, "2026-03-01", &least("100")),
        contract("acme-2", ACME, "2026-06-01", ""),
        contract("globex", "organization = \"globex\"", "2026-03-15", ""),
    ]);
    let of = |organization: &str| -> Vec<String> {
        let termed = schedule.of_organization(&organization.parse().unwrap()).iter();
        termed
            .map(|termed| {
                format!("{} {} {} {:?}", termed.contract, termed.currency, termed.from, termed.until.map(|month| month.to_string()))
            })
            .collect()
    };
    assert_eq!(of("acme"), ["acme-1 USD 2026-03 Some(\"2026-06\")"]);
    assert_eq!(of("globex"), Vec::<String>::new());
    assert_eq!(of("anybody"), ["everyone USD 2026-01 None"]);
    let acme = &schedule.of_organization(&"acme".parse().unwrap())[0];
    let held: Vec<bool> = ["2026-02", "2026-03", "2026-05", "2026-06"].map(|text| acme.holds_in(month(text))).into();
    assert_eq!(held, [false, true, true, false]);
}

/// What is refused once October is closed; empty where nothing is.
fn check(before: &[String], after: &[String], expected: &str) {
    let refused = schedule(before).refuse_changed(&schedule(after), month("2026-10"), |_| true);
    let said = refused.err().map(|changed| changed.to_string()).unwrap_or_default();
    if expected.is_empty() {
        assert_eq!(said, "");
    } else {
        assert!(said.contains(expected) && said.contains("remedy: leave"), "{said}");
        let another = said.contains("effective_at = \"2026-11-01T00:00:00Z\"");
        assert!(another || said.contains("leave it with the contract that has default = true"), "{said}");
    }
}

#[test]
fn terms_of_closed_months_stay_as_they_were() {
    let old = [contract("acme-1", ACME, "2026-03-01", &least("100"))];
    check(&old, &old, "");
    let words = old[0].replace("kind =", "description = \"the floor\"\nkind =");
    check(&old, &[words], "");
    check(&old, &[old[0].clone(), contract("acme-2", ACME, "2026-11-01", &least("200"))], "");
    let acme = "contract acme-1 that organization acme has in ";
    check(&old, &[contract("acme-1", ACME, "2026-03-01", &least("101"))], &format!("{acme}2026-03"));
    check(&old, &[contract("acme-1", ACME, "2026-03-01", "")], &format!("{acme}2026-03"));
    check(&old, &[contract("acme-1", ACME, "2026-05-01", &least("100"))], &format!("{acme}2026-03"));
    check(&old, &[contract("acme-1", ACME, "2026-01-01", &least("100"))], &format!("{acme}2026-01"));
    check(&old, &[old[0].replace("\"list\"", "\"list-eur\"")], &format!("{acme}2026-03"));
    check(&old, &[old[0].clone(), contract("acme-2", ACME, "2026-10-01", "")], &format!("{acme}2026-10"));
    check(&old, &[old[0].replace("billing_period", "terms_over = \"usage\"\nbilling_period")], &format!("{acme}2026-03"));
    // Months that are looked at together, and how what they came to was rounded, stay too.
    let together = old[0].replace("kind =", "months = 12\nkind =");
    check(&old, std::slice::from_ref(&together), &format!("{acme}2026-03"));
    let finer = |contract: &str| {
        let file =
            SourceFile { name: "registry.toml".to_owned(), text: format!("{}{contract}", BASE.replacen("scale = 2", "scale = 3", 1)) };
        TermSchedule::of(&Version::check(&[file]).unwrap())
    };
    let refused =
        schedule(std::slice::from_ref(&together)).refuse_changed(&finer(&together), month("2026-10"), |_| true).unwrap_err().to_string();
    assert!(refused.contains("how its currency is rounded") && refused.contains("rounding of USD: 2 places, "), "{refused}");
    // The next contract begins behind the months that are looked at together.
    assert!(refused.contains("effective_at = \"2027-03-01T00:00:00Z\""), "{refused}");
    assert_eq!(schedule(&old).refuse_changed(&finer(&old[0]), month("2026-10"), |_| true), Ok(()));
    // Terms for closed months are not added either, nor hidden by a contract of one's own.
    check(&[], &old, &format!("{acme}2026-03"));
    let everyone = [contract("everyone", "default = true", "2026-01-01", OFF)];
    check(&everyone, &[], "contract everyone that organizations without a contract of their own have in 2026-01");
    check(
        &everyone,
        &[everyone[0].clone(), contract("acme-1", ACME, "2026-11-01", "")],
        "contract everyone that organization acme has in 2026-01",
    );
    // An organization without usage was invoiced by nothing: it may have a contract of its own, but no terms in closed months.
    let refused = |from: &str, terms: &str| {
        let new = schedule(&[everyone[0].clone(), contract("acme-1", ACME, from, terms)]);
        schedule(&everyone).refuse_changed(&new, month("2026-10"), |_| false).map_err(|changed| changed.to_string())
    };
    assert_eq!((refused("2026-11-01", &least("1")), refused("2026-01-01", "")), (Ok(()), Ok(())));
    assert!(refused("2026-10-01", &least("1")).unwrap_err().contains("contract acme-1 that organization acme has in 2026-10"));
    // What begins behind the closed months is free to change.
    let later = |amount: &str| [contract("acme-1", ACME, "2026-11-01", &least(amount))];
    check(&later("1"), &later("2"), "");
}
