//! A price row together with the meter that it prices: from the readings of a key to F, exactly. It knows no key and no rounding of money.

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;

use crate::measure::{Billed, Measure, State, Steps, Together};
use crate::model::{Model, levels};
use crate::money::{Number, Round, decimal, round_to, scaled, whole, zero};

/// A price row as it prices the readings of a meter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Price {
    measure: Measure,
    /// Whether each reading is priced alone.
    each: bool,
    convert: Option<Convert>,
    free: Number,
    model: Model,
    commitment: Option<Commitment>,
}

/// What was promised for each window that is priced alone.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Commitment {
    promised: Promised,
    /// Of what a window costs beyond.
    factor: Number,
    true_up: TrueUp,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Promised {
    Amount(Number),
    Quantity(Number),
}

/// Which windows owe what is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TrueUp {
    None,
    WhenUsed,
    Always,
}

impl Commitment {
    fn of(fields: &Value) -> anyhow::Result<Self> {
        let text = |name: &str| fields.get(name).and_then(Value::as_str).with_context(|| format!("a commitment has no {name}"));
        let promised = fields.get("promised").and_then(Value::as_object).filter(|promised| promised.len() == 1);
        let (kind, number) =
            promised.and_then(|promised| promised.iter().next()).context("a commitment promises nothing, or several things")?;
        let number = decimal(number.as_str().context("what a commitment promises is no text")?)?;
        let factor = decimal(text("overage_factor")?)?;
        ensure!(number > zero() && factor > zero(), "a commitment or its overage factor is not above zero");
        Ok(Self {
            promised: match kind.as_str() {
                "amount" => Promised::Amount(number),
                "quantity" => Promised::Quantity(number),
                other => bail!("a commitment of {other:?} is unknown"),
            },
            factor,
            true_up: match text("true_up")? {
                "none" => TrueUp::None,
                "owed_when_used" => TrueUp::WhenUsed,
                "owed_always" => TrueUp::Always,
                other => bail!("the true-up {other:?} of a commitment is unknown"),
            },
        })
    }

    /// What windows owe: each what it costs up to what was promised for it, more × the factor, and what is missing where it is owed.
    fn owed(&self, promised: &Number, costs: &[Number], windows: usize) -> anyhow::Result<Number> {
        let unused = whole(windows.checked_sub(costs.len()).context("more windows than the period has")?.try_into()?);
        let of_used = costs.iter().fold(zero(), |sum, cost| {
            let more = cost > promised || self.true_up == TrueUp::None;
            let within = if more { cost.min(promised) } else { promised };
            sum + within + (cost - promised).max(zero()) * &self.factor
        });
        Ok(if self.true_up == TrueUp::Always { of_used + promised * unused } else { of_used })
    }
}

/// × factor, then one rounding.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Convert {
    factor: Number,
    rounding: Option<(i32, Round)>,
}

impl Convert {
    fn of(fields: &Value) -> anyhow::Result<Self> {
        let text = |name: &str| fields.get(name).and_then(Value::as_str).with_context(|| format!("a conversion has no {name}"));
        let divide = decimal(text("divide")?)?;
        ensure!(divide > zero(), "a conversion divides by zero or less");
        let round = match text("rounding")? {
            "none" => None,
            "ceiling" => Some(Round::Ceiling),
            "floor" => Some(Round::Floor),
            "half_away_from_zero" => Some(Round::HalfAway),
            "half_even" => Some(Round::HalfEven),
            other => bail!("the rounding {other:?} of a conversion is unknown"),
        };
        let places = text("places")?.parse()?;
        Ok(Self { factor: decimal(text("multiply")?)? / divide, rounding: round.map(|round| (places, round)) })
    }
}

impl Price {
    /// From a row's `model`, its meter's `aggregation` and `zone` and, of billable states, the steps of its time. An error for what this program has not learnt.
    pub fn of(model: &Value, aggregation: &Value, zone: Option<&str>, steps: Option<&Steps>) -> anyhow::Result<Self> {
        let measure = Measure::of(aggregation, zone, steps).context("the aggregation of its meter")?;
        let (commitment, model) = match model.get("committed") {
            Some(committed) => {
                let commitment = committed.get("commitment").context("a committed price has no commitment")?;
                (Some(Commitment::of(commitment)?), committed.get("model").unwrap_or(&Value::Null))
            }
            None => (None, model),
        };
        let (adjusted, inner) = match model.get("adjusted") {
            Some(adjusted) => (Some(adjusted), adjusted.get("model").unwrap_or(&Value::Null)),
            None => (None, model),
        };
        let text = |name: &str| match adjusted {
            Some(adjusted) => adjusted.get(name).and_then(Value::as_str).with_context(|| format!("an adjusted price has no {name}")),
            None => Ok(if name == "applies_to" { "period" } else { "0" }),
        };
        let each = match text("applies_to")? {
            "period" => false,
            "each_event" => true,
            other => bail!("a price that applies to {other:?} is unknown"),
        };
        let convert = adjusted.and_then(|adjusted| adjusted.get("convert")).map(Convert::of).transpose()?;
        let price = Self { measure, each, convert, free: decimal(text("free_units")?)?, model: Model::of(inner)?, commitment };
        if price.commitment.is_some() {
            ensure!(price.measure.windows().is_some() && !each, "a commitment is one for windows that are priced alone");
            ensure!(!matches!(price.model, Model::Percentage(_) | Model::Free), "a commitment is one of a price that windows cost");
        }
        let of_sum = price.measure == Measure::Sum;
        ensure!(!each || of_sum, "a price of each event is one of a sum or a count");
        match (&price.measure, &price.model) {
            (_, Model::Percentage(_)) => ensure!(of_sum && adjusted.is_none(), "a percentage is taken of a sum as it is"),
            (Measure::Prorated { .. }, Model::Graduated(_)) => {
                ensure!(adjusted.is_none(), "graduated tiers over prorated levels take no conversion and no free units");
            }
            _ => {}
        }
        Ok(price)
    }

    /// Whether its readings owe nothing and enter no state.
    pub fn is_free(&self) -> bool {
        self.model == Model::Free
    }

    /// Whether a state of it must keep the readings one by one.
    pub fn needs_facts(&self) -> bool {
        let of_sums = if let Model::Percentage(percentage) = &self.model { percentage.is_of_sums() } else { true };
        self.each || !self.measure.is_of_sums() || !of_sums
    }

    /// The dimension whose values it counts or tells apart.
    pub fn counts(&self) -> Option<&str> {
        match &self.measure {
            Measure::Unique { of, .. } => Some(of),
            Measure::Stepped { steps, .. } if steps.together == Together::Session => Some("session"),
            _ => None,
        }
    }

    /// F of what it charged in a service period (yyyymm).
    pub fn worth(&self, state: &State, month: i32) -> anyhow::Result<Number> {
        if let Some(commitment) = &self.commitment {
            let cost = |measured: Number| self.model.worth(&Billed::of(self.billed(measured)));
            let measured = self.measure.measured(state, month)?;
            let costs = measured.into_iter().map(|window| cost(window.priced)).collect::<anyhow::Result<Vec<_>>>()?;
            let promised = match &commitment.promised {
                Promised::Amount(amount) => amount.clone(),
                Promised::Quantity(quantity) => cost(quantity.clone())?,
            };
            let windows = self.measure.windows().context("no windows")?.begins(month)?;
            return commitment.owed(&promised, &costs, windows.len());
        }
        match (&self.measure, &self.model) {
            (Measure::Sum, Model::Percentage(percentage)) => Ok(percentage.worth(state)),
            (Measure::Prorated { days }, Model::Graduated(tiers)) => levels(tiers, state, *days, month),
            _ if self.each => state.facts.iter().try_fold(zero(), |sum, fact| {
                let billed = Billed::of(self.billed(scaled(fact.quantity, 9)));
                Ok(sum + self.model.worth(&billed)?)
            }),
            (measure, model) => measure.measured(state, month)?.into_iter().try_fold(zero(), |sum, measured| {
                let billed = Billed { priced: self.billed(measured.priced), reached: self.billed(measured.reached) };
                Ok(sum + model.worth(&billed)?)
            }),
        }
    }

    /// Converted and without free units. They never make a quantity below zero, nor touch one that is.
    fn billed(&self, quantity: Number) -> Number {
        let quantity = match &self.convert {
            None => quantity,
            Some(Convert { factor, rounding: None }) => quantity * factor,
            Some(Convert { factor, rounding: Some((places, round)) }) => round_to(&(quantity * factor), *places, *round),
        };
        if quantity > zero() { (quantity - &self.free).max(zero()) } else { quantity }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::Fact;
    use crate::money::plain;
    use serde_json::json;

    fn worth(model: Value, aggregation: Value, quantities: &[&str]) -> String {
        let price = Price::of(&model, &aggregation, None, None).unwrap();
        let mut state = State::default();
        for (at, quantity) in quantities.iter().enumerate() {
            let quantity = (decimal(quantity).unwrap() * whole(1_000_000_000)).to_integer().try_into().unwrap();
            let place = (crate::time::parse("2026-11-10T00:00:00Z").unwrap(), at as u128);
            let fact = Fact { place, end: None, quantity, value: None };
            state.add(quantity, price.needs_facts().then_some(fact)).unwrap();
        }
        plain(&price.worth(&state, 202_611).unwrap())
    }

    fn adjusted(convert: Value, free: &str, applies_to: &str, model: Value) -> Value {
        let mut fields = json!({"free_units": free, "applies_to": applies_to, "model": model});
        if !convert.is_null() {
            fields["convert"] = convert;
        }
        json!({"adjusted": fields})
    }

    #[test]
    fn a_quantity_is_converted_rounded_once_and_freed_before_the_model() {
        let per_unit = || json!({"per_unit": {"per": "1", "unit_price": "2"}});
        let minutes = |rounding: &str| json!({"multiply": "1", "divide": "60", "rounding": rounding, "places": "0"});
        let period = |convert: Value, free: &str| worth(adjusted(convert, free, "period", per_unit()), json!("sum"), &["61", "61"]);
        assert_eq!(period(minutes("none"), "0"), "61/15");
        assert_eq!(period(minutes("ceiling"), "0"), "6");
        assert_eq!(period(minutes("floor"), "0.5"), "3");
        assert_eq!(period(Value::Null, "200"), "0");
        assert_eq!(worth(adjusted(minutes("ceiling"), "1", "each_event", per_unit()), json!("sum"), &["61", "1", "-61"]), "0");
        assert_eq!(worth(adjusted(minutes("half_even"), "0", "period", per_unit()), json!("max"), &["89", "150"]), "4");
        assert_eq!(worth(adjusted(minutes("half_away_from_zero"), "0", "period", per_unit()), json!("min"), &["-90", "150"]), "-4");
    }

    #[test]
    fn tiers_of_prorated_levels_go_by_full_quantities() {
        let volume = json!({"volume": {"per": "1", "tiers": [
            {"up_to": "2", "unit_price": "30", "flat_fee": "0"}, {"unit_price": "10", "flat_fee": "0"}]}});
        // Three from the 10th on: 21 days of 30.
        assert_eq!(worth(volume, json!({"prorated": {"by": "microsecond"}}), &["3"]), "21");
    }

    fn committed(promised: Value, factor: &str, true_up: &str, model: Value) -> Value {
        json!({"committed": {"commitment": {"promised": promised, "overage_factor": factor, "true_up": true_up}, "model": model}})
    }

    #[test]
    fn each_window_stands_against_what_was_promised_for_it() {
        let per_unit = || json!({"per_unit": {"per": "1", "unit_price": "2"}});
        let days = json!({"bucketed": {"bucket": "day", "each": "sum", "then": "alone"}});
        let owed = |promised: Value, true_up: &str, quantities: &[(i64, i128)]| {
            let price = Price::of(&committed(promised, "1.5", true_up, per_unit()), &days, None, None).unwrap();
            let mut state = State::default();
            for (day, quantity) in quantities {
                let start = crate::time::parse("2026-11-01T00:00:00Z").unwrap() + (day - 1) * crate::time::DAY;
                let quantity = quantity * 1_000_000_000;
                state.add(quantity, Some(Fact { place: (start, 0), end: None, quantity, value: None })).unwrap();
            }
            plain(&price.worth(&state, 202_611).unwrap())
        };
        // Days of 10, 2, 5 and -1 at 2, against 10 each of 30.
        let days = [(1, 4), (1, 6), (2, 2), (3, 5), (30, -1)];
        assert_eq!(owed(json!({"amount": "10"}), "none", &days), "37");
        assert_eq!(owed(json!({"quantity": "5"}), "owed_when_used", &days), "55");
        assert_eq!(owed(json!({"amount": "10"}), "owed_always", &days), "315");
        let bucketed = |then: &str| json!({"bucketed": {"bucket": "day", "each": "sum", "then": then}});
        let refused = |model: Value, then: &str| Price::of(&model, &bucketed(then), None, None).is_err();
        let good = committed(json!({"amount": "10"}), "1", "none", per_unit());
        assert!(!refused(good.clone(), "alone") && refused(good, "sum"));
        for wrong in [
            committed(json!({"amount": "10"}), "1", "owed", per_unit()),
            committed(json!({"hours": "10"}), "1", "none", per_unit()),
            committed(json!({"amount": "10", "quantity": "1"}), "1", "none", per_unit()),
            committed(json!({"amount": "0"}), "1", "none", per_unit()),
            committed(json!({"amount": "10"}), "1", "none", json!({"free": {"rule": "x"}})),
        ] {
            assert!(refused(wrong.clone(), "alone"), "{wrong}");
        }
    }

    #[test]
    fn what_was_not_learnt_is_an_error() {
        let per_unit = json!({"per_unit": {"per": "1", "unit_price": "2"}});
        assert!(Price::of(&per_unit, &json!("median"), None, None).is_err());
        assert!(Price::of(&json!({"flat": {"amount": "1"}}), &json!("sum"), None, None).is_err());
        assert!(Price::of(&adjusted(Value::Null, "0", "each_week", per_unit.clone()), &json!("sum"), None, None).is_err());
        assert!(Price::of(&adjusted(Value::Null, "0", "each_event", per_unit), &json!("max"), None, None).is_err());
        let percentage = json!({"percentage": {"rate": "1", "fee": "0", "free_readings": "0", "free_value": "0"}});
        assert!(Price::of(&percentage, &json!("sum"), None, None).is_ok() && Price::of(&percentage, &json!("latest"), None, None).is_err());
    }
}
