//! Cases of days, months and zones, and of what is prorated by them.

use anyhow::{Context as _, ensure};
use num_bigint::BigInt;
use num_rational::BigRational;
use platform_rating::calendar::{Day, Zone, monthly};
use platform_rating::contract::{self, Rounding};
use platform_rating::{Basis, Each, Measure, PriceModel, RoundTo, Then};
use serde_json::{Value, json};
use shared_types::{Amount, Instant, Price};

use super::value::{In, amount, money, need, parsed, quantity, rational, shown, text};
use super::workbench::{Use, rated, uses};

const WHOLE: Rounding = Rounding { places: 0, to: RoundTo::HalfAwayFromZero };
const CENTS: Rounding = Rounding { places: 2, to: RoundTo::HalfAwayFromZero };

/// A flat fee, in minor units, for some days of its period.
pub fn subscription(given: &In<'_>) -> anyhow::Result<Value> {
    let billed: i64 = parsed(given.usage, "billed_days")?;
    if let (Some(first), Some(last)) = (text(given.usage, "first_day"), text(given.usage, "last_day")) {
        ensure!(Day::parse(&first)?.days_through(Day::parse(&last)?) == billed, "the days are not those that are billed");
    }
    let fee = PriceModel::Flat { amount: parsed(given.config, "plan_amount_minor")? };
    let full = rated("1", fee, Basis::default(), &uses("0".parse()?, given.pieces)?)?.evaluation()?.rounded;
    let exact = contract::prorate(full, billed, parsed(given.config, "period_days")?)?;
    let amount = WHOLE.apply(exact.round().context("the amount is too large")?)?;
    Ok(json!({ "amount_minor": money(amount), "amount_minor_precise": shown(&rational(&exact.text())?) }))
}

/// What is given back for the old plan and asked for the new one, each rounded on its own: an invoice adds up.
pub fn plan_change(given: &In<'_>) -> anyhow::Result<Value> {
    let day = |name: &str| Ok::<_, anyhow::Error>(Day::parse(&need(given.config, name)?)?);
    let (first, last, change) = (day("period_first_day")?, day("period_last_day")?, day("change_day")?);
    let part = |side: &str| -> anyhow::Result<Amount> {
        let side = given.usage.get(side).context("a plan is missing")?;
        let model = PriceModel::PerUnit { unit_price: parsed(side, "unit_price")? };
        let full = rated("1", model, Basis::default(), &uses(quantity(side, "quantity")?, given.pieces)?)?.evaluation()?.rounded;
        let exact = contract::prorate(full, change.days_through(last), first.days_through(last))?;
        Ok(CENTS.apply(exact.round().context("the amount is too large")?)?)
    };
    let (credit, charge) = (Amount::ZERO.checked_sub(part("old")?)?, part("new")?);
    Ok(json!({ "credit": money(credit), "charge": money(charge), "net": money(credit.checked_add(charge)?) }))
}

/// Days of a month from one day through another, and their share of it.
pub fn coefficient(given: &In<'_>) -> anyhow::Result<Value> {
    let start = Day::parse(&format!("{}-01", need(given.config, "period")?))?;
    let next = monthly(1, start, Day::parse("9999-01-01")?)?.into_iter().nth(1).context("the month is the last one")?;
    let days = Day::parse(&need(given.usage, "first_day")?)?.days_through(Day::parse(&need(given.usage, "last_day")?)?);
    let share = BigRational::new(BigInt::from(days), BigInt::from(start.days_to(next)));
    Ok(json!({ "days": days, "coefficient": shown(&share) }))
}

/// A local day.
pub fn day_window(given: &In<'_>) -> anyhow::Result<Value> {
    ensure!(need(given.config, "window")? == "DAY", "the window is not a day");
    let zone = Zone::parse(&need(given.config, "time_zone")?)?;
    let (start, end) = zone.window(Day::parse(&need(given.usage, "day")?)?)?;
    // Readings on both sides of its begin and end: rating puts into its window what lies between, and no more.
    let uses = [start.micros() - 1, start.micros(), end.micros() - 1, end.micros()].map(|at| -> anyhow::Result<Use> {
        Ok(Use { quantity: "1".parse()?, start_at: Instant::from_micros(at)?, end_at: None, item: None })
    });
    let uses = uses.into_iter().collect::<anyhow::Result<Vec<_>>>()?;
    let measure = Measure::Bucketed { seconds: 86_400, each: Each::Sum, then: Then::Alone };
    let basis = Basis { measure, zone: zone.clone(), ..Basis::default() };
    let values = rated("1", PriceModel::PerUnit { unit_price: Price::ZERO }, basis, &uses)?.segment()?.billed;
    let values: Vec<String> = values.iter().map(ToString::to_string).collect();
    ensure!(values == ["1", "2", "1"], "the windows around hold {values:?}");
    let hours = BigRational::new(BigInt::from(end.micros() - start.micros()), BigInt::from(3_600_000_000_i64));
    Ok(json!({ "window_start": zone.shown(start)?, "window_end": zone.shown(end)?, "length_hours": shown(&hours) }))
}

/// Local dates between two instants.
pub fn day_count(given: &In<'_>) -> anyhow::Result<Value> {
    let zone = Zone::parse(&need(given.config, "time_zone")?)?;
    let at = |name: &str| Ok::<_, anyhow::Error>(Instant::parse(&need(given.usage, name)?.replace("Z", ":00Z"))?);
    Ok(json!({ "days": zone.days_between(at("start_utc")?, at("end_utc")?)? }))
}

/// Starts of monthly periods.
pub fn anchors(given: &In<'_>) -> anyhow::Result<Value> {
    let day = |name: &str| Ok::<_, anyhow::Error>(Day::parse(&need(given.usage, name)?)?);
    let starts = monthly(parsed(given.config, "anchor_day")?, day("start")?, day("until")?)?;
    Ok(json!({ "period_starts": starts.iter().map(Day::to_string).collect::<Vec<_>>() }))
}

/// An amount that must be there.
pub fn amount_of(of: &Value, name: &str) -> anyhow::Result<Amount> {
    amount(of, name)?.with_context(|| format!("{name} is missing"))
}
