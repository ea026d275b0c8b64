//! A measured quantity that need not be a decimal: an average, a share of a period, a conversion. Exact, in lowest terms, checked.
//! It knows no state and no price.

use std::cmp::Ordering;
use std::fmt;

use ethnum::I256;
use shared_types::Quantity;

/// Units of a quantity in one whole: 10^9.
const SCALE: i128 = 1_000_000_000;

/// A quantity as a fraction: `units` ÷ `denominator`, counted in units of 10^-9. In lowest terms, the denominator above zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ratio {
    units: i128,
    denominator: i128,
}

/// Which neighbour a number between two steps becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RoundTo {
    /// The one above: 1.1 to 2, -1.1 to -1.
    Ceiling,
    /// The one below: 1.9 to 1, -1.1 to -2.
    Floor,
    /// The nearer one, a half away from zero: 1.5 to 2, -1.5 to -2.
    HalfAwayFromZero,
    /// The nearer one, a half to the even one: 1.5 to 2, 2.5 to 2.
    HalfEven,
}

impl RoundTo {
    /// The name in documents.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ceiling => "ceiling",
            Self::Floor => "floor",
            Self::HalfAwayFromZero => "half_away_from_zero",
            Self::HalfEven => "half_even",
        }
    }

    /// A quotient as a whole number; none when the divisor is not above zero or a number does not fit.
    pub fn divide(self, dividend: I256, divisor: I256) -> Option<I256> {
        if divisor <= I256::ZERO {
            return None;
        }
        let (floor, rest) = (dividend.checked_div_euclid(divisor)?, dividend.checked_rem_euclid(divisor)?);
        let up = match (self, rest.cmp(&divisor.checked_sub(rest)?)) {
            _ if rest == I256::ZERO => false,
            (Self::Ceiling, _) => true,
            (Self::Floor, _) => false,
            (_, Ordering::Less) => false,
            (_, Ordering::Greater) => true,
            (Self::HalfAwayFromZero, Ordering::Equal) => dividend > I256::ZERO,
            (Self::HalfEven, Ordering::Equal) => floor.checked_rem_euclid(I256::from(2))? != I256::ZERO,
        };
        if up { floor.checked_add(I256::ONE) } else { Some(floor) }
    }
}

impl From<Quantity> for Ratio {
    fn from(quantity: Quantity) -> Self {
        Self { units: quantity.units(), denominator: 1 }
    }
}

impl Ratio {
    /// Nothing.
    pub const ZERO: Self = Self { units: 0, denominator: 1 };

    /// `units` ÷ `denominator` in units of 10^-9; none when the denominator is not above zero.
    pub fn new(units: i128, denominator: i128) -> Option<Self> {
        if denominator == 1 {
            return Some(Self { units, denominator });
        }
        Self::reduced(I256::from(units), I256::from(denominator))
    }

    fn reduced(units: I256, denominator: I256) -> Option<Self> {
        if denominator <= I256::ZERO {
            return None;
        }
        let (mut common, mut rest) = (denominator, units.checked_abs()?);
        while let Some(next) = common.checked_rem(rest) {
            (common, rest) = (rest, next);
        }
        let units = units.checked_div(common)?.try_into().ok()?;
        let denominator = denominator.checked_div(common)?.try_into().ok()?;
        Some(Self { units, denominator })
    }

    /// Numerator, in units of 10^-9.
    pub fn units(self) -> i128 {
        self.units
    }

    /// Denominator, above zero.
    pub fn denominator(self) -> i128 {
        self.denominator
    }

    /// Sum; none when it does not fit.
    pub fn checked_add(self, other: Self) -> Option<Self> {
        if self.denominator == other.denominator {
            return Self::new(self.units.checked_add(other.units)?, self.denominator);
        }
        let left = I256::from(self.units).checked_mul(I256::from(other.denominator))?;
        let right = I256::from(other.units).checked_mul(I256::from(self.denominator))?;
        Self::reduced(left.checked_add(right)?, I256::from(self.denominator).checked_mul(I256::from(other.denominator))?)
    }

    /// Difference; none when it does not fit.
    pub fn checked_sub(self, other: Self) -> Option<Self> {
        self.checked_add(Self { units: other.units.checked_neg()?, denominator: other.denominator })
    }

    /// Product with a plain number; none when it does not fit.
    pub fn checked_mul(self, by: Quantity) -> Option<Self> {
        let units = I256::from(self.units).checked_mul(I256::from(by.units()))?;
        Self::reduced(units, I256::from(self.denominator).checked_mul(I256::from(SCALE))?)
    }

    /// Quotient by a plain number above zero; none when it does not fit.
    pub fn checked_div(self, by: Quantity) -> Option<Self> {
        let denominator = I256::from(self.denominator).checked_mul(I256::from(by.units()))?;
        Self::reduced(I256::from(self.units).checked_mul(I256::from(SCALE))?, denominator)
    }

    /// Whole steps of `size`, begun ones counted; zero or fewer are none.
    pub fn begun(self, size: Quantity) -> Option<i128> {
        if self.units <= 0 {
            return Some(0);
        }
        let per = I256::from(size.units()).checked_mul(I256::from(self.denominator))?;
        let full = I256::from(self.units).checked_div(per)?;
        let rest = I256::from(self.units).checked_rem(per)?;
        i128::try_from(full).ok()?.checked_add(i128::from(rest != I256::ZERO))
    }

    /// To a whole number of steps of 10^-places: 2 for hundredths, -2 for hundreds.
    ///
    /// - Errors: none where `places` lies beyond 9 or -20, or the result does not fit.
    pub fn round(self, places: i32, to: RoundTo) -> Option<Self> {
        let exponent = u32::try_from(9_i32.checked_sub(places)?).ok().filter(|exponent| *exponent <= 29)?;
        let step = 10_i128.checked_pow(exponent)?;
        let steps = to.divide(I256::from(self.units), I256::from(step).checked_mul(I256::from(self.denominator))?)?;
        Self::new(i128::try_from(steps.checked_mul(I256::from(step))?).ok()?, 1)
    }

    /// How it compares with a plain number.
    pub fn cmp_quantity(self, other: Quantity) -> Ordering {
        self.cmp(&Self::from(other))
    }

    /// The plain number that it is, where it is one.
    pub fn as_quantity(self) -> Option<Quantity> {
        if self.denominator == 1 { Quantity::from_units(self.units).ok() } else { None }
    }
}

impl Ord for Ratio {
    fn cmp(&self, other: &Self) -> Ordering {
        if self.denominator == other.denominator {
            return self.units.cmp(&other.units);
        }
        // Two products of 128-bit numbers fit 256 bits.
        let left = I256::from(self.units).saturating_mul(I256::from(other.denominator));
        left.cmp(&I256::from(other.units).saturating_mul(I256::from(self.denominator)))
    }
}

impl PartialOrd for Ratio {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// A plain decimal where one is exact within 36 places, else a reduced fraction `n/d`.
impl fmt::Display for Ratio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(quantity) = self.as_quantity() {
            return write!(f, "{quantity}");
        }
        // A denominator of 128 bits leaves room for 10^9.
        let denominator = I256::from(self.denominator).saturating_mul(I256::from(SCALE));
        let text = crate::amount::fraction_text(I256::from(self.units), denominator);
        f.write_str(&crate::amount::decimal_text(&text))
    }
}

/// On the wire it is the text that is shown.
impl serde::Serialize for Ratio {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ratio(text: &str) -> Ratio {
        let (units, denominator) = text.split_once('/').unwrap_or((text, "1"));
        Ratio::from(units.parse::<Quantity>().unwrap()).checked_div(denominator.parse().unwrap()).unwrap()
    }

    #[test]
    fn fractions_stay_exact_and_in_lowest_terms() {
        assert_eq!(ratio("1/3").checked_add(ratio("1/6")), Some(ratio("0.5")));
        assert_eq!(ratio("2/3").checked_sub(ratio("2/3")), Some(Ratio::ZERO));
        assert_eq!(ratio("2/3").checked_mul("1.5".parse().unwrap()), Some(ratio("1")));
        assert_eq!(ratio("1/3").to_string(), "1/3");
        assert_eq!(ratio("1/8").to_string(), "0.125");
        assert_eq!(ratio("123.456789012/10000000").to_string(), "0.0000123456789012");
        assert!(ratio("1/3") > ratio("0.333333333") && ratio("-1/3") < Ratio::ZERO);
        assert_eq!(Ratio::new(1, 0), None);
        assert_eq!(Ratio::from(Quantity::from_units(10_i128.pow(38) - 1).unwrap()).checked_mul("99".parse().unwrap()), None);
    }

    #[test]
    fn rounding_goes_by_its_rule_on_both_sides_of_zero() {
        let check = |text: &str, places: i32, wanted: [&str; 4]| {
            let rules = [RoundTo::Ceiling, RoundTo::Floor, RoundTo::HalfAwayFromZero, RoundTo::HalfEven];
            for (rule, wanted) in rules.into_iter().zip(wanted) {
                assert_eq!(ratio(text).round(places, rule), Some(ratio(wanted)), "{text} {places} {rule:?}");
            }
        };
        check("123.456", 2, ["123.46", "123.45", "123.46", "123.46"]);
        check("123.456", -2, ["200", "100", "100", "100"]);
        check("2.5", 0, ["3", "2", "3", "2"]);
        check("-2.5", 0, ["-2", "-3", "-3", "-2"]);
        check("-1/3", 0, ["0", "-1", "0", "0"]);
        check("7", 0, ["7", "7", "7", "7"]);
        assert_eq!(ratio("1").round(10, RoundTo::Floor), None);
    }

    #[test]
    fn begun_steps_count() {
        for (text, size, steps) in [("0", "10", 0), ("-3", "10", 0), ("1/3", "10", 1), ("10", "10", 1), ("10.000000001", "10", 2)] {
            assert_eq!(ratio(text).begun(size.parse().unwrap()), Some(steps), "{text}");
        }
    }
}
