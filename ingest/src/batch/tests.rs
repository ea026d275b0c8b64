//! The batch builder against a model: whatever is sent again, in whatever order and batches, each identity is accepted once.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use bytes::Bytes;
use platform_usage::{Aggregation, Meter, Negative};
use proptest::prelude::*;
use shared_types::{Incarnation, MeterId, Sequence, UnitId};

use super::*;

const VERSION: Digest = Digest([7; 32]);

struct TestRules {
    key: IdentityKey,
    limits: EventLimits,
    meters: Arc<MeterSet>,
}

impl TestRules {
    fn new() -> Self {
        let meter = |id: &str, aggregation, value: Option<&str>| Meter {
            id: MeterId::parse(id).unwrap(),
            event_type: "use".into(),
            aggregation,
            value: value.map(Into::into),
            unit: UnitId::parse("unit").unwrap(),
            dimensions: Vec::new(),
            negative: Negative::Quarantine,
            part_of: None,
            billable: None,
        };
        let meters = vec![meter("n", Aggregation::Sum, Some("n")), meter("requests", Aggregation::Count, None)];
        Self { key: IdentityKey::new(&[1; 32]), limits: EventLimits::default(), meters: Arc::new(MeterSet::new(meters).unwrap()) }
    }
}

impl Rules for TestRules {
    fn control(&self, payload: &[u8]) -> Result<ControlEffect, String> {
        let text = std::str::from_utf8(payload).map_err(|error| error.to_string())?;
        // `<number>` publishes the version, `<number> close <month>` closes a month, `<number> again` has usage rated again.
        let (text, rerates) = text.strip_suffix(" again").map_or((text, false), |text| (text, true));
        let (number, closes) = text.split_once(" close ").map_or((text, None), |(number, month)| (number, Some(month)));
        let number = number.parse().map_err(|_| format!("{text:?} is no number"))?;
        let closes = closes.map(|month| Month::parse(month).unwrap());
        let (registry_version, kind) = if closes.is_some() { (None, "close") } else { (Some(VERSION), "registry") };
        Ok(ControlEffect { control_no: ControlNo(number), registry_version, closes, rerates, kind: kind.to_owned() })
    }

    fn meters(&self, version: &Digest) -> Option<Arc<MeterSet>> {
        (*version == VERSION).then(|| Arc::clone(&self.meters))
    }

    fn commitment(&self, _: &IdentityHash, strings: &str) -> Digest {
        Digest::of(strings.as_bytes())
    }

    fn identity_key(&self) -> &IdentityKey {
        &self.key
    }

    fn event_limits(&self) -> &EventLimits {
        &self.limits
    }
}

#[derive(Default)]
struct TestIndex(RefCell<HashMap<IdentityHash, Entry>>);

impl Identities for TestIndex {
    fn look_up(&self, identities: &[(ShardId, IdentityHash)]) -> Result<Vec<Option<Entry>>, crate::index::IndexError> {
        Ok(identities.iter().map(|(_, identity)| self.0.borrow().get(identity).copied()).collect())
    }
}

fn shard() -> ShardId {
    ShardId::new(3).unwrap()
}

fn start() -> ShardState {
    ShardState {
        position: Position { shard: shard(), incarnation: Incarnation(1), sequence: Sequence(0) },
        digest: Digest::ZERO,
        control_no: ControlNo(0),
        registry_version: Digest::ZERO,
        oldest_open: None,
    }
}

fn record(sequence: u64, kind: RecordKind, payload: String) -> StreamRecord {
    StreamRecord {
        position: Position { shard: shard(), incarnation: Incarnation(1), sequence: Sequence(sequence) },
        digest: Digest::of(payload.as_bytes()),
        kind,
        accepted_at: Instant::parse("2026-10-10T00:00:00Z").unwrap(),
        payload: Bytes::from(payload),
    }
}

fn event(id: u8, n: u8) -> String {
    format!(
        r#"{{"specversion":"1.0","id":"{id}","source":"s","type":"use","time":"2026-10-05T00:00:00Z","organization":"org","data":{{"n":{n}}}}}"#
    )
}

/// Builds the records in batches of the given sizes, committing each.
fn run(records: &[StreamRecord], cuts: &[usize], index: &TestIndex) -> Vec<EventRow> {
    let rules = TestRules::new();
    let mut state = start();
    let mut rows = Vec::new();
    let mut at = 0;
    let mut cuts = cuts.iter().cycle();
    while at < records.len() {
        let end = (at + cuts.next().unwrap_or(&1)).min(records.len());
        let built = build(vec![ShardRecords { state: state.clone(), records: records[at..end].to_vec() }], &rules, index).unwrap();
        let [range] = built.ranges.as_slice() else { panic!("one range") };
        assert_eq!(range.first.0, u64::try_from(at).unwrap() + 1);
        at = usize::try_from(range.last.0).unwrap();
        for (_, identity, entry) in &built.accepted {
            assert!(index.0.borrow_mut().insert(*identity, *entry).is_none(), "an identity is new to the index once");
        }
        let readings: i32 = built.rows.iter().map(|row| row.readings).sum();
        let metered: usize = built.usage.iter().map(|group| group.usage.readings.len()).sum();
        assert_eq!(usize::try_from(readings).unwrap(), metered, "readings of rows = readings handed to rating");
        rows.extend(built.rows);
        [state] = <[ShardState; 1]>::try_from(built.states).unwrap();
    }
    rows
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn each_identity_is_accepted_once_whatever_is_sent_again(
        sends in prop::collection::vec((0_u8..12, 0_u8..3), 1..60),
        cuts in prop::collection::vec(1_usize..9, 1..6),
        other_cuts in prop::collection::vec(1_usize..9, 1..6),
    ) {
        let mut records = vec![record(1, RecordKind::Control, "1".to_owned())];
        for (id, n) in &sends {
            records.push(record(u64::try_from(records.len()).unwrap() + 1, RecordKind::Usage, event(*id, *n)));
        }
        let rows = run(&records, &cuts, &TestIndex::default());
        // The model: the first event of an id counts; equal content later is a duplicate, other content a conflict.
        let mut first: BTreeMap<u8, u8> = BTreeMap::new();
        prop_assert_eq!(rows.len(), records.len());
        for (row, (id, n)) in rows.iter().skip(1).zip(&sends) {
            let expected = match first.get(id) {
                None => Outcome::Accepted,
                Some(content) if content == n => Outcome::Duplicate,
                Some(_) => Outcome::Conflict,
            };
            first.entry(*id).or_insert(*n);
            prop_assert_eq!(row.outcome, expected);
            prop_assert_eq!(row.first.is_some(), expected != Outcome::Accepted);
            prop_assert_eq!(row.raw.is_some(), expected == Outcome::Conflict);
        }
        let positions: BTreeSet<Position> = rows.iter().map(|row| row.position).collect();
        prop_assert_eq!(positions.len(), records.len());
        // Other batch cuts give the same rows.
        let again = run(&records, &other_cuts, &TestIndex::default());
        prop_assert_eq!(rows, again);
    }
}

#[test]
fn a_control_record_that_changes_the_version_ends_the_range_of_its_shard() {
    let records = vec![
        record(1, RecordKind::Usage, event(1, 1)),
        record(2, RecordKind::Control, "1".to_owned()),
        record(3, RecordKind::Usage, event(2, 1)),
    ];
    let rows = run(&records, &[10], &TestIndex::default());
    // Without a version nothing reads the first event; behind the control record the second one is read.
    let outcomes: Vec<(Outcome, i32)> = rows.iter().map(|row| (row.outcome, row.readings)).collect();
    assert_eq!(outcomes, [(Outcome::Quarantined, 0), (Outcome::Control, 0), (Outcome::Accepted, 2)]);
}

#[test]
fn control_records_apply_in_dense_order_and_repeats_and_gaps_are_ignored() {
    let rules = TestRules::new();
    let numbers = ["2", "1", "1", "2"];
    let records = (1..).zip(numbers).map(|(at, number)| record(at, RecordKind::Control, number.to_owned())).collect();
    let built = build(vec![ShardRecords { state: start(), records }], &rules, &TestIndex::default()).unwrap();
    // "2" comes too early, "1" changes the version and ends the range.
    assert_eq!(built.states[0].control_no, ControlNo(1));
    assert_eq!(built.rows.len(), 2);
    assert!(built.rows[0].detail.as_deref().unwrap().ends_with("ignored"));
    let rest = (3..).zip(["1", "2"]).map(|(at, number)| record(at, RecordKind::Control, number.to_owned())).collect();
    let built = build(vec![ShardRecords { state: built.states[0].clone(), records: rest }], &rules, &TestIndex::default()).unwrap();
    assert_eq!(built.states[0].control_no, ControlNo(2));
}

#[test]
fn a_stream_that_skips_a_record_is_refused() {
    let rules = TestRules::new();
    let records = vec![record(2, RecordKind::Usage, event(1, 1))];
    let refused = build(vec![ShardRecords { state: start(), records }], &rules, &TestIndex::default());
    assert!(matches!(refused, Err(BuildError::Gap { .. })));
    let unreadable = vec![record(1, RecordKind::Control, "x".to_owned())];
    let refused = build(vec![ShardRecords { state: start(), records: unreadable }], &rules, &TestIndex::default());
    assert!(matches!(refused, Err(BuildError::Control { .. })));
}

#[test]
fn usage_behind_a_close_goes_to_the_oldest_open_month() {
    let rules = TestRules::new();
    let month = |text: &str| Instant::parse(text).unwrap().month();
    let state = ShardState { registry_version: VERSION, oldest_open: Some(month("2026-11-01T00:00:00Z")), ..start() };
    let records = vec![record(1, RecordKind::Usage, event(1, 1))];
    let built = build(vec![ShardRecords { state, records }], &rules, &TestIndex::default()).unwrap();
    let reading = &built.usage[0].usage.readings[0];
    assert_eq!(reading.start_at.month(), month("2026-10-01T00:00:00Z"));
    assert_eq!(reading.accounting_period, month("2026-11-01T00:00:00Z"));
}

/// The accounting periods of October usage around a close, for any batch cuts: what stands before the record stays in October.
#[test]
fn a_close_parts_the_readings_before_it_from_those_behind_it() {
    let rules = TestRules::new();
    let records: Vec<StreamRecord> = [
        (RecordKind::Control, "1".to_owned()),
        (RecordKind::Usage, event(1, 1)),
        (RecordKind::Control, "2 close 2026-10".to_owned()),
        (RecordKind::Usage, event(2, 1)),
        // A close of an earlier month moves nothing back, and a repeat of the record nothing at all.
        (RecordKind::Control, "3 close 2026-09".to_owned()),
        (RecordKind::Control, "2 close 2026-10".to_owned()),
        (RecordKind::Usage, event(3, 1)),
    ]
    .into_iter()
    .zip(1..)
    .map(|((kind, payload), sequence)| record(sequence, kind, payload))
    .collect();
    for cut in 1..=records.len() {
        let (mut state, mut at, mut periods) = (start(), 0, Vec::new());
        while at < records.len() {
            let taken = records[at..(at + cut).min(records.len())].to_vec();
            let built = build(vec![ShardRecords { state, records: taken }], &rules, &TestIndex::default()).unwrap();
            at = usize::try_from(built.ranges[0].last.0).unwrap();
            let readings = built.usage.iter().flat_map(|group| &group.usage.readings);
            periods.extend(readings.filter(|reading| reading.ordinal == 0).map(|reading| reading.accounting_period.number()));
            [state] = <[ShardState; 1]>::try_from(built.states).unwrap();
        }
        assert_eq!(periods, [202_610, 202_611, 202_611], "batches of {cut}");
        assert_eq!((state.control_no, state.oldest_open), (ControlNo(3), Some(Month::parse("2026-11").unwrap())));
    }
}

#[test]
fn a_record_that_has_usage_rated_again_is_a_range_of_its_own() {
    let records = [
        record(1, RecordKind::Control, "1".to_owned()),
        record(2, RecordKind::Usage, event(1, 1)),
        record(3, RecordKind::Control, "2 again".to_owned()),
        record(4, RecordKind::Control, "2 again".to_owned()),
        record(5, RecordKind::Usage, event(2, 1)),
    ];
    let (mut state, mut ends) = (start(), Vec::new());
    while state.position.sequence < Sequence(5) {
        let left = records[usize::try_from(state.position.sequence.0).unwrap()..].to_vec();
        let shard = ShardRecords { state: state.clone(), records: left };
        let built = build(vec![shard], &TestRules::new(), &TestIndex::default()).unwrap();
        state = built.states[0].clone();
        ends.push(state.position.sequence.0);
    }
    // The version does not change by its second publication: what follows may stand in the same range, a repeat is ignored.
    assert_eq!(ends, [1, 2, 5]);
}
