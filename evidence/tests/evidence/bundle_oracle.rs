//! What a key of the bundle tests' world is worth: each measure and model as the format's page says it, by big rationals, reading by reading.
//! It shares nothing with `platform-rating` nor with any verifier.

use std::collections::{BTreeMap, BTreeSet};

use num_bigint::BigInt;
use num_rational::BigRational;
use serde_json::{Value, json};
use shared_types::{IdentityHash, Instant, Month, Quantity};

const DAY: i64 = 86_400_000_000;

/// One charged reading.
#[derive(Clone)]
pub struct Charged {
    pub start_at: Instant,
    pub identity: IdentityHash,
    pub end_at: Option<Instant>,
    pub quantity: BigRational,
    /// Of the dimension that is counted.
    pub value: Option<String>,
}

pub fn whole(number: i64) -> BigRational {
    BigRational::from_integer(number.into())
}

pub fn rational(number: &str) -> BigRational {
    let (integer, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits: BigInt = format!("{integer}{fraction}").parse().unwrap();
    BigRational::new(digits, BigInt::from(10).pow(u32::try_from(fraction.len()).unwrap()))
}

/// A rational with at most nine decimal places as plain text.
pub fn plain(number: &BigRational) -> String {
    let scaled = number * whole(1_000_000_000);
    assert!(scaled.is_integer(), "{number}");
    let units: i128 = scaled.to_integer().try_into().unwrap();
    Quantity::from_units(units).unwrap().to_string()
}

/// To whole steps: `half_even`, `half_away_from_zero`, `ceiling`, `floor`.
pub fn round(number: &BigRational, step: &BigRational, how: &str) -> BigRational {
    let steps = number / step;
    let (floor, two) = (steps.floor(), BigInt::from(2));
    let twice = (&steps - &floor) * whole(2);
    let up = match how {
        "ceiling" => twice > whole(0),
        "floor" => false,
        _ if twice != whole(1) => twice > whole(1),
        "half_even" => floor.to_integer() % &two != 0.into(),
        "half_away_from_zero" => steps > whole(0),
        other => panic!("{other}"),
    };
    (if up { floor + whole(1) } else { floor }) * step
}

/// 10^-places.
pub fn step(places: i32) -> BigRational {
    let power = BigRational::from_integer(BigInt::from(10).pow(places.unsigned_abs()));
    if places < 0 { power } else { power.recip() }
}

fn number(value: &Value) -> BigRational {
    rational(value.as_str().unwrap())
}

/// F of the readings that one price row charged in a month.
pub fn worth(model: &Value, aggregation: &Value, month: Month, readings: &[Charged]) -> BigRational {
    let period = (month.start().micros(), month.next().unwrap().start().micros());
    let mut in_order: Vec<&Charged> = readings.iter().collect();
    in_order.sort_by_key(|reading| (reading.start_at, reading.identity));
    let plain_price = json!({"free_units": "0", "applies_to": "period", "model": model});
    let price = model.get("adjusted").unwrap_or(&plain_price);
    let (model, total) = (&price["model"], || readings.iter().fold(whole(0), |sum, reading| sum + &reading.quantity));
    if let Some(terms) = model.get("percentage") {
        return if total() > whole(0) { percentage(terms, &in_order) } else { whole(0) };
    }
    if let (Some(prorated), Some(graduated)) = (aggregation.get("prorated"), model.get("graduated")) {
        return levels(graduated, &in_order, prorated["by"] == "day", period);
    }
    let alone = |quantity: &BigRational| of_model(model, &billed(price, quantity), &billed(price, quantity));
    if price["applies_to"] == "each_event" {
        return readings.iter().map(|reading| alone(&reading.quantity)).fold(whole(0), |a, b| a + b);
    }
    if let Some(prorated) = aggregation.get("prorated") {
        let priced = held(readings, prorated["by"] == "day", period) / whole(period.1 - period.0);
        return of_model(model, &billed(price, &priced), &billed(price, &total()));
    }
    measured(aggregation, &in_order, period).iter().map(alone).fold(whole(0), |a, b| a + b)
}

/// F of pieces of billed time: each level of what belongs together in whole steps.
pub fn worth_of_time(model: &Value, aggregation: &Value, terms: &Value, month: Month, readings: &[Charged]) -> BigRational {
    let step = terms.get("increment").map_or_else(|| whole(1), |seconds| number(seconds) * whole(1_000_000));
    let mut held: BTreeMap<(String, BigRational), i64> = BTreeMap::new();
    for (at, reading) in readings.iter().enumerate() {
        let together = if terms["each"] == "session" { reading.value.clone().unwrap() } else { at.to_string() };
        *held.entry((together, reading.quantity.clone())).or_default() += reading.end_at.unwrap().micros() - reading.start_at.micros();
    }
    let counted = held.iter().fold(whole(0), |sum, ((_, level), micros)| sum + level * (whole(*micros) / &step).ceil() * &step);
    let length =
        if aggregation.get("prorated").is_some() { month.next().unwrap().start().micros() - month.start().micros() } else { 1_000_000 };
    let billed = counted / whole(length);
    of_model(model, &billed, &billed)
}

fn measured(aggregation: &Value, in_order: &[&Charged], period: (i64, i64)) -> Vec<BigRational> {
    let quantities = || in_order.iter().map(|reading| reading.quantity.clone());
    let sum = || quantities().fold(whole(0), |a, b| a + b);
    if let Some(unique) = aggregation.get("unique") {
        let per_day = unique["per"] == "day";
        let mut seen = BTreeSet::new();
        for reading in in_order {
            let touched = if per_day { touched(reading, reading.end_at.unwrap_or(reading.start_at).micros()) } else { 0..1 };
            seen.extend(touched.map(|day| (day, reading.value.clone().unwrap())));
        }
        let count = whole(i64::try_from(seen.len()).unwrap());
        return vec![if per_day { count * whole(DAY) / whole(period.1 - period.0) } else { count }];
    }
    if let Some(weighted) = aggregation.get("time_weighted") {
        let readings: Vec<Charged> = in_order.iter().map(|reading| (*reading).clone()).collect();
        return vec![held(&readings, weighted["by"] == "day", period) / whole(1_000_000)];
    }
    if let Some(bucketed) = aggregation.get("bucketed") {
        let length = match bucketed["bucket"].as_str().unwrap() {
            "five_minutes" => DAY / 288,
            "hour" => DAY / 24,
            _ => DAY,
        };
        // Every bucket of the period, one by one.
        let mut values: BTreeMap<i64, (BigRational, bool)> =
            (0..(period.1 - period.0) / length).map(|bucket| (bucket, (whole(0), false))).collect();
        for reading in in_order {
            let (value, touched) = values.get_mut(&((reading.start_at.micros() - period.0) / length)).unwrap();
            *value = if bucketed["each"] == "sum" { &*value + &reading.quantity } else { value.clone().max(reading.quantity.clone()) };
            *touched = true;
        }
        return match bucketed["then"].as_str().unwrap() {
            "alone" => values.into_values().filter(|(_, touched)| *touched).map(|(value, _)| value).collect(),
            "sum" => vec![values.into_values().fold(whole(0), |sum, (value, _)| sum + value)],
            percent => {
                let percent: usize = percent.trim_start_matches('p').parse().unwrap();
                let mut sorted: Vec<BigRational> = values.into_values().map(|(value, _)| value).collect();
                sorted.sort();
                // The first value that no fewer than so many of a hundred do not exceed.
                let found = (0..sorted.len()).find(|at| 100 * (at + 1) >= percent * sorted.len()).unwrap();
                vec![sorted.swap_remove(found)]
            }
        };
    }
    vec![match aggregation.as_str().unwrap() {
        "sum" | "count" => sum(),
        "average" => sum() / whole(i64::try_from(in_order.len()).unwrap()),
        "max" => quantities().max().unwrap(),
        "min" => quantities().min().unwrap(),
        "latest" => quantities().next_back().unwrap().max(whole(0)),
        other => panic!("{other}"),
    }]
}

/// UTC days that a reading touches.
fn touched(reading: &Charged, end: i64) -> std::ops::Range<i64> {
    let first = reading.start_at.micros() / DAY;
    first..(end + DAY - 1).div_euclid(DAY).max(first + 1)
}

fn held_of(reading: &Charged, days: bool, period: (i64, i64)) -> i64 {
    let end = reading.end_at.map_or(period.1, Instant::micros);
    if days { DAY * i64::try_from(touched(reading, end).count()).unwrap() } else { end - reading.start_at.micros() }
}

fn held(readings: &[Charged], days: bool, period: (i64, i64)) -> BigRational {
    readings.iter().fold(whole(0), |sum, reading| sum + &reading.quantity * whole(held_of(reading, days, period)))
}

fn billed(price: &Value, quantity: &BigRational) -> BigRational {
    let mut quantity = quantity.clone();
    if let Some(convert) = price.get("convert") {
        quantity = quantity * number(&convert["multiply"]) / number(&convert["divide"]);
        let how = convert["rounding"].as_str().unwrap();
        if how != "none" {
            quantity = round(&quantity, &step(convert["places"].as_str().unwrap().parse().unwrap()), how);
        }
    }
    let free = number(&price["free_units"]);
    if quantity > free { quantity - free } else { quantity.min(whole(0)) }
}

/// Lower bound, upper bound, members.
fn tiers(model: &Value) -> Vec<(BigRational, Option<BigRational>, &Value)> {
    let mut lower = whole(0);
    let list = model["tiers"].as_array().unwrap().iter();
    list.map(|tier| {
        let upper = tier.get("up_to").map(number);
        let below = std::mem::replace(&mut lower, upper.clone().unwrap_or_else(|| whole(0)));
        (below, upper, tier)
    })
    .collect()
}

fn begun(quantity: &BigRational, size: &Value) -> BigRational {
    (quantity / number(size)).ceil().max(whole(0))
}

/// What lies in a tier; the first one reaches below zero.
fn inside(quantity: &BigRational, lower: &BigRational, upper: Option<&BigRational>) -> BigRational {
    let top = upper.map_or(quantity, |upper| upper.min(quantity)) - lower;
    if *lower == whole(0) { top } else { top.max(whole(0)) }
}

fn of_model(model: &Value, priced: &BigRational, reached: &BigRational) -> BigRational {
    let (kind, model) = model.as_object().unwrap().iter().next().unwrap();
    let per = model.get("per").map_or_else(|| whole(if kind == "graduated_percentage" { 100 } else { 1 }), number);
    let due = |at: &BigRational, lower: &BigRational, tier: &Value| if at > lower { number(&tier["flat_fee"]) } else { whole(0) };
    let reached_tier = || tiers(model).into_iter().find(|(_, upper, _)| upper.as_ref().is_none_or(|upper| reached <= upper)).unwrap().2;
    match kind.as_str() {
        "free" => whole(0),
        "per_unit" => priced / per * number(&model["unit_price"]),
        "package" => begun(priced, &model["size"]) * number(&model["package_price"]),
        "volume" => priced / per * number(&reached_tier()["unit_price"]) + due(reached, &whole(0), reached_tier()),
        "top_blocks" => begun(priced, &reached_tier()["size"]) * number(&reached_tier()["block_price"]),
        "graduated" | "graduated_percentage" => tiers(model).into_iter().fold(whole(0), |sum, (lower, upper, tier)| {
            sum + inside(priced, &lower, upper.as_ref()) / &per * number(&tier["unit_price"]) + due(priced, &lower, tier)
        }),
        "blocks" => tiers(model).into_iter().fold(whole(0), |sum, (lower, upper, tier)| {
            sum + begun(&inside(priced, &lower, upper.as_ref()), &tier["size"]) * number(&tier["block_price"])
        }),
        other => panic!("{other}"),
    }
}

/// The cost of a level, moved by each change for the share of the period that it is held; fees of the tiers that were entered.
fn levels(model: &Value, in_order: &[&Charged], days: bool, period: (i64, i64)) -> BigRational {
    let (per, tiers) = (number(&model["per"]), tiers(model));
    let cost = |level: &BigRational| {
        tiers
            .iter()
            .fold(whole(0), |sum, (lower, upper, tier)| sum + inside(level, lower, upper.as_ref()) / &per * number(&tier["unit_price"]))
    };
    let (mut level, mut peak, mut sum) = (whole(0), whole(0), whole(0));
    for reading in in_order {
        let after = &level + &reading.quantity;
        sum += (cost(&after) - cost(&level)) * whole(held_of(reading, days, period)) / whole(period.1 - period.0);
        peak = peak.max(after.clone());
        level = after;
    }
    let fees = tiers.iter().filter(|(lower, _, _)| peak > *lower).map(|(_, _, tier)| number(&tier["flat_fee"]));
    fees.fold(sum, |sum, fee| sum + fee)
}

fn percentage(terms: &Value, in_order: &[&Charged]) -> BigRational {
    let fee = number(&terms["fee"]);
    let share = |quantity: BigRational| {
        let share = quantity * number(&terms["rate"]) / whole(100);
        let share = terms.get("most").map_or(share.clone(), |most| share.clone().min(number(most)));
        terms.get("least").map_or(share.clone(), |least| share.clone().max(number(least))) + &fee
    };
    let (mut readings, mut value) = (number(&terms["free_readings"]), number(&terms["free_value"]));
    let (by_readings, by_value) = (readings > whole(0), value > whole(0));
    let mut sum = whole(0);
    for reading in in_order {
        let lasts = (by_readings || by_value) && (!by_readings || readings > whole(0)) && (!by_value || value > whole(0));
        if !lasts {
            sum += share(reading.quantity.clone());
            continue;
        }
        readings -= whole(1);
        if by_value {
            let beyond = &reading.quantity - &value;
            value -= reading.quantity.clone().max(whole(0));
            if beyond > whole(0) {
                sum += share(beyond);
            }
        }
    }
    sum
}
