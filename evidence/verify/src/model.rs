//! Price models: what a billed quantity is worth in money, exactly. Written from the table in the format's page; it knows no meter.

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;

use crate::measure::{Billed, State};
use crate::money::{Number, decimal, scaled, whole, zero};
use crate::time::{Zone, period};

/// How a quantity becomes money.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Model {
    /// Nothing is owed.
    Free,
    /// Quantity × price, the price being one for a unit.
    PerUnit(Number),
    /// Begun packages: their size and price.
    Package(Number, Number),
    /// Each tier's part at its price.
    Graduated(Vec<Tier>),
    /// Everything at the price of the tier reached.
    Volume(Vec<Tier>),
    /// Each tier's part in begun blocks.
    Blocks(Vec<Block>),
    /// Everything in begun blocks of the tier reached.
    TopBlocks(Vec<Block>),
    /// A share of a value, and fees for readings.
    Percentage(Box<Percentage>),
}

/// One tier, above `lower` up to and including `upper`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tier {
    lower: Number,
    upper: Option<Number>,
    /// For one unit.
    price: Number,
    fee: Number,
}

/// One tier of blocks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    lower: Number,
    upper: Option<Number>,
    size: Number,
    price: Number,
}

/// A percentage with its fees, bounds and allowance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Percentage {
    /// Of one.
    rate: Number,
    fee: Number,
    least: Option<Number>,
    most: Option<Number>,
    free_readings: Option<Number>,
    free_value: Option<Number>,
}

fn member(fields: &Value, name: &str) -> anyhow::Result<Number> {
    decimal(fields.get(name).and_then(Value::as_str).with_context(|| format!("a price has no {name}"))?)
}

fn optional(fields: &Value, name: &str) -> anyhow::Result<Option<Number>> {
    fields.get(name).map(|_| member(fields, name)).transpose()
}

fn above_zero(fields: &Value, name: &str) -> anyhow::Result<Number> {
    let number = member(fields, name)?;
    ensure!(number > zero(), "{name} of a price is not above zero");
    Ok(number)
}

/// Tiers with their bounds: lower, upper, the tier's own members. The bounds rise, and the last tier alone is open.
fn bounded(fields: &Value) -> anyhow::Result<Vec<(Number, Option<Number>, &Value)>> {
    let list = fields.get("tiers").and_then(Value::as_array).context("a price has no tiers")?;
    let mut lower = Some(zero());
    let mut tiers = Vec::with_capacity(list.len());
    for tier in list {
        let above = lower.context("a tier follows the open one")?;
        let upper = optional(tier, "up_to")?;
        ensure!(upper.as_ref().is_none_or(|upper| *upper > above), "the bounds of the tiers do not rise");
        tiers.push((above, upper.clone(), tier));
        lower = upper;
    }
    ensure!(lower.is_none(), "the tiers have no open end");
    Ok(tiers)
}

fn tiers(fields: &Value, per: &Number) -> anyhow::Result<Vec<Tier>> {
    let tier = |(lower, upper, tier): (Number, Option<Number>, &Value)| {
        Ok(Tier { lower, upper, price: member(tier, "unit_price")? / per, fee: member(tier, "flat_fee")? })
    };
    bounded(fields)?.into_iter().map(tier).collect()
}

fn blocks(fields: &Value) -> anyhow::Result<Vec<Block>> {
    let block = |(lower, upper, tier): (Number, Option<Number>, &Value)| {
        Ok(Block { lower, upper, size: above_zero(tier, "size")?, price: member(tier, "block_price")? })
    };
    bounded(fields)?.into_iter().map(block).collect()
}

impl Model {
    /// From a price row's `model`, an adjusted one taken apart before. An error for one that this program has not learnt.
    pub fn of(model: &Value) -> anyhow::Result<Self> {
        let (kind, fields) = model.as_object().and_then(|members| members.iter().next()).context("a price row has no model")?;
        Ok(match kind.as_str() {
            "free" => Self::Free,
            "per_unit" => Self::PerUnit(member(fields, "unit_price")? / above_zero(fields, "per")?),
            "package" => Self::Package(above_zero(fields, "size")?, member(fields, "package_price")?),
            "graduated" => Self::Graduated(tiers(fields, &above_zero(fields, "per")?)?),
            "volume" => Self::Volume(tiers(fields, &above_zero(fields, "per")?)?),
            "graduated_percentage" => Self::Graduated(tiers(fields, &whole(100))?),
            "blocks" => Self::Blocks(blocks(fields)?),
            "top_blocks" => Self::TopBlocks(blocks(fields)?),
            "percentage" => {
                let limit = |name: &str| anyhow::Ok(Some(member(fields, name)?).filter(|limit| *limit > zero()));
                Self::Percentage(Box::new(Percentage {
                    rate: member(fields, "rate")? / whole(100),
                    fee: member(fields, "fee")?,
                    least: optional(fields, "least")?,
                    most: optional(fields, "most")?,
                    free_readings: limit("free_readings")?,
                    free_value: limit("free_value")?,
                }))
            }
            other => bail!("the price model {other:?} is unknown"),
        })
    }

    /// What a billed quantity is worth. A percentage is not of a quantity alone: see [`Percentage::worth`].
    pub fn worth(&self, billed: &Billed) -> anyhow::Result<Number> {
        let Billed { priced, reached } = billed;
        let lies_in = |upper: &Option<Number>| upper.as_ref().is_none_or(|upper| reached <= upper);
        Ok(match self {
            Self::Free => zero(),
            Self::PerUnit(price) => priced * price,
            Self::Package(size, price) => begun(priced, size) * price,
            Self::Graduated(tiers) => {
                let entered = tiers.iter().enumerate().filter(|(at, tier)| *at == 0 || *priced > tier.lower);
                entered.fold(zero(), |sum, (_, tier)| {
                    let fee = if *priced > tier.lower { tier.fee.clone() } else { zero() };
                    sum + part(priced, &tier.lower, tier.upper.as_ref()) * &tier.price + fee
                })
            }
            Self::Volume(tiers) => {
                let tier = tiers.iter().find(|tier| lies_in(&tier.upper)).context("the tiers have no open end")?;
                let fee = if *reached > zero() { tier.fee.clone() } else { zero() };
                priced * &tier.price + fee
            }
            Self::Blocks(tiers) => {
                let entered = tiers.iter().filter(|tier| *priced > tier.lower);
                entered.fold(zero(), |sum, tier| sum + begun(&part(priced, &tier.lower, tier.upper.as_ref()), &tier.size) * &tier.price)
            }
            Self::TopBlocks(tiers) => {
                let tier = tiers.iter().find(|tier| lies_in(&tier.upper)).context("the tiers have no open end")?;
                begun(priced, &tier.size) * &tier.price
            }
            Self::Percentage(_) => bail!("a percentage is taken of readings, not of one quantity"),
        })
    }
}

/// The part of a quantity above one bound and up to another.
fn part(quantity: &Number, lower: &Number, upper: Option<&Number>) -> Number {
    upper.map_or(quantity, |upper| upper.min(quantity)) - lower
}

/// Begun packages; none of zero or less.
fn begun(quantity: &Number, size: &Number) -> Number {
    if *quantity > zero() { (quantity / size).ceil() } else { zero() }
}

impl Percentage {
    /// Whether Σ quantity and the number of readings are enough.
    pub fn is_of_sums(&self) -> bool {
        self.least.is_none() && self.most.is_none() && self.free_readings.is_none() && self.free_value.is_none()
    }

    /// What the readings of a state owe together; nothing where they sum to zero or less.
    pub fn worth(&self, state: &State) -> Number {
        if state.sum.0 <= 0 {
            return zero();
        }
        if self.is_of_sums() {
            return scaled(state.sum.0, 9) * &self.rate + whole(state.sum.1.into()) * &self.fee;
        }
        let (mut readings, mut value) = (self.free_readings.clone(), self.free_value.clone());
        let mut sum = zero();
        for fact in state.in_order() {
            let quantity = scaled(fact.quantity, 9);
            let over = |limit: &Option<Number>| limit.as_ref().is_some_and(|left| *left <= zero());
            if over(&readings) || over(&value) || (readings.is_none() && value.is_none()) {
                sum += self.share(&quantity) + &self.fee;
                continue;
            }
            readings = readings.map(|left| left - whole(1));
            let Some(left) = &mut value else { continue };
            let free = quantity.clone().max(zero()).min(left.clone());
            *left -= &free;
            if quantity > free {
                sum += self.share(&(quantity - free)) + &self.fee;
            }
        }
        sum
    }

    fn share(&self, quantity: &Number) -> Number {
        let share = quantity * &self.rate;
        match (&self.least, &self.most) {
            (Some(least), _) if share < *least => least.clone(),
            (_, Some(most)) if share > *most => most.clone(),
            _ => share,
        }
    }
}

/// Graduated tiers over prorated levels: each change, in order, is spread over the tiers that it passes and weighted with the share of
/// the service period that it is held.
pub fn levels(tiers: &[Tier], state: &State, days: Option<Zone>, month: i32) -> anyhow::Result<Number> {
    let (start, end) = period(month)?;
    let changes = state.in_order();
    let mut sum = zero();
    for (at, tier) in tiers.iter().enumerate() {
        let inside = |level: &Number| {
            let level = tier.upper.as_ref().map_or(level, |upper| upper.min(level));
            if at == 0 { level.clone() } else { level.max(&tier.lower) - &tier.lower }
        };
        let (mut level, mut moved, mut entered) = (zero(), zero(), false);
        for change in &changes {
            let after = &level + scaled(change.quantity, 9);
            moved += (inside(&after) - inside(&level)) * whole(change.held(days, month)?.into());
            entered |= after > tier.lower;
            level = after;
        }
        let fee = if entered { tier.fee.clone() } else { zero() };
        sum += moved / whole((end - start).into()) * &tier.price + fee;
    }
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::Fact;
    use crate::money::plain;
    use serde_json::json;

    fn check(model: &Value, cases: &[(&str, &str)]) {
        for (quantity, expected) in cases {
            let billed = Billed::of(decimal(quantity).unwrap());
            assert_eq!(plain(&Model::of(model).unwrap().worth(&billed).unwrap()), *expected, "{quantity} under {model}");
        }
    }

    #[test]
    fn each_model_is_worth_what_the_format_says() {
        let tiers = json!([{"up_to": "10", "unit_price": "2", "flat_fee": "0.5"}, {"up_to": "20", "unit_price": "1", "flat_fee": "3"},
            {"unit_price": "0.1", "flat_fee": "0"}]);
        check(&json!({"per_unit": {"per": "1000000", "unit_price": "3"}}), &[("1", "0.000003"), ("-2", "-0.000006"), ("0", "0")]);
        check(
            &json!({"package": {"size": "10", "package_price": "1.5"}}),
            &[("-5", "0"), ("0", "0"), ("0.1", "1.5"), ("10", "1.5"), ("10.1", "3")],
        );
        check(
            &json!({"graduated": {"per": "1", "tiers": tiers}}),
            &[("-4", "-8"), ("0", "0"), ("1", "2.5"), ("10", "20.5"), ("20", "33.5"), ("30", "34.5")],
        );
        check(&json!({"graduated_percentage": {"tiers": tiers}}), &[("-4", "-0.08"), ("10", "0.7"), ("30", "3.81")]);
        check(&json!({"volume": {"per": "1", "tiers": tiers}}), &[("-4", "-8"), ("0", "0"), ("10", "20.5"), ("11", "14"), ("30", "3")]);
        let blocks = json!([{"up_to": "10", "size": "4", "block_price": "1"}, {"size": "5", "block_price": "0.7"}]);
        check(&json!({"blocks": {"tiers": blocks}}), &[("-1", "0"), ("0", "0"), ("1", "1"), ("10", "3"), ("10.1", "3.7"), ("20", "4.4")]);
        check(&json!({"top_blocks": {"tiers": blocks}}), &[("-1", "0"), ("8.5", "3"), ("10", "3"), ("11", "2.1")]);
        check(&json!({"free": {"rule": "x"}}), &[("7", "0")]);
        for wrong in [json!({"other": {}}), json!({"volume": {"per": "1", "tiers": [{"up_to": "1", "unit_price": "1", "flat_fee": "0"}]}})]
        {
            assert!(Model::of(&wrong).is_err(), "{wrong}");
        }
    }

    fn state(readings: &[(i64, i128)]) -> State {
        let mut state = State::default();
        for (at, (hour, quantity)) in readings.iter().enumerate() {
            let place = (crate::time::parse("2026-11-01T00:00:00Z").unwrap() + hour * 3_600_000_000, at as u128);
            let quantity = quantity * 1_000_000_000;
            state.add(quantity, Some(Fact { place, end: None, quantity, value: None })).unwrap();
        }
        state
    }

    #[test]
    fn an_allowance_frees_the_first_readings_by_their_start() {
        let percentage = |fields: Value| {
            let mut all = json!({"rate": "10", "fee": "0.5", "free_readings": "0", "free_value": "0"});
            all.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
            match Model::of(&json!({"percentage": all})).unwrap() {
                Model::Percentage(percentage) => *percentage,
                other => panic!("{other:?}"),
            }
        };
        // In order of start: 20, -5, 100, 40.
        let readings = [(3, 100), (1, 20), (4, 40), (2, -5)];
        let worth = |fields: Value| plain(&percentage(fields).worth(&state(&readings)));
        assert_eq!(worth(json!({})), "17.5");
        assert_eq!(worth(json!({"least": "3", "most": "9"})), "21");
        assert_eq!(worth(json!({"free_readings": "1"})), "15");
        assert_eq!(worth(json!({"free_value": "50"})), "12");
        assert_eq!(worth(json!({"free_value": "20"})), "15");
        assert_eq!(worth(json!({"free_readings": "3", "free_value": "200"})), "4.5");
        assert_eq!(plain(&percentage(json!({"least": "3"})).worth(&state(&[(1, 4), (2, -4)]))), "0");
    }

    #[test]
    fn tiers_follow_a_level_as_it_climbs_and_falls() {
        let model = json!({"graduated": {"per": "1", "tiers": [
            {"up_to": "2", "unit_price": "30", "flat_fee": "1"}, {"unit_price": "10", "flat_fee": "5"}]}});
        let Model::Graduated(tiers) = Model::of(&model).unwrap() else { panic!("no tiers") };
        let worth = |readings: &[(i64, i128)]| plain(&levels(&tiers, &state(readings), None, 202_611).unwrap());
        assert_eq!(worth(&[(0, 2)]), "61");
        // Four for the first half, two for the second.
        assert_eq!(worth(&[(0, 4), (360, -2)]), "76");
        assert_eq!(worth(&[(0, -1)]), "-30");
        assert_eq!(plain(&levels(&tiers, &state(&[(719, 3)]), Some(Zone::utc()), 202_611).unwrap()), "25/3");
    }
}
