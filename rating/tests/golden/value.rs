//! Reading cases and comparing values: numbers as big rationals, so that a fraction that no decimal shows is compared exactly too.

use anyhow::{Context as _, bail};
use num_bigint::BigInt;
use num_rational::BigRational;
use platform_rating::Ratio;
use serde_json::Value;
use shared_types::{Amount, Price, Quantity};

/// What is given of a case.
pub struct In<'a> {
    /// Prices and policies.
    pub config: &'a Value,
    /// What was used.
    pub usage: &'a Value,
    /// Into how many readings a quantity is cut.
    pub pieces: u32,
}

/// The text of a string or number; none when absent or null.
pub fn text<'a>(of: &'a Value, name: &str) -> Option<std::borrow::Cow<'a, str>> {
    match of.get(name)? {
        Value::String(text) => Some(text.into()),
        Value::Number(number) => Some(number.to_string().into()),
        _ => None,
    }
}

/// A member that must be there, as text.
pub fn need<'a>(of: &'a Value, name: &str) -> anyhow::Result<std::borrow::Cow<'a, str>> {
    text(of, name).with_context(|| format!("{name} is missing"))
}

/// A member that must be there, as whatever parses.
pub fn parsed<T: std::str::FromStr<Err: std::error::Error + Send + Sync + 'static>>(of: &Value, name: &str) -> anyhow::Result<T> {
    need(of, name)?.parse().with_context(|| format!("{name} does not read"))
}

/// A quantity; zero when absent or null.
pub fn quantity(of: &Value, name: &str) -> anyhow::Result<Quantity> {
    Ok(text(of, name).map(|text| text.parse()).transpose()?.unwrap_or_default())
}

/// A price; zero when absent or null.
pub fn price(of: &Value, name: &str) -> anyhow::Result<Price> {
    Ok(text(of, name).map(|text| text.parse()).transpose()?.unwrap_or_default())
}

/// An amount; none when absent or null.
pub fn amount(of: &Value, name: &str) -> anyhow::Result<Option<Amount>> {
    Ok(text(of, name).map(|text| text.parse()).transpose()?)
}

/// The items of a list that must be there.
pub fn list<'a>(of: &'a Value, name: &str) -> anyhow::Result<&'a [Value]> {
    of.get(name).and_then(Value::as_array).map(Vec::as_slice).with_context(|| format!("{name} is not a list"))
}

/// The texts of a list.
pub fn texts(of: &Value, name: &str) -> anyhow::Result<Vec<String>> {
    list(of, name)?.iter().map(item).collect()
}

/// A string or number of a list.
pub fn item(value: &Value) -> anyhow::Result<String> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Number(number) => Ok(number.to_string()),
        other => bail!("{other} is neither text nor number"),
    }
}

/// The n-th of a list.
pub fn nth(of: &Value, place: usize) -> anyhow::Result<&Value> {
    of.get(place).with_context(|| format!("item {place} is missing"))
}

/// A number from a decimal, a fraction `n/d`, or a sum of these.
pub fn number(text: &str) -> Option<BigRational> {
    let mut sum = BigRational::from_integer(BigInt::from(0));
    for term in text.split(" + ") {
        let (numerator, denominator) = term.split_once('/').unwrap_or((term, "1"));
        let digits = numerator.split_once('.').map_or(0, |(_, fraction)| fraction.len());
        let whole: BigInt = numerator.replacen('.', "", 1).parse().ok()?;
        let denominator: BigInt = denominator.parse().ok()?;
        if denominator == BigInt::from(0) {
            return None;
        }
        sum += BigRational::new(whole, BigInt::from(10).pow(u32::try_from(digits).ok()?) * denominator);
    }
    Some(sum)
}

/// As [`number`], for a text that must be one.
pub fn rational(text: &str) -> anyhow::Result<BigRational> {
    number(text).with_context(|| format!("{text:?} is not a number"))
}

/// A number as the text `n/d` or `n`.
pub fn shown(number: &BigRational) -> Value {
    Value::String(number.to_string())
}

/// A quantity as text.
pub fn ratio(quantity: Ratio) -> Value {
    Value::String(quantity.to_string())
}

/// An amount as text.
pub fn money(amount: Amount) -> Value {
    Value::String(amount.to_string())
}

fn number_of(value: &Value) -> Option<BigRational> {
    match value {
        Value::String(text) => number(text),
        Value::Number(digits) => number(&digits.to_string()),
        _ => None,
    }
}

/// Whether two values say the same: numbers exactly, however they are written; lists and objects member by member.
pub fn is_equal(expected: &Value, found: &Value) -> bool {
    if let (Some(expected), Some(found)) = (number_of(expected), number_of(found)) {
        return expected == found;
    }
    match (expected, found) {
        (Value::Array(expected), Value::Array(found)) => {
            expected.len() == found.len() && expected.iter().zip(found).all(|(expected, found)| is_equal(expected, found))
        }
        (Value::Object(expected), Value::Object(found)) => {
            expected.len() == found.len()
                && expected.iter().all(|(name, expected)| found.get(name).is_some_and(|found| is_equal(expected, found)))
        }
        (expected, found) => expected == found,
    }
}

/// Whether the expected text is how a 64-bit float shows a number that no decimal shows: a repeating fraction, and no further from it than the
/// spacing of such floats. A number that has a decimal must be that decimal.
pub fn is_float_of(expected: &Value, found: &Value) -> bool {
    let (Some(shown), Some(exact)) = (number_of(expected), number_of(found)) else { return false };
    let mut rest = exact.denom().clone();
    for prime in [2, 5] {
        while &rest % prime == BigInt::from(0) {
            rest /= prime;
        }
    }
    let repeats = rest != BigInt::from(1);
    let digits = expected.to_string().chars().filter(char::is_ascii_digit).count();
    let spacing = BigRational::new(BigInt::from(1), BigInt::from(2).pow(52));
    let zero = BigRational::from_integer(BigInt::from(0));
    let magnitude = |number: BigRational| if number < zero { -number } else { number };
    repeats && digits >= 15 && magnitude(shown - &exact) <= magnitude(exact) * spacing
}
