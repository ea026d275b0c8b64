//! Levels that are carried: what a meter may say of it, from which period on a change of that reaches back, and the tables on both engines.

use std::collections::BTreeSet;

use platform_registry::levels::{Carried, LevelId, Sums, add, due};
use platform_registry::{ControlBody, SourceFile, Version, carried, diff, reach_back, store};
use platform_usage::Dimensions;
use shared_db::{Database, Transaction};
use shared_testkit::on_both_engines;
use shared_types::{BatchNo, ControlNo, Instant, Month, Quantity};

use crate::store::OWNERS;

/// A meter of seats with these fields.
fn registry(aggregation: &str, fields: &str) -> String {
    format!(
        "[[unit]]\nid = \"seat\"\n[[meter]]\nid = \"seats\"\nevent_type = \"seats\"\naggregation = \"{aggregation}\"\nvalue = \"seats\"\nunit = \"seat\"\n\
         dimensions = {{ plan = \"plan\" }}\n{fields}[[sku]]\nid = \"seats\"\nfamily = \"seats\"\nmeter = \"seats\"\n"
    )
}

fn version(text: &str) -> Result<Version, Vec<String>> {
    let files = [SourceFile { name: "registry.toml".to_owned(), text: text.to_owned() }];
    Version::check(&files).map_err(|problems| problems.0.iter().map(ToString::to_string).collect())
}

const ACCEPTS: &str = "negative = \"accept\"\n";
const NOVEMBER: &str = "recurring_from = \"2026-11-01T00:00:00Z\"\n";

fn recurring(fields: &str) -> Version {
    version(&registry("prorated", &format!("{ACCEPTS}{fields}"))).unwrap_or_else(|problems| panic!("{problems:#?}"))
}

#[test]
fn a_level_says_from_and_until_when_it_is_carried() {
    for aggregation in ["time_weighted", "prorated"] {
        let until = "recurring_until = \"2027-01-31T16:00:00-08:00\"\n";
        let text = registry(aggregation, &format!("{ACCEPTS}by = \"day\"\nzone = \"Asia/Tokyo\"\n{NOVEMBER}{until}"));
        let carried = version(&text).unwrap_or_else(|problems| panic!("{problems:#?}"));
        assert!(carried.canonical().contains(r#""recurring_from":"2026-11-01T00:00:00Z","recurring_until":"2027-02-01T00:00:00Z""#));
        assert_eq!(version(&carried.to_toml()).unwrap().address(), carried.address());
        let meter = carried.meters().next().unwrap();
        let into = |number| meter.carries_into(Month::from_number(number).unwrap());
        assert_eq!([202_610, 202_611, 202_701, 202_702].map(into), [false, true, true, false]);
    }
    let plain = recurring("");
    assert!(!plain.canonical().contains("recurring"));
    let words: Vec<String> = diff(&plain, &recurring(NOVEMBER)).iter().map(|difference| difference.text.clone()).collect();
    assert_eq!(words, ["meter seats: level is carried from 2026-11-01 is added"]);
}

/// The one mistake, with parts of what is said of it.
fn refused(text: &str, parts: &[&str]) {
    let problems = version(text).expect_err(text);
    let [problem] = &problems[..] else { panic!("{problems:#?}") };
    assert!(problem.contains("remedy: ") && parts.iter().all(|part| problem.contains(part)), "{problem}");
}

#[test]
fn what_cannot_be_carried_is_refused_by_name() {
    let meter = |fields: &str| registry("prorated", &format!("{ACCEPTS}{fields}"));
    refused(&registry("sum", &format!("{ACCEPTS}{NOVEMBER}")), &["unknown field \"recurring_from\" in meter \"seats\""]);
    refused(&meter("recurring = true\n"), &["recurring is no field of meter \"seats\", but recurring_from", "write recurring_from = "]);
    refused(
        &meter("recurring_from = \"2026-11-01T00:00:00+01:00\"\n"),
        &["is 2026-10-31T23:00:00Z, not the begin of a UTC month", "recurring_from = \"2026-11-01T00:00:00Z\""],
    );
    refused(&meter("recurring_until = \"2026-11-01T00:00:00Z\"\n"), &["but not from when on", "write recurring_from too"]);
    refused(&meter(&format!("{NOVEMBER}recurring_until = \"2026-11-01T00:00:00Z\"\n")), &["not after 2026-11-01T00:00:00Z"]);
    refused(&registry("prorated", NOVEMBER), &["it could never fall", "write negative = \"accept\""]);
    let second = "[[meter]]\nid = \"changes\"\nevent_type = \"seats\"\naggregation = \"count\"\nunit = \"seat\"\n";
    refused(&format!("{}{second}", meter(NOVEMBER)), &["which meter \"changes\" reads too", "a type of their own"]);
    let own = meter(NOVEMBER).replace("event_type = \"seats\"", "event_type = \"tallystick.recurring\"");
    refused(&own, &["reads recurring fees, which end with their service period"]);
    let part = meter(&format!("{NOVEMBER}part_of = \"total\"\n"));
    refused(&part, &["reads parts of \"total\"", "remove part_of, or recurring_from"]);
    let value = meter(NOVEMBER).replace("plan = \"plan\"", "plan = \"seats\"");
    refused(&value, &["dimension \"plan\" of meter \"seats\" is its value"]);
    let states = "[[billable_states]]\nid = \"leases\"\nstates = [\"on\"]\nstate = \"state\"\nsession = \"lease\"\n\
                  [[billable_states.meter]]\nmeter = \"seats\"\nrates = { on = \"on\" }\n";
    let billed = format!("{}{states}", meter(&format!("{NOVEMBER}billable = \"leases\"\n")));
    assert!(version(&billed).unwrap_err()[0].contains("bills time by states, so its intervals have ends and no level is carried"));
}

#[test]
fn a_version_that_carries_otherwise_reaches_back_to_the_first_period_that_differs() {
    let reach = |old: &str, new: &str| {
        let reaches = reach_back(&recurring(old), &recurring(new));
        let [reach] = &reaches[..] else { panic!("{reaches:#?}") };
        assert!(reach.rerates);
        reach.effective_at.unwrap().to_string()
    };
    let december = "recurring_from = \"2026-12-01T00:00:00Z\"\n";
    let until = "recurring_until = \"2027-03-01T00:00:00Z\"\n";
    assert_eq!(reach("", december), "2026-12-01T00:00:00Z");
    assert_eq!(reach(december, ""), "2026-12-01T00:00:00Z");
    assert_eq!(reach(december, NOVEMBER), "2026-11-01T00:00:00Z");
    assert_eq!(reach(NOVEMBER, &format!("{NOVEMBER}{until}")), "2027-03-01T00:00:00Z");
    assert_eq!(reach(&format!("{december}{until}"), &format!("{NOVEMBER}{until}")), "2026-11-01T00:00:00Z");
    // Anything else beside it reaches back to the beginning, as ever.
    assert_eq!(reach("", &format!("{NOVEMBER}by = \"day\"\n")), "1970-01-01T00:00:00Z");
}

fn at(text: &str) -> Instant {
    Instant::parse(text).unwrap()
}

fn month(number: i32) -> Month {
    Month::from_number(number).unwrap()
}

fn level(plan: &str) -> LevelId {
    let dimensions = Dimensions::new([("plan".into(), plan.into())]);
    LevelId { organization: "acme".parse().unwrap(), project: Some("chat".parse().unwrap()), meter: "seats".parse().unwrap(), dimensions }
}

/// States two levels by a tick.
async fn tick(tx: &mut Transaction, carried: &[Carried]) -> ControlNo {
    let version = recurring(NOVEMBER);
    store::publish(tx, &version, false, at("2026-11-24T10:00:00Z")).await.unwrap();
    let control = store::append(tx, ControlBody::Tick { at: at("2026-11-24T10:00:00Z") }, at("2026-11-24T10:00:00Z")).await.unwrap();
    carried::state(tx, control.control_no, BatchNo(3), &version, carried).await.unwrap();
    control.control_no
}

/// A row in each table of levels.
pub(crate) async fn fill(tx: &mut Transaction) {
    let carried = Carried { level: level("team"), period: month(202_611), quantity: Quantity::parse("4").unwrap() };
    tick(tx, &[carried]).await;
}

async fn fold(db: &Database, (from, to): (u64, u64), rows: &[(&str, i32, i128)]) {
    let mut changed = Sums::new();
    for (plan, number, units) in rows {
        add(&mut changed, level(plan), month(*number), Some(*units));
    }
    let mut tx = db.begin().await.unwrap();
    carried::fold_changes(&mut tx, BatchNo(from), BatchNo(to), &changed).await.unwrap();
    tx.commit().await.unwrap();
}

#[tokio::test]
async fn changes_add_up_and_what_is_stated_is_read_back() {
    on_both_engines(OWNERS, |db| async move {
        fold(&db, (0, 1), &[("team", 202_610, 4), ("odd \"plan\" é", 202_610, i128::MAX)]).await;
        fold(&db, (1, 3), &[]).await;
        fold(&db, (3, 4), &[("team", 202_610, -1), ("team", 202_611, 7), ("odd \"plan\" é", 202_610, 1)]).await;
        // A range is taken once.
        let mut again = db.begin().await.unwrap();
        assert!(carried::fold_changes(&mut again, BatchNo(3), BatchNo(4), &Sums::new()).await.is_err());
        drop(again);
        let mut tx = db.begin().await.unwrap();
        assert_eq!(shared_db::cursor(&mut tx, carried::FOLD).await.unwrap(), BatchNo(4));
        let changed = carried::changed(&mut tx).await.unwrap();
        assert_eq!(
            changed[&level("team")].iter().map(|(month, units)| (month.number(), *units)).collect::<Vec<_>>(),
            [(202_610, Some(3)), (202_611, Some(7))]
        );
        // A sum beyond 128 bits stays so.
        assert_eq!(changed[&level("odd \"plan\" é")][&month(202_610)], None);

        assert_eq!(carried::last_tick(&mut tx).await.unwrap(), None);
        assert!(!carried::measured(&mut tx).await.unwrap());
        let found = due(&recurring(NOVEMBER), &changed, &Sums::new(), at("2026-12-24T10:00:00Z"));
        assert_eq!((found.carried.len(), found.beyond), (2, BTreeSet::from([level("odd \"plan\" é")])));
        let control_no = tick(&mut tx, &found.carried).await;
        assert!(carried::measured(&mut tx).await.unwrap());
        let stated = carried::stated(&mut tx).await.unwrap();
        assert_eq!(stated[&level("team")].values().copied().collect::<Vec<_>>(), [Some(3), Some(10)]);
        assert_eq!(carried::last_tick(&mut tx).await.unwrap(), Some((control_no, BatchNo(3))));
        assert_eq!(carried::meters(&mut tx).await.unwrap(), BTreeSet::from(["seats".parse().unwrap()]));
        let events = carried::stated_by(&mut tx, control_no).await.unwrap();
        let ids: Vec<&str> = events.iter().map(|stated| stated.event_id.as_str()).collect();
        assert_eq!(ids, ["seats/2026-11/level-1", "seats/2026-12/level-2"]);
        assert!(events.iter().zip(&found.carried).all(|(stated, carried)| stated.organization == carried.level.organization));
        assert!(events[0].event.contains(r#""id":"seats/2026-11/level-1""#) && events[0].event.contains(r#""plan":"team""#));
        assert!(carried::stated_by(&mut tx, ControlNo(1)).await.unwrap().is_empty());
        // Numbers go on.
        let control_no = tick(&mut tx, &found.carried[..1]).await;
        assert_eq!(carried::stated_by(&mut tx, control_no).await.unwrap()[0].event_id, "seats/2026-11/level-3");
    })
    .await;
}
