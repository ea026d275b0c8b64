//! Two invoices side by side: a page worked out by hand, and every pair of invoices against rationals.

use num_bigint::BigInt;
use num_rational::BigRational;
use proptest::prelude::*;
use shared_types::{AssetId, ContractId, Digest, Month, OrganizationId, SkuId, UnitId};

use super::*;
use crate::{Rounding, RoundingMode};

/// SKU, unit, service period, quantity, amount in cents.
type Row = (&'static str, &'static str, &'static str, i64, i64);

fn month(text: &str) -> Month {
    Month::parse(text).unwrap()
}

fn cents(cents: i64) -> Amount {
    Amount::from_units(i128::from(cents) * 10_000_000).unwrap()
}

fn invoice(organization: &str, period: &str, rows: &[Row]) -> Invoice {
    let (organization, currency) = (OrganizationId::parse(organization).unwrap(), AssetId::parse("USD").unwrap());
    let lines: Vec<Line> = rows
        .iter()
        .map(|(sku, unit, service_period, quantity, amount)| {
            let quantity = Quantity::from_units(i128::from(*quantity) * 1_000_000_000).unwrap();
            Line {
                amount: cents(*amount),
                contract: ContractId::parse("standard").unwrap(),
                contract_line: format!("standard/{sku}"),
                description: (*sku).to_owned(),
                exact: cents(*amount),
                exact_before: Amount::ZERO,
                invoiced_before: Amount::ZERO,
                key_amount: cents(*amount),
                key_quantity: quantity,
                key_readings: 1,
                key_total: cents(*amount),
                kind: if month(service_period) == month(period) { LineKind::Usage } else { LineKind::Adjustment },
                number: 1,
                prices: Vec::new(),
                quantity,
                readings: 1,
                rounding: Amount::ZERO,
                service_period: month(service_period),
                sku: SkuId::parse(sku).unwrap(),
                unit: UnitId::parse(unit).unwrap(),
            }
        })
        .collect();
    Invoice {
        total: cents(rows.iter().map(|row| row.4).sum()).into(),
        invoice_id: InvoiceId::of(&organization, &currency, month(period)),
        currency,
        lines,
        logs: Vec::new(),
        organization,
        period: month(period),
        registry_version: Digest([7; 32]),
        rounding: Rounding { mode: RoundingMode::HalfAwayFromZero, scale: 2 },
        terms: Vec::new(),
        v: "1".to_owned(),
    }
}

/// What every line counts is its quantity.
fn changes(before: &Invoice, after: &Invoice) -> Result<Changes, ChangesError> {
    let none = BTreeMap::new();
    super::changes(Billed { invoice: before, measured: &none }, Billed { invoice: after, measured: &none })
}

#[test]
fn lines_that_measure_something_else_count_it() {
    // One lease of 8 GPUs in either month: for 100 hours at 2.00, then for 150 at 2.20.
    let held = |hours: i128, unit: &str| {
        let quantity = Quantity::from_units(hours * 1_000_000_000).unwrap();
        BTreeMap::from([(1, Measured { quantity, unit: unit.to_owned(), words: String::new(), prices: BTreeMap::new() })])
    };
    let before = invoice("acme", "2026-09", &[("gpu", "gpu", "2026-09", 8, 160_000)]);
    let after = invoice("acme", "2026-10", &[("gpu", "gpu", "2026-10", 8, 264_000)]);
    let compared = |old: &BTreeMap<u64, Measured>, new: &BTreeMap<u64, Measured>| {
        super::changes(Billed { invoice: &before, measured: old }, Billed { invoice: &after, measured: new }).unwrap()
    };
    let line = compared(&held(800, "gpu h"), &held(1_200, "gpu h")).lines.remove(0);
    assert_eq!((line.cause, line.unit.as_str(), line.volume, line.price), (Cause::Used, "gpu h", cents(80_000), cents(24_000)));
    assert_eq!((line.before.quantity.to_string(), line.after.quantity.to_string()), ("800".to_owned(), "1200".to_owned()));
    // Seats that were counted and are held for a time now have no price to compare.
    let line = compared(&held(800, "gpu"), &held(1_200, "gpu h")).lines.remove(0);
    assert_eq!((line.cause, line.difference), (Cause::Other, cents(104_000)));
}

#[test]
fn volume_price_and_mix_are_those_worked_out_by_hand() {
    // 1,000 tokens at 1 and 1,000 at 3 cents; then 2,000 and 4,000, the second at 2 cents.
    let before = invoice(
        "acme",
        "2026-09",
        &[
            ("small", "token", "2026-09", 1_000, 1_000),
            ("large", "token", "2026-09", 1_000, 3_000),
            ("gpu", "hour", "2026-09", 10, 2_500),
            ("old", "hour", "2026-09", 1, 70),
            ("small", "token", "2026-08", 5, 5),
        ],
    );
    let after = invoice(
        "acme",
        "2026-10",
        &[
            ("small", "token", "2026-10", 2_000, 2_000),
            ("large", "token", "2026-10", 4_000, 8_000),
            ("gpu", "hour", "2026-10", 12, 2_700),
            ("new", "hour", "2026-10", 1, 40),
            ("small", "token", "2026-09", 10, 12),
        ],
    );
    let changes = changes(&before, &after).unwrap();
    let shown: Vec<(&str, &str, i128, i128, i128, i128)> = changes
        .lines
        .iter()
        .map(|line| {
            let cents = |amount: Amount| i128::from(amount.units()) / 10_000_000;
            (line.contract_line.as_str(), line.cause.name(), cents(line.volume), cents(line.price), cents(line.mix), cents(line.difference))
        })
        .collect();
    assert_eq!(
        shown,
        [
            // Tokens tripled: 3,000 × (3 − 1) = 6,000 by volume; 4,000 tokens a cent cheaper; 1,000 more than a third of its share.
            ("standard/large", "used", 6_000, -4_000, 3_000, 5_000),
            ("standard/small", "used", 2_000, 0, -1_000, 1_000),
            ("standard/gpu", "used", 500, -300, 0, 200),
            ("standard/new", "new", 0, 0, 0, 40),
            ("standard/old", "gone", 0, 0, 0, -70),
            ("standard/small", "late", 0, 0, 0, 7),
        ]
    );
    let sums: Vec<(&str, Amount)> = changes.sums.into_iter().collect();
    let expected = [("gone", -70), ("late", 7), ("mix", 2_000), ("new", 40), ("price", -4_300), ("volume", 8_500)];
    assert_eq!(sums, expected.map(|(name, amount)| (name, cents(amount))));
}

#[test]
fn what_terms_move_stands_by_itself_and_adds_up() {
    let term = |id: &str, amount: i64, service_period: &str| TermLine {
        amount: cents(amount),
        contract: ContractId::parse("standard").unwrap(),
        description: "a term".to_owned(),
        families: BTreeSet::new(),
        invoiced_before: Amount::ZERO,
        number: 0,
        over: crate::terms::Over::Everything,
        rule: crate::terms::Rule::MinimumSpend { amount: cents(1_000) },
        service_period: month(service_period),
        skus: BTreeSet::new(),
        spend: Amount::ZERO,
        term: id.to_owned(),
        term_amount: cents(amount),
        window: None,
    };
    let usage = invoice("acme", "2026-09", &[("small", "token", "2026-09", 100, 500)]);
    let before = usage.with_terms(vec![term("least", 500, "2026-09"), term("off", -30, "2026-09")]).unwrap();
    let usage = invoice("acme", "2026-10", &[("small", "token", "2026-10", 100, 600)]);
    let after = usage.with_terms(vec![term("least", -200, "2026-09"), term("least", 400, "2026-10"), term("new", 70, "2026-10")]).unwrap();
    let changes = changes(&before, &after).unwrap();
    let terms = changes.lines.iter().filter(|line| line.cause == Cause::Terms);
    let shown: Vec<(&str, Amount)> = terms.map(|line| (line.contract_line.as_str(), line.difference)).collect();
    assert_eq!(shown, [("standard#least", cents(-300)), ("standard#new", cents(70)), ("standard#off", cents(30))]);
    assert_eq!((changes.sums["terms"], changes.sums["price"]), (cents(-200), cents(100)));
    let all: i64 = changes.sums.values().map(|amount| amount.units()).sum();
    assert_eq!(i128::from(all), after.total.units() - before.total.units());
}

#[test]
fn invoices_of_two_organizations_are_not_compared() {
    let error = changes(&invoice("acme", "2026-09", &[]), &invoice("globex", "2026-10", &[])).unwrap_err();
    assert!(error.to_string().contains("acme in USD") && error.to_string().contains("globex in USD"), "{error}");
}

/// Half to even, in cents.
fn nearest(value: &BigRational) -> BigInt {
    let floor = value.floor();
    let rest = value - &floor;
    let half = BigRational::new(1.into(), 2.into());
    let up = rest > half || (rest == half && floor.to_integer() % 2 != BigInt::from(0));
    floor.to_integer() + i32::from(up)
}

const SKUS: [(&str, &str); 5] = [("a", "token"), ("b", "token"), ("c", "token"), ("d", "hour"), ("e", "gb")];

fn rows(period: &'static str) -> impl Strategy<Value = Vec<Row>> {
    let own = proptest::collection::vec(proptest::option::weighted(0.8, (-3..2_000_i64, -50..100_000_i64)), SKUS.len());
    let late = proptest::collection::vec(proptest::option::weighted(0.3, (-3..2_000_i64, -50..100_000_i64)), SKUS.len());
    (own, late).prop_map(move |(own, late)| {
        let rows = |found: Vec<Option<(i64, i64)>>, period: &'static str| {
            found
                .into_iter()
                .zip(SKUS)
                .filter_map(move |(row, (sku, unit))| row.map(|(quantity, amount)| (sku, unit, period, quantity, amount)))
                .collect::<Vec<Row>>()
        };
        [rows(own, period), rows(late, "2026-07")].concat()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn every_part_is_the_rationals_and_the_sums_are_the_difference_of_the_totals(old in rows("2026-09"), new in rows("2026-10")) {
        let (before, after) = (invoice("acme", "2026-09", &old), invoice("acme", "2026-10", &new));
        let changes = changes(&before, &after).unwrap();
        let total: i64 = changes.sums.values().map(|amount| amount.units()).sum();
        prop_assert_eq!(i128::from(total), after.total.units() - before.total.units());
        let ratio = |a: i64| BigRational::from_integer(a.into());
        let used: Vec<&Change> = changes.lines.iter().filter(|line| line.cause == Cause::Used).collect();
        for line in &used {
            prop_assert_eq!(line.volume.units() + line.price.units() + line.mix.units(), line.difference.units());
            let of = |rows: &[Row], period: &str| {
                let row = rows.iter().find(|row| row.2 == period && format!("standard/{}", row.0) == line.contract_line);
                row.map(|row| (row.3, row.4)).unwrap()
            };
            let ((q0, a0), (q1, a1)) = (of(&old, "2026-09"), of(&new, "2026-10"));
            let group = |side: fn(&Change) -> Side| -> i64 {
                let same = used.iter().filter(|other| other.unit == line.unit);
                same.map(|other| i64::try_from(side(other).quantity.units() / 1_000_000_000).unwrap()).sum()
            };
            let (was, is) = (group(|change| change.before), group(|change| change.after));
            let volume = ratio(a0) * (ratio(is) / ratio(was) - ratio(1));
            prop_assert_eq!(BigInt::from(line.volume.units() / 10_000_000), nearest(&volume));
            if used.iter().filter(|other| other.unit == line.unit).count() > 1 {
                let price = ratio(a1) - ratio(a0) * ratio(q1) / ratio(q0);
                prop_assert_eq!(BigInt::from(line.price.units() / 10_000_000), nearest(&price));
            } else {
                prop_assert_eq!(line.mix, Amount::ZERO);
            }
        }
    }
}
