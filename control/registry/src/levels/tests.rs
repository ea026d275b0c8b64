//! What has to be stated of levels, held against a model that replays every change month by month.

use std::collections::BTreeMap;

use platform_usage::{Accepted, Event, EventLimits, MeterSet};
use proptest::prelude::*;
use shared_types::{Digest, IdentityHash, Incarnation, Position, Sequence, ShardId};

use super::*;
use crate::{Compiled, SourceFile, compile};

/// Seats of a project and model, carried from and until these months.
fn version(recurring: &str) -> Version {
    let text = format!(
        "[[unit]]\nid = \"seat\"\n[[meter]]\nid = \"seats\"\nevent_type = \"seats\"\naggregation = \"prorated\"\nvalue = \"change.seats\"\n\
         unit = \"seat\"\ndimensions = {{ plan = \"change.plan\", region = \"region\" }}\nnegative = \"accept\"\n{recurring}"
    );
    Version::check(&[SourceFile { name: "a.toml".to_owned(), text }]).unwrap_or_else(|problems| panic!("{problems}"))
}

fn carried(from: i32, until: Option<i32>) -> Version {
    let until = until.map(|until| format!("recurring_until = \"{}\"\n", month(until).start())).unwrap_or_default();
    version(&format!("recurring_from = \"{}\"\n{until}", month(from).start()))
}

fn month(number: i32) -> Month {
    Month::from_number(number).unwrap()
}

fn level(plan: &str, project: Option<&str>) -> LevelId {
    LevelId {
        organization: "acme".parse().unwrap(),
        project: project.map(|project| project.parse().unwrap()),
        meter: "seats".parse().unwrap(),
        dimensions: Dimensions::new([("plan".into(), plan.into())]),
    }
}

fn sums(rows: &[(i32, i64)]) -> Sums {
    let mut sums = Sums::new();
    for (number, seats) in rows {
        add(&mut sums, level("team", None), month(*number), Some(i128::from(*seats) * 1_000_000_000));
    }
    sums
}

/// Period and quantity of what is due, as text.
fn check(version: &Version, changed: &[(i32, i64)], stated: &[(i32, i64)], at: &str, expected: &str) {
    let due = due(version, &sums(changed), &sums(stated), Instant::parse(at).unwrap());
    let shown: Vec<String> = due.carried.iter().map(|carried| format!("{} {}", carried.period, carried.quantity)).collect();
    assert_eq!((shown.join(", ").as_str(), due.beyond.len()), (expected, 0));
}

#[test]
fn a_level_is_stated_for_each_period_that_has_begun() {
    let version = carried(202_611, None);
    let october = [(202_610, 4)];
    check(&version, &october, &[], "2026-10-31T23:59:59Z", "");
    check(&version, &october, &[], "2026-11-01T00:00:00Z", "2026-11 4");
    check(&version, &october, &[], "2027-02-20T00:00:00Z", "2026-11 4, 2026-12 4, 2027-01 4, 2027-02 4");
    check(&version, &october, &[(202_611, 4), (202_612, 4)], "2026-12-20T00:00:00Z", "");
    // A change that comes late alters every period behind its own.
    let late = [(202_610, 4), (202_611, -1)];
    check(&version, &late, &[(202_611, 4), (202_612, 4)], "2026-12-20T00:00:00Z", "2026-12 -1");
    check(&version, &[(202_610, 3)], &[(202_611, 4), (202_612, 4)], "2026-12-20T00:00:00Z", "2026-11 -1, 2026-12 -1");
    // What comes to nothing is not stated.
    check(&version, &[(202_610, 4), (202_611, -4)], &[], "2026-12-20T00:00:00Z", "2026-11 4");
    // Before the period before the first one, levels ended with their periods.
    check(&version, &[(202_609, 7), (202_610, 4)], &[], "2026-11-20T00:00:00Z", "2026-11 4");
}

#[test]
fn what_a_version_carries_no_more_is_taken_back() {
    let stated = [(202_611, 4), (202_612, 4)];
    check(&carried(202_611, Some(202_612)), &[(202_610, 4)], &stated, "2027-01-20T00:00:00Z", "2026-12 -4");
    check(&carried(202_612, None), &[(202_610, 4)], &stated, "2026-12-20T00:00:00Z", "2026-11 -4, 2026-12 -4");
    check(&version(""), &[(202_610, 4)], &stated, "2026-12-20T00:00:00Z", "2026-11 -4, 2026-12 -4");
    // Of other meters nothing was stated.
    let other = version("").to_toml().replace("\"seats\"", "\"others\"");
    let other = Version::check(&[SourceFile { name: "a.toml".to_owned(), text: other }]).unwrap();
    check(&other, &[(202_610, 4)], &[], "2026-12-20T00:00:00Z", "");
}

#[test]
fn a_level_beyond_any_quantity_is_named_and_not_stated() {
    let mut changed = sums(&[(202_609, 1)]);
    for _ in 0..2 {
        add(&mut changed, level("team", None), month(202_610), Some(i128::MAX));
    }
    add(&mut changed, level("solo", None), month(202_610), Some(1));
    let due = due(&carried(202_611, None), &changed, &Sums::new(), month(202_611).start());
    assert_eq!(due.beyond, BTreeSet::from([level("team", None)]));
    assert_eq!(due.carried.len(), 1);
}

#[test]
fn time_comes_with_the_next_period_that_a_level_is_carried_into() {
    let next = |version: &Version, after: &str| next_due(version, Instant::parse(after).unwrap()).map(|at| at.to_string());
    let bounded = carried(202_611, Some(202_701));
    assert_eq!(next(&bounded, "2026-05-20T00:00:00Z").as_deref(), Some("2026-11-01T00:00:00Z"));
    assert_eq!(next(&bounded, "2026-11-01T00:00:00Z").as_deref(), Some("2026-12-01T00:00:00Z"));
    assert_eq!(next(&bounded, "2026-12-01T00:00:00Z"), None);
    assert_eq!(next(&carried(202_611, None), "2030-01-31T00:00:00Z").as_deref(), Some("2030-02-01T00:00:00Z"));
    assert_eq!(next(&version(""), "2026-05-20T00:00:00Z"), None);
}

/// What the version's meters read from an event that states a level.
fn read(version: &Version, event: &str) -> (Event, Vec<platform_usage::MeterReading>) {
    let limits = EventLimits { far_future_micros: i64::MAX };
    let event = Event::parse(event.as_bytes(), Instant::parse("2026-11-02T00:00:00Z").unwrap(), &limits).unwrap();
    let Compiled { meters, .. } = compile(version).unwrap();
    let readings = MeterSet::new(meters).unwrap().read(&event);
    (event, readings)
}

#[test]
fn the_meter_reads_the_level_from_its_event() {
    let version = carried(202_611, None);
    let meter = version.meters().next().unwrap();
    for (plan, project) in [("team", Some("chat")), ("odd \"plan\" é", None), ("", None)] {
        let carried = Carried { level: level(plan, project), period: month(202_611), quantity: Quantity::parse("-2.5").unwrap() };
        let (event, readings) = read(&version, &carried.event(meter, 7));
        let [reading] = &readings[..] else { panic!("{readings:?}") };
        assert_eq!((event.id(), event.organization().as_str()), ("seats/2026-11/level-7", "acme"));
        assert_eq!(event.project().map(|project| project.as_str()), project);
        assert_eq!((event.start_at(), event.end_at()), (month(202_611).start(), None));
        assert_eq!((&reading.dimensions, reading.result.as_ref().unwrap()), (&carried.level.dimensions, &carried.quantity));
        // A later statement of the same level is another event.
        assert_ne!(carried.event(meter, 7), carried.event(meter, 8));
        let accepted = Accepted {
            position: Position { shard: ShardId::of_organization("acme"), incarnation: Incarnation(1), sequence: Sequence(1) },
            identity: IdentityHash([0; 16]),
            accepted_at: Instant::EPOCH,
            commitment: Digest::ZERO,
        };
        let reading = reading.clone().of_event(&event, &accepted, month(202_611));
        assert_eq!((reading.meter, reading.source.as_str()), (carried.level.meter, OWN_SOURCE));
    }
}

#[test]
fn what_was_stated_is_read_the_same_by_later_versions() {
    let before = carried(202_611, None);
    let stated = BTreeSet::from(["seats".parse().unwrap()]);
    let changed = |from: &str, to: &str| {
        let text = before.to_toml();
        assert!(text.contains(from), "{text}");
        Version::check(&[SourceFile { name: "a.toml".to_owned(), text: text.replace(from, to) }]).unwrap()
    };
    let refused = |after: &Version| refuse_changed(&stated, &before, after).is_err();
    assert!(!refused(&before));
    assert!(!refused(&changed("recurring_from = \"2026-11-01T00:00:00Z\"\n", "")));
    assert!(!refused(&changed("by = \"microsecond\"", "by = \"day\"")));
    for (from, to) in [
        ("event_type = \"seats\"", "event_type = \"others\""),
        ("value = \"change.seats\"", "value = \"seats\""),
        ("\"plan\" = \"change.plan\"", "\"plan\" = \"plan\""),
        ("id = \"seats\"", "id = \"others\""),
    ] {
        assert!(refused(&changed(from, to)), "{from}");
    }
    assert!(refused(&changed("negative = \"accept\"\nrecurring_from = \"2026-11-01T00:00:00Z\"\n", "")));
    let second = "[[meter]]\nid = \"events\"\nevent_type = \"seats\"\naggregation = \"count\"\nunit = \"seat\"\n";
    assert!(refused(&changed("recurring_from = \"2026-11-01T00:00:00Z\"\n", second)));
    assert!(refuse_changed(&BTreeSet::new(), &before, &changed("id = \"seats\"", "id = \"others\"")).is_ok());
    let error = refuse_changed(&stated, &before, &changed("id = \"seats\"", "id = \"others\"")).unwrap_err().to_string();
    assert!(error.contains("meter \"seats\"") && error.contains("remedy: "), "{error}");
}

/// Months since October 2026.
fn nth(number: u8) -> Month {
    (0..number).fold(month(202_610), |month, _| month.next().unwrap())
}

proptest! {
    /// Changes come in any order, ticks at any time and as often as they like: what was stated is, for every period that has begun, what a walk over
    /// all changes so far gives.
    #[test]
    fn what_was_stated_is_the_level(
        steps in prop::collection::vec((0_u8..6, 0_u8..3, -5_i64..6, 0_u8..8, any::<bool>()), 1..40),
        from in 1_u8..4,
        lasts in prop::option::of(1_u8..4),
    ) {
        let until = lasts.map(|lasts| nth(from + lasts).number());
        let version = carried(nth(from).number(), until);
        let plans = ["solo", "team", "firm"];
        let (mut changed, mut stated, mut now) = (Sums::new(), Sums::new(), 0_u8);
        let mut changes: Vec<(u8, &str, i64)> = Vec::new();
        for (month, plan, seats, at, ticks) in steps {
            let plan = plans[usize::from(plan)];
            changes.push((month, plan, seats));
            add(&mut changed, level(plan, None), nth(month), Some(i128::from(seats)));
            now = now.max(at);
            if !ticks {
                continue;
            }
            let found = due(&version, &changed, &stated, nth(now).start());
            prop_assert!(found.beyond.is_empty());
            for Carried { level, period, quantity } in found.carried {
                add(&mut stated, level, period, Some(quantity.units()));
            }
            prop_assert_eq!(due(&version, &changed, &stated, nth(now).start()), Due::default());
            for period in 0..=now {
                for plan in plans {
                    let carries = period >= from && lasts.is_none_or(|lasts| period < from + lasts);
                    let model: i64 = changes
                        .iter()
                        .filter(|(month, of, _)| carries && *of == plan && *month < period && *month + 1 >= from)
                        .map(|(_, _, seats)| seats)
                        .sum();
                    let found = stated.get(&level(plan, None)).and_then(|periods| periods.get(&nth(period)).copied()).unwrap_or(Some(0));
                    prop_assert_eq!(found, Some(i128::from(model)), "{} in {}", plan, nth(period));
                }
            }
        }
    }
}

#[test]
fn sums_keep_months_apart() {
    let expected = BTreeMap::from([(month(202_610), Some(3_000_000_000)), (month(202_611), Some(-1_000_000_000))]);
    assert_eq!(sums(&[(202_610, 4), (202_611, -1), (202_610, -1)])[&level("team", None)], expected);
}
