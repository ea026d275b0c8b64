//! Cases of prices: from a price model's config to a price row, from its usage to readings, and the splits of a period into lines.

use anyhow::{Context as _, bail};
use num_bigint::BigInt;
use num_rational::BigRational;
use platform_rating::contract::{self, Rounding, Split, Term};
use platform_rating::{
    Basis, BlockTier, Clock, Convert, Each, Evaluation, Exact, FirstFee, Measure, Percentage, PriceModel, Ratio, RoundTo, Step, Then, Tier,
};
use serde_json::{Map, Value, json};
use shared_types::{Amount, Instant, Price, Quantity};

use super::value::{self, In, amount, list, money, need, nth, parsed, price, quantity, ratio, rational, shown, text, texts};
use super::workbench::{Bench, Use, rated, shares, uses};

/// The conventions of the file: a first tier's flat fee is due without usage.
fn basis() -> Basis {
    Basis { first_fee: FirstFee::Always, ..Basis::default() }
}

/// The split that a case is about: all of the period unless it says otherwise.
pub fn split_of(usage: &Value) -> anyhow::Result<Split> {
    match text(usage, "line_position").as_deref() {
        None | Some("single") => Ok(Split::Single),
        Some("first") => Ok(Split::First),
        Some("mid") => Ok(Split::Mid),
        Some("last") => Ok(Split::Last),
        Some(other) => bail!("the line position {other:?} is unknown"),
    }
}

/// How money is rounded: to the currency's places, or not at all.
pub fn rounding_of(config: &Value) -> anyhow::Result<Option<Rounding>> {
    let to_places = |places| Ok(Some(Rounding { places, to: RoundTo::HalfAwayFromZero }));
    match text(config, "rounding").as_deref() {
        Some("none") => Ok(None),
        Some("2 decimals") => to_places(2),
        Some("2 decimals, ceiling") => Ok(Some(Rounding { places: 2, to: RoundTo::Ceiling })),
        // A package's rounding is about packages.
        None | Some("up" | "down" | "ceiling" | "floor" | "half_up") => to_places(places_of(config)?),
        Some(other) => bail!("the rounding {other:?} is unknown"),
    }
}

/// Decimal places of the currency that a config names: its own figure, else those of ISO 4217; two where no currency is named.
fn places_of(config: &Value) -> anyhow::Result<i32> {
    if let Some(places) = text(config, "decimals") {
        return Ok(places.parse()?);
    }
    Ok(match text(config, "currency").as_deref() {
        Some(
            "BIF" | "CLP" | "DJF" | "GNF" | "ISK" | "JPY" | "KMF" | "KRW" | "PYG" | "RWF" | "UGX" | "VND" | "VUV" | "XAF" | "XOF" | "XPF",
        ) => 0,
        Some("BHD" | "IQD" | "JOD" | "KWD" | "LYD" | "OMR" | "TND") => 3,
        None => 2,
        Some(code) if code.len() == 3 && code.bytes().all(|byte| byte.is_ascii_uppercase()) => 2,
        Some(other) => bail!("the currency {other:?} is unknown"),
    })
}

/// Tiers as they stand in a config; a price of null is zero.
pub fn tiers(config: &Value, rate: &str) -> anyhow::Result<Vec<Tier>> {
    list(config, "tiers")?
        .iter()
        .map(|tier| {
            Ok(Tier {
                up_to: text(tier, "up_to").map(|bound| bound.parse()).transpose()?,
                unit_price: price(tier, rate)?,
                flat_fee: price(tier, "flat_fee")?,
            })
        })
        .collect()
}

/// The price model that a config describes, with what it is applied to.
pub fn model(name: &str, config: &Value) -> anyhow::Result<(PriceModel, Basis)> {
    let free = text(config, "free_units").or_else(|| text(config, "free_units_after_rounding"));
    let mut basis = Basis { free: free.map(|free| free.parse()).transpose()?.unwrap_or_default(), convert: conversion(config)?, ..basis() };
    let model = match name {
        "per_unit" => PriceModel::PerUnit { unit_price: parsed(config, "unit_price")? },
        "dynamic_multiplier" => PriceModel::PerUnit { unit_price: parsed(config, "multiplier")? },
        "package" => {
            let (size, package_price) = (parsed(config, "package_size")?, parsed(config, "package_price")?);
            match text(config, "rounding").as_deref() {
                // Only whole packages count: a conversion that rounds down.
                Some("down") => {
                    basis.convert = Some(Convert { multiply: one(), divide: size, rounding: Some((0, RoundTo::Floor)) });
                    PriceModel::PerUnit { unit_price: package_price }
                }
                _ => PriceModel::Package { size, package_price },
            }
        }
        "graduated" => PriceModel::Graduated { tiers: tiers(config, "unit_price")? },
        "volume" => PriceModel::Volume { tiers: tiers(config, "unit_price")? },
        other => bail!("the price {other:?} is unknown"),
    };
    Ok((model, basis))
}

fn one() -> Quantity {
    "1".parse().unwrap_or_default()
}

/// The unit conversion of a config, where it has one.
fn conversion(config: &Value) -> anyhow::Result<Option<Convert>> {
    let Some(operation) = text(config, "operation") else { return Ok(None) };
    let factor: Quantity = parsed(config, "factor")?;
    let rounding = match text(config, "rounding").as_deref() {
        None | Some("none") => None,
        Some("ceiling") => Some((0, RoundTo::Ceiling)),
        Some("floor") => Some((0, RoundTo::Floor)),
        Some("half_up") => Some((0, RoundTo::HalfAwayFromZero)),
        Some(other) => bail!("the rounding {other:?} is unknown"),
    };
    match &*operation {
        "multiply" => Ok(Some(Convert { multiply: factor, divide: one(), rounding })),
        "divide" => Ok(Some(Convert { multiply: one(), divide: factor, rounding })),
        other => bail!("the operation {other:?} is unknown"),
    }
}

/// A flat fee: due once, on the split that its term names.
pub fn flat(given: &In<'_>) -> anyhow::Result<Value> {
    let term = match &*need(given.config, "payment_term")? {
        "in_advance" => Term::InAdvance,
        "in_arrears" => Term::InArrears,
        other => bail!("the payment term {other:?} is unknown"),
    };
    let model = PriceModel::Flat { amount: parsed(given.config, "amount")? };
    let bench = rated("1", model, Basis::default(), &uses(Quantity::ZERO, given.pieces)?)?;
    let due = if term.due_on(split_of(given.usage)?) { bench.evaluation()?.rounded } else { Amount::ZERO };
    Ok(json!({ "total": due.to_string() }))
}

/// What a step's part costs, without its flat fee.
fn worth(quantity: Ratio, unit_price: Price) -> anyhow::Result<Amount> {
    let mut sum = Exact::default();
    let per = quantity.denominator().checked_mul(1_000_000_000).context("the part is too fine")?;
    sum.add_quotient(quantity.units(), unit_price.units(), per).and_then(|()| sum.round()).context("the part is too large")
}

/// One line of a split.
struct PartLine {
    shown: Value,
    amount: Amount,
}

/// Lines of a split, tier by tier: what the tiers hold after it and did not hold before.
fn lines(given: &In<'_>, before: Option<&Evaluation>, after: &Evaluation, rounding: Rounding) -> anyhow::Result<Vec<PartLine>> {
    let steps = |evaluation: Option<&Evaluation>| {
        evaluation.into_iter().flat_map(|all| &all.segments).flat_map(|part| part.steps.clone()).collect::<Vec<Step>>()
    };
    let (before, after) = (steps(before), steps(Some(after)));
    let nothing_used = after.iter().all(|step| step.quantity <= Ratio::ZERO);
    let mut lines = Vec::new();
    for (number, tier) in list(given.config, "tiers")?.iter().enumerate() {
        let above = number.checked_sub(1).map_or(Ok(Quantity::ZERO), |below| parsed(nth(&given.config["tiers"], below)?, "up_to"))?;
        let Some(step) = after.iter().find(|step| step.above == above) else { continue };
        let was = before.iter().find(|step| step.above == above);
        let part = step.quantity.checked_sub(was.map_or(Ratio::ZERO, |was| was.quantity)).context("the part is too fine")?;
        let mut line = |component: &str, quantity: String, unit_price: Price, amount: Amount| {
            let shown = json!({
                "component": component, "tier": number + 1, "quantity": quantity, "unit_price": unit_price.to_string(), "amount": amount.to_string(),
            });
            lines.push(PartLine { shown, amount });
        };
        // A tier without a unit price has no usage line; without usage the first tier shows that there was none.
        if text(tier, "unit_price").is_some() && (part > Ratio::ZERO || (nothing_used && number == 0)) {
            line("usage", part.to_string(), step.unit_price, rounding.apply(worth(part, step.unit_price)?)?);
        }
        let entered = step.flat_fee != Price::ZERO && was.is_none_or(|was| was.flat_fee == Price::ZERO);
        if entered {
            let fee = rounding.apply(worth(Ratio::from(one()), step.flat_fee)?)?;
            line("flat", "1".to_owned(), step.flat_fee, fee);
        }
    }
    Ok(lines)
}

/// A price on one split of its period, with the contract's discount, maximum and minimum.
pub fn priced(name: &str, given: &In<'_>) -> anyhow::Result<Value> {
    let (config, usage) = (given.config, given.usage);
    let (model, basis) = model(name, config)?;
    let split = split_of(usage)?;
    let used: Quantity = parsed(usage, if name == "dynamic_multiplier" { "metered_cost" } else { "quantity" })?;
    let earlier = quantity(usage, "previously_rated_quantity")?;
    let mut bench = Bench::new("1", model, basis)?;
    // What opens the period has nothing before it; a later split finds at least a state.
    let before = if split.opens() && earlier == Quantity::ZERO {
        None
    } else {
        bench.rate(&uses(earlier, given.pieces)?)?;
        Some(bench.evaluation()?)
    };
    bench.rate(&uses(used, given.pieces)?)?;
    let after = bench.evaluation()?;
    // A price by volume cannot be charged before the period ends.
    let progressive = name != "volume";
    let before = before.filter(|_| progressive);
    let Some(rounding) = rounding_of(config)? else { return unrounded(before.as_ref(), &after) };
    let parts = match (split.charges(progressive), config.get("tiers").is_some()) {
        (false, _) => Vec::new(),
        (true, true) => lines(given, before.as_ref(), &after, rounding)?,
        (true, false) => {
            let booked = before.as_ref().map_or(Amount::ZERO, |before| before.rounded);
            vec![PartLine { shown: Value::Null, amount: rounding.apply(after.rounded.checked_sub(booked)?)? }]
        }
    };
    let spend = contract::Spend {
        minimum: amount(config, "minimum_spend")?,
        maximum: amount(config, "maximum_spend")?,
        discount_percent: quantity(config, "percentage_discount")?,
    };
    let amounts: Vec<Amount> = parts.iter().map(|part| part.amount).collect();
    let total = contract::split(&amounts, amount(usage, "previously_billed")?.unwrap_or_default(), &spend, split, rounding)?;
    let sum = |amounts: &[Amount]| amounts.iter().try_fold(Amount::ZERO, |sum, amount| sum.checked_add(*amount));
    let texts = |amounts: &[Amount]| amounts.iter().map(|amount| money(*amount)).collect::<Vec<_>>();
    let mut answer = Map::new();
    answer.insert("usage_amount".into(), money(sum(&amounts)?));
    answer.insert("percentage_discount".into(), money(sum(&total.discounts)?));
    answer.insert("maximum_spend_discount".into(), money(sum(&total.over_maximum)?));
    answer.insert("maximum_spend_discounts".into(), texts(&total.over_maximum).into());
    answer.insert("minimum_spend_line".into(), money(total.minimum_line));
    answer.insert("lines".into(), parts.into_iter().map(|part| part.shown).collect());
    answer.insert("total".into(), money(total.total));
    answer.insert("packages".into(), (packages(&after) - before.as_ref().map_or(0, packages)).to_string().into());
    Ok(answer.into())
}

/// The figure before any rounding.
fn unrounded(before: Option<&Evaluation>, after: &Evaluation) -> anyhow::Result<Value> {
    let booked = before.map_or_else(|| rational("0"), |before| rational(&before.exact))?;
    Ok(json!({ "total": shown(&(rational(&after.exact)? - booked)), "packages": packages(after).to_string() }))
}

fn packages(evaluation: &Evaluation) -> i128 {
    evaluation.segments.iter().flat_map(|segment| &segment.steps).filter_map(|step| step.packages).sum()
}

/// Converted quantities, with the price where the config has one.
pub fn converted(given: &In<'_>) -> anyhow::Result<Value> {
    let name = if given.config.get("tiers").is_some() { "graduated" } else { "per_unit" };
    let mut config = given.config.clone();
    if let (Some(members), "per_unit") = (config.as_object_mut(), name) {
        members.entry("unit_price").or_insert("0".into());
    }
    let given = &In { config: &config, ..*given };
    let (model, basis) = model(name, &config)?;
    let bench = rated("1", model, basis, &uses(parsed(given.usage, "quantity")?, given.pieces)?)?;
    let billed = bench.segment()?.billed.first().copied().context("nothing is billed")?;
    let mut answer = priced(name, given)?;
    if let Some(members) = answer.as_object_mut() {
        members.insert("billed_quantity".into(), ratio(billed));
    }
    Ok(answer)
}

/// A conversion over a split period: rounded once on the cumulative value, and beside it what each line alone would make.
pub fn converted_split(given: &In<'_>) -> anyhow::Result<Value> {
    let (earlier, used): (Quantity, Quantity) = (parsed(given.usage, "previously_rated_quantity")?, parsed(given.usage, "quantity")?);
    let bench = |quantities: &[Quantity]| -> anyhow::Result<(Ratio, BigRational)> {
        let (model, basis) = model("per_unit", given.config)?;
        let mut bench = Bench::new("1", model, basis)?;
        for quantity in quantities {
            bench.rate(&uses(*quantity, given.pieces)?)?;
        }
        Ok((bench.segment()?.billed.first().copied().context("nothing is billed")?, bench.exact()?))
    };
    let (alone, alone_total) = bench(&[used])?;
    let (before, _) = bench(&[earlier])?;
    let (whole, _) = bench(&[earlier, used])?;
    Ok(json!({
        "per_line_billed_quantity": ratio(alone),
        "per_line_total": shown(&alone_total),
        "cumulative_billed_quantity": ratio(whole.checked_sub(before).context("the difference is too fine")?),
    }))
}

/// A quantity rounded before it is priced.
pub fn usage_rounding(given: &In<'_>) -> anyhow::Result<Value> {
    let to = match &*need(given.config, "function")? {
        "round" => RoundTo::HalfAwayFromZero,
        "ceil" => RoundTo::Ceiling,
        "floor" => RoundTo::Floor,
        other => bail!("the function {other:?} is unknown"),
    };
    let convert = Convert { multiply: one(), divide: one(), rounding: Some((parsed(given.config, "precision")?, to)) };
    let basis = Basis { convert: Some(convert), ..Basis::default() };
    let model = PriceModel::PerUnit { unit_price: Price::ZERO };
    let bench = rated("1", model, basis, &uses(parsed(given.usage, "quantity")?, given.pieces)?)?;
    Ok(json!({ "quantity": bench.segment()?.billed.first().map(ToString::to_string) }))
}

/// How many packages a quantity begins.
pub fn package_count(given: &In<'_>) -> anyhow::Result<Value> {
    let model = PriceModel::Package { size: parsed(given.config, "package_size")?, package_price: Price::ZERO };
    let bench = rated("1", model, Basis::default(), &uses(parsed(given.usage, "quantity")?, given.pieces)?)?;
    Ok(json!({ "packages": packages(&bench.evaluation()?).to_string() }))
}

/// What lies between two cumulative quantities.
pub fn graduated_range(given: &In<'_>) -> anyhow::Result<Value> {
    let (from, to): (Quantity, Quantity) = (parsed(given.usage, "from_exclusive")?, parsed(given.usage, "to_inclusive")?);
    let (model, basis) = model("graduated", given.config)?;
    let mut bench = Bench::new("1", model, basis)?;
    bench.rate(&uses(from, given.pieces)?)?;
    let (before, before_total) = (bench.segment()?, bench.exact()?);
    bench.rate(&uses(to.checked_sub(from)?, given.pieces)?)?;
    let mut slices = Vec::new();
    for (number, step) in bench.segment()?.steps.iter().enumerate() {
        let was = before.steps.get(number).map_or(Ratio::ZERO, |was| was.quantity);
        let part = step.quantity.checked_sub(was).context("the part is too fine")?;
        if part > Ratio::ZERO {
            slices.push(json!({ "tier": (number + 1).to_string(), "quantity": ratio(part), "enters_tier": was <= Ratio::ZERO }));
        }
    }
    Ok(json!({ "total_before": shown(&before_total), "cumulative_total": shown(&bench.exact()?), "tier_slices": slices }))
}

/// The tier that a quantity reaches.
pub fn volume_tier(given: &In<'_>) -> anyhow::Result<Value> {
    let (model, basis) = model("volume", given.config)?;
    let bench = rated("1", model, basis, &uses(parsed(given.usage, "quantity")?, given.pieces)?)?;
    let step = *bench.segment()?.steps.first().context("no tier is reached")?;
    let tier = tiers(given.config, "unit_price")?.iter().position(|tier| tier.up_to == step.up_to);
    Ok(json!({ "tier": tier.map(|tier| tier + 1) }))
}

/// Levels that are held for a part of the period: readings that last as long as their prorated quantity says.
fn levels(full: &[String], prorated: &[String]) -> anyhow::Result<Vec<Use>> {
    let zero = rational("0")?;
    let parts = full.iter().zip(prorated).map(|(full, prorated)| {
        let full = rational(full)?;
        anyhow::ensure!(full != zero, "a change of nothing cannot be prorated");
        Ok(rational(prorated)? / full)
    });
    let (start, micros) = shares(&parts.collect::<anyhow::Result<Vec<_>>>()?)?;
    let uses = full.iter().zip(micros).enumerate().map(|(place, (quantity, micros))| {
        let start_at = Instant::from_micros(start.micros() + i64::try_from(place)?)?;
        Use { quantity: quantity.parse()?, start_at, end_at: None, item: None }.held(micros)
    });
    uses.collect()
}

/// By volume over a prorated level: the tier goes by the full quantity.
pub fn volume_prorated(given: &In<'_>) -> anyhow::Result<Value> {
    let (model, _) = model("volume", given.config)?;
    let basis = Basis { measure: Measure::Prorated { by: Clock::Microsecond }, ..basis() };
    let uses = levels(&[need(given.usage, "full_quantity")?.into()], &[need(given.usage, "prorated_quantity")?.into()])?;
    rounded(&rated("1", model, basis, &uses)?, given.config)
}

/// Graduated tiers over changes of a level, each change prorated.
pub fn graduated_prorated(given: &In<'_>) -> anyhow::Result<Value> {
    let (model, _) = model("graduated", &without_rounding(given.config))?;
    let basis = Basis { measure: Measure::Prorated { by: Clock::Microsecond }, ..basis() };
    let mut uses = levels(&texts(given.usage, "events")?, &texts(given.usage, "prorated_events")?)?;
    if uses.is_empty() {
        // A period without readings is opened by a tick.
        uses.push(Use::after(0, Quantity::ZERO)?);
    }
    rounded(&rated("1", model, basis, &uses)?, given.config)
}

fn without_rounding(config: &Value) -> Value {
    let mut config = config.clone();
    if let Some(members) = config.as_object_mut() {
        members.remove("rounding");
    }
    config
}

/// F, rounded as the config says.
fn rounded(bench: &Bench, config: &Value) -> anyhow::Result<Value> {
    let evaluation = bench.evaluation()?;
    Ok(match rounding_of(config)? {
        Some(rounding) => json!({ "total": money(rounding.apply(evaluation.rounded)?) }),
        None => json!({ "total": shown(&rational(&evaluation.exact)?) }),
    })
}

/// Tiers whose rates are percentages of the value inside them.
pub fn graduated_percentage(given: &In<'_>) -> anyhow::Result<Value> {
    let model = PriceModel::Graduated { tiers: tiers(given.config, "rate_percent")? };
    rounded(&rated("100", model, basis(), &uses(parsed(given.usage, "value")?, given.pieces)?)?, given.config)
}

/// A percentage with fees, bounds and an allowance. Where only sums are given, the readings are those whose running totals are given, the rest
/// of the value in the next one, and nothing in those after it.
pub fn percentage(given: &In<'_>) -> anyhow::Result<Value> {
    let (config, usage) = (given.config, given.usage);
    let bound = |name: &str| text(config, name).map(|price| price.parse()).transpose();
    let terms = Percentage {
        rate: parsed(config, "rate_percent")?,
        fee: price(config, "fixed_fee_per_event")?,
        least: bound("min_per_event")?,
        most: bound("max_per_event")?,
        free_readings: parsed(config, "free_events")?,
        free_quantity: quantity(config, "free_amount")?,
    };
    let values: Vec<Quantity> = if usage.get("event_values").is_some() {
        texts(usage, "event_values")?.iter().map(|value| value.parse()).collect::<Result<_, _>>()?
    } else {
        let (mut values, mut running) = (Vec::new(), Quantity::ZERO);
        let total: Quantity = parsed(usage, "total_value")?;
        for next in texts(usage, "running_total_of_first_events")? {
            let next: Quantity = next.parse()?;
            values.push(next.checked_sub(running)?);
            running = next;
        }
        values.push(total.checked_sub(running)?);
        values.resize(parsed(usage, "event_count")?, Quantity::ZERO);
        values
    };
    let mut uses = values.iter().zip(0..).map(|(value, second)| Use::after(second, *value)).collect::<anyhow::Result<Vec<_>>>()?;
    if given.pieces > 1 {
        // The order of arrival decides nothing: the allowance goes by the time of the readings.
        uses.reverse();
    }
    let fee = terms.fee;
    let bench = rated("100", PriceModel::Percentage(terms), Basis::default(), &uses)?;
    let exact = bench.exact()?;
    let fees = bench
        .segment()?
        .steps
        .iter()
        .filter(|step| step.packages.is_some() && step.unit_price == fee)
        .filter_map(|step| step.packages)
        .sum::<i128>();
    let fixed = BigRational::from_integer(BigInt::from(fees)) * rational(&fee.to_string())?;
    let mut answer = rounded(&bench, config)?;
    if let Some(members) = answer.as_object_mut() {
        members.insert("percentage_part".into(), shown(&(exact - &fixed)));
        members.insert("fixed_part".into(), shown(&fixed));
    }
    Ok(answer)
}

/// Amounts that the events carry, in minor units: the meter sums them, and the price turns minor units into whole ones.
pub fn event_amount(given: &In<'_>) -> anyhow::Result<Value> {
    let minor = BigRational::new(BigInt::from(1), BigInt::from(10).pow(u32::try_from(places_of(given.config)?)?));
    let sum: Quantity = parsed(given.usage, "sum_of_event_amounts_minor_units")?;
    let per = (rational("1")? / minor).to_string();
    let bench =
        rated(&per, PriceModel::PerUnit { unit_price: parsed(&json!({"one": "1"}), "one")? }, Basis::default(), &uses(sum, given.pieces)?)?;
    let (exact, used) = (bench.exact()?, rational(&need(given.usage, "quantity")?)?);
    Ok(json!({ "total": shown(&exact), "effective_unit_price": shown(&(exact / used)) }))
}

/// Tiers of blocks: sizes of tiers become cumulative bounds; the last one stays open.
pub fn block_model(policy: &str, tiers: &[(Quantity, Option<i128>, Price)]) -> anyhow::Result<PriceModel> {
    let top = match policy {
        "all_tiers" => false,
        "top_tier" => true,
        other => bail!("the policy {other:?} is unknown"),
    };
    let mut bound = 0_i128;
    let mut bounds = Vec::new();
    for (size, most, block_price) in tiers {
        bound += size.units() * most.unwrap_or(0);
        bounds.push(BlockTier { up_to: most.map(|_| Quantity::from_units(bound)).transpose()?, size: *size, block_price: *block_price });
    }
    if let Some(last) = bounds.last_mut() {
        last.up_to = None;
    }
    Ok(PriceModel::Blocks { tiers: bounds, top })
}

/// The blocks of a config: size, most blocks (below zero: any number), price.
pub fn block_tiers_in(config: &Value) -> anyhow::Result<Vec<(Quantity, Option<i128>, Price)>> {
    list(config, "tiers")?
        .iter()
        .map(|tier| {
            let most: i128 = parsed(tier, "max_blocks")?;
            Ok((parsed(tier, "block_size")?, (most >= 0).then_some(most), parsed(tier, "block_price")?))
        })
        .collect()
}

/// Blocks of one unit.
pub fn block_tiers(given: &In<'_>) -> anyhow::Result<Value> {
    let model = block_model(&need(given.config, "policy")?, &block_tiers_in(given.config)?)?;
    let bench = rated("1", model, Basis::default(), &uses(parsed(given.usage, "quantity")?, given.pieces)?)?;
    let steps = bench.segment()?.steps;
    let amounts = steps.iter().map(|step| {
        let blocks = BigRational::from_integer(BigInt::from(step.packages.context("a tier without blocks")?));
        Ok(shown(&(blocks * rational(&step.unit_price.to_string())?)))
    });
    Ok(json!({ "amounts": amounts.collect::<anyhow::Result<Vec<_>>>()?, "total": shown(&bench.exact()?) }))
}

/// Blocks of several units, each tiered on its own.
pub fn block_tiers_of_units(given: &In<'_>) -> anyhow::Result<Value> {
    let units = given.config.get("units").and_then(Value::as_object).context("units is not an object")?;
    let mut total = rational("0")?;
    for (unit, tiers) in units {
        let tiers = tiers.as_array().context("the tiers of a unit are no list")?.iter().map(|tier| {
            let (size, most, price) = (nth(tier, 0)?, nth(tier, 1)?, nth(tier, 2)?);
            let most: i128 = value::item(most)?.parse()?;
            Ok((value::item(size)?.parse()?, (most >= 0).then_some(most), value::item(price)?.parse()?))
        });
        let model = block_model(&need(given.config, "policy")?, &tiers.collect::<anyhow::Result<Vec<_>>>()?)?;
        total += rated("1", model, Basis::default(), &uses(parsed(given.usage, unit)?, given.pieces)?)?.exact()?;
    }
    Ok(json!({ "total": shown(&total) }))
}

/// The greatest reading of each hour, each hour priced alone.
pub fn bucketed(given: &In<'_>) -> anyhow::Result<Value> {
    let (model, basis) = model(&need(given.config, "price")?, given.config)?;
    let then = if given.config.get("price_each_bucket_alone") == Some(&Value::Bool(true)) { Then::Alone } else { Then::Sum };
    let basis = Basis { measure: Measure::Bucketed { seconds: 3600, each: Each::Max, then }, ..basis };
    let mut uses = Vec::new();
    for (hour, value) in texts(given.usage, "bucket_values")?.iter().enumerate() {
        let peak: Quantity = value.parse()?;
        uses.push(Use::after(i64::try_from(hour)? * 3600, peak)?);
        // A lower reading in the same hour changes nothing.
        let lower = Quantity::from_units(peak.units() / i128::from(given.pieces + 1))?;
        uses.push(Use::after(i64::try_from(hour)? * 3600 + 3599, lower)?);
    }
    rounded(&rated("1", model, basis, &uses)?, given.config)
}
