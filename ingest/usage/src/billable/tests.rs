//! Pieces of leases and slices, and what is wrong with events, without any registry.

use std::sync::Arc;

use super::*;
use crate::{Aggregation, EventLimits, Meter, MeterReading, MeterSet, Negative};

fn names(names: &[&str]) -> BTreeSet<Arc<str>> {
    names.iter().map(|name| Arc::from(*name)).collect()
}

fn leases() -> BillableStates {
    BillableStates {
        told: Told::Spans("spans".into()),
        states: names(&["starting", "running", "stopped"]),
        start: names(&["starting"]),
        stop: names(&["stopped"]),
        never_ready: Some((names(&["running"]), "waived".into())),
        session: Some("lease".into()),
        cut: Cut::Month,
        zone: Zone::parse("UTC").unwrap(),
        bands: Vec::new(),
        rates: vec![("starting".into(), "use".into()), ("running".into(), "use".into())],
        during: During::Session,
        greater_of: Vec::new(),
        at_least: Quantity::ZERO,
        changes: Arc::default(),
    }
}

fn slices() -> BillableStates {
    BillableStates {
        told: Told::State("state".into()),
        start: BTreeSet::new(),
        stop: BTreeSet::new(),
        never_ready: None,
        session: None,
        ..leases()
    }
}

fn read(policy: BillableStates, time: &str, end: Option<&str>, data: &str) -> Vec<MeterReading> {
    let meter = Meter {
        id: "m".parse().unwrap(),
        event_type: "lease".into(),
        aggregation: Aggregation::Sum,
        value: Some("gpus".into()),
        unit: "gpu".parse().unwrap(),
        dimensions: Vec::new(),
        negative: Negative::Quarantine,
        part_of: None,
        billable: Some(Arc::new(policy)),
    };
    let end = end.map(|end| format!(r#""endtime":"{end}","#)).unwrap_or_default();
    let text =
        format!(r#"{{"specversion":"1.0","id":"i","source":"s","type":"lease","organization":"o","time":"{time}",{end}"data":{data}}}"#);
    let event = Event::parse(text.as_bytes(), Instant::parse("2030-01-01T00:00:00Z").unwrap(), &EventLimits::default()).unwrap();
    MeterSet::new(vec![meter]).unwrap().read(&event)
}

/// Rate, session, band, level, start and end of each piece; or what is wrong.
fn check(policy: BillableStates, time: &str, end: Option<&str>, data: &str, wanted: &[&str]) {
    let shown = |reading: MeterReading| match reading.result {
        Ok(level) => {
            let names = [RATE, SESSION, BAND].into_iter().filter_map(|name| reading.dimensions.get(name));
            let names: Vec<&str> = names.collect();
            let end = reading.end_at.map(|end| end.to_string()).unwrap_or_default();
            format!("{} {level} {} {end}", names.join(" "), reading.start_at)
        }
        Err(defect) => format!("{}: {defect}", defect.reason),
    };
    let found: Vec<String> = read(policy, time, end, data).into_iter().map(shown).collect();
    assert_eq!(found, wanted);
}

const DAY: &str = "2026-01-05T00:00:00Z";
const NEXT: Option<&str> = Some("2026-01-06T00:00:00Z");

#[test]
fn sessions_open_and_close_and_states_at_one_rate_are_one_piece() {
    let data = r#"{"lease":"a","gpus":2,"spans":[{"state":"stopped","start":"2026-01-05T00:00:00Z"},{"state":"starting","start":"2026-01-05T01:00:00Z"},
        {"state":"running","start":"2026-01-05T02:00:00Z"},{"state":"stopped","start":"2026-01-05T03:00:00Z"},{"state":"starting","start":"2026-01-05T04:00:00Z"}]}"#;
    let wanted = ["use a 2 2026-01-05T01:00:00Z 2026-01-05T03:00:00Z", "waived a#2 2 2026-01-05T04:00:00Z 2026-01-06T00:00:00Z"];
    check(leases(), DAY, NEXT, data, &wanted);
    let whole = BillableStates { during: During::Lease, ..leases() };
    let wanted = ["use a 2 2026-01-05T01:00:00Z 2026-01-05T03:00:00Z", "use a 2 2026-01-05T04:00:00Z 2026-01-06T00:00:00Z"];
    check(whole, DAY, NEXT, data, &wanted);
}

#[test]
fn a_span_says_its_own_level_or_that_of_the_event() {
    let data = r#"{"lease":"a","gpus":2,"spans":[{"state":"running","start":"2026-01-05T00:00:00Z","gpus":8},{"state":"running","start":"2026-01-05T01:00:00Z"}]}"#;
    let open = BillableStates { start: BTreeSet::new(), ..leases() };
    check(
        open,
        DAY,
        NEXT,
        data,
        &["use a 8 2026-01-05T00:00:00Z 2026-01-05T01:00:00Z", "use a 2 2026-01-05T01:00:00Z 2026-01-06T00:00:00Z"],
    );
    let raised = BillableStates { greater_of: vec![("used".into(), "0.5".parse().unwrap())], at_least: "3".parse().unwrap(), ..slices() };
    check(raised.clone(), DAY, NEXT, r#"{"state":"running","gpus":2,"used":9}"#, &["use 4.5 2026-01-05T00:00:00Z 2026-01-06T00:00:00Z"]);
    check(raised.clone(), DAY, NEXT, r#"{"state":"running","gpus":2,"used":1}"#, &["use 3 2026-01-05T00:00:00Z 2026-01-06T00:00:00Z"]);
    let fine = r#"quantity_too_fine: data.used "0.000000001": has more than 9 decimal places; send a smaller unit"#;
    check(raised, DAY, NEXT, r#"{"state":"running","gpus":2,"used":0.000000001}"#, &[fine]);
}

#[test]
fn what_is_not_billed_has_no_reading_and_what_is_not_known_is_refused() {
    check(slices(), DAY, NEXT, r#"{"state":"stopped","gpus":2}"#, &[]);
    check(slices(), DAY, Some(DAY), r#"{"state":"running","gpus":2}"#, &[]);
    let known = "the policy knows running, starting, stopped; send one of them, or add it to the policy";
    check(slices(), DAY, NEXT, r#"{"state":"paused","gpus":2}"#, &[&format!("unknown_state: data.state \"paused\": {known}")]);
    check(slices(), DAY, NEXT, r#"{"gpus":2}"#, &[&format!("unknown_state: data.state: {known}")]);
    check(slices(), DAY, NEXT, r#"{"state":[],"gpus":2}"#, &[&format!("unknown_state: data.state \"[]\": {known}")]);
    let end = "missing_field: endtime: what is billed by its time has an end; add it to the event";
    check(slices(), DAY, None, r#"{"state":"running","gpus":2}"#, &[end]);
    let level = "missing_quantity: data.gpus: meter m reads its quantity here; add the member";
    check(slices(), DAY, NEXT, r#"{"state":"running"}"#, &[level]);
    check(
        slices(),
        DAY,
        NEXT,
        r#"{"state":"running","gpus":-1}"#,
        &["negative_quantity: data.gpus \"-1\": meter m takes no negative quantities"],
    );
    let sessions = BillableStates { session: Some("lease".into()), ..slices() };
    let told = "sessions are told by this text; send 1 to 1024 bytes without control characters";
    check(sessions, DAY, NEXT, r#"{"state":"running","gpus":1}"#, &[&format!("invalid_dimension: data.lease: {told}")]);
}

#[test]
fn spans_follow_one_another_inside_the_event() {
    let refused = |spans: &str, wanted: &str| {
        check(
            leases(),
            DAY,
            NEXT,
            &format!(r#"{{"lease":"a","gpus":1,"spans":{spans}}}"#),
            &[&format!("invalid_interval: data.spans{wanted}")],
        );
    };
    let list = "must be a list of spans, each with its state and start";
    refused("null", &format!(": {list}"));
    refused("3", &format!(" \"3\": {list}"));
    refused("[]", &format!(" \"[]\": {list}: 1 to 10000 of them"));
    refused(r#"[{"state":"running"}]"#, "[0].start: a span has a start; add it");
    refused(
        r#"[{"state":"running","start":"2026-01-05T01:00:00Z"}]"#,
        "[0].start \"2026-01-05T01:00:00Z\": the first span starts with the event, at 2026-01-05T00:00:00Z",
    );
    let first = r#"{"state":"running","start":"2026-01-05T00:00:00Z"},{"state":"running","start":"2026-01-05T05:00:00Z"}"#;
    refused(
        &format!(r#"[{first},{{"state":"running","start":"2026-01-05T04:00:00Z"}}]"#),
        "[2].start \"2026-01-05T04:00:00Z\": lies before the span before it, 2026-01-05T05:00:00Z",
    );
    refused(
        &format!(r#"[{first},{{"state":"running","start":"2026-01-07T00:00:00Z"}}]"#),
        "[2].start \"2026-01-07T00:00:00Z\": lies behind the end of the event, 2026-01-06T00:00:00Z",
    );
}

#[test]
fn intervals_are_cut_where_time_or_a_price_changes() {
    let running = r#"{"state":"running","gpus":1}"#;
    // Clocks in Los Angeles go from 02:00 to 03:00 on 8 March 2026: the band of 02:30 begins at 03:30 there.
    let zone = Zone::parse("America/Los_Angeles").unwrap();
    let bands = BillableStates { zone, bands: vec![(150, "day".into()), (1_200, "night".into())], ..slices() };
    let wanted = [
        "use night 1 2026-03-08T09:00:00Z 2026-03-08T10:30:00Z",
        "use day 1 2026-03-08T10:30:00Z 2026-03-09T03:00:00Z",
        "use night 1 2026-03-09T03:00:00Z 2026-03-09T04:00:00Z",
    ];
    check(bands, "2026-03-08T09:00:00Z", Some("2026-03-09T04:00:00Z"), running, &wanted);
    let tokyo = BillableStates { zone: Zone::parse("Asia/Tokyo").unwrap(), ..slices() };
    let wanted = [
        "use 1 2026-01-31T12:00:00Z 2026-01-31T15:00:00Z",
        "use 1 2026-01-31T15:00:00Z 2026-02-01T00:00:00Z",
        "use 1 2026-02-01T00:00:00Z 2026-02-01T12:00:00Z",
    ];
    check(tokyo, "2026-01-31T12:00:00Z", Some("2026-02-01T12:00:00Z"), running, &wanted);
    let at = |text: &str| -> Arc<[Instant]> { vec![Instant::parse(text).unwrap()].into() };
    let own = BTreeMap::from([("other".parse().unwrap(), at("2026-01-05T06:00:00Z"))]);
    let priced = BillableStates { changes: Arc::new(Changes { own, default: at("2026-01-05T12:00:00Z") }), ..slices() };
    let wanted = ["use 1 2026-01-05T00:00:00Z 2026-01-05T12:00:00Z", "use 1 2026-01-05T12:00:00Z 2026-01-06T00:00:00Z"];
    check(priced, DAY, NEXT, running, &wanted);
}

#[test]
fn an_interval_with_more_pieces_than_readings_have_numbers_is_refused() {
    let daily = BillableStates { cut: Cut::Day, bands: vec![(0, "a".into()), (720, "b".into())], ..slices() };
    let many = "invalid_interval: endtime \"1970-01-01T00:00:00Z to 2029-01-01T00:00:00Z\": would be cut into more than 65536 pieces; send shorter intervals";
    assert_eq!(
        read(daily.clone(), "2000-01-01T00:00:00Z", Some("2029-01-01T00:00:00Z"), r#"{"state":"running","gpus":1}"#).len(),
        2 * 10_593
    );
    let hourly: Vec<(u16, Arc<str>)> = (0..24_u16).map(|hour| (hour * 60, Arc::from(format!("h{hour}")))).collect();
    check(
        BillableStates { bands: hourly, ..daily },
        "1970-01-01T00:00:00Z",
        Some("2029-01-01T00:00:00Z"),
        r#"{"state":"running","gpus":1}"#,
        &[many],
    );
}
