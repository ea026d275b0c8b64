//! Exact numbers with big rationals: decimals, and every rounding there is. It knows no price.

use anyhow::{Context as _, ensure};
use num_bigint::BigInt;
use num_rational::BigRational;

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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Half {
    /// To the even neighbour.
    Even,
    /// Away from zero.
    Away,
}

/// Rounds to some decimal places.
pub fn round(number: &Number, places: u32, half: Half) -> Number {
    let to = match half {
        Half::Even => Round::HalfEven,
        Half::Away => Round::HalfAway,
    };
    whole_steps(&(number * Number::from_integer(ten_to(places))), to) / Number::from_integer(ten_to(places))
}

/// Which neighbour a converted quantity becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Round {
    /// The one above.
    Ceiling,
    /// The one below.
    Floor,
    /// The nearer one, a half away from zero.
    HalfAway,
    /// The nearer one, a half to the even one.
    HalfEven,
}

/// As [`round`], any way, to decimal places or, below zero, to tens, hundreds and so on.
pub fn round_to(number: &Number, places: i32, to: Round) -> Number {
    let power = Number::from_integer(ten_to(places.unsigned_abs()));
    let step = if places < 0 { power } else { power.recip() };
    whole_steps(&(number / &step), to) * step
}

fn whole_steps(number: &Number, to: Round) -> Number {
    let floor = number.floor();
    let rest = number - &floor;
    let middle = Number::new(BigInt::from(1), BigInt::from(2));
    let up = match (to, rest.cmp(&middle)) {
        _ if rest == zero() => false,
        (Round::Ceiling, _) => true,
        (Round::Floor, _) | (_, std::cmp::Ordering::Less) => false,
        (_, std::cmp::Ordering::Greater) => true,
        (Round::HalfAway, _) => *number > zero(),
        (Round::HalfEven, _) => floor.to_integer() % 2 != BigInt::from(0),
    };
    if up { floor + whole(1) } else { floor }
}

/// T: rounded once, half to even, at scale 9.
pub fn total(exact: &Number) -> Number {
    round(exact, 9, Half::Even)
}

#[cfg(test)]
mod tests {
    use super::*;

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
        for (number, places, [ceiling, floor, away, even]) in [
            ("2.5", 0, ["3", "2", "3", "2"]),
            ("-2.5", 0, ["-2", "-3", "-3", "-2"]),
            ("2.51", 1, ["2.6", "2.5", "2.5", "2.5"]),
            ("150", -2, ["200", "100", "200", "200"]),
            ("-3", 0, ["-3", "-3", "-3", "-3"]),
        ] {
            let rounded = |to: Round| plain(&round_to(&decimal(number).unwrap(), places, to));
            let all = [Round::Ceiling, Round::Floor, Round::HalfAway, Round::HalfEven].map(rounded);
            assert_eq!(all, [ceiling, floor, away, even], "{number}");
        }
        assert!(
            decimal("1.").is_err() && decimal(".5").is_err() && decimal("1e3").is_err() && decimal("").is_err() && decimal("-").is_err()
        );
    }
}
