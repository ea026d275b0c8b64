//! The per-row kernels against the scalar version on random rows, in random stretches and threads, and against the arithmetic of charges.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Decimal128Array, FixedSizeBinaryArray, Int32Array, RecordBatch, TimestampMicrosecondArray,
};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{DataType, Decimal128Type, Int32Type, TimestampMicrosecondType};
use platform_rating::per_row::{
    AMOUNTS, Arrivals, EventOrder, Noted, OrderedEvents, PerRowError, PriceTable, QUANTITIES, RowTotals, Suspected, TierTable,
    TieredTotals, UNIT_PRICES, account_totals, amount, rate_rows, repeats, tiers,
};
use platform_rating::{Ratio, RoundTo, RowError};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};

use crate::per_row_scalar::{self as scalar, Price, Row, Tier};

const OCTOBER: i64 = 1_790_812_800_000_000;
const DAY: i64 = 86_400_000_000;

fn run<S: Strategy>(strategy: &S, test: impl Fn(S::Value) -> Result<(), TestCaseError>) {
    let config = Config { cases: 1_500, failure_persistence: None, ..Config::default() };
    TestRunner::new(config).run(strategy, test).unwrap_or_else(|error| panic!("{error}"));
}

/// How often each edge was met; every one must have been.
#[derive(Default)]
struct Edges(RefCell<BTreeMap<&'static str, u64>>);

impl Edges {
    fn met(&self, edge: &'static str, when: bool) {
        *self.0.borrow_mut().entry(edge).or_default() += u64::from(when);
    }

    fn all_met(self) {
        for (edge, times) in self.0.into_inner() {
            println!("{edge}: {times}");
            assert!(times > 0, "{edge} was never met");
        }
    }
}

fn times(values: impl Iterator<Item = i64>) -> ArrayRef {
    Arc::new(values.map(Some).collect::<TimestampMicrosecondArray>().with_timezone("UTC"))
}

fn decimals(values: impl Iterator<Item = i64>, kind: DataType) -> ArrayRef {
    Arc::new(values.map(|value| Some(i128::from(value))).collect::<Decimal128Array>().with_data_type(kind))
}

fn int32s(values: impl Iterator<Item = i32>) -> ArrayRef {
    Arc::new(values.collect::<Int32Array>())
}

fn usage(rows: &[Row]) -> RecordBatch {
    let identities = rows.iter().map(|row| Some(row.identity.to_be_bytes()));
    let identities = FixedSizeBinaryArray::try_from_sparse_iter_with_size(identities, 16).unwrap();
    RecordBatch::try_from_iter([
        ("identity", Arc::new(identities) as ArrayRef),
        ("account_id", int32s(rows.iter().map(|row| row.account_id))),
        ("meter_id", int32s(rows.iter().map(|row| row.meter_id))),
        ("sku_id", int32s(rows.iter().map(|row| row.sku_id))),
        ("quantity", decimals(rows.iter().map(|row| row.quantity), QUANTITIES)),
        ("event_at", times(rows.iter().map(|row| row.event_at))),
        ("accepted_at", times(rows.iter().map(|row| row.accepted_at))),
    ])
    .unwrap()
}

fn price_table(prices: &[Price]) -> Result<PriceTable, PerRowError> {
    let table = |own: bool| {
        let prices: Vec<&Price> = prices.iter().filter(|price| price.account_id.is_some() == own).collect();
        let columns = [
            ("price_id", int32s(prices.iter().map(|price| price.price_id))),
            ("account_id", int32s(prices.iter().map(|price| price.account_id.unwrap_or_default()))),
            ("sku_id", int32s(prices.iter().map(|price| price.sku_id))),
            ("from_at", times(prices.iter().map(|price| price.from_at))),
            ("until_at", times(prices.iter().map(|price| price.until_at))),
            ("unit_price", decimals(prices.iter().map(|price| price.unit_price), UNIT_PRICES)),
        ];
        RecordBatch::try_from_iter(columns).unwrap()
    };
    PriceTable::new(&table(false), &table(true))
}

fn tier_table(tiers: &[Tier]) -> Result<TierTable, PerRowError> {
    let mut above: BTreeMap<i32, i64> = BTreeMap::new();
    let above = tiers.iter().map(|tier| above.insert(tier.meter_id, tier.up_to).unwrap_or(0)).collect::<Vec<_>>();
    let columns = [
        ("meter_id", int32s(tiers.iter().map(|tier| tier.meter_id))),
        ("above", decimals(above.into_iter(), QUANTITIES)),
        ("up_to", decimals(tiers.iter().map(|tier| tier.up_to), QUANTITIES)),
        ("unit_price", decimals(tiers.iter().map(|tier| tier.unit_price), UNIT_PRICES)),
    ];
    TierTable::new(&RecordBatch::try_from_iter(columns).unwrap())
}

/// The rows that count, found by the kernels: cut into stretches, each pass shared by threads.
fn counted(rows: &[Row], stretch: usize, threads: usize) -> Vec<RecordBatch> {
    let stretches: Vec<(u64, RecordBatch)> =
        rows.chunks(stretch).scan(0, |first, rows| Some((std::mem::replace(first, *first + rows.len() as u64), usage(rows)))).collect();
    let share = stretches.len().div_ceil(threads).max(1);
    let noted: Vec<Noted> = std::thread::scope(|scope| {
        let note = |share: &[(u64, RecordBatch)]| {
            let mut noted = Noted::with_room(rows.len() as u64 / 2);
            share.iter().for_each(|(_, rows)| noted.note(rows).unwrap());
            noted
        };
        let workers: Vec<_> = stretches.chunks(share).map(|share| scope.spawn(move || note(share))).collect();
        workers.into_iter().map(|worker| worker.join().unwrap()).collect()
    });
    let suspects: Vec<_> = (0..repeats::PARTITIONS).map(|partition| repeats::suspects(&noted, partition)).collect();
    let suspected = Suspected::of(&suspects);
    let mut arrivals = Arrivals::default();
    for (first, rows) in stretches.iter().rev() {
        let mut part = Arrivals::default();
        part.gather(*first, rows, &suspected).unwrap();
        arrivals.join(part);
    }
    let repeats = repeats::repeats(arrivals);
    let keep = |first: u64, rows: &RecordBatch| {
        let kept = (first..first + rows.num_rows() as u64).map(|row| Some(repeats.binary_search(&row).is_err()));
        filter_record_batch(rows, &kept.collect::<BooleanArray>()).unwrap()
    };
    stretches.iter().map(|(first, rows)| keep(*first, rows)).collect()
}

fn rows() -> impl Strategy<Value = Vec<Row>> {
    // Few identities, accounts and instants, so that they meet; quantities that make ties and the largest products.
    let quantity = prop_oneof![
        Just(0),
        1_i64..100,
        1_i64..1_000_000_000,
        (1_i64..1_000).prop_map(|whole| whole * 1_000_000),
        Just(999_999_999_999_999_999),
    ];
    let row = (prop_oneof![0_u128..12, any::<u128>()], 0_i32..4, 0_i32..3, -1_i32..4, quantity, 0_i64..40, 0_i64..6, any::<bool>());
    let row = row.prop_map(|(identity, account_id, meter_id, sku_id, quantity, day, accepted, negative)| {
        let event_at = OCTOBER + day * DAY;
        let quantity = if negative { -quantity } else { quantity };
        Row { identity, account_id, meter_id, sku_id, quantity, event_at, accepted_at: event_at + accepted }
    });
    prop::collection::vec(row, 0..60)
}

fn prices() -> impl Strategy<Value = Vec<Price>> {
    let unit_price = prop_oneof![Just(0), 1_i64..100, 1_i64..40_000_000_000, Just(5_000), Just(999_999_999_999_999_999)];
    let key = (prop::option::of(0_i32..3), 0_i32..4);
    let cuts = prop::collection::vec((0_i64..20, 1_i64..20, unit_price), 0..4);
    prop::collection::btree_map(key, cuts, 0..10).prop_map(|keys| {
        let mut prices = Vec::new();
        for ((account_id, sku_id), cuts) in keys {
            let mut from = 0;
            for (gap, length, unit_price) in cuts {
                let (from_at, until_at) = (OCTOBER + (from + gap) * DAY, OCTOBER + (from + gap + length) * DAY);
                from += gap + length;
                prices.push(Price { price_id: prices.len() as i32, account_id, sku_id, from_at, until_at, unit_price });
            }
        }
        prices.reverse();
        prices
    })
}

#[test]
fn rows_are_rated_as_the_scalar_version_rates_them() {
    let edges = Edges::default();
    run(&(rows(), prices(), 1_usize..20, 1_usize..5), |(rows, prices, stretch, threads)| {
        let first = scalar::first_of_each(&rows);
        let wanted: Vec<_> = first.into_iter().map(|row| (row.clone(), scalar::rate(&row, &prices))).collect();
        let table = price_table(&prices).unwrap();
        let mut found = Vec::new();
        let (mut totals, mut joined) = (RowTotals::default(), RowTotals::default());
        for (number, batch) in counted(&rows, stretch, threads).iter().enumerate() {
            let rated = rate_rows(batch, &table).unwrap();
            let into = if number % 2 == 0 { &mut totals } else { &mut joined };
            into.add(batch, &rated).unwrap();
            for row in 0..batch.num_rows() {
                let price = rated
                    .amount
                    .is_valid(row)
                    .then(|| (rated.price_id.value(row), i64::try_from(rated.unit_price.value(row)).unwrap(), rated.amount.value(row)));
                let identity = u128::from_be_bytes(batch["identity"].as_fixed_size_binary().value(row).try_into().unwrap());
                found.push((identity, batch["quantity"].as_primitive::<Decimal128Type>().value(row), price));
            }
        }
        let rows_wanted: Vec<_> = wanted.iter().map(|(row, price)| (row.identity, i128::from(row.quantity), *price)).collect();
        prop_assert_eq!(&found, &rows_wanted);

        let mut sums: BTreeMap<(i32, i32), (i64, i128, i128)> = BTreeMap::new();
        for (row, price) in &wanted {
            let sum = sums.entry((row.account_id, row.meter_id)).or_default();
            *sum = (sum.0 + 1, sum.1 + i128::from(row.quantity), sum.2 + price.map_or(0, |price| price.2));
        }
        totals.join(&joined).unwrap();
        let columns: BTreeMap<_, _> = totals.into_columns().unwrap().into_iter().collect();
        let amounts = columns["amount"].as_primitive::<Decimal128Type>().values().to_vec();
        prop_assert_eq!(amounts, sums.values().map(|sum| sum.2).collect::<Vec<_>>());
        let quantities = columns["quantity"].as_primitive::<Decimal128Type>().values().to_vec();
        prop_assert_eq!(quantities, sums.values().map(|sum| sum.1).collect::<Vec<_>>());
        let accounts = columns["account_id"].as_primitive::<Int32Type>().values().to_vec();
        prop_assert_eq!(accounts, sums.keys().map(|key| key.0).collect::<Vec<_>>());

        let own = |price_id: i32| prices.iter().any(|price| price.price_id == price_id && price.account_id.is_some());
        edges.met("rows repeated", wanted.len() < rows.len());
        edges.met("a later row that arrived first", rows.iter().zip(&wanted).any(|(row, (first, _))| row.identity != first.identity));
        for (row, price) in &wanted {
            edges.met("unpriced", price.is_none());
            edges.met("an account's own price", price.is_some_and(|price| own(price.0)));
            edges.met("the list's price", price.is_some_and(|price| !own(price.0)));
            edges.met("more than 64 bits", price.is_some_and(|price| price.2.unsigned_abs() > u128::from(u64::MAX)));
            let rest = price.map(|price| (i128::from(row.quantity) * i128::from(price.1)).rem_euclid(10_000));
            edges.met("a tie", rest == Some(5_000));
            edges.met("rounded", rest.is_some_and(|rest| rest != 0));
        }
        Ok(())
    });
    edges.all_met();
}

#[test]
fn events_are_split_as_the_scalar_version_splits_them() {
    let edges = Edges::default();
    let tiers = prop::collection::vec(prop::collection::vec((1_i64..2_000_000_000, 0_i64..40_000_000_000), 0..3), 3);
    let tiers = tiers.prop_map(|meters| {
        let mut tiers = Vec::new();
        for (meter_id, sizes) in (0..).zip(meters) {
            let mut up_to = 0;
            for (size, unit_price) in sizes {
                up_to += size;
                tiers.push(Tier { meter_id, up_to, unit_price });
            }
            tiers.push(Tier { meter_id, up_to: 999_999_999_999_999_999, unit_price: 12_345_678_905 });
        }
        tiers
    });
    run(&(rows(), tiers, 1_usize..20, 1_usize..5), |(mut rows, tiers, stretch, threads)| {
        for row in &mut rows {
            row.quantity = row.quantity.abs() % 3_000_000_000;
        }
        let wanted = scalar::tiered(&scalar::first_of_each(&rows), &tiers);
        let table = tier_table(&tiers).unwrap();
        let mut totals = TieredTotals::new(&table);
        let mut order = EventOrder::default();
        let batches = counted(&rows, stretch, threads);
        for (number, batch) in batches.iter().enumerate() {
            let mut events = Vec::new();
            tiers::events(batch, &mut events).unwrap();
            order.hold(events);
            let later = batches.get(number + 1..).unwrap_or_default().iter().map(usage_times).flat_map(|times| times.to_vec()).min();
            order.release(later, |due| totals.count(due)).unwrap();
        }
        order.release(None, |due| totals.count(due)).unwrap();
        let columns: BTreeMap<_, _> = totals.into_columns().into_iter().collect();
        let amounts = columns["amount"].as_primitive::<Decimal128Type>().values().to_vec();
        prop_assert_eq!(amounts, wanted.values().copied().collect::<Vec<_>>());
        let months = columns["month"].as_primitive::<Int32Type>().values().to_vec();
        prop_assert_eq!(months, wanted.keys().map(|key| key.2).collect::<Vec<_>>());
        edges.met("two months", wanted.keys().any(|key| key.2 == 202_611) && wanted.keys().any(|key| key.2 == 202_610));
        edges.met("late rows", rows.is_sorted_by_key(|row| row.event_at));
        edges.met(
            "an event in two tiers",
            rows.iter().any(|row| tiers.iter().any(|tier| tier.meter_id == row.meter_id && row.quantity > tier.up_to)),
        );
        Ok(())
    });
    edges.all_met();
}

#[test]
fn stretches_in_any_order_become_the_order_of_events() {
    let edges = Edges::default();
    run(&(rows(), 1_usize..8, 0_i64..4, any::<bool>()), |(mut rows, stretch, repeated, arrived)| {
        for row in &mut rows {
            row.event_at += row.quantity % 1_000 - row.accepted_at % 7;
        }
        if arrived {
            rows.sort_by_key(|row| row.event_at / 3_000 * 3_000 + row.quantity % 500);
        }
        let repeats: Vec<u64> = (0..).zip(&rows).filter(|(_, row)| row.quantity % 4 == repeated).map(|(number, _)| number).collect();
        let mut ordered = OrderedEvents::default();
        for (number, stretch) in rows.chunks(stretch).enumerate() {
            ordered.take(&usage(stretch), number as u64, &[]).unwrap();
        }
        let mut wanted = Vec::new();
        tiers::events(&usage(&rows), &mut wanted).unwrap();
        wanted.sort();
        prop_assert_eq!(ordered.into_events(), wanted);

        let mut ordered = OrderedEvents::default();
        let mut first = 0;
        for stretch in rows.chunks(stretch) {
            ordered.take(&usage(stretch), first, &repeats).unwrap();
            first += stretch.len() as u64;
        }
        let kept: Vec<Row> = (0..).zip(&rows).filter(|(number, _)| !repeats.contains(number)).map(|(_, row)| row.clone()).collect();
        let mut wanted = Vec::new();
        tiers::events(&usage(&kept), &mut wanted).unwrap();
        edges.met("in order", wanted.is_sorted() && wanted.len() > 20);
        edges.met("nearly in order", arrived && !wanted.is_sorted() && wanted.len() > 20);
        edges.met("in no order", !arrived && !wanted.is_sorted() && wanted.len() > 20);
        edges.met("two events at one time", rows.iter().zip(rows.iter().skip(1)).any(|(row, next)| row.event_at == next.event_at));
        wanted.sort();
        prop_assert_eq!(ordered.into_events(), wanted);
        Ok(())
    });
    edges.all_met();
}

#[test]
fn amounts_of_accounts_are_rounded_to_cents() {
    let edges = Edges::default();
    let amount =
        prop_oneof![any::<i64>().prop_map(i128::from), (-400_i128..400).prop_map(|half| half * 5_000_000_000), Just(10_i128.pow(36))];
    run(&prop::collection::vec((0_i32..4, amount), 0..20), |mut rows| {
        rows.sort_by_key(|row| row.0);
        let totals = |rows: &[(i32, i128)]| {
            let amounts = Decimal128Array::from_iter_values(rows.iter().map(|row| row.1)).with_data_type(AMOUNTS);
            let columns = [
                ("account_id", int32s(rows.iter().map(|row| row.0))),
                ("meter_id", int32s(0..rows.len() as i32)),
                ("amount", Arc::new(amounts) as ArrayRef),
            ];
            account_totals(&RecordBatch::try_from_iter(columns).unwrap())
        };
        let mut sums: BTreeMap<i32, i128> = BTreeMap::new();
        rows.iter().for_each(|(account_id, amount)| *sums.entry(*account_id).or_default() += amount);
        let found: BTreeMap<_, _> = totals(&rows).unwrap().into_iter().collect();
        prop_assert_eq!(found["account_id"].as_primitive::<Int32Type>().values().to_vec(), sums.keys().copied().collect::<Vec<_>>());
        let wanted: Vec<i128> = sums.values().map(|sum| scalar::cents(*sum)).collect();
        prop_assert_eq!(found["total"].as_primitive::<Decimal128Type>().values().to_vec(), wanted);
        edges.met("a tie", sums.values().any(|sum| sum.rem_euclid(10_i128.pow(10)) == 5 * 10_i128.pow(9)));
        edges.met("below zero", sums.values().any(|sum| *sum < 0));

        rows.reverse();
        let refused = totals(&rows).is_err();
        prop_assert_eq!(refused, sums.len() > 1);
        Ok(())
    });
    edges.all_met();
}

fn usage_times(rows: &RecordBatch) -> &[i64] {
    rows["event_at"].as_primitive::<TimestampMicrosecondType>().values()
}

#[test]
fn the_amount_of_a_row_is_that_of_the_arithmetic_of_charges() {
    run(&(any::<i64>(), any::<i64>(), 0_u32..63, 0_u32..63), |(quantity, unit_price, narrow, narrower)| {
        let (quantity, unit_price) = (quantity >> narrow, unit_price >> narrower);
        // In units of the twelfth digit, which the ratio counts as its ninth.
        let exact = Ratio::new(i128::from(quantity) * i128::from(unit_price), 10_000).unwrap();
        prop_assert_eq!(Some(amount(quantity, unit_price)), exact.round(9, RoundTo::HalfEven).map(Ratio::units));
        Ok(())
    });
}

#[test]
fn halves_go_to_the_even_neighbour() {
    for (exact, rounded) in [(5_000, 0), (15_000, 2), (25_000, 2), (5_001, 1), (4_999, 0), (-5_000, 0), (-15_000, -2), (-5_001, -1)] {
        assert_eq!(amount(exact, 1), rounded, "{exact}");
    }
    assert_eq!(amount(i64::MIN, i64::MIN), i128::from(i64::MIN).pow(2) / 10_000);
}

#[test]
fn what_has_no_answer_is_refused_by_name() {
    let price = |price_id, from, until| Price {
        price_id,
        account_id: None,
        sku_id: 1,
        from_at: OCTOBER + from * DAY,
        until_at: OCTOBER + until * DAY,
        unit_price: 1,
    };
    let refused = price_table(&[price(7, 3, 9), price(4, 0, 4)]).unwrap_err();
    assert_eq!(refused.to_string(), "price 7 begins before price 4 of the same SKU ends");
    let tier = |up_to| Tier { meter_id: 2, up_to, unit_price: 1 };
    assert_eq!(tier_table(&[tier(5), tier(5)]).unwrap_err().to_string(), "tier 1 of meter 2 does not begin where the one before it ends");

    let row =
        |meter_id, quantity| Row { identity: 1, account_id: 3, meter_id, sku_id: 1, quantity, event_at: OCTOBER, accepted_at: OCTOBER };
    let refusals = [
        (row(2, -1), "its quantity is below zero"),
        (row(2, 6), "its running total leaves the last tier"),
        (row(1, 1), "its meter has no tiers"),
    ];
    let table = tier_table(&[tier(5)]).unwrap();
    for (row, reason) in refusals {
        let mut counted = Vec::new();
        tiers::events(&usage(std::slice::from_ref(&row)), &mut counted).unwrap();
        let refused = TieredTotals::new(&table).count(&counted).unwrap_err().to_string();
        assert_eq!(refused, format!("the row of account 3 and meter {} at {OCTOBER} µs: {reason}", row.meter_id));
    }

    let rows = usage(&[row(1, 1)]).project(&[0, 1, 2, 3, 5]).unwrap();
    let refused = rate_rows(&rows, &PriceTable::default()).unwrap_err();
    assert!(matches!(refused, PerRowError::Row(RowError::Column { column: "quantity", expected: "decimal(18,6)" })), "{refused}");
}
