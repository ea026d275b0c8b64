//! Zones of meters that count days or hours: from the document and back, over the plan, in words, and each mistake with file, line and remedy.

use platform_rating::calendar::Zone;
use platform_registry::document::Document;
use platform_registry::{DocumentError, Kind, SourceFile, Version, compile, diff};

/// A meter with an aggregation and its fields, priced.
fn registry(aggregation: &str, fields: &str) -> String {
    let value = if ["count", "unique"].contains(&aggregation) { "" } else { "value = \"gpus\"\n" };
    format!(
        "[[unit]]\nid = \"gpu\"\n[[meter]]\nid = \"gpus\"\nevent_type = \"gpu\"\naggregation = \"{aggregation}\"\n{fields}{value}unit = \"gpu\"\ndimensions = {{ user = \"user\" }}\n\
         [[sku]]\nid = \"gpus\"\nfamily = \"gpu\"\nmeter = \"gpus\"\n[[rounding]]\nasset = \"USD\"\nscale = 2\n[[price_book]]\nid = \"list\"\ncurrency = \"USD\"\n\
         [[price_book.price]]\nsku = \"gpus\"\neffective_at = \"2026-01-01T00:00:00Z\"\nmodel = \"per_unit\"\nunit_price = \"2\"\n\
         [[contract]]\nid = \"all\"\ndefault = true\nprice_book = \"list\"\neffective_at = \"2026-01-01T00:00:00Z\"\n"
    )
}

fn version(text: &str) -> Result<Version, Vec<String>> {
    let files = [SourceFile { name: "registry.toml".to_owned(), text: text.to_owned() }];
    Version::check(&files).map_err(|problems| problems.0.iter().map(ToString::to_string).collect())
}

const DAYS: [(&str, &str); 6] = [
    ("unique", "of = \"user\"\nper = \"day\"\n"),
    ("time_weighted", "by = \"day\"\n"),
    ("prorated", "by = \"day\"\n"),
    ("bucketed", "bucket = \"day\"\nthen = \"sum\"\n"),
    ("bucketed", "bucket = \"hour\"\nthen = \"p95\"\n"),
    ("bucketed", "bucket = \"day\"\nthen = \"alone\"\n"),
];

#[test]
fn days_and_hours_have_a_zone_and_utc_is_left_out_of_the_address() {
    for (aggregation, fields) in DAYS {
        let plain = version(&registry(aggregation, fields)).unwrap_or_else(|problems| panic!("{problems:#?}"));
        let utc = version(&registry(aggregation, &format!("{fields}zone = \"UTC\"\n"))).unwrap();
        assert_eq!(plain.address(), utc.address(), "{aggregation}");
        assert!(!plain.canonical().contains("zone"));

        let local = version(&registry(aggregation, &format!("{fields}zone = \"Asia/Kolkata\"\n"))).unwrap();
        assert_ne!(plain.address(), local.address());
        assert_eq!(version(&local.to_toml()).unwrap().address(), local.address());
        let plan = compile(&local).unwrap().plan;
        plan.validate().unwrap();
        let rows = plan.books[0].lines.values().flatten().flat_map(|line| &line.prices);
        assert!(rows.map(|row| &row.basis.zone).all(|zone| *zone == Zone::parse("Asia/Kolkata").unwrap()));
        let words: Vec<String> = diff(&plain, &local).iter().map(|difference| difference.text.clone()).collect();
        assert!(words.iter().any(|words| words.contains("Asia/Kolkata")), "{words:?}");
    }
}

#[test]
fn only_one_text_is_the_canonical_one() {
    let local = version(&registry("prorated", "by = \"day\"\nzone = \"Asia/Tokyo\"\n")).unwrap();
    let canonical = local.document(Kind::Meter, "gpus").unwrap().canonical().unwrap();
    assert!(canonical.contains(r#","zone":"Asia/Tokyo"}"#), "{canonical}");
    assert_eq!(Document::parse(&canonical).unwrap().canonical().unwrap(), canonical);
    assert!(matches!(Document::parse(&canonical.replace("Asia/Tokyo", "UTC")), Err(DocumentError::NotCanonical)));
}

/// The one mistake: in the line of the zone, with parts of what is said of it.
fn named(aggregation: &str, fields: &str, zone: &str, parts: &[&str]) {
    let text = registry(aggregation, &format!("{fields}zone = \"{zone}\"\n"));
    let problems = version(&text).expect_err(aggregation);
    let [problem] = &problems[..] else { panic!("{aggregation}: {problems:#?}") };
    let line = text.lines().position(|line| line.starts_with("zone")).unwrap() + 1;
    assert!(problem.contains(&format!("registry.toml:{line}:8: ")), "{problem}");
    assert!(problem.contains("remedy: ") && parts.iter().all(|part| problem.contains(part)), "{problem}");
}

#[test]
fn a_zone_of_what_counts_neither_days_nor_hours_is_refused() {
    let said = ["zone of meter \"gpus\" would be ignored: it counts neither days nor hours", "remedy: remove zone, or count them"];
    for name in ["sum", "count", "max", "min", "average", "latest"] {
        named(name, "", "Asia/Tokyo", &said);
    }
    named("sum", "", "UTC", &said);
    named("unique", "of = \"user\"\n", "Asia/Tokyo", &said);
    named("time_weighted", "", "Asia/Tokyo", &said);
    named("prorated", "by = \"microsecond\"\n", "Asia/Tokyo", &said);
    named("bucketed", "bucket = \"five_minutes\"\nthen = \"sum\"\n", "Asia/Tokyo", &said);
}

#[test]
fn a_zone_is_spelt_as_the_database_spells_it() {
    let days = DAYS[1];
    named(
        days.0,
        days.1,
        "Mars/Olympus",
        &["zone of meter \"gpus\": \"Mars/Olympus\" is no time zone", "name a zone such as \"Asia/Tokyo\""],
    );
    named(days.0, days.1, "asia/tokyo", &["\"asia/tokyo\" is spelt \"Asia/Tokyo\"", "write zone = \"Asia/Tokyo\""]);
    named(days.0, days.1, "+09:00", &["is no time zone"]);
}

#[test]
fn prices_of_local_windows_with_commitments_begin_with_one_of_them() {
    let committed = |bucket: &str, zone: &str, at: &str, true_up: &str| {
        let text = registry("bucketed", &format!("bucket = \"{bucket}\"\nthen = \"alone\"\nzone = \"{zone}\"\n"));
        let price = "[[price_book.price]]\nsku = \"gpus\"\n";
        let commitment = format!("window_commitment = {{ amount = \"4\", true_up = \"{true_up}\" }}\n");
        let row = format!("{price}effective_at = \"{at}\"\nmodel = \"per_unit\"\nunit_price = \"1\"\n{commitment}");
        version(&text.replace(price, &format!("{row}{price}"))).err()
    };
    let california = |at: &str| committed("day", "America/Los_Angeles", at, "owed_when_used");
    for begin in ["2026-03-08T08:00:00Z", "2026-03-09T07:00:00Z", "2026-03-01T00:00:00Z"] {
        assert_eq!(california(begin), None);
    }
    for within in ["2026-03-09T08:00:00Z", "2026-03-10T00:00:00Z"] {
        let problems = california(within).unwrap();
        let [problem] = &problems[..] else { panic!("{problems:#?}") };
        assert!(problem.contains("within a window of sku \"gpus\""), "{problem}");
        let remedy =
            "let it begin with a day of America/Los_Angeles, for example 2026-03-09T00:00:00-07:00, so that no window counts twice";
        assert!(problem.contains(remedy), "{problem}");
    }
    assert_eq!(committed("hour", "Asia/Kolkata", "2026-03-10T04:30:00Z", "owed_when_used"), None);
    let problems = committed("hour", "Asia/Kolkata", "2026-03-10T05:00:00Z", "owed_when_used").unwrap();
    assert!(problems[0].contains("for example 2026-03-10T10:00:00+05:30"), "{problems:#?}");
    let problems = committed("day", "Asia/Kolkata", "2026-03-09T18:30:00Z", "owed_always").unwrap();
    assert!(problems[0].contains("within a month of sku \"gpus\""), "{problems:#?}");
}
