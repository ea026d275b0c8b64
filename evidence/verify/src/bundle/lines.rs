//! Stage 5: each line from its readings.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use anyhow::Context as _;
use serde_json::Value;

use super::prices::Priced;
use super::rows::Rows;
use super::standing::Standing;
use super::{INVOICE, list, member, unreadable};
use crate::finding::{Findings, Stage};
use crate::measure::{Fact, State};
use crate::money::{self, Number, decimal, plain, round, scaled, whole};
use crate::registry::{UsedRows, Version};

/// What was charged, by price row.
type Segments = BTreeMap<String, State>;

/// What follows from the readings of one key.
#[derive(Default)]
struct KeySums {
    all: State,
    fresh: State,
    fresh_charged: u64,
    earlier: u64,
    after: Segments,
    before: Segments,
}

/// What was found of the lines.
#[derive(Default)]
pub(super) struct Lines {
    /// How many there are.
    pub(super) count: usize,
    /// Every key in the invoice's currency of which a leaf is covered.
    pub(super) keys: Vec<KeyWorth>,
    /// What they add up to.
    pub(super) total: Number,
}

/// What a key is worth.
pub(super) struct KeyWorth {
    pub(super) contract: String,
    pub(super) sku: String,
    pub(super) month: i32,
    /// T after all covered leaves.
    pub(super) after: Number,
    /// T after those of earlier invoices.
    pub(super) before: Number,
    /// Whether earlier invoices cover a leaf of it.
    pub(super) earlier: bool,
}

/// Re-rates and compares each line.
pub(super) fn lines(
    invoice: &Value,
    versions: &HashMap<String, Version>,
    rows: &Rows,
    standing: &Standing,
    from: &HashMap<i32, i64>,
    priced: &Priced,
    findings: &mut Findings,
) -> anyhow::Result<Lines> {
    let stage = Stage::Lines;
    let currency = member(invoice, "currency");
    let version = versions.get(&member(invoice, "registry_version"));
    // Price rows by which what stands is worth something, and what stood: rating again may have altered one.
    let (mut now, mut then) = (UsedRows::default(), UsedRows::default());
    let mut varied = BTreeSet::new();
    for (at, (reading, price)) in rows.readings.iter().zip(&priced.by).enumerate() {
        let (Some(own), Some(price)) = (versions.get(&reading.version), price) else { continue };
        let mut same = true;
        if flagged(&standing.now, at) {
            same = now.take(own, &price.price, &reading.meter)?;
            if let Some(version) = version {
                same &= now.take(version, &price.price, &reading.meter)?;
            }
        }
        if flagged(&standing.then, at) {
            same &= then.take(own, &price.price, &reading.meter)?;
        }
        if !same && varied.insert(&price.price) {
            let row = format!("price {}", price.price);
            findings.add(Stage::Prices, "registry", row, "row", "the same in every version that priced by it", "different");
        }
    }
    let mut keys: BTreeMap<(String, String, i32), KeySums> = BTreeMap::new();
    for (at, (reading, price)) in rows.readings.iter().zip(&priced.by).enumerate() {
        let Some(price) = price.as_ref().filter(|price| price.currency == currency) else { continue };
        let key = keys.entry((price.contract.clone(), price.sku.clone(), reading.month)).or_default();
        let fresh = reading.log_seq >= from.get(&reading.month).copied().unwrap_or(0);
        let free = versions.get(&reading.version).is_some_and(|version| version.is_free(&price.price));
        let bad = |error: anyhow::Error| unreadable(stage, INVOICE, format!("{}: {error:#}", price.sku));
        let mut sums = vec![&mut key.all];
        if fresh {
            sums.push(&mut key.fresh);
            key.fresh_charged += u64::from(!free);
        } else {
            key.earlier += 1;
        }
        for sum in sums {
            sum.add(reading.quantity, None).map_err(bad)?;
        }
        if free {
            continue;
        }
        let fact = |used: &UsedRows| {
            let row = used.get(&price.price).filter(|row| row.needs_facts())?;
            let (event, version) = (rows.events.get(reading.event?)?, versions.get(&reading.version)?);
            let value = row.counts().and_then(|of| match priced.sessions.get(&at) {
                Some(session) => Some(session.clone()),
                None => version.dimensions(&reading.meter, &event.data).remove(of),
            });
            let (start, end) = reading.times(event);
            Some(Fact { place: (start, u128::try_from(event.tie).unwrap_or(0)), end, quantity: reading.quantity, value })
        };
        if flagged(&standing.now, at) {
            key.after.entry(price.price.clone()).or_default().add(reading.quantity, fact(&now)).map_err(bad)?;
        }
        if flagged(&standing.then, at) {
            key.before.entry(price.price.clone()).or_default().add(reading.quantity, fact(&then)).map_err(bad)?;
        }
    }
    let Some((places, half)) = version.and_then(|version| version.roundings.get(&currency)).copied() else {
        findings.add(stage, INVOICE, "", "rounding of the currency", "in the invoice's registry version", "not there");
        return Ok(Lines::default());
    };
    let stated =
        invoice.get("rounding").map(|rounding| [member(rounding, "scale"), member(rounding, "mode")].join(" ")).unwrap_or_default();
    let mode = if half == money::Half::Even { "half_even" } else { "half_away_from_zero" };
    findings.compare(stage, INVOICE, "", "rounding", &format!("{places} {mode}"), &stated);
    let worth = |segments: &Segments, used: &UsedRows, month: i32| -> anyhow::Result<Number> {
        let mut sum = money::zero();
        for (price, state) in segments {
            let row = used.get(price).with_context(|| format!("price {price} is in no document"))?;
            sum += row.worth(state, month).with_context(|| format!("price {price}"))?;
        }
        Ok(money::total(&sum))
    };
    let mut worths = BTreeMap::new();
    for (place, key) in &keys {
        let bad = |error: anyhow::Error| unreadable(stage, INVOICE, format!("{}/{} {}: {error:#}", place.0, place.1, place.2));
        worths.insert(place, (worth(&key.after, &now, place.2).map_err(bad)?, worth(&key.before, &then, place.2).map_err(bad)?));
    }
    let mut total = money::zero();
    let mut billed = HashSet::new();
    let mut count = 0;
    for line in list(invoice, "lines") {
        count += 1;
        let row = format!("line {} {} {}", member(line, "number"), member(line, "contract_line"), member(line, "service_period"));
        let is = |what: &str, expected: String, findings: &mut Findings| {
            findings.compare(stage, INVOICE, &row, what, &expected, &member(line, what))
        };
        is("number", count.to_string(), findings);
        is("contract_line", format!("{}/{}", member(line, "contract"), member(line, "sku")), findings);
        total += decimal(&member(line, "amount")).map_err(|error| unreadable(stage, INVOICE, error))?;
        let place = (member(line, "contract"), member(line, "sku"), member(line, "service_period").parse().unwrap_or(0));
        if !billed.insert(place.clone()) {
            findings.add(stage, INVOICE, &*row, "lines of this key", 1, 2);
        }
        let Some((key, (after, before))) = keys.get(&place).filter(|key| key.fresh.sum.1 > 0).zip(worths.get(&place)) else {
            findings.add(stage, INVOICE, &*row, "readings of this key since the last invoice", "at least 1", 0);
            continue;
        };
        let bad = |error: anyhow::Error| unreadable(stage, INVOICE, format!("{row}: {error:#}"));
        let invoiced = decimal(&member(line, "invoiced_before")).map_err(bad)?;
        let (exact, key_amount) = (after - before, round(after, places, half));
        let amount = &key_amount - &invoiced;
        is("service_period", place.2.to_string(), findings);
        is("key_quantity", plain(&scaled(key.all.sum.0, 9)), findings);
        is("key_readings", key.all.sum.1.to_string(), findings);
        is("quantity", plain(&scaled(key.fresh.sum.0, 9)), findings);
        is("readings", key.fresh.sum.1.to_string(), findings);
        let prices: BTreeMap<String, (i128, u64)> = list(line, "prices")
            .map(|price| {
                let quantity =
                    decimal(&member(price, "quantity")).ok().map(|quantity| quantity * whole(1_000_000_000)).filter(Number::is_integer);
                let quantity = quantity.and_then(|quantity| i128::try_from(quantity.to_integer()).ok()).unwrap_or(i128::MIN);
                (member(price, "price_id"), (quantity, member(price, "readings").parse().unwrap_or(0)))
            })
            .collect();
        for price in prices.keys().chain(key.after.keys()).collect::<BTreeSet<_>>() {
            let shown = |sum: Option<&(i128, u64)>| {
                sum.map(|(quantity, readings)| format!("{} in {readings} readings", plain(&scaled(*quantity, 9)))).unwrap_or_default()
            };
            let found = key.after.get(price).map(|state| &state.sum);
            findings.compare(stage, INVOICE, &row, &format!("price {price}"), &shown(found), &shown(prices.get(price)));
        }
        is("key_total", plain(after), findings);
        is("exact_before", plain(before), findings);
        is("exact", plain(&exact), findings);
        is("key_amount", plain(&key_amount), findings);
        is("amount", plain(&amount), findings);
        is("rounding", plain(&(&amount - &exact)), findings);
        let mut earlier =
            versions.values().filter_map(|version| version.roundings.get(&currency)).map(|(places, half)| round(before, *places, *half));
        if !earlier.any(|amount| amount == invoiced) {
            is("invoiced_before", plain(&round(before, places, half)), findings);
        }
        let kind = member(line, "kind");
        let first = *before == money::zero() && invoiced == money::zero();
        if !(kind == "usage" && first || kind == "adjustment" && key.earlier > 0) {
            is("kind", if key.earlier == 0 { "usage" } else { "adjustment" }.to_owned(), findings);
        }
        let unit = version.and_then(|version| version.unit(&place.1)).unwrap_or_default();
        is("unit", unit.to_owned(), findings);
    }
    for ((contract, sku, month), key) in &keys {
        if key.fresh_charged > 0 && !billed.contains(&(contract.clone(), sku.clone(), *month)) {
            findings.add(stage, INVOICE, format!("{contract}/{sku} {month}"), "lines of this key", 1, 0);
        }
    }
    let keys = keys.iter().zip(worths.into_values());
    let keys = keys.map(|(((contract, sku, month), key), (after, before))| {
        let (contract, sku) = (contract.clone(), sku.clone());
        KeyWorth { contract, sku, month: *month, after, before, earlier: key.earlier > 0 }
    });
    Ok(Lines { count, keys: keys.collect(), total })
}

fn flagged(flags: &[bool], at: usize) -> bool {
    flags.get(at).copied().unwrap_or(false)
}
