//! Exact decimal arithmetic for maps: sums and products of cells. No rounding: what does not fit is refused.

use std::fmt;

/// units × 10^-scale; at most 38 digits, at most 38 of them behind the point, no trailing zeros behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Decimal {
    units: i128,
    scale: u32,
}

const LIMIT: u128 = 10_u128.pow(38);
const TOO_LONG: &str = "needs more than 38 digits";

impl Decimal {
    /// Reads `[-+]digits[.digits][e[-+]digits]`.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let malformed = || format!("{:?} is not a decimal number", text.chars().take(80).collect::<String>());
        let too_long = || format!("{:?} {TOO_LONG}", text.chars().take(80).collect::<String>());
        let (negative, unsigned) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().map_err(|_| malformed())?),
            None => (unsigned, 0),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, "0"));
        let digits = || whole.bytes().chain(fraction.bytes());
        if whole.is_empty() || fraction.is_empty() || !digits().all(|byte| byte.is_ascii_digit()) {
            return Err(malformed());
        }
        let mut units: i128 = 0;
        // Zeros at the end carry no digit: they are counted, and multiplied in when another digit follows.
        let (mut zeros, mut seen) = (0_u32, 0_i64);
        for byte in digits() {
            seen += 1;
            if byte == b'0' {
                zeros = zeros.saturating_add(u32::from(units != 0));
                continue;
            }
            units = 10_i128
                .checked_pow(zeros.saturating_add(1))
                .and_then(|power| units.checked_mul(power))
                .and_then(|units| units.checked_add(i128::from(byte - b'0')))
                .ok_or_else(too_long)?;
            zeros = 0;
        }
        if units == 0 {
            return Ok(Self { units: 0, scale: 0 });
        }
        let fraction = i64::try_from(fraction.len()).map_err(|_| too_long())?.min(seen);
        let scale = fraction - i64::from(exponent) - i64::from(zeros);
        let (units, scale) = match u32::try_from(scale) {
            Ok(scale) => (units, scale),
            Err(_) => {
                let power = u32::try_from(-scale).ok().and_then(|power| 10_i128.checked_pow(power)).ok_or_else(too_long)?;
                (units.checked_mul(power).ok_or_else(too_long)?, 0)
            }
        };
        Self::new(if negative { -units } else { units }, scale).ok_or_else(too_long)
    }

    fn new(mut units: i128, mut scale: u32) -> Option<Self> {
        while scale > 0 && units % 10 == 0 {
            units /= 10;
            scale -= 1;
        }
        (units.unsigned_abs() < LIMIT && scale <= 38).then_some(Self { units, scale })
    }

    /// Whole number of 10^-scale, if it is one.
    pub(super) fn units_of(self, scale: u32) -> Option<i128> {
        self.units.checked_mul(10_i128.checked_pow(scale.checked_sub(self.scale)?)?)
    }

    /// Whole number of 10^-scale, what is finer dropped towards minus infinity.
    pub(super) fn floor_units_of(self, scale: u32) -> Option<i128> {
        match self.scale.checked_sub(scale) {
            Some(finer) if finer > 0 => Some(self.units.div_euclid(10_i128.checked_pow(finer)?)),
            _ => self.units_of(scale),
        }
    }

    /// Both at one scale.
    fn aligned(self, other: Self) -> Option<(i128, i128, u32)> {
        let scale = self.scale.max(other.scale);
        Some((self.units_of(scale)?, other.units_of(scale)?, scale))
    }

    pub(super) fn add(self, other: Self) -> Result<Self, String> {
        let sum = self.aligned(other).and_then(|(a, b, scale)| Self::new(a.checked_add(b)?, scale));
        sum.ok_or_else(|| format!("{self} + {other} {TOO_LONG}"))
    }

    pub(super) fn subtract(self, other: Self) -> Result<Self, String> {
        let difference = self.aligned(other).and_then(|(a, b, scale)| Self::new(a.checked_sub(b)?, scale));
        difference.ok_or_else(|| format!("{self} - {other} {TOO_LONG}"))
    }

    pub(super) fn multiply(self, other: Self) -> Result<Self, String> {
        let product = self.units.checked_mul(other.units).and_then(|units| Self::new(units, self.scale.checked_add(other.scale)?));
        product.ok_or_else(|| format!("{self} × {other} {TOO_LONG}"))
    }
}

/// A plain decimal, which is a JSON number.
impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.units < 0 { "-" } else { "" };
        let digits = self.units.unsigned_abs().to_string();
        let scale = usize::try_from(self.scale).unwrap_or(usize::MAX);
        if scale == 0 {
            return write!(f, "{sign}{digits}");
        }
        let padded = format!("{digits:0>width$}", width = scale.saturating_add(1));
        let (whole, fraction) = padded.split_at(padded.len().saturating_sub(scale));
        write!(f, "{sign}{whole}.{fraction}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        Decimal::parse(text).map_or_else(|why| why, |decimal| decimal.to_string())
    }

    #[test]
    fn numbers_are_read_exactly_or_refused() {
        for (text, expected) in [
            ("0", "0"),
            ("-0.00", "0"),
            ("+007.50", "7.5"),
            ("1.5e3", "1500"),
            ("15E-4", "0.0015"),
            ("1000", "1000"),
            ("100.001000", "100.001"),
            ("0.000e5", "0"),
            ("99999999999999999999999999999999999999", "99999999999999999999999999999999999999"),
            ("0.00000000000000000000000000000000000001", "0.00000000000000000000000000000000000001"),
            ("100000000000000000000000000000000000000", "\"100000000000000000000000000000000000000\" needs more than 38 digits"),
            ("1e-39", "\"1e-39\" needs more than 38 digits"),
            ("1e999999999", "\"1e999999999\" needs more than 38 digits"),
            ("", "\"\" is not a decimal number"),
            ("1.", "\"1.\" is not a decimal number"),
            (".5", "\".5\" is not a decimal number"),
            ("1,5", "\"1,5\" is not a decimal number"),
            ("NaN", "\"NaN\" is not a decimal number"),
            ("--1", "\"--1\" is not a decimal number"),
            ("1e", "\"1e\" is not a decimal number"),
        ] {
            assert_eq!(shown(text), expected, "{text}");
        }
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(1000))]
        /// The oracle is `Quantity`, which shares no code: fixed scale 9.
        #[test]
        fn sums_and_differences_agree_with_quantities(
            a in -10_i128.pow(30)..10_i128.pow(30), b in -10_i128.pow(30)..10_i128.pow(30),
        ) {
            let quantity = |units| shared_types::Quantity::from_units(units).unwrap();
            let decimal = |units| Decimal::parse(&quantity(units).to_string()).unwrap();
            proptest::prop_assert_eq!(decimal(a).add(decimal(b)).unwrap().to_string(), quantity(a + b).to_string());
            proptest::prop_assert_eq!(decimal(a).subtract(decimal(b)).unwrap().to_string(), quantity(a - b).to_string());
            proptest::prop_assert_eq!(decimal(a).units_of(9), Some(a));
        }

        #[test]
        fn products_agree_with_integers(a in -10_i128.pow(18)..10_i128.pow(18), b in -10_i128.pow(18)..10_i128.pow(18), cut in 0_u32..9) {
            let scaled = |units: i128| Decimal::parse(&format!("{units}e-{cut}")).unwrap();
            let product = scaled(a).multiply(scaled(b)).unwrap();
            proptest::prop_assert_eq!(product.units_of(2 * cut), Some(a * b));
        }
    }
}
