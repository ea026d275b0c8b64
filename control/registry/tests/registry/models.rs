//! Every aggregation and model, from the document over events to the total: figures worked out by hand. And every way to get one wrong.

use std::collections::BTreeMap;
use std::path::Path;

use platform_rating::{RatingState, rate};
use platform_registry::{SourceFile, Version, compile};
use platform_usage::{Event, EventLimits, IdentityKey, MeterSet, MeteredReading};
use shared_types::{Digest, Incarnation, Instant, Position, Sequence, ShardId};

fn golden(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

fn models() -> Version {
    Version::read(&golden("models")).unwrap_or_else(|problems| panic!("{problems}"))
}

/// Totals by SKU after events (time, value, user) in this order.
fn totals(events: &[(&str, &str, &str)]) -> BTreeMap<String, String> {
    let compiled = compile(&models()).unwrap();
    compiled.plan.validate().unwrap();
    let meters = MeterSet::new(compiled.meters.clone()).unwrap();
    let mut readings = Vec::new();
    for ((time, value, user), sequence) in events.iter().zip(1..) {
        let text = format!(
            r#"{{"specversion":"1.0","id":"{time}","source":"s","type":"t","organization":"o","time":"{time}","data":{{"v":{value},"user":{{"id":"{user}"}}}}}}"#
        );
        let event = Event::parse(text.as_bytes(), Instant::parse("2026-02-01T00:00:00Z").unwrap(), &EventLimits::default()).unwrap();
        for reading in meters.read(&event) {
            readings.push(MeteredReading {
                position: Position { shard: ShardId::of_organization("o"), incarnation: Incarnation(1), sequence: Sequence(sequence) },
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
    let batch = rate(&state, &compiled.plan, &readings, 1).unwrap();
    assert!(batch.charges.iter().all(|charge| charge.fate.code() == "charged"));
    state.apply(batch.overlay);
    state.keys().map(|(key, state)| (key.sku.to_string(), state.total.to_string())).collect()
}

#[test]
fn documents_of_every_model_rate_events_to_figures_worked_out_by_hand() {
    let mut events = [("2026-01-01T00:00:00Z", "4", "a"), ("2026-01-11T00:00:00Z", "12", "b"), ("2026-01-31T00:00:00Z", "6", "a")];
    let wanted = [
        // Of 3 among 8,928 buckets, p95 is an empty one.
        ("egress", "0"),
        // 4 for 31 days, 12 for 21, 6 for one: 382 days of 24 hours at 2.1.
        ("gpu", "19252.8"),
        // 4 is one block of 5; 12 are two of 10 at 1.5; 6 are two of 5.
        ("hourly-peak", "6"),
        // The latest is 6, 5 of it free: one package.
        ("level", "3"),
        ("low", "4"),
        ("mean", "7.333333333"),
        // The first is free; 0.348 and 0.174 are below the least of 0.5; twice the fee of 0.3.
        ("payments", "1.6"),
        ("peak", "20"),
        // Two blocks of one, then a begun one of two.
        ("requests", "3.5"),
        // 2 seats all month at 31; (2 × 31 + 12 × 21 + 6) ÷ 31 at 15.5, entered once for 1.
        ("seats", "223"),
        // Begun fives of 4, 12 and 6: 1 + 3 + 2 at 0.5.
        ("sessions", "3"),
        // 4 at 1; 12 and 6 as a whole at 2, each with a fee of 0.1.
        ("tokens", "40.2"),
        // a on two days, b on one: 3 ÷ 31 at 31.
        ("user-days", "3"),
        // Two users, the first free.
        ("users", "2"),
        // One percent of 22.
        ("volume", "0.22"),
    ];
    let wanted: BTreeMap<String, String> = wanted.map(|(sku, total)| (sku.to_owned(), total.to_owned())).into();
    assert_eq!(totals(&events), wanted);
    events.reverse();
    assert_eq!(totals(&events), wanted);
}

#[test]
fn documents_of_every_model_are_written_and_read_back() {
    let version = models();
    super::golden::check_frozen("models.shown.toml", &version.to_toml());
    super::golden::check_frozen("models.canonical.json", &version.canonical());
    let again = Version::check(&[SourceFile { name: "again.toml".to_owned(), text: version.to_toml() }]).unwrap();
    assert_eq!(again.address(), version.address());
    for document in version.documents() {
        assert_eq!(platform_registry::Document::parse(&document.canonical().unwrap()).unwrap(), *document);
    }
}

#[test]
fn models_and_meters_that_make_no_sense_or_are_not_live_are_refused_by_name() {
    let problems = Version::read(&golden("wrong_models")).unwrap_err();
    super::golden::check_frozen("wrong_models.report.txt", &format!("{problems}\n"));
}
