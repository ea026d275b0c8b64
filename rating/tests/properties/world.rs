//! Small worlds with sharp numbers: plans whose prices tie, tiers that are met exactly, readings that come late or leave the range.

use std::collections::BTreeMap;

use platform_rating::{Contract, Line, Plan, PriceBook, PriceModel, PriceRow, Tier};
use platform_usage::{Dimensions, MeteredReading, Reason};
use proptest::prelude::*;
use proptest::sample::select;
use shared_types::{
    AssetId, ContractId, Digest, IdentityHash, Incarnation, Instant, MeterId, OrganizationId, Position, Price, PriceId, ProjectId,
    Quantity, Sequence, ShardId, SkuId, SourceId, UnitId,
};

#[derive(Clone, Debug)]
pub struct World {
    pub plan: Plan,
    /// In the order of arrival, placed in the stream.
    pub readings: Vec<MeteredReading>,
}

/// Instants around the edges of prices, contracts and months.
const INSTANTS: [&str; 9] = [
    "2026-01-01T00:00:00Z",
    "2026-01-09T23:59:59.999999Z",
    "2026-01-10T00:00:00Z",
    "2026-01-15T00:00:00Z",
    "2026-01-20T12:00:00Z",
    "2026-01-31T23:59:59.999999Z",
    "2026-02-01T00:00:00Z",
    "2026-02-05T00:00:00Z",
    "2025-12-31T23:59:59.999999Z",
];

fn at(index: usize) -> Instant {
    Instant::parse(INSTANTS[index]).unwrap()
}

/// Halves of an amount's last digit, repeating fractions, 18 decimals, and prices near the end of the range.
fn price() -> impl Strategy<Value = Price> {
    prop_oneof![
        12 => select(vec!["0.0000000005", "0.0000000015", "0.0000000025", "-0.0000000005", "0.0000000001", "0.00000000333"]),
        6 => select(vec!["0", "1", "3", "2.1", "0.1", "0.000001234567890123", "0.000000000000000001"]),
        1 => select(vec!["4611686018.4273879035", "9000000000", "99999999999999999999.999999999999999999"]),
    ]
    .prop_map(|text| text.parse().unwrap())
}

fn per() -> impl Strategy<Value = Quantity> {
    prop_oneof![
        2 => Just("1"),
        1 => select(vec!["2", "3", "7", "1000000", "3600", "0.5", "0.000000001"]),
    ]
    .prop_map(|text| text.parse().unwrap())
}

/// Unit sizes of 38 digits whose common denominator leaves 256 bits.
fn enormous_per() -> impl Strategy<Value = Quantity> {
    (1_i128..50).prop_map(|below| Quantity::from_units(10_i128.pow(38) - below).unwrap())
}

fn tiers() -> impl Strategy<Value = Vec<Tier>> {
    let bounds = select(vec![vec![], vec!["1"], vec!["10"], vec!["1", "2"], vec!["0.000000001", "3"], vec!["2", "10", "1000000"]]);
    bounds.prop_flat_map(|bounds| {
        let fee = prop_oneof![3 => Just("0".parse().unwrap()), 1 => price()];
        prop::collection::vec((price(), fee), bounds.len() + 1).prop_map(move |prices| {
            let bounds = bounds.iter().map(|bound| Some(bound.parse().unwrap())).chain([None]);
            bounds.zip(prices).map(|(up_to, (unit_price, flat_fee))| Tier { up_to, unit_price, flat_fee }).collect()
        })
    })
}

fn model() -> impl Strategy<Value = PriceModel> {
    let size = select(vec!["1", "10", "0.5", "3"]).prop_map(|size: &str| size.parse().unwrap());
    prop_oneof![
        3 => price().prop_map(|unit_price| PriceModel::PerUnit { unit_price }),
        2 => (size, price()).prop_map(|(size, package_price)| PriceModel::Package { size, package_price }),
        3 => tiers().prop_map(|tiers| PriceModel::Graduated { tiers }),
        3 => tiers().prop_map(|tiers| PriceModel::Volume { tiers }),
        1 => Just(PriceModel::Free { rule: "launch".into() }),
    ]
}

/// A price row to be: when it begins, its unit size, its model.
type Row = (usize, Quantity, PriceModel);

/// Rows of a line: the first from the first instant on or, now and then, only from the fourth.
fn rows() -> impl Strategy<Value = Vec<Row>> {
    let starts = select(vec![vec![0], vec![0, 2], vec![0, 2, 4], vec![0, 7], vec![3, 6]]);
    let some = prop::collection::vec((per(), model()), 3);
    let enormous = prop::collection::vec((enormous_per(), model()), 3);
    (starts, prop_oneof![4 => some, 1 => enormous])
        .prop_map(|(starts, rows)| starts.into_iter().zip(rows).map(|(start, (per, model))| (start, per, model)).collect())
}

fn plan() -> impl Strategy<Value = Plan> {
    prop::collection::vec(rows(), 8).prop_map(|rows| {
        let mut rows = rows.into_iter().enumerate();
        let books = ["USD", "CREDIT"].map(|currency| book(currency, rows.by_ref().take(4).collect()));
        let contract = |id: &str, from: usize, book: usize| Contract { id: ContractId::parse(id).unwrap(), effective_at: at(from), book };
        let organization = |id: &str| OrganizationId::parse(id).unwrap();
        Plan {
            version: Digest([5; 32]),
            books: books.into(),
            contracts: BTreeMap::from([
                (organization("o-0"), vec![contract("c-0", 0, 0), contract("c-1", 3, 1)]),
                (organization("o-1"), vec![contract("c-2", 2, 0)]),
            ]),
            default_contracts: vec![contract("c-3", 8, 0), contract("c-3/next", 6, 0)],
        }
    })
}

/// Four lines for two meters; the first two lines of meter `m-0` sell one SKU at different prices.
fn book(currency: &str, rows: Vec<(usize, Vec<Row>)>) -> PriceBook {
    let dimensions = |pairs: &[(&str, &str)]| Dimensions::new(pairs.iter().map(|(name, value)| ((*name).into(), (*value).into())));
    let shapes = [
        ("m-0", "s-0", dimensions(&[("kind", "input"), ("model", "a")])),
        ("m-0", "s-0", dimensions(&[("model", "b")])),
        ("m-0", "s-1", dimensions(&[])),
        ("m-1", "s-2", dimensions(&[])),
    ];
    let mut lines: BTreeMap<MeterId, Vec<Line>> = BTreeMap::new();
    for ((meter, sku, matches), (number, rows)) in shapes.into_iter().zip(rows) {
        let prices = rows.into_iter().map(|(start, per, model)| PriceRow {
            id: PriceId::parse(&format!("p-{number}/{start}")).unwrap(),
            effective_at: at(start),
            per,
            model,
            basis: platform_rating::Basis::default(),
        });
        let meter = MeterId::parse(meter).unwrap();
        lines.entry(meter.clone()).or_default().push(Line {
            sku: SkuId::parse(sku).unwrap(),
            family: "tokens".into(),
            meter,
            matches,
            bands: Vec::new(),
            prices: prices.collect(),
        });
    }
    PriceBook { currency: AssetId::parse(currency).unwrap(), lines }
}

fn quantity() -> impl Strategy<Value = Quantity> {
    prop_oneof![
        20 => select(vec!["1", "2", "3", "10", "0.5", "0.000000001", "9", "8"]),
        6 => select(vec!["-1", "-2", "-0.5", "-0.000000001", "-10", "0"]),
        3 => select(vec!["1000000", "999990", "0.333333333", "12345.678901234"]),
        1 => select(vec!["99999999999999999999999999999.999999999", "-99999999999999999999999999999.999999998"]),
    ]
    .prop_map(|text| text.parse().unwrap())
}

fn reading() -> impl Strategy<Value = MeteredReading> {
    let dimensions = select(vec![
        vec![("kind", "input"), ("model", "a")],
        vec![("kind", "output"), ("model", "a")],
        vec![("model", "b")],
        vec![("model", "a")],
        vec![],
    ]);
    let who = (select(vec!["o-0", "o-0", "o-1", "o-2", "o-3"]), select(vec!["m-0", "m-0", "m-0", "m-1", "m-2"]), dimensions);
    let refused = prop_oneof![19 => Just(None), 1 => Just(Some(Reason::InvalidQuantity))];
    (who, quantity(), 0..INSTANTS.len(), 0..3_usize, refused).prop_map(
        |((organization, meter, dimensions), quantity, start, late, refused)| {
            let start_at = at(start);
            let accounting_period = (0..late.saturating_sub(1)).fold(start_at.month(), |month, _| month.next().unwrap());
            MeteredReading {
                position: Position { shard: ShardId::of_organization(organization), incarnation: Incarnation(1), sequence: Sequence(0) },
                ordinal: u16::try_from(late % 2).unwrap(),
                identity: IdentityHash([7; 16]),
                organization: OrganizationId::parse(organization).unwrap(),
                project: ProjectId::parse("p").ok().filter(|_| late == 0),
                source: SourceId::parse("gateway").unwrap(),
                meter: MeterId::parse(meter).unwrap(),
                unit: UnitId::parse("token").unwrap(),
                dimensions: Dimensions::new(dimensions.into_iter().map(|(name, value)| (name.into(), value.into()))),
                quantity,
                start_at,
                end_at: Some(start_at).filter(|_| late == 1),
                accepted_at: at(8),
                accounting_period,
                commitment: Digest([6; 32]),
                refused,
            }
        },
    )
}

pub fn world() -> impl Strategy<Value = World> {
    (plan(), prop::collection::vec(reading(), 1..30)).prop_map(|(plan, readings)| World { plan, readings: placed(readings) })
}

/// Gives readings places in the stream, in the order given: dense sequences per shard.
pub fn placed(mut readings: Vec<MeteredReading>) -> Vec<MeteredReading> {
    let mut last: BTreeMap<ShardId, u64> = BTreeMap::new();
    for reading in &mut readings {
        let sequence = last.entry(reading.position.shard).or_insert(0);
        *sequence += 1;
        reading.position.sequence = Sequence(*sequence);
    }
    readings
}

/// Sealed order: by position and ordinal.
pub fn sealed(readings: &[MeteredReading]) -> Vec<MeteredReading> {
    let mut readings = readings.to_vec();
    readings.sort_by_key(|reading| (reading.position, reading.ordinal));
    readings
}
