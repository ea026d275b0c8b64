//! The invoice of a close over the bundle tests' world: lines by what stands of each reading, and what stood at the close before. Amounts are the
//! oracle's.

use std::collections::BTreeMap;

use num_rational::BigRational;
use platform_evidence::bundle::RegistryIndex;
use serde_json::{Value, json};
use shared_types::{Instant, Month};

use crate::bundle_oracle::{Charged, plain, round, step, whole, worth, worth_of_time};
use crate::bundle_world::{Row, documents, leased, text};

/// What was charged, by price row, and under which version.
type Charges = BTreeMap<String, (bool, Vec<Charged>)>;

#[derive(Default)]
struct KeySums {
    unit: String,
    all: (Option<BigRational>, u64),
    fresh: (Option<BigRational>, u64),
    meter: String,
    after: Charges,
    before: Charges,
}

fn add(sum: &mut (Option<BigRational>, u64), row: &Row) {
    let quantity = if row.back { -&row.charged.quantity } else { row.charged.quantity.clone() };
    sum.0 = Some(sum.0.clone().unwrap_or_else(|| whole(0)) + quantity);
    sum.1 += 1;
}

/// The last leaf of each reading, of those that are meant.
fn standing(rows: &[Row], meant: impl Fn(&Row) -> bool) -> BTreeMap<(usize, &str, Instant), (Month, u64)> {
    let rows = rows.iter().filter(|row| meant(row));
    rows.map(|row| ((row.reading.event, row.reading.meter.as_str(), row.charged.start_at), (row.log, row.log_seq))).collect()
}

/// The invoice of a period, over the rows of its close and of those before.
pub fn invoice(rows: &[Row], period: &str, version: &RegistryIndex) -> String {
    let versions = [false, true].map(documents);
    let of_kind = |second: bool, kind: &'static str| versions[usize::from(second)].iter().filter(move |document| document["kind"] == kind);
    let aggregations: BTreeMap<&str, &Value> =
        of_kind(true, "meter").map(|meter| (meter["id"].as_str().unwrap(), &meter["aggregation"])).collect();
    let models: BTreeMap<(bool, String), Value> = [false, true]
        .into_iter()
        .flat_map(|second| of_kind(second, "price_book").map(move |book| (second, book)))
        .flat_map(|(second, book)| book["prices"].as_array().unwrap().iter().map(move |price| (second, price)))
        .map(|(second, price)| ((second, price["id"].as_str().unwrap().to_owned()), price["model"].clone()))
        .collect();
    let steps = leased();
    let steps = steps.as_array().unwrap();
    let (now, then) = (standing(rows, |row| !row.later), standing(rows, |row| !row.fresh && !row.later));
    let zero = || whole(0);
    let mut keys: BTreeMap<(String, Month), KeySums> = BTreeMap::new();
    let mut logs: BTreeMap<Month, (u64, u64)> = BTreeMap::new();
    for row in rows.iter().filter(|row| !row.later) {
        let log = logs.entry(row.log).or_default();
        log.1 += 1;
        assert_eq!(row.log_seq + 1, log.1);
        if !row.fresh {
            log.0 += 1;
        }
        let key = keys.entry((row.reading.sku.to_string(), row.log)).or_default();
        key.unit = row.reading.unit.to_string();
        key.meter = row.reading.meter.to_string();
        add(&mut key.all, row);
        if row.fresh {
            add(&mut key.fresh, row);
        }
        let price = row.reading.price.to_string();
        if models[&(row.second, price.clone())].get("free").is_some() {
            continue;
        }
        let (name, place) = ((row.reading.event, row.reading.meter.as_str(), row.charged.start_at), (row.log, row.log_seq));
        for (stands, charges) in [(&now, &mut key.after), (&then, &mut key.before)] {
            if stands.get(&name) == Some(&place) && !row.back {
                let (second, readings) = charges.entry(price.clone()).or_default();
                *second = row.second;
                readings.push(row.charged.clone());
            }
        }
    }
    let total_of = |charges: &Charges, meter: &str, month: Month| {
        let worths = charges.iter().map(|(price, (second, readings))| {
            let model = &models[&(*second, price.clone())];
            steps.iter().find(|terms| terms["meter"] == *meter).map_or_else(
                || worth(model, aggregations[meter], month, readings),
                |terms| worth_of_time(model, aggregations[meter], terms, month, readings),
            )
        });
        round(&worths.fold(zero(), |a, b| a + b), &step(9), "half_even")
    };
    let invoiced = |total: &BigRational| round(total, &step(2), "half_away_from_zero");
    let (mut lines, mut total) = (Vec::new(), zero());
    // A key with free readings alone has a line too, of nothing: a price of zero is a price.
    for ((sku, log), key) in keys.iter().filter(|(_, key)| key.fresh.1 > 0) {
        let (after, before) = (total_of(&key.after, &key.meter, *log), total_of(&key.before, &key.meter, *log));
        let (key_amount, invoiced) = (invoiced(&after), invoiced(&before));
        let amount = &key_amount - &invoiced;
        total += &amount;
        let prices: Vec<Value> = key
            .after
            .iter()
            .map(|(price, (_, readings))| {
                let quantity = readings.iter().fold(zero(), |sum, reading| sum + &reading.quantity);
                json!({"price_id": price, "quantity": plain(&quantity), "readings": readings.len()})
            })
            .collect();
        lines.push(json!({
            "amount": plain(&amount), "contract": "standard", "contract_line": format!("standard/{sku}"), "description": format!("what {sku} is"),
            "exact": plain(&(&after - &before)), "exact_before": plain(&before), "invoiced_before": plain(&invoiced),
            "key_amount": plain(&key_amount), "key_quantity": plain(key.all.0.as_ref().unwrap()), "key_readings": key.all.1,
            "key_total": plain(&after), "kind": if key.all.1 == key.fresh.1 { "usage" } else { "adjustment" },
            "number": lines.len() + 1, "prices": prices, "quantity": plain(key.fresh.0.as_ref().unwrap()), "readings": key.fresh.1,
            "rounding": plain(&(&amount - (&after - &before))), "service_period": log.number().to_string(), "sku": sku, "unit": key.unit,
        }));
    }
    let logs: Vec<Value> =
        logs.iter().map(|(month, (from, to))| json!({"from": from, "month": month.number().to_string(), "to": to})).collect();
    text(&json!({
        "currency": "USD", "invoice_id": format!("inv-acme-usd-{period}"), "lines": lines, "logs": logs, "organization": "acme", "period": period,
        "registry_version": version.address(), "rounding": {"mode": "half_away_from_zero", "scale": "2"}, "total": plain(&total), "v": "1",
    }))
}
