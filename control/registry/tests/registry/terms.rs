//! Terms of contracts: each mistake is refused with file, line and remedy, and what is right reads back as it was written.

use platform_registry::document::{Document, TermRule, TermsOver, TrueUp};
use platform_registry::{Kind, SourceFile, Version};

const RIGHT: &str = r#"
[[unit]]
id = "hour"
[[meter]]
id = "hours"
event_type = "gpu"
aggregation = "sum"
value = "hours"
unit = "hour"
dimensions = { model = "model" }
[[sku]]
id = "h100"
family = "gpu"
meter = "hours"
match = { model = "h100" }
[[sku]]
id = "a100"
family = "gpu"
meter = "hours"
match = { model = "a100" }
[[sku]]
id = "disk"
family = "storage"
meter = "hours"
match = { model = "disk" }
[[rounding]]
asset = "USD"
scale = 2
[[price_book]]
id = "list"
currency = "USD"
price = [
    { sku = "h100", effective_at = "2026-01-01T00:00:00Z", model = "per_unit", unit_price = "2" },
    { sku = "a100", effective_at = "2026-01-01T00:00:00Z", model = "per_unit", unit_price = "1" },
]
[[contract]]
id = "acme"
organization = "acme"
price_book = "list"
effective_at = "2026-01-01T00:00:00Z"
terms_over = "usage"
[[contract.term]]
id = "promise"
kind = "commitment"
amount = "1000"
overage_factor = "1.2"
true_up = "owed"
families = ["gpu"]
[[contract.term]]
id = "floor"
kind = "minimum_spend"
amount = "1500"
[[contract.term]]
id = "off"
kind = "discount"
percent = "10"
skus = ["h100"]
[[contract]]
id = "acme-next"
organization = "acme"
price_book = "list"
effective_at = "2026-07-01T00:00:00Z"
"#;

fn version(text: &str) -> Result<Version, Vec<String>> {
    let files = [SourceFile { name: "terms.toml".to_owned(), text: text.to_owned() }];
    let shown = |problem: &platform_registry::Problem| format!("{}: {} / {}", problem.line.unwrap_or(0), problem.message, problem.remedy);
    Version::check(&files).map_err(|problems| problems.0.iter().map(shown).collect())
}

#[test]
fn what_is_written_reads_back_to_the_same_address_with_every_default() {
    let version = version(RIGHT).unwrap();
    let Some(Document::Contract(contract)) = version.document(Kind::Contract, "acme") else { panic!() };
    assert_eq!(contract.terms_over, Some(TermsOver::Usage));
    let ids: Vec<&str> = contract.terms.iter().map(|term| term.id.as_str()).collect();
    assert_eq!(ids, ["floor", "off", "promise"]);
    let TermRule::Commitment { overage_factor, true_up, .. } = &contract.terms[2].rule else { panic!() };
    assert_eq!((overage_factor.to_string(), *true_up), ("1.2".to_owned(), TrueUp::Owed));
    let again = self::version(&version.to_toml()).unwrap();
    assert_eq!(again.address(), version.address());
    let plain = self::version(&RIGHT.replace("terms_over = \"usage\"\n", "").replace("overage_factor = \"1.2\"\n", "")).unwrap();
    let Some(Document::Contract(contract)) = plain.document(Kind::Contract, "acme") else { panic!() };
    assert_eq!(contract.terms_over, Some(TermsOver::Everything));
    let said: Vec<String> = platform_registry::diff(&plain, &version).into_iter().map(|difference| difference.text).collect();
    assert_eq!(
        said,
        [
            "contract acme: term promise commitment of 1000, overage at 1 times, true-up owed, of family gpu → commitment of 1000, overage at \
             1.2 times, true-up owed, of family gpu",
            "contract acme: terms look at everything → usage",
        ]
    );
    // A contract without terms keeps the address that it had before there were any.
    let Some(entry) = version.entry(Kind::Contract, "acme-next") else { panic!() };
    assert!(!entry.canonical.contains("term"), "{}", entry.canonical);
}

/// The mistake (a text and what it becomes) is the only problem, on the line of the `n`-th text, in these words.
#[track_caller]
fn check(from: &str, to: &str, at: &str, message: &str, remedy: &str) {
    assert_eq!(RIGHT.matches(from).count(), 1, "{from}");
    let text = RIGHT.replace(from, to);
    let line = text[..text.find(at).unwrap_or_else(|| panic!("{at}"))].matches('\n').count() + 1;
    let problems = version(&text).unwrap_err();
    assert_eq!(problems, [format!("{line}: {message} / {remedy}")]);
}

/// The same with anything for a remedy.
#[track_caller]
fn named(from: &str, to: &str, parts: &[&str]) {
    assert_eq!(RIGHT.matches(from).count(), 1, "{from}");
    let problems = version(&RIGHT.replace(from, to)).unwrap_err();
    let [problem] = &problems[..] else { panic!("{problems:#?}") };
    assert!(parts.iter().all(|part| problem.contains(part)), "{problem}");
}

#[test]
fn terms_hold_for_whole_months() {
    let remedy = "terms hold for whole service periods: let it begin with a month in UTC, for example 2026-10-01T00:00:00Z";
    check(
        "effective_at = \"2026-01-01T00:00:00Z\"\nterms_over",
        "effective_at = \"2026-01-02T00:00:00Z\"\nterms_over",
        "effective_at = \"2026-01-02",
        "contract \"acme\" has terms and begins at 2026-01-02T00:00:00Z, within a month",
        remedy,
    );
    check(
        "effective_at = \"2026-07-01T00:00:00Z\"",
        "effective_at = \"2026-07-01T00:00:00+02:00\"",
        "effective_at = \"2026-07-01",
        "contract \"acme-next\" begins at 2026-06-30T22:00:00Z, within a month of contract \"acme\", which has terms",
        remedy,
    );
}

#[test]
fn a_term_says_what_it_asks_for_and_moves_something() {
    named(
        "kind = \"discount\"",
        "kind = \"rebate\"",
        &["kind \"rebate\"", "discount or capacity or graduated_discount or commitment or maximum_spend or minimum_spend"],
    );
    named("percent = \"10\"", "percent = \"100.5\"", &["percent", "100.5, not above zero and at most 100"]);
    named("percent = \"10\"\n", "", &["has no percent"]);
    named("amount = \"1500\"", "amount = \"0\"", &["amount", "is 0, not above zero"]);
    named("amount = \"1500\"", "amount = \"1500.005\"", &["names 1500.005, but USD is invoiced with 2 decimal places"]);
    named("amount = \"1500\"", "amount = \"1500\"\ntrue_up = \"owed\"", &["unknown field \"true_up\"", "the fields are id, kind"]);
    named("overage_factor = \"1.2\"", "overage_factor = \"-1\"", &["overage_factor", "is -1, not above zero"]);
    named("true_up = \"owed\"\n", "", &["has no true_up", "\"owed\" or \"none\""]);
    named("overage_factor = \"1.2\"\ntrue_up = \"owed\"", "true_up = \"none\"", &["moves nothing"]);
    named("id = \"off\"", "id = \"floor\"", &["term \"floor\" is there twice"]);
    named("id = \"off\"", "id = \"a#b\"", &["not 1 to 64 characters"]);
    named("skus = [\"h100\"]", "skus = []", &["an empty list"]);
    named("skus = [\"h100\"]", "skus = [\"h100\", \"h100\"]", &["a name is there twice"]);
    named("terms_over = \"usage\"", "terms_over = \"fees\"", &["terms_over \"fees\"", "everything or usage"]);
    named("id = \"acme-next\"", "id = \"acme-next\"\nterms_over = \"usage\"", &["would be ignored: it has no [[contract.term]]"]);
}

#[test]
fn a_term_may_look_at_months_together_that_a_contract_does_not_part() {
    let promise = "true_up = \"owed\"\nfamilies = [\"gpu\"]";
    let floor = "kind = \"minimum_spend\"\namount = \"1500\"";
    let both = |months: u32| {
        let text = RIGHT.replace(promise, &format!("{promise}\nmonths = {months}"));
        text.replace(floor, &format!("{floor}\nmonths = {months}"))
    };
    let version = version(&both(3)).unwrap();
    let Some(Document::Contract(contract)) = version.document(Kind::Contract, "acme") else { panic!() };
    assert_eq!(contract.terms.iter().map(|term| term.months).collect::<Vec<_>>(), [3, 1, 3]);
    assert_eq!(self::version(&version.to_toml()).unwrap().address(), version.address());
    let six = self::version(&both(6)).unwrap();
    let said: Vec<String> = platform_registry::diff(&version, &six).into_iter().map(|difference| difference.text).collect();
    assert_eq!(said[0], "contract acme: term floor at least 1500, over 3 months together → at least 1500, over 6 months together");
    // The next contract begins after six months.
    let problems = self::version(&both(4)).unwrap_err();
    let [problem] = &problems[..] else { panic!("{problems:#?}") };
    for part in [
        "contract \"acme-next\" begins with 2026-07, 6 months behind contract \"acme\", whose term \"floor\" looks at 4 months together",
        "effective_at = \"2026-05-01T00:00:00Z\" or \"2026-09-01T00:00:00Z\"",
    ] {
        assert!(problem.contains(part), "{problem}");
    }
    for wrong in ["1", "0", "121", "\"12\"", "1.5"] {
        named(
            promise,
            &format!("{promise}\nmonths = {wrong}"),
            &[&format!("months of a term of contract \"acme\" is {wrong}, not a number of months")],
        );
    }
    named("percent = \"10\"", "percent = \"10\"\nmonths = 6", &["is a discount, which looks at each month by itself"]);
    // What one of them adds would be spend to the other.
    let look = "terms \"floor\" and \"promise\" of contract \"acme\" look at ";
    named(promise, &format!("{promise}\nmonths = 3"), &[look, "each month by itself and at 3 months together, over the same SKUs"]);
    let apart = both(3).replace(&format!("{floor}\nmonths = 3"), &format!("{floor}\nmonths = 6"));
    let problems = self::version(&apart).unwrap_err();
    assert!(problems.len() == 1 && problems[0].contains("6 months together and at 3 months together"), "{problems:#?}");
}

#[test]
fn a_graduated_discount_has_rising_tiers_that_take_something_off() {
    let off = "kind = \"discount\"\npercent = \"10\"";
    let tiers = |tiers: &str| format!("kind = \"graduated_discount\"\ntiers = [{tiers}]");
    let right = tiers("{ up_to = \"1000\", percent = \"0\" }, { up_to = \"5000\", percent = \"2.5\" }, { percent = \"10\" }");
    // Over other SKUs than the promise, which may not overlap.
    let base = RIGHT.replace("families = [\"gpu\"]", "skus = [\"a100\"]");
    let version = version(&base.replace(off, &right)).unwrap();
    assert_eq!(self::version(&version.to_toml()).unwrap().address(), version.address());
    let plain = self::version(&base).unwrap();
    let said: Vec<String> = platform_registry::diff(&plain, &version).into_iter().map(|difference| difference.text).collect();
    assert_eq!(
        said,
        ["contract acme: term off 10 % off, of sku h100 → 0 % off up to 1000, 2.5 % off up to 5000, 10 % off beyond, of sku h100"]
    );
    for (wrong, part) in [
        ("{ percent = \"0\" }", "takes nothing off"),
        ("", "write at least one tier"),
        ("{ up_to = \"1000\", percent = \"5\" }", "is the last one and ends"),
        ("{ percent = \"5\" }, { percent = \"6\" }", "only the last tier is open"),
        ("{ up_to = \"9\", percent = \"5\" }, { up_to = \"8\", percent = \"6\" }, { percent = \"7\" }", "not above 9"),
        ("{ up_to = \"9\", percent = \"101\" }, { percent = \"7\" }", "is 101, not 0 to 100"),
        ("{ up_to = \"9.005\", percent = \"1\" }, { percent = \"7\" }", "names 9.005, but USD is invoiced with 2 decimal places"),
        ("{ unit_price = \"1\" }", "unknown field \"unit_price\""),
    ] {
        let problems = self::version(&base.replace(off, &tiers(wrong))).unwrap_err();
        assert!(problems.iter().any(|problem| problem.contains(part)), "{wrong}: {problems:#?}");
    }
}

#[test]
fn a_term_looks_at_what_the_book_prices() {
    named("skus = [\"h100\"]", "skus = [\"h10\"]", &["sku \"h10\", of which price book \"list\" prices nothing", "did you mean \"h100\"?"]);
    named("skus = [\"h100\"]", "skus = [\"disk\"]", &["sku \"disk\", of which price book \"list\" prices nothing"]);
    named("families = [\"gpu\"]", "families = [\"storage\"]", &["family \"storage\", of which price book \"list\" prices nothing"]);
}

#[test]
fn terms_do_not_contradict_each_other() {
    let more = |text: &str| format!("[[contract.term]]\nid = \"z\"\n{text}\n[[contract]]\nid = \"acme-next\"");
    let add = |text: &str, parts: &[&str]| named("[[contract]]\nid = \"acme-next\"", &more(text), parts);
    add(
        "kind = \"minimum_spend\"\namount = \"9\"",
        &["\"floor\" and \"z\" of contract \"acme\" are both a minimum_spend over the same SKUs"],
    );
    add("kind = \"maximum_spend\"\namount = \"1499.99\"", &["at most 1499.99 and for at least 1500"]);
    add("kind = \"maximum_spend\"\namount = \"999\"\nfamilies = [\"gpu\"]", &["at most 999 and for at least 1000"]);
    add("kind = \"minimum_spend\"\namount = \"9\"\nskus = [\"h100\"]", &["different SKUs that overlap, for example \"h100\""]);
    let fits = more("kind = \"maximum_spend\"\namount = \"1500\"");
    assert!(version(&RIGHT.replace("[[contract]]\nid = \"acme-next\"", &fits)).is_ok());
}

#[test]
fn nobody_owes_what_the_contract_for_everyone_else_asks_unused() {
    let default = RIGHT.replace("id = \"acme\"\norganization = \"acme\"", "id = \"acme\"\ndefault = true");
    let problems = version(&default).unwrap_err();
    assert_eq!(problems.len(), 2, "{problems:#?}");
    assert!(problems.iter().all(|problem| problem.contains("nobody owes its")), "{problems:#?}");
}

#[test]
fn what_others_write_as_fields_and_what_is_not_live_is_named() {
    for (field, parts) in [
        ("minimum_spend", ["is no field of contract \"acme-next\", but a term", "kind = \"minimum_spend\""]),
        ("discount_percent", ["is no field of contract \"acme-next\", but a term", "kind = \"discount\""]),
        ("capacity", ["is no field of contract \"acme-next\", but a term", "kind = \"capacity\""]),
    ] {
        named("id = \"acme-next\"", &format!("id = \"acme-next\"\n{field} = \"1\""), &parts);
    }
}

/// The guide alone is enough: its two blocks about the GPU cloud are a whole registry.
#[test]
fn the_gpu_cloud_of_the_guide_with_its_commitment_checks() {
    let guide = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/guide/registry.md");
    let guide = std::fs::read_to_string(guide).unwrap();
    let blocks: Vec<&str> = guide.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    let of = |word: &str| blocks.iter().find(|block| block.contains(word)).unwrap_or_else(|| panic!("{word}"));
    let version = version(&[*of("[[billable_states]]"), *of("gpu-commitment")].concat()).unwrap_or_else(|problems| panic!("{problems:#?}"));
    let Some(Document::Contract(contract)) = version.document(Kind::Contract, "umbrella-2026") else { panic!() };
    assert_eq!(contract.terms.len(), 2);
}
