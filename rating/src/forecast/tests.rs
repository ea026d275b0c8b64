//! Forecasts by hand: which days are taken once more, and that everything goes through F.

use super::*;
use crate::basis::{Basis, Clock};
use crate::plan::{Contract, Line, PriceBook, PriceModel, PriceRow, Tier};
use platform_usage::{Dimensions, Reason};
use shared_types::{AssetId, ContractId, Digest, IdentityHash, MeterId, OrganizationId, PriceId, ShardId, SkuId, SourceId};

fn at(text: &str) -> Instant {
    Instant::parse(text).unwrap()
}

/// One line, one price from the beginning.
fn plan(model: PriceModel, measure: Measure) -> Plan {
    let price = PriceRow {
        id: PriceId::parse("p").unwrap(),
        effective_at: Instant::EPOCH,
        per: "1".parse().unwrap(),
        model,
        basis: Basis { measure, ..Basis::default() },
    };
    let meter = MeterId::parse("m").unwrap();
    let line = Line {
        sku: SkuId::parse("s").unwrap(),
        family: "tokens".into(),
        meter: meter.clone(),
        matches: Dimensions::default(),
        bands: Vec::new(),
        prices: vec![price],
    };
    Plan {
        version: Digest([1; 32]),
        books: vec![PriceBook { currency: AssetId::parse("USD").unwrap(), lines: BTreeMap::from([(meter, vec![line])]) }],
        contracts: BTreeMap::new(),
        default_contracts: vec![Contract { id: ContractId::parse("c").unwrap(), effective_at: Instant::EPOCH, book: 0 }],
    }
}

fn dollar() -> PriceModel {
    PriceModel::PerUnit { unit_price: "1".parse().unwrap() }
}

/// The first ten units at a dollar, all beyond at ten cents.
fn tiers() -> PriceModel {
    let tier = |up_to: Option<&str>, price: &str| Tier {
        up_to: up_to.map(|bound| bound.parse().unwrap()),
        unit_price: price.parse().unwrap(),
        flat_fee: "0".parse().unwrap(),
    };
    PriceModel::Graduated { tiers: vec![tier(Some("10"), "1"), tier(None, "0.1")] }
}

fn reading(sequence: u64, quantity: &str, start_at: &str, end_at: Option<&str>) -> MeteredReading {
    MeteredReading {
        position: Position { shard: ShardId::of_organization("o"), incarnation: Incarnation(1), sequence: Sequence(sequence) },
        ordinal: 0,
        identity: IdentityHash(u128::from(sequence).to_be_bytes()),
        organization: OrganizationId::parse("o").unwrap(),
        project: None,
        source: SourceId::parse("src").unwrap(),
        meter: MeterId::parse("m").unwrap(),
        unit: UnitId::parse("u").unwrap(),
        dimensions: Dimensions::default(),
        quantity: quantity.parse().unwrap(),
        start_at: at(start_at),
        end_at: end_at.map(at),
        accepted_at: at(start_at),
        accounting_period: at(start_at).month(),
        commitment: Digest::ZERO,
        refused: None,
    }
}

const END: &str = "2026-11-01T00:00:00Z";

fn horizon(as_of: &str, first_at: &str) -> Horizon {
    Horizon::of(at(as_of), at(END), at(first_at))
}

/// What is repeated, as `quantity start[..end]`.
fn shown(readings: &[MeteredReading]) -> Vec<String> {
    let text = |reading: &MeteredReading| {
        let end = reading.end_at.map(|end| format!("..{end}")).unwrap_or_default();
        format!("{} {}{end}", reading.quantity, reading.start_at)
    };
    readings.iter().map(text).collect()
}

#[test]
fn the_same_weekdays_come_again_until_the_month_is_over() {
    let readings = [
        reading(1, "9", "2026-10-12T23:59:59.999999Z", None),
        reading(2, "1", "2026-10-13T00:00:00Z", None),
        reading(3, "2", "2026-10-19T12:00:00Z", None),
        reading(4, "7", "2026-10-20T00:00:00Z", None),
    ];
    let found = repeated(&plan(dollar(), Measure::Sum), &readings, &horizon("2026-10-20T00:00:00Z", "2026-09-01T00:00:00Z"), 1);
    assert_eq!(shown(&found), ["1 2026-10-20T00:00:00Z", "2 2026-10-26T12:00:00Z", "1 2026-10-27T00:00:00Z"]);
    assert!(found.iter().zip(found.iter().skip(1)).all(|(before, after)| before.position < after.position));
    assert!(found.iter().all(|repeated| readings.iter().all(|real| real.position < repeated.position)));
}

#[test]
fn who_has_less_than_a_week_repeats_the_days_since_the_first() {
    let days = |as_of, first_at| horizon(as_of, first_at).days;
    assert_eq!(days("2026-10-20T00:00:00Z", "2026-10-01T00:00:00Z"), 7);
    assert_eq!(days("2026-10-20T00:00:00Z", "2026-10-13T00:00:00Z"), 7);
    assert_eq!(days("2026-10-20T00:00:00Z", "2026-10-17T12:00:00Z"), 3);
    assert_eq!(days("2026-10-20T00:00:00Z", "2026-10-20T00:00:00Z"), 1);
    let readings = [reading(1, "1", "2026-10-30T06:00:00Z", None)];
    let found = repeated(&plan(dollar(), Measure::Sum), &readings, &horizon("2026-10-30T08:00:00Z", "2026-10-30T06:00:00Z"), 1);
    assert_eq!(shown(&found), ["1 2026-10-31T06:00:00Z"]);
}

#[test]
fn tiers_see_what_is_to_come() {
    let plan = plan(tiers(), Measure::Sum);
    let readings = [reading(1, "8", "2026-10-20T00:00:00Z", None)];
    let known = [MeteredReading { position: behind(readings[0].position, 1), ..reading(2, "1", "2026-10-01T00:00:00Z", None) }];
    let later = repeated(&plan, &readings, &horizon("2026-10-24T00:00:00Z", "2026-09-01T00:00:00Z"), 2);
    let found = forecast(&plan, &readings, &known, &later).unwrap();
    let line = &found.lines[0];
    let stages = [line.so_far, line.known, line.repeated].map(|stage| format!("{} {}", stage.quantity, stage.amount));
    // Of the eight units that come again one lies in the first tier.
    assert_eq!((stages, line.at_end.to_string()), (["8 8", "1 1", "8 1.7"].map(str::to_owned), "10.7".to_owned()));
}

#[test]
fn measures_other_than_sums_are_measured_over_everything() {
    let greatest = plan(dollar(), Measure::Max);
    let readings = [reading(1, "5", "2026-10-18T00:00:00Z", None), reading(2, "3", "2026-10-19T00:00:00Z", None)];
    let later = repeated(&greatest, &readings, &horizon("2026-10-20T00:00:00Z", "2026-09-01T00:00:00Z"), 1);
    let found = forecast(&greatest, &readings, &[], &later).unwrap();
    assert_eq!((found.lines[0].at_end.to_string(), found.lines[0].repeated.readings), ("5".to_owned(), 2));

    // Held to the end already: nothing comes again. An interval comes again, and no longer than the month.
    let held = plan(dollar(), Measure::TimeWeighted { by: Clock::Microsecond });
    let readings = [reading(1, "1", "2026-10-24T00:00:00Z", None), reading(2, "2", "2026-10-24T23:00:00Z", Some("2026-10-25T01:00:00Z"))];
    let later = repeated(&held, &readings, &horizon("2026-10-25T12:00:00Z", "2026-09-01T00:00:00Z"), 1);
    assert_eq!(shown(&later), ["2 2026-10-31T23:00:00Z..2026-11-01T00:00:00Z"]);
}

#[test]
fn what_has_no_price_any_more_is_counted_by_reason() {
    let plan = plan(dollar(), Measure::Sum);
    let other = MeteredReading { meter: MeterId::parse("other").unwrap(), ..reading(1, "5", "2026-10-18T00:00:00Z", None) };
    let found = forecast(&plan, &[], &[], &[other.clone(), MeteredReading { position: behind(other.position, 2), ..other }]).unwrap();
    assert_eq!(found, Forecast { lines: Vec::new(), unrated: BTreeMap::from([(Reason::Unpriced.code(), 2)]) });
}
