//! Billable states: the rules of GPU clouds as documents, each with leases and figures worked out by hand; and leases cut anywhere, which
//! owe what the whole lease owes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use platform_rating::{Fate, RatingState, rate};
use platform_registry::{Compiled, Document, SourceFile, Version, compile};
use platform_usage::{Event, EventLimits, IdentityKey, MeterSet, MeteredReading};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use shared_types::{Digest, Incarnation, Instant, Month, Position, Sequence, ShardId};

/// What parts the documents of a cloud from its cases.
const LINE: &str = "# ================ Leases and what they owe ================";

fn clouds() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/clouds")
}

fn text(name: &str) -> String {
    std::fs::read_to_string(clouds().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn version(documents: &str) -> Version {
    let files = [("common.toml", text("common.toml")), ("cloud.toml", documents.to_owned())];
    Version::check(&files.map(|(name, text)| SourceFile { name: name.to_owned(), text })).unwrap_or_else(|problems| panic!("{problems}"))
}

fn event(id: &str, kind: &str, time: &str, end: &str, data: &str) -> Event {
    let text = format!(
        r#"{{"specversion":"1.0","id":"{id}","source":"s","type":"{kind}","organization":"o","time":"{time}","endtime":"{end}","data":{data}}}"#
    );
    Event::parse(text.as_bytes(), Instant::parse("2026-04-01T00:00:00Z").unwrap(), &EventLimits::default()).unwrap()
}

/// Readings of events in this order.
fn readings(meters: &MeterSet, events: &[&Event]) -> Vec<MeteredReading> {
    let mut readings = Vec::new();
    for (event, sequence) in events.iter().zip(1..) {
        for (reading, number) in meters.read(event).into_iter().zip(0..) {
            assert_eq!(reading.ordinal, number, "readings of an event are numbered without a gap");
            let refused = reading.result.as_ref().err().map(|defect| defect.reason);
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
                quantity: reading.result.unwrap_or_default(),
                start_at: reading.start_at,
                end_at: reading.end_at,
                accepted_at: event.start_at(),
                accounting_period: reading.start_at.month(),
                commitment: Digest::ZERO,
                refused,
            });
        }
    }
    readings
}

/// What came of events: totals by SKU (and month, unless it is January), rules that waived, reasons of quarantine, pieces.
#[derive(Debug, Default, PartialEq)]
struct Outcome {
    owes: BTreeMap<String, String>,
    waived: Vec<String>,
    quarantined: Vec<String>,
    pieces: Vec<String>,
}

fn outcome(compiled: &Compiled, meters: &MeterSet, events: &[&Event]) -> Outcome {
    let readings = readings(meters, events);
    let mut state = RatingState::default();
    let batch = rate(&state, &compiled.plan, &readings, 1).unwrap();
    let mut outcome = Outcome::default();
    for charge in &batch.charges {
        match &charge.fate {
            Fate::Charged { .. } => {}
            Fate::Free { named, .. } => outcome.waived.push(named.to_string()),
            Fate::Quarantined { reason } => outcome.quarantined.push(reason.code().to_owned()),
        }
        if let (Some(rate), Some(end_at)) = (charge.dimensions.get("rate"), charge.end_at) {
            outcome.pieces.push(format!("{rate} {} {} {end_at}", charge.quantity, charge.start_at));
        }
    }
    state.apply(batch.overlay);
    let january = Month::from_number(202_601).unwrap();
    for (key, state) in state.keys() {
        let month = key.service_period.number();
        let name =
            if key.service_period == january { key.sku.to_string() } else { format!("{} {}-{:02}", key.sku, month / 100, month % 100) };
        outcome.owes.insert(name, state.total.to_string());
    }
    for list in [&mut outcome.waived, &mut outcome.quarantined, &mut outcome.pieces] {
        list.sort();
    }
    outcome
}

fn texts(case: &toml::Value, name: &str) -> Option<Vec<String>> {
    Some(case.get(name)?.as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_owned()).collect())
}

#[test]
fn the_rules_of_gpu_clouds_give_the_figures_worked_out_by_hand() {
    let mut names: Vec<String> =
        std::fs::read_dir(clouds()).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names.retain(|name| name != "common.toml");
    assert_eq!(names.len(), 14, "twelve clouds, waivers and changes inside an hour");
    for name in names {
        let text = text(&name);
        let (documents, cases) = text.split_once(LINE).unwrap_or_else(|| panic!("{name} has no line before its cases"));
        let compiled = compile(&version(documents)).unwrap();
        compiled.plan.validate().unwrap();
        let meters = MeterSet::new(compiled.meters.clone()).unwrap();
        let cases: toml::Value = toml::from_str(cases).unwrap_or_else(|error| panic!("{name}: {error}"));
        for case in cases["case"].as_array().unwrap() {
            let title = format!("{name}: {}", case["name"].as_str().unwrap());
            let text = |event: &toml::Value, field: &str| event[field].as_str().unwrap().to_owned();
            let events: Vec<Event> = case["event"]
                .as_array()
                .unwrap()
                .iter()
                .zip(0..)
                .map(|(given, number): (_, u32)| {
                    let data = serde_json::to_string(&given["data"]).unwrap();
                    event(&format!("{title} {number}"), &text(given, "type"), &text(given, "time"), &text(given, "end"), &data)
                })
                .collect();
            let owes = case["owes"].as_table().unwrap().iter().map(|(sku, owed)| (sku.clone(), owed.as_str().unwrap().to_owned()));
            let wanted = Outcome {
                owes: owes.collect(),
                waived: texts(case, "waived").unwrap_or_default(),
                quarantined: texts(case, "quarantined").unwrap_or_default(),
                pieces: Vec::new(),
            };
            let mut events: Vec<&Event> = events.iter().collect();
            for order in ["as given", "backwards"] {
                let found = outcome(&compiled, &meters, &events);
                if let Some(pieces) = texts(case, "pieces") {
                    assert_eq!(found.pieces, pieces, "{title}, {order}");
                }
                assert_eq!(Outcome { pieces: Vec::new(), ..found }, wanted, "{title}, {order}");
                events.reverse();
            }
        }
    }
}

/// The book of a GPU cloud as the guide writes it: begun minutes, a disk that costs twice while the machine is stopped.
#[test]
fn the_price_book_of_the_guide_works_as_it_stands_there() {
    let guide = include_str!("../../../../docs/guide/registry.md");
    let (_, section) = guide.split_once("### `[[billable_states]]`").unwrap();
    let (_, block) = section.split_once("```toml\n").unwrap();
    let compiled = compile(&version(block.split_once("```").unwrap().0)).unwrap();
    let meters = MeterSet::new(compiled.meters.clone()).unwrap();
    let slice = |id: &str, from: &str, to: &str, state: &str| {
        let data = format!(r#"{{"lease":"l-1","state":"{state}","gpus":8,"gpu_model":"h100","disk_gib":100}}"#);
        event(id, "machine", &format!("2026-01-{from}Z"), &format!("2026-01-{to}Z"), &data)
    };
    let slices = [
        slice("1", "05T10:00:00", "05T10:05:00", "starting"),
        slice("2", "05T10:05:00", "05T10:30:30", "running"),
        slice("3", "05T10:30:30", "05T11:00:00", "host_down"),
        slice("4", "05T11:00:00", "05T11:04:00", "running"),
        slice("5", "05T11:04:00", "08T13:28:00", "stopped"),
    ];
    // 25 min 30 s + 4 min are 30 begun minutes of 8 GPUs: 8 x 0.5 h x 2.49 = 9.96. The disk: 5 min + 25.5 min + 4 min = 34.5 min of January's 44,640:
    // 100 x 34.5 / 44,640 x 0.10 = 0.007728495; stopped 74.4 h, a tenth of January: 100 x 0.1 x 0.20 = 2.
    let wanted = [("disk", "0.007728495"), ("disk.stopped", "2"), ("gpu.h100", "9.96")];
    let wanted: BTreeMap<String, String> = wanted.map(|(sku, owed)| (sku.to_owned(), owed.to_owned())).into();
    assert_eq!(outcome(&compiled, &meters, &slices.iter().collect::<Vec<_>>()).owes, wanted);
}

#[test]
fn billable_states_are_written_and_read_back() {
    for name in ["runpod_pods.toml", "modal.toml", "changes.toml", "runware.toml", "waivers.toml", "osac.toml"] {
        let text = text(name);
        let version = version(text.split_once(LINE).unwrap().0);
        let again = Version::check(&[SourceFile { name: "again.toml".to_owned(), text: version.to_toml() }])
            .unwrap_or_else(|problems| panic!("{problems}"));
        assert_eq!(again.address(), version.address(), "{name}");
        for document in version.documents() {
            assert_eq!(Document::parse(&document.canonical().unwrap()).unwrap(), *document);
        }
    }
}

#[test]
fn wrong_billable_states_are_refused_with_place_and_remedy() {
    let files = [("common.toml", text("common.toml")), ("states.toml", include_str!("../golden/wrong_states/states.toml").to_owned())];
    let problems = Version::check(&files.map(|(name, text)| SourceFile { name: name.to_owned(), text })).unwrap_err();
    super::golden::check_frozen("wrong_states/report.txt", &format!("{problems}\n"));
}

/// Begun minutes, at least two, of each lease; a lease is told by its id.
const SESSIONS: &str = r#"
[[billable_states]]
id = "leases"
states = ["running"]
state = "state"
session = "lease"
[[billable_states.meter]]
meter = "gpus"
rates = { running = "use" }
increment = "60"
minimum = "120"
[[meter]]
id = "gpus"
event_type = "lease"
aggregation = "time_weighted"
value = "gpus"
unit = "gpu"
billable = "leases"
[[sku]]
id = "gpu"
family = "f"
meter = "gpus"
[[price_book]]
id = "list"
currency = "USD"
[[price_book.price]]
sku = "gpu"
effective_at = "2026-01-01T00:00:00Z"
model = "per_unit"
unit_price = "1"
"#;

/// A lease: its start and length in microseconds, its GPUs, and where it is cut, in parts of a thousand of its length.
type Lease = (i64, i64, u8, Vec<i64>);

fn slices(leases: &[Lease], cut: bool) -> Vec<Event> {
    let begin = Instant::parse("2026-01-10T00:00:00Z").unwrap().micros();
    let at = |micros: i64| Instant::from_micros(begin + micros).unwrap().to_string();
    let mut events = Vec::new();
    for ((start, length, gpus, cuts), lease) in leases.iter().zip(0_u32..) {
        let mut ends: Vec<i64> = if cut { cuts.iter().map(|part| start + length * part / 1_000).collect() } else { Vec::new() };
        ends.push(start + length);
        ends.sort_unstable();
        let mut from = *start;
        for (end, slice) in ends.into_iter().zip(0_u32..) {
            let data = format!(r#"{{"state":"running","lease":"l{lease}","gpus":{gpus}}}"#);
            events.push(event(&format!("{lease} {slice}"), "lease", &at(from), &at(end), &data));
            from = end;
        }
    }
    events
}

#[test]
fn leases_cut_anywhere_and_sent_in_any_order_owe_what_they_owe_whole() {
    let compiled = compile(&version(SESSIONS)).unwrap();
    let meters = MeterSet::new(compiled.meters.clone()).unwrap();
    let edges = std::cell::RefCell::new(BTreeMap::<&str, u64>::new());
    let lengths = prop::sample::select(vec![
        1_i64,
        59_999_999,
        60_000_000,
        60_000_001,
        119_999_999,
        120_000_000,
        120_000_001,
        3_600_000_000,
        7_777_777_777,
    ]);
    let lease = (0..1_000_000_000_i64, lengths, 1..5_u8, prop::collection::vec(0..=1_000_i64, 0..6));
    let leases = prop::collection::vec(lease, 1..5).prop_flat_map(|leases| {
        let slices = slices(&leases, true);
        (Just(leases), Just(slices).prop_shuffle())
    });
    let config = Config { cases: 1_000, failure_persistence: None, ..Config::default() };
    TestRunner::new(config)
        .run(&leases, |(leases, shuffled)| {
            // By hand: whole minutes, begun ones counted, at least two, times GPUs.
            let wanted: i64 =
                leases.iter().map(|(_, length, gpus, _)| ((length + 59_999_999) / 60_000_000).max(2) * 60 * i64::from(*gpus)).sum();
            let wanted = BTreeMap::from([("gpu".to_owned(), wanted.to_string())]);
            let whole = slices(&leases, false);
            prop_assert_eq!(&outcome(&compiled, &meters, &whole.iter().collect::<Vec<_>>()).owes, &wanted);
            prop_assert_eq!(&outcome(&compiled, &meters, &shuffled.iter().collect::<Vec<_>>()).owes, &wanted);
            let met = |edge: &'static str, when: bool| *edges.borrow_mut().entry(edge).or_default() += u64::from(when);
            met("cut", shuffled.len() > leases.len());
            met("an empty slice", shuffled.iter().any(|event| event.end_at() == Some(event.start_at())));
            met("the minimum", leases.iter().any(|(_, length, ..)| *length < 60_000_000));
            met("a whole number of minutes", leases.iter().any(|(_, length, ..)| length % 60_000_000 == 0));
            Ok(())
        })
        .unwrap_or_else(|error| panic!("{error}"));
    for (edge, times) in edges.into_inner() {
        println!("{edge}: {times}");
        assert!(times > 0, "{edge} was never met");
    }
}
