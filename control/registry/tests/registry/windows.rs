//! Commitments of prices for each window: from the document over events to the total, in words, and each mistake with file, line and remedy.

use platform_rating::{RatingState, rate};
use platform_registry::document::{Document, PriceModel, Promised, WindowTrueUp};
use platform_registry::{Kind, SourceFile, Version, compile, diff};
use platform_usage::{Event, EventLimits, IdentityKey, MeterSet, MeteredReading};
use shared_types::{Digest, Incarnation, Instant, Position, Sequence, ShardId};

const RIGHT: &str = r#"
[[unit]]
id = "gpu"
scale = 0
[[meter]]
id = "gpus"
event_type = "gpu"
aggregation = "bucketed"
bucket = "hour"
then = "alone"
value = "gpus"
unit = "gpu"
dimensions = { band = "band" }
[[meter]]
id = "hours"
event_type = "gpu"
aggregation = "sum"
value = "hours"
unit = "gpu"
[[sku]]
id = "gpus"
family = "gpu"
meter = "gpus"
[[sku]]
id = "night"
family = "gpu"
meter = "gpus"
match = { band = "night" }
[[sku]]
id = "hours"
family = "gpu"
meter = "hours"
[[rounding]]
asset = "USD"
scale = 2
[[price_book]]
id = "list"
currency = "USD"
[[price_book.price]]
sku = "gpus"
effective_at = "2026-01-01T00:00:00Z"
model = "per_unit"
unit_price = "2"
window_commitment = { quantity = "8", overage_factor = "1.5", true_up = "owed_always" }
[[price_book.price]]
sku = "night"
effective_at = "2026-01-01T00:00:00Z"
model = "per_unit"
unit_price = "1"
window_commitment = { amount = "4.5", true_up = "owed_when_used" }
[[price_book.price]]
sku = "night"
effective_at = "2026-01-20T06:00:00Z"
model = "per_unit"
unit_price = "1"
[[price_book.price]]
sku = "hours"
effective_at = "2026-01-01T00:00:00Z"
model = "per_unit"
unit_price = "2"
[[contract]]
id = "acme"
organization = "acme"
price_book = "list"
effective_at = "2026-01-01T00:00:00Z"
[[contract]]
id = "acme-next"
organization = "acme"
price_book = "list"
effective_at = "2026-03-01T00:00:00Z"
"#;

fn version(text: &str) -> Result<Version, Vec<String>> {
    let files = [SourceFile { name: "registry.toml".to_owned(), text: text.to_owned() }];
    Version::check(&files).map_err(|problems| problems.0.iter().map(ToString::to_string).collect())
}

/// The one mistake: where it stands, and parts of what is said of it.
fn named(from: &str, to: &str, line_of: &str, parts: &[&str]) {
    assert!(RIGHT.contains(from), "{from}");
    let text = RIGHT.replacen(from, to, 1);
    let problems = version(&text).expect_err(to);
    let [problem] = &problems[..] else { panic!("{to}: {problems:#?}") };
    let line = text.lines().position(|line| line.contains(line_of)).unwrap() + 1;
    assert!(problem.contains(&format!("registry.toml:{line}:")), "{line_of} is line {line}: {problem}");
    assert!(problem.contains("remedy: ") && parts.iter().all(|part| problem.contains(part)), "{problem}");
}

const NIGHT: &str = "window_commitment = { amount = \"4.5\", true_up = \"owed_when_used\" }";

fn night(commitment: &str, parts: &[&str]) {
    let text = format!("window_commitment = {commitment}");
    named(NIGHT, &text, &text, parts);
}

#[test]
fn a_commitment_reads_back_as_it_was_written() {
    let read = version(RIGHT).unwrap_or_else(|problems| panic!("{problems:#?}"));
    let again = version(&read.to_toml()).unwrap();
    assert_eq!(read.address(), again.address());
    let Some(Document::PriceBook(book)) = read.document(Kind::PriceBook, "list") else { panic!("no book") };
    let commitments: Vec<_> = book.prices.iter().map(|row| row.model.commitment().cloned()).collect();
    let [Some(gpus), None, Some(night), None] = &commitments[..] else { panic!("{commitments:?}") };
    assert_eq!((gpus.promised, gpus.true_up), (Promised::Quantity("8".parse().unwrap()), WindowTrueUp::OwedAlways));
    assert_eq!((night.promised, night.true_up), (Promised::Amount("4.5".parse().unwrap()), WindowTrueUp::OwedWhenUsed));
    assert_eq!((gpus.overage_factor.to_string(), night.overage_factor.to_string()), ("1.5".to_owned(), "1".to_owned()));
    assert!(matches!(&book.prices[0].model, PriceModel::Committed { model, .. } if matches!(**model, PriceModel::PerUnit { .. })));
}

#[test]
fn each_mistake_is_named_with_its_line_and_a_remedy() {
    night("\"4.5\"", &["is a text, not a table", "write window_commitment = {"]);
    night("{ true_up = \"none\", overage_factor = \"2\" }", &["promises nothing", "write one of amount = \"10\"", "quantity = \"8\""]);
    night("{ amount = \"1\", quantity = \"1\", true_up = \"owed_when_used\" }", &["promises an amount and a quantity"]);
    night(
        "{ amount = \"0\", true_up = \"owed_when_used\" }",
        &["amount of the window commitment of the price of sku \"night\" is 0, not above zero"],
    );
    night("{ quantity = \"-1\", true_up = \"owed_when_used\" }", &["quantity of", "is -1, not above zero"]);
    night("{ amount = 4.5, true_up = \"owed_when_used\" }", &["is the number 4.5 without quotes"]);
    night("{ amount = \"1\", overage_factor = \"0\", true_up = \"owed_when_used\" }", &["overage_factor of", "is 0, not above zero"]);
    night("{ amount = \"1\" }", &["has no true_up", "true_up = \"owed_when_used\"", "\"owed_always\" for every window"]);
    night("{ amount = \"1\", true_up = \"owed\" }", &["true_up \"owed\"", "use none or owed_when_used or owed_always"]);
    night("{ amount = \"1\", true_up = \"none\" }", &["moves nothing"]);
    night("{ amount = \"1\", true_up = \"owed_when_used\", factor = \"2\" }", &["unknown field \"factor\""]);
}

#[test]
fn a_commitment_needs_windows_and_a_model_that_prices_them() {
    let hours = "sku = \"hours\"\neffective_at = \"2026-01-01T00:00:00Z\"\nmodel = \"per_unit\"\nunit_price = \"2\"";
    let committed = format!("{hours} \nwindow_commitment = {{ amount = \"1\", true_up = \"owed_when_used\" }}");
    let without = [
        "has a window commitment, but meter \"hours\" has no windows that are priced alone: its aggregation is \"sum\"",
        "[[contract.term]]",
    ];
    // The head of the fourth price.
    row(hours, &committed, 3, &without);
    let gpus = "window_commitment = { quantity = \"8\"";
    row(
        gpus,
        "window_commitment = { quantity = \"8.5\"",
        0,
        &["quantity of the window commitment of price", "unit \"gpu\" has 0 decimal places"],
    );
    let summed = version(&RIGHT.replace("then = \"alone\"", "then = \"sum\"")).unwrap_err();
    assert!(summed.len() == 2 && summed.iter().all(|problem| problem.contains("no windows that are priced alone")), "{summed:#?}");
}

/// The one mistake, at the head of a price of the book.
fn row(from: &str, to: &str, row: usize, parts: &[&str]) {
    assert!(RIGHT.contains(from), "{from}");
    let text = RIGHT.replacen(from, to, 1);
    let problems = version(&text).expect_err(to);
    let [problem] = &problems[..] else { panic!("{to}: {problems:#?}") };
    let heads = text.lines().enumerate().filter(|(_, line)| *line == "[[price_book.price]]");
    let (line, _) = heads.into_iter().nth(row).unwrap();
    assert!(problem.contains(&format!("registry.toml:{}:", line + 1)), "{problem}");
    assert!(problem.contains("remedy: ") && parts.iter().all(|part| problem.contains(part)), "{problem}");
}

#[test]
fn no_window_is_promised_twice() {
    let night = "effective_at = \"2026-01-20T06:00:00Z\"";
    named(night, "effective_at = \"2026-01-20T06:30:00Z\"", "06:30", &["within a window of sku \"night\"", "a multiple of 3600 seconds"]);
    let gpus = "sku = \"gpus\"\neffective_at = \"2026-01-01T00:00:00Z\"";
    let later = "sku = \"gpus\"\neffective_at = \"2026-01-02T00:00:00Z\"";
    named(gpus, later, "2026-01-02", &["within a month of sku \"gpus\"", "begin with a month in UTC"]);
    let next = "effective_at = \"2026-03-01T00:00:00Z\"";
    named(
        next,
        "effective_at = \"2026-03-02T00:00:00Z\"",
        "2026-03-02",
        &["contract \"acme-next\" begins at", "within a month of price book \"list\""],
    );
    // Every window of the period, but for one band of the day: and a price that begins within the month.
    let always = version(&RIGHT.replace("\"owed_when_used\"", "\"owed_always\"")).unwrap_err();
    let [band, within] = &always[..] else { panic!("{always:#?}") };
    assert!(band.contains("is owed for every window of the service period, but sku \"night\" is for one band"), "{band}");
    assert!(band.contains("remedy: write true_up = \"owed_when_used\""), "{band}");
    assert!(within.contains("within a month of sku \"night\""), "{within}");
}

#[test]
fn what_is_written_at_a_contract_belongs_to_a_price() {
    let field = "id = \"acme-next\"\nwindow_commitment = \"1\"";
    named(
        "id = \"acme-next\"",
        field,
        "window_commitment = \"1\"",
        &["is no field of contract \"acme-next\", but part of a price", "in the [[price_book.price]]"],
    );
}

#[test]
fn a_changed_commitment_is_told_in_words() {
    let before = version(RIGHT).unwrap();
    let told = |from: &str, to: &str| {
        let after = version(&RIGHT.replacen(from, to, 1)).unwrap();
        diff(&before, &after).iter().map(|difference| difference.text.clone()).collect::<Vec<_>>()
    };
    let [more] = &told("quantity = \"8\", overage_factor = \"1.5\"", "quantity = \"10\", overage_factor = \"1.25\"")[..] else { panic!() };
    assert_eq!(more, "gpus: promised for each window the cost of 8 → the cost of 10, beyond it 1.5 times → 1.25 times from 2026-01-01");
    let [none] = &told(NIGHT, "")[..] else { panic!() };
    let before = "promised for each window 4.5 USD, beyond it 1 times, what is missing is owed for windows with usage";
    assert_eq!(*none, format!("night: 1 USD per gpu, {before} → 1 USD per gpu from 2026-01-01 until 2026-01-20T06:00:00Z"));
}

/// Totals by SKU after events (time, GPUs, band).
fn totals(events: &[(&str, &str, &str)]) -> Vec<(String, String)> {
    totals_of(RIGHT, "gpu", "acme", events)
}

fn totals_of(registry: &str, event_type: &str, organization: &str, events: &[(&str, &str, &str)]) -> Vec<(String, String)> {
    let compiled = compile(&version(registry).unwrap_or_else(|problems| panic!("{problems:#?}"))).unwrap();
    compiled.plan.validate().unwrap();
    let meters = MeterSet::new(compiled.meters.clone()).unwrap();
    let mut readings = Vec::new();
    for ((time, gpus, band), sequence) in events.iter().zip(1..) {
        let text = format!(
            r#"{{"specversion":"1.0","id":"{sequence}","source":"s","type":"{event_type}","organization":"{organization}","time":"{time}","data":{{"gpus":{gpus},"hours":0,"band":"{band}"}}}}"#
        );
        let event = Event::parse(text.as_bytes(), Instant::parse("2026-11-01T00:00:00Z").unwrap(), &EventLimits::default()).unwrap();
        for reading in meters.read(&event).into_iter().filter(|reading| reading.meter.as_str() != "hours") {
            readings.push(MeteredReading {
                position: Position {
                    shard: ShardId::of_organization(organization),
                    incarnation: Incarnation(1),
                    sequence: Sequence(sequence),
                },
                ordinal: reading.ordinal,
                identity: event.identity_hash(&IdentityKey::new(&[1; 32])),
                organization: event.organization().clone(),
                project: None,
                source: event.source().clone(),
                meter: reading.meter,
                unit: reading.unit,
                dimensions: reading.dimensions,
                quantity: reading.result.unwrap(),
                start_at: reading.start_at,
                end_at: reading.end_at,
                accepted_at: event.start_at(),
                accounting_period: reading.start_at.month(),
                commitment: Digest::ZERO,
                refused: None,
            });
        }
    }
    let mut state = RatingState::default();
    state.apply(rate(&state, &compiled.plan, &readings, 1).unwrap().overlay);
    let mut totals: Vec<_> = state.keys().map(|(key, state)| (key.sku.to_string(), state.total.to_string())).collect();
    totals.sort();
    totals
}

#[test]
fn events_come_to_figures_worked_out_by_hand() {
    let owned = |totals: &[(&str, &str)]| totals.iter().map(|(sku, total)| ((*sku).to_owned(), (*total).to_owned())).collect::<Vec<_>>();
    // The greatest of each hour: 10 and 3 of 8 promised at 2 for each of 744 hours; 2 beyond at 2 x 1.5.
    let day = [("2026-01-05T10:00:00Z", "10", "day"), ("2026-01-05T10:59:59Z", "6", "day"), ("2026-01-05T11:00:00Z", "3", "day")];
    assert_eq!(totals(&day), owned(&[("gpus", "11910")]));
    // At night 4.5 for each hour that is used, and what it costs where that is more; from the 20th on nothing is promised.
    let night = [("2026-01-05T22:00:00Z", "3", "night"), ("2026-01-05T23:00:00Z", "6", "night"), ("2026-01-21T02:00:00Z", "3", "night")];
    assert_eq!(totals(&night), owned(&[("night", "13.5")]));
    // A key without a reading owes nothing.
    assert_eq!(totals(&[]), owned(&[]));
}

/// The guide alone is enough: its block is a whole registry, and its figures are what events come to.
#[test]
fn the_reservation_of_the_guide_comes_to_what_the_guide_says() {
    let guide = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/guide/registry.md");
    let guide = std::fs::read_to_string(guide).unwrap();
    let mut blocks = guide.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next());
    let block = blocks.find(|block| block.contains("gpus.reserved")).unwrap();
    let of = |block: &str, events: &[(&str, &str, &str)]| totals_of(block, "gpus.held", "umbrella", events)[0].1.clone();
    let (busy, idle) = (("2026-10-05T10:00:00Z", "10", ""), ("2026-10-05T11:00:00Z", "3", ""));
    assert_eq!(of(block, &[idle]), "11904");
    assert_eq!(of(block, &[busy, idle]), "11910");
    let used = block.replace("owed_always", "owed_when_used");
    assert_eq!((of(&used, &[idle]), of(&used, &[busy])), ("16".to_owned(), "22".to_owned()));
    assert!(["11,904 stand", "together 22", "costs 6 and owes 16"].iter().all(|figure| guide.contains(figure)));
}
