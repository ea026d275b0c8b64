//! Exact money with big rationals: F of a price row, T, currency rounding. Written from the tables in the format's page.

use anyhow::{Context as _, bail, ensure};
use num_bigint::BigInt;
use num_rational::BigRational;
use serde_json::Value;

/// An exact number.
pub type Number = BigRational;

/// Zero.
pub fn zero() -> Number {
    whole(0)
}

/// An integer.
pub fn whole(number: i128) -> Number {
    Number::from_integer(BigInt::from(number))
}

fn ten_to(places: u32) -> BigInt {
    BigInt::from(10).pow(places)
}

/// From an integer at a scale.
pub fn scaled(units: i128, places: u32) -> Number {
    Number::new(BigInt::from(units), ten_to(places))
}

/// From a plain decimal.
pub fn decimal(text: &str) -> anyhow::Result<Number> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let (integer, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let plain = !integer.is_empty() && integer.bytes().chain(fraction.bytes()).all(|byte| byte.is_ascii_digit());
    ensure!(plain && (fraction.is_empty() != digits.contains('.')), "{text:?} is no plain decimal");
    let units: BigInt = format!("{integer}{fraction}").parse().context("digits are a number")?;
    let places = u32::try_from(fraction.len()).context("too many decimal places")?;
    let number = Number::new(units, ten_to(places));
    Ok(if text.starts_with('-') { -number } else { number })
}

/// A quantity as its source wrote it: `[-+]digits[.digits][e[-+]digits]`, so `+1.50` and `15e-1` are one and a half.
///
/// - Errors: another text, or one with so long an exponent that it is no quantity.
pub fn quantity(text: &str) -> anyhow::Result<Number> {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let (mantissa, exponent) = unsigned.split_once(['e', 'E']).unwrap_or((unsigned, "0"));
    ensure!(!mantissa.starts_with('-'), "{text:?} is no quantity");
    let exponent: i32 = exponent.parse().with_context(|| format!("{text:?} is no quantity"))?;
    ensure!(exponent.unsigned_abs() <= 400, "{text:?} has an exponent that no quantity has");
    let power = Number::from_integer(ten_to(exponent.unsigned_abs()));
    let number = decimal(mantissa).with_context(|| format!("{text:?} is no quantity"))?;
    let number = if exponent < 0 { number / power } else { number * power };
    Ok(if text.starts_with('-') { -number } else { number })
}

/// As a plain decimal when at most nine places are enough, else as a fraction.
pub fn plain(number: &Number) -> String {
    let units = number * Number::from_integer(ten_to(9));
    if !units.is_integer() {
        return number.to_string();
    }
    let units = units.to_integer();
    let text = units.magnitude().to_string();
    let padded = format!("{text:0>10}");
    let (integer, fraction) = padded.split_at(padded.len() - 9);
    let fraction = fraction.trim_end_matches('0');
    let sign = if units.sign() == num_bigint::Sign::Minus { "-" } else { "" };
    if fraction.is_empty() { format!("{sign}{integer}") } else { format!("{sign}{integer}.{fraction}") }
}

/// Which way a half goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Half {
    /// To the even neighbour.
    Even,
    /// Away from zero.
    Away,
}

/// Rounds to some decimal places.
pub fn round(number: &Number, places: u32, half: Half) -> Number {
    let factor = Number::from_integer(ten_to(places));
    let scaled = number * &factor;
    let floor = scaled.floor();
    let rest = &scaled - &floor;
    let middle = Number::new(BigInt::from(1), BigInt::from(2));
    let up = match rest.cmp(&middle) {
        std::cmp::Ordering::Less => false,
        std::cmp::Ordering::Greater => true,
        std::cmp::Ordering::Equal => match half {
            Half::Even => floor.to_integer() % 2 != BigInt::from(0),
            Half::Away => scaled > zero(),
        },
    };
    (if up { floor + whole(1) } else { floor }) / factor
}

/// T: rounded once, half to even, at scale 9.
pub fn total(exact: &Number) -> Number {
    round(exact, 9, Half::Even)
}

fn member(value: &Value, name: &str) -> anyhow::Result<Number> {
    decimal(value.get(name).and_then(Value::as_str).with_context(|| format!("the price has no {name}"))?)
}

/// F of one price row: what a summed quantity is worth under a model.
pub fn worth(model: &Value, quantity: &Number) -> anyhow::Result<Number> {
    let (kind, fields) = model.as_object().and_then(|members| members.iter().next()).context("a price row has no model")?;
    match kind.as_str() {
        "free" => Ok(zero()),
        "per_unit" => Ok(quantity / above_zero(fields, "per")? * member(fields, "unit_price")?),
        "package" => {
            let packages = (quantity / above_zero(fields, "size")?).ceil();
            Ok(if packages > zero() { packages * member(fields, "package_price")? } else { zero() })
        }
        "graduated" => tiers(fields)?.iter().enumerate().try_fold(zero(), |sum, (at, tier)| {
            if at > 0 && *quantity <= tier.lower {
                return Ok(sum);
            }
            let top = tier.upper.as_ref().map_or(quantity, |upper| upper.min(quantity));
            let fee = if *quantity > tier.lower { tier.fee.clone() } else { zero() };
            Ok(sum + (top - &tier.lower) / &tier.per * &tier.price + fee)
        }),
        "volume" => {
            let tiers = tiers(fields)?;
            let reached = tiers.iter().find(|tier| tier.upper.as_ref().is_none_or(|upper| quantity <= upper));
            let tier = reached.context("the tiers have no open end")?;
            let fee = if *quantity > zero() { tier.fee.clone() } else { zero() };
            Ok(quantity / &tier.per * &tier.price + fee)
        }
        other => bail!("the price model {other:?} is unknown"),
    }
}

fn above_zero(fields: &Value, name: &str) -> anyhow::Result<Number> {
    let number = member(fields, name)?;
    ensure!(number > zero(), "{name} of a price is not above zero");
    Ok(number)
}

struct Tier {
    lower: Number,
    upper: Option<Number>,
    per: Number,
    price: Number,
    fee: Number,
}

fn tiers(fields: &Value) -> anyhow::Result<Vec<Tier>> {
    let list = fields.get("tiers").and_then(Value::as_array).context("a price has no tiers")?;
    let per = above_zero(fields, "per")?;
    let mut lower = zero();
    let mut tiers = Vec::with_capacity(list.len());
    for tier in list {
        let upper = tier.get("up_to").map(|_| member(tier, "up_to")).transpose()?;
        tiers.push(Tier {
            lower: lower.clone(),
            upper: upper.clone(),
            per: per.clone(),
            price: member(tier, "unit_price")?,
            fee: member(tier, "flat_fee")?,
        });
        if let Some(upper) = upper {
            lower = upper;
        }
    }
    Ok(tiers)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(model: &Value, cases: &[(&str, &str)]) {
        for (quantity, expected) in cases {
            assert_eq!(plain(&worth(model, &decimal(quantity).unwrap()).unwrap()), *expected, "{quantity}");
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
        check(&json!({"volume": {"per": "1", "tiers": tiers}}), &[("-4", "-8"), ("0", "0"), ("10", "20.5"), ("11", "14"), ("30", "3")]);
        check(&json!({"free": {"rule": "x"}}), &[("7", "0")]);
        assert!(worth(&json!({"other": {}}), &zero()).is_err());
    }

    #[test]
    fn a_quantity_is_what_its_text_is_worth() {
        let cases = [
            ("1.50", "1.5"),
            ("+5", "5"),
            ("007", "7"),
            ("1e3", "1000"),
            ("-15E-1", "-1.5"),
            ("0.5e+2", "50"),
            ("-0", "0"),
            ("1e-9", "0.000000001"),
        ];
        for (text, worth) in cases {
            assert_eq!(plain(&quantity(text).unwrap()), worth, "{text}");
        }
        assert_ne!(quantity("1.0000000001").unwrap(), quantity("1").unwrap());
        for wrong in ["", "+", "--1", "+-1", "1_000", " 1", ".5", "5.", "5e", "e5", "1e5.0", "1e999", "true", "0x10", "NaN"] {
            assert!(quantity(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn halves_go_where_the_mode_says() {
        for (number, even, away) in
            [("0.125", "0.12", "0.13"), ("-0.125", "-0.12", "-0.13"), ("0.135", "0.14", "0.14"), ("0.1250001", "0.13", "0.13")]
        {
            let number = decimal(number).unwrap();
            assert_eq!((plain(&round(&number, 2, Half::Even)), plain(&round(&number, 2, Half::Away))), (even.to_owned(), away.to_owned()));
        }
        assert!(
            decimal("1.").is_err() && decimal(".5").is_err() && decimal("1e3").is_err() && decimal("").is_err() && decimal("-").is_err()
        );
    }
}
