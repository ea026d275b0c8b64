//! Exact numbers: quantities, prices, amounts. Parsed from text, never from a float; every operation is checked.

use std::fmt;

/// Why a text is not a number of the wanted kind, or why an operation has no result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NumberError {
    /// The text is not a plain decimal such as `-12.50` or `1.5e-7`.
    #[error("{value:?} is not a decimal number")]
    Malformed {
        /// The refused text, cut to 80 characters.
        value: String,
    },
    /// More decimal places than the kind holds.
    #[error("{value:?} has more than {scale} decimal places")]
    TooFine {
        /// The refused text, cut to 80 characters.
        value: String,
        /// How many decimal places the kind holds.
        scale: u32,
    },
    /// Larger than the kind holds.
    #[error("{value:?} does not fit: at most {digits} digits before the decimal point")]
    TooLarge {
        /// The refused text, cut to 80 characters.
        value: String,
        /// How many digits fit before the decimal point.
        digits: u32,
    },
    /// A sum or product left the range.
    #[error("the result does not fit")]
    Overflow,
}

const DIGITS: u32 = 38;
const LIMIT: i128 = 10_i128.pow(DIGITS);

fn shown(text: &str) -> String {
    text.chars().take(80).collect()
}

/// Parses `[-+]digits[.digits][e[-+]digits]` to an integer of 10^-scale, exactly.
fn parse_scaled(text: &str, scale: u32, digits: u32) -> Result<i128, NumberError> {
    let malformed = || NumberError::Malformed { value: shown(text) };
    let too_large = || NumberError::TooLarge { value: shown(text), digits: digits.saturating_sub(scale) };
    if text.len() > 400 {
        return Err(malformed());
    }
    let (negative, unsigned) = match text.as_bytes().first() {
        Some(b'-') => (true, text.get(1..).ok_or_else(malformed)?),
        Some(b'+') => (false, text.get(1..).ok_or_else(malformed)?),
        _ => (false, text),
    };
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().map_err(|_| malformed())?),
        None => (unsigned, 0),
    };
    let (whole, fraction) = match mantissa.split_once('.') {
        Some((whole, fraction)) => (whole, fraction),
        None => (mantissa, ""),
    };
    if whole.is_empty() || (mantissa.contains('.') && fraction.is_empty()) || exponent.unsigned_abs() > 400 {
        return Err(malformed());
    }
    let all = || whole.bytes().chain(fraction.bytes());
    if !all().all(|byte| byte.is_ascii_digit()) {
        return Err(malformed());
    }
    // value = all × 10^(exponent − fraction.len()); wanted = all × 10^shift
    let shift = i64::from(scale) + i64::from(exponent) - i64::try_from(fraction.len()).map_err(|_| malformed())?;
    let dropped = usize::try_from(shift.min(0).unsigned_abs()).map_err(|_| malformed())?;
    let length = whole.len() + fraction.len();
    let kept = length.saturating_sub(dropped);
    if all().skip(kept).any(|byte| byte != b'0') {
        return Err(NumberError::TooFine { value: shown(text), scale });
    }
    let mut units: i128 = 0;
    for byte in all().take(kept) {
        units = units.checked_mul(10).and_then(|units| units.checked_add(i128::from(byte - b'0'))).ok_or_else(too_large)?;
    }
    if units != 0 {
        for _ in 0..shift.max(0) {
            units = units.checked_mul(10).ok_or_else(too_large)?;
        }
    }
    if units >= 10_i128.checked_pow(digits).unwrap_or(LIMIT) {
        return Err(too_large());
    }
    Ok(if negative { -units } else { units })
}

/// Plain decimal text without trailing zeros: `-0.5`, `12`.
fn write_scaled(units: i128, scale: u32, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let sign = if units < 0 { "-" } else { "" };
    let magnitude = units.unsigned_abs();
    let base = 10_u128.pow(scale);
    let (whole, fraction) = (magnitude / base, magnitude % base);
    if fraction == 0 {
        return f.pad(&format!("{sign}{whole}"));
    }
    let digits = format!("{fraction:0width$}", width = usize::try_from(scale).map_err(|_| fmt::Error)?);
    f.pad(&format!("{sign}{whole}.{}", digits.trim_end_matches('0')))
}

macro_rules! scaled {
    ($(#[$doc:meta])* $name:ident, $inner:ty, $scale:literal, $digits:expr) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
        pub struct $name($inner);

        impl $name {
            /// Decimal places held.
            pub const SCALE: u32 = $scale;
            /// Zero.
            pub const ZERO: Self = Self(0);

            /// Parses plain or exponent notation exactly; finer or larger input is refused.
            pub fn parse(text: &str) -> Result<Self, NumberError> {
                let units = parse_scaled(text, $scale, $digits)?;
                <$inner>::try_from(units)
                    .map(Self)
                    .map_err(|_| NumberError::TooLarge { value: shown(text), digits: $digits - $scale })
            }

            /// From units of 10^-SCALE; refused beyond the digits that the kind holds.
            pub fn from_units(units: i128) -> Result<Self, NumberError> {
                if units.unsigned_abs() >= 10_u128.pow($digits) {
                    return Err(NumberError::Overflow);
                }
                <$inner>::try_from(units).map(Self).map_err(|_| NumberError::Overflow)
            }

            /// Units of 10^-SCALE.
            pub fn units(self) -> $inner {
                self.0
            }

            /// Sum, or an error: never wraps.
            pub fn checked_add(self, other: Self) -> Result<Self, NumberError> {
                let sum = self.0.checked_add(other.0).ok_or(NumberError::Overflow)?;
                Self::from_units(i128::from(sum))
            }

            /// Difference, or an error: never wraps.
            pub fn checked_sub(self, other: Self) -> Result<Self, NumberError> {
                let difference = self.0.checked_sub(other.0).ok_or(NumberError::Overflow)?;
                Self::from_units(i128::from(difference))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_scaled(i128::from(self.0), $scale, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({self})", stringify!($name))
            }
        }

        impl std::str::FromStr for $name {
            type Err = NumberError;
            fn from_str(text: &str) -> Result<Self, NumberError> {
                Self::parse(text)
            }
        }

        /// On the wire a number is quoted decimal text.
        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                Self::parse(&text).map_err(serde::de::Error::custom)
            }
        }
    };
}

scaled!(
    /// How much of a unit was used: decimal(38, 9).
    Quantity, i128, 9, 38
);
scaled!(
    /// Money for one unit size: decimal(38, 18).
    Price, i128, 18, 38
);
scaled!(
    /// An amount of one asset: a 64-bit integer at scale 9 (±9.2 thousand million). Never added across assets.
    Amount, i64, 9, 19
);
scaled!(
    /// A sum of any number of amounts of one asset: decimal(38, 9). What an [`Amount`] bounds is one posting, not what comes together over years.
    Sum, i128, 9, 38
);

impl From<Amount> for Sum {
    fn from(amount: Amount) -> Self {
        Self(i128::from(amount.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_parsed_exactly_and_shown_plainly() {
        for (text, shown) in [
            ("0", "0"),
            ("-0.000000001", "-0.000000001"),
            ("1.50", "1.5"),
            ("1e3", "1000"),
            ("2.5e-07", "0.00000025"),
            ("12345678901234567890.123456789", "12345678901234567890.123456789"),
        ] {
            let price = Price::parse(text);
            assert_eq!(price.map(|price| price.to_string()), Ok(shown.to_owned()), "{text}");
        }
        assert_eq!(Quantity::parse("1.0000000000").map(Quantity::units), Ok(1_000_000_000));
    }

    #[test]
    fn finer_larger_and_malformed_numbers_are_refused_by_name() {
        assert!(matches!(Quantity::parse("0.0000000001"), Err(NumberError::TooFine { scale: 9, .. })));
        assert!(matches!(Quantity::parse(&"9".repeat(40)), Err(NumberError::TooLarge { digits: 29, .. })));
        assert!(matches!(Quantity::parse("1e200"), Err(NumberError::TooLarge { .. })));
        assert!(matches!(Amount::parse("9300000000"), Err(NumberError::TooLarge { .. })));
        for text in ["", "-", ".", "1.", ".5", "1_000", "0x1", "NaN", "inf", "1e", "--1", "1,5", "١"] {
            assert!(matches!(Quantity::parse(text), Err(NumberError::Malformed { .. })), "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn text_round_trips(units in proptest::num::i128::ANY) {
            let units = units % 10_i128.pow(38);
            let quantity = Quantity::from_units(units).unwrap();
            proptest::prop_assert_eq!(Quantity::parse(&quantity.to_string()), Ok(quantity));
        }
    }
}
