//! Cases of the second stage and of re-rating: what contracts make of totals, and what a later evaluation books.

use std::collections::BTreeMap;

use anyhow::{Context as _, bail};
use platform_rating::allocate::{TieBreak, allocate};
use platform_rating::calendar::{Day, window_of};
use platform_rating::contract::{self, Rounding};
use platform_rating::{Basis, Each, Measure, PriceModel, Promised, Ratio, RoundTo, Then, TrueUp, WindowCommitment};
use serde_json::{Map, Value, json};
use shared_types::{Amount, Price, Quantity};

use super::calendars::amount_of;
use super::prices::{block_model, block_tiers_in, model, rounding_of};
use super::value::{In, item, list, money, need, nth, parsed, rational, shown, text, texts};
use super::workbench::{Bench, Use, rated, uses};

/// Rounding alone.
pub fn rounding(given: &In<'_>) -> anyhow::Result<Value> {
    let to = match &*need(given.config, "mode")? {
        "half_away_from_zero" => RoundTo::HalfAwayFromZero,
        "half_even" => RoundTo::HalfEven,
        "ceiling" => RoundTo::Ceiling,
        "floor" => RoundTo::Floor,
        other => bail!("the mode {other:?} is unknown"),
    };
    let rounding = Rounding { places: parsed(given.config, "decimals")?, to };
    Ok(json!({ "rounded": money(rounding.apply(amount_of(given.usage, "amount")?)?) }))
}

/// What of a line lies over the maximum.
pub fn maximum(given: &In<'_>) -> anyhow::Result<Value> {
    let (before, line) = (amount_of(given.usage, "billed_before")?, amount_of(given.usage, "line_amount")?);
    let over = contract::over_maximum(amount_of(given.config, "maximum_spend")?, before, line)?;
    let rounding = rounding_of(given.config)?.context("money is not rounded")?;
    Ok(json!({ "discount": money(rounding.apply(over)?) }))
}

/// What is missing to a minimum, which may cover a part of its period.
pub fn minimum_true_up(given: &In<'_>) -> anyhow::Result<Value> {
    let minimum = amount_of(given.config, "minimum_minor")?;
    let (billed, days) = match text(given.config, "period_days") {
        Some(days) => (parsed(given.config, "billed_days")?, days.parse()?),
        None => (1, 1),
    };
    let exact = contract::prorate(minimum, billed, days)?;
    let used = amount_of(given.usage, "used_minor")?;
    let true_up = contract::true_up(exact.round().context("the minimum is too large")?, used)?;
    let whole = Rounding { places: 0, to: RoundTo::HalfAwayFromZero };
    let precise = rational(&exact.text())? - rational(&used.to_string())?;
    Ok(json!({ "true_up_minor": money(whole.apply(true_up)?), "true_up_minor_precise": shown(&precise) }))
}

/// What is missing to a commitment.
pub fn commitment(given: &In<'_>) -> anyhow::Result<Value> {
    let fees = texts(given.usage, "fees_minor")?;
    let spent = fees.iter().try_fold(Amount::ZERO, |sum, fee| anyhow::Ok(sum.checked_add(fee.parse()?)?))?;
    Ok(json!({ "true_up_minor": money(contract::true_up(amount_of(given.config, "commitment_minor")?, spent)?) }))
}

/// Windows that have prices and commitments of their own: those of one price and commitment are windows of one price row, each an hour of its
/// own. As the source asserts them, money is not rounded to a currency.
pub fn window_commitment(given: &In<'_>) -> anyhow::Result<Value> {
    let terms = |window: &Value| ["unit_price", "commit", "commit_kind", "overage_factor", "true_up"].map(|name| window.get(name).cloned());
    let windows = list(given.usage, "windows")?;
    let mut rows: Vec<&Value> = Vec::new();
    for window in windows {
        if !rows.iter().any(|known| terms(known) == terms(window)) {
            rows.push(window);
        }
    }
    let zero = rational("0")?;
    let (mut total, mut utilized, mut overage, mut true_up) = (zero.clone(), zero.clone(), zero.clone(), zero);
    for row in rows {
        let mut used = Vec::new();
        for (hour, window) in windows.iter().enumerate().filter(|(_, window)| terms(window) == terms(row)) {
            for part in uses(parsed(window, "quantity")?, given.pieces)? {
                used.push(Use { start_at: Use::after(i64::try_from(hour)? * 3_600, Quantity::ZERO)?.start_at, ..part });
            }
        }
        let measure = Measure::Bucketed { seconds: 3_600, each: Each::Sum, then: Then::Alone };
        let segment = rated("1", window_model(row)?, Basis { measure, ..Basis::default() }, &used)?.segment()?;
        total += rational(&segment.exact)?;
        match segment.committed {
            None => utilized += rational(&segment.exact)?,
            Some(committed) => {
                utilized += rational(&committed.within)?;
                overage += rational(&committed.overage)?;
                true_up += rational(&committed.true_up)?;
            }
        }
    }
    Ok(json!({ "total": shown(&total), "utilized": shown(&utilized), "overage": shown(&overage), "true_up": shown(&true_up) }))
}

/// The price of a window with what was promised for it.
fn window_model(window: &Value) -> anyhow::Result<PriceModel> {
    let model = PriceModel::PerUnit { unit_price: parsed(window, "unit_price")? };
    let Some(commit) = text(window, "commit") else { return Ok(model) };
    let commitment = WindowCommitment {
        promised: match text(window, "commit_kind").as_deref() {
            Some("quantity") => Promised::Quantity(commit.parse()?),
            None | Some("amount") => Promised::Amount(commit.parse()?),
            Some(other) => bail!("the kind of commitment {other:?} is unknown"),
        },
        overage_factor: parsed(window, "overage_factor")?,
        true_up: if window.get("true_up") == Some(&Value::Bool(true)) { TrueUp::WhenUsed } else { TrueUp::None },
    };
    Ok(PriceModel::Committed { commitment, model: Box::new(model) })
}

/// One price for the highest tier that any unit's peak reaches: each unit's own tier has a price, and the greatest one alone is owed.
pub fn capacity(given: &In<'_>) -> anyhow::Result<Value> {
    let mut fees = Vec::new();
    for (unit, peak) in given.usage.get("peak").and_then(Value::as_object).context("peak is not an object")? {
        let mut tiers = Vec::new();
        for tier in list(given.config, "tiers")? {
            let limit = tier.get("limits").context("a tier has no limits")?.get(unit).map(item).transpose()?;
            let open = limit.is_none();
            tiers.push(json!({ "up_to": limit, "unit_price": null, "flat_fee": need(tier, "price")? }));
            if open {
                break;
            }
        }
        let (model, basis) = model("volume", &json!({ "tiers": tiers }))?;
        let peak: Quantity = item(peak)?.parse()?;
        // Lower levels before and after the peak.
        let lower = Quantity::from_units(peak.units() / 2)?;
        let uses = [Use::after(0, lower)?, Use::after(5, peak)?, Use::after(9, lower)?];
        fees.push(rated("1", model, Basis { measure: Measure::Max, ..basis }, &uses)?.evaluation()?.rounded);
    }
    let off = contract::greatest_alone(&fees)?;
    Ok(json!({ "total": money(sum(&fees)?.checked_add(off)?) }))
}

/// Parts that add up to the whole; parts of nothing are left out.
pub fn allocation(given: &In<'_>) -> anyhow::Result<Value> {
    let tie = match &*need(given.config, "tie_break")? {
        "input_order" => TieBreak::InputOrder,
        "key" => TieBreak::Key,
        other => bail!("the tie break {other:?} is unknown"),
    };
    let pairs = list(given.usage, "weights")?.iter().map(|pair| Ok((item(nth(pair, 0)?)?, item(nth(pair, 1)?)?.parse()?)));
    let pairs: Vec<(String, Quantity)> = pairs.collect::<anyhow::Result<_>>()?;
    let weights: Vec<(&str, Quantity)> = pairs.iter().map(|(key, weight)| (key.as_str(), *weight)).collect();
    let parts = allocate(amount_of(given.usage, "amount")?, &weights, parsed(given.config, "decimals")?, tie)?;
    let shown = pairs.iter().zip(parts).filter(|(_, part)| *part != Amount::ZERO).map(|((key, _), part)| json!([key, money(part)]));
    Ok(json!({ "allocations": shown.collect::<Vec<_>>() }))
}

/// The price of a config: named, or by unit.
fn price_of(config: &Value) -> anyhow::Result<Bench> {
    let name = text(config, "price").unwrap_or("per_unit".into());
    let (model, basis) = model(&name, config)?;
    Bench::new("1", model, basis)
}

fn sum(amounts: &[Amount]) -> anyhow::Result<Amount> {
    Ok(amounts.iter().try_fold(Amount::ZERO, |sum, amount| sum.checked_add(*amount))?)
}

/// What each run of a running period books: T then, minus what was booked before.
pub fn rerated(given: &In<'_>) -> anyhow::Result<Value> {
    if given.config.get("windows").is_some() {
        return rerated_windows(given);
    }
    let mut bench = price_of(given.config)?;
    let runs = texts(given.usage, "cumulative_quantity_per_run")?;
    let (mut known, mut booked, mut net) = (Quantity::ZERO, Amount::ZERO, Vec::new());
    for (run, cumulative) in runs.iter().enumerate() {
        let cumulative: Quantity = cumulative.parse()?;
        let mut amount = sum(&bench.rate(&uses(cumulative.checked_sub(known)?, given.pieces)?)?)?;
        known = cumulative;
        booked = booked.checked_add(amount)?;
        if let Some(minimum) = super::value::amount(given.config, "minimum_spend")?.filter(|_| run + 1 == runs.len()) {
            amount = amount.checked_add(contract::true_up(minimum, booked)?)?;
        }
        net.push(money(amount));
    }
    Ok(json!({ "net_booked_per_run": net }))
}

/// Windows of days, each a service period of its own, less what was billed for them.
fn rerated_windows(given: &In<'_>) -> anyhow::Result<Value> {
    let text = need(given.config, "windows")?;
    let mut windows = Vec::new();
    for window in text.split_whitespace() {
        let (start, end) = window.trim_start_matches('[').trim_end_matches(')').split_once(',').context("a window has no end")?;
        windows.push((Day::parse(start)?, Day::parse(end)?));
    }
    let starts: Vec<Day> = windows.iter().map(|(start, _)| *start).collect();
    let end = windows.last().context("there is no window")?.1;
    let policy = need(given.config, "policy")?;
    let mut benches = Vec::new();
    for _ in &windows {
        benches.push(Bench::new("1", block_model(&policy, &block_tiers_in(given.config)?)?, Basis::default())?);
    }
    let mut booked = vec![Amount::ZERO; windows.len()];
    for event in list(given.usage, "events")? {
        let Some(window) = window_of(&starts, end, Day::parse(&item(nth(event, 0)?)?)?) else { continue };
        let (bench, booked) = (benches.get_mut(window).context("no window")?, booked.get_mut(window).context("no window")?);
        *booked = booked.checked_add(sum(&bench.rate(&uses(item(nth(event, 1)?)?.parse()?, given.pieces)?)?)?)?;
    }
    let billed = texts(given.usage, "already_billed")?;
    let net = booked.iter().zip(billed).map(|(booked, billed)| Ok(money(booked.checked_sub(billed.parse()?)?)));
    Ok(json!({ "net_booked_per_window": net.collect::<anyhow::Result<Vec<_>>>()? }))
}

/// A line that was booked: in which run and period, and what it says.
#[derive(Clone, PartialEq)]
struct Booked {
    run: usize,
    period: usize,
    quantity: Ratio,
    unit_price: Price,
}

/// Usage of several periods at a price whose tiers carry on; a late reading is booked in its own period.
pub fn rerated_by_period(given: &In<'_>) -> anyhow::Result<Value> {
    let mut bench = price_of(given.config)?;
    let (mut known, mut lines): (BTreeMap<usize, Quantity>, Vec<Booked>) = (BTreeMap::new(), Vec::new());
    let (mut by_period, mut net, mut lines_per_run) = (Vec::new(), Vec::new(), Vec::new());
    for (run, seen) in list(given.usage, "cumulative_quantity_known_at_each_run")?.iter().enumerate() {
        let (mut booked, mut before) = (Map::new(), Quantity::ZERO);
        let mut total = Amount::ZERO;
        for (period, cumulative) in seen.as_array().context("a run is no list")?.iter().enumerate() {
            let cumulative: Quantity = item(cumulative)?.parse()?;
            let of_period = cumulative.checked_sub(before)?;
            let new = of_period.checked_sub(known.insert(period, of_period).unwrap_or_default())?;
            before = cumulative;
            // Readings of a period lie on a day of its own, so that late ones come before those of later periods.
            let used = Use::after(i64::try_from(period)? * 86_400, new)?;
            let amount = sum(&bench.rate(&[used])?)?;
            total = total.checked_add(amount)?;
            if amount != Amount::ZERO {
                booked.insert(format!("period_{}", period + 1), money(amount));
            }
        }
        by_period.push(Value::from(booked));
        net.push(money(total));
        lines_per_run.push(corrections(&bench, run, &mut lines)?);
    }
    Ok(json!({ "net_booked_by_service_period_per_run": by_period, "net_per_run": net, "lines_per_run": lines_per_run }))
}

/// Lines of a run: those of earlier runs that no longer hold are reversed where they stand, and what holds now stands in the run's period.
fn corrections(bench: &Bench, run: usize, lines: &mut Vec<Booked>) -> anyhow::Result<Value> {
    let steps = bench.segment()?.steps;
    let now = |step: &platform_rating::Step| Booked { run, period: run, quantity: step.quantity, unit_price: step.unit_price };
    let holds = |line: &Booked| steps.iter().any(|step| (step.quantity, step.unit_price) == (line.quantity, line.unit_price));
    let mut shown = Vec::new();
    let mut show = |line: &Booked, sign: i32| -> anyhow::Result<()> {
        let quantity = rational(&line.quantity.to_string())? * rational(&sign.to_string())?;
        let amount = &quantity * rational(&line.unit_price.to_string())?;
        let mut members = json!({
            "period": format!("period_{}", line.period + 1),
            "quantity": super::value::shown(&quantity),
            "unit_price": line.unit_price.to_string(),
            "amount": super::value::shown(&amount),
        });
        if let Some(members) = members.as_object_mut().filter(|_| sign < 0) {
            members.insert("corrects_run".into(), format!("run_{}", line.run + 1).into());
        }
        shown.push(members);
        Ok(())
    };
    for line in lines.iter().filter(|line| !holds(line)) {
        show(line, -1)?;
    }
    lines.retain(holds);
    for step in &steps {
        let line = now(step);
        if !lines.iter().any(|known| (known.quantity, known.unit_price) == (line.quantity, line.unit_price)) {
            show(&line, 1)?;
            lines.push(line);
        }
    }
    Ok(shown.into())
}
