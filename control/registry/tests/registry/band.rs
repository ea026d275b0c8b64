//! Ranges of dimensions on SKUs and parts of totals on meters: what is refused, what is kept, what reaches back.

use platform_registry::{SourceFile, Version, reach_back};

/// A SKU for short requests and one for long ones.
const BASE: &str = r#"
[[unit]]
id = "token"
[[meter]]
id = "tokens"
event_type = "llm"
aggregation = "sum"
value = "usage.input"
part_of = "usage.total"
unit = "token"
dimensions = { model = "model", context = "usage.total" }
[[sku]]
id = "short"
family = "f"
meter = "tokens"
match = { model = "m" }
up_to = { context = "200000" }
[[sku]]
id = "long"
family = "f"
meter = "tokens"
match = { model = "m" }
above = { context = "200000.0" }
[[rounding]]
asset = "USD"
scale = 2
[[price_book]]
id = "list"
currency = "USD"
[[price_book.price]]
sku = "short"
effective_at = "2026-01-01T00:00:00Z"
model = "per_unit"
unit_price = "1"
[[price_book.price]]
sku = "long"
effective_at = "2026-01-01T00:00:00Z"
model = "per_unit"
unit_price = "2"
"#;

fn checked(text: &str) -> Result<Version, String> {
    Version::check(&[SourceFile { name: "all.toml".to_owned(), text: text.to_owned() }]).map_err(|problems| problems.to_string())
}

fn with(from: &str, to: &str) -> Result<Version, String> {
    assert!(BASE.contains(from), "{from}");
    checked(&BASE.replacen(from, to, 1))
}

#[test]
fn ranges_and_totals_are_kept_and_addressed() {
    let version = checked(BASE).unwrap();
    assert_eq!(checked(&version.to_toml()).unwrap().address(), version.address());
    assert_ne!(with("200000.0", "200001").unwrap().address(), version.address());
    assert_ne!(with("part_of = \"usage.total\"\n", "").unwrap().address(), version.address());
    let json = version.canonical();
    for member in [r#""above":{"context":"200000"}"#, r#""up_to":{"context":"200000"}"#, r#""part_of":"usage.total""#] {
        assert!(json.contains(member), "{member}");
    }
}

#[test]
fn what_two_skus_could_both_take_is_refused_and_ranges_apart_are_not() {
    assert!(checked(BASE).is_ok());
    for (from, to) in [
        ("above = { context = \"200000.0\" }", "above = { context = \"199999\" }"),
        ("above = { context = \"200000.0\" }", "up_to = { context = \"7\" }"),
        ("up_to = { context = \"200000\" }", "above = { context = \"1\" }"),
    ] {
        let refused = with(from, to).unwrap_err();
        assert!(refused.contains(r#"sku "long" and sku "short" (all.toml:13) can both match one reading"#), "{refused}");
    }
    // One of them asks for more dimensions, so it wins.
    assert!(with("up_to = { context = \"200000\" }\n", "").is_ok());
}

#[test]
fn ranges_that_hold_nothing_or_name_nothing_are_refused() {
    let check = |from: &str, to: &str, words: &str| {
        let refused = with(from, to).unwrap_err();
        assert!(refused.contains(words), "{refused}");
    };
    let long = "above = { context = \"200000.0\" }";
    check(
        long,
        "above = { context = \"7\" }\nup_to = { context = \"7\" }",
        "no number of dimension \"context\" of sku \"long\" lies above",
    );
    check(long, "above = { model = \"7\" }", "dimension \"model\" of sku \"long\" has a value to match and a range");
    check(long, "above = { contxt = \"7\" }", "did you mean \"context\"?");
    check(long, "above = { context = \"many\" }", "above of sku \"long\": \"many\" is not a decimal number");
    check(long, "above = { context = 200000 }", "is the number 200000 without quotes");
    check(
        "aggregation = \"sum\"\nvalue = \"usage.input\"",
        "aggregation = \"count\"",
        "meter \"tokens\" counts, so it cannot be a part of a total",
    );
    check("part_of = \"usage.total\"", "part_of = \"usage..total\"", "has an empty part");
}

#[test]
fn another_range_reaches_back_as_another_match_does() {
    let old = checked(BASE).unwrap();
    let new = checked(&BASE.replace("200000", "128000")).unwrap();
    let whats: Vec<String> = reach_back(&old, &new).into_iter().map(|reach| reach.what).collect();
    assert_eq!(whats, ["match of sku \"long\" is altered", "match of sku \"short\" is altered"]);
    let without = with("above = { context = \"200000.0\" }", "above = { context = \"1000000\" }").unwrap();
    assert_eq!(reach_back(&old, &without).len(), 1);
}
