//! Exact sums of quotients in 256 bits, and the one rounding that turns such a sum into an amount.
//! It knows no price model and no currency.

use std::cmp::Ordering;

use ethnum::I256;
use shared_types::Amount;

/// Units of an amount in one unit of money: 10^9.
const SCALE: i128 = 1_000_000_000;

/// A proper fraction, 0 ≤ numerator < denominator. Denominators stay below 2^225, so that 10^9 times one always fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Fraction {
    numerator: I256,
    denominator: I256,
}

/// An exact sum of quotients, counted in units of 10^-9 of a currency.
///
/// It is kept as a whole number plus proper fractions: one, as long as a common denominator fits 256 bits, and further ones apart
/// where it does not. So no sum of prices is beyond it, only a rounded result can be too large for an [`Amount`].
#[derive(Clone, Debug)]
pub struct Exact {
    whole: I256,
    fraction: Fraction,
    apart: Vec<Fraction>,
}

impl Default for Exact {
    fn default() -> Self {
        Self { whole: I256::ZERO, fraction: Fraction { numerator: I256::ZERO, denominator: I256::ONE }, apart: Vec::new() }
    }
}

impl Exact {
    /// Adds `factor × price ÷ per` of money.
    ///
    /// - Units: `price` at scale 18; `factor` and `per` at one and the same scale; `per` above zero.
    /// - Errors: none when `per` is not above zero or after more than 10^9 terms of the largest size.
    #[must_use = "the sum is unusable when a term did not fit"]
    pub fn add_quotient(&mut self, factor: i128, price: i128, per: i128) -> Option<()> {
        if per <= 0 {
            return None;
        }
        // In units of 10^-9: factor × price ÷ (per × 10^9). The product of two 38-digit numbers fits 256 bits.
        let (floor, fraction) = match (factor.checked_mul(price), per.checked_mul(SCALE)) {
            (Some(product), Some(divisor)) => {
                let floor = I256::from(product.checked_div_euclid(divisor)?);
                let numerator = I256::from(product.checked_rem_euclid(divisor)?);
                (floor, Fraction { numerator, denominator: I256::from(divisor) })
            }
            _ => {
                let product = I256::from(factor).checked_mul(I256::from(price))?;
                let divisor = I256::from(per).checked_mul(I256::from(SCALE))?;
                let floor = product.checked_div_euclid(divisor)?;
                let numerator = product.checked_sub(floor.checked_mul(divisor)?)?;
                (floor, Fraction { numerator, denominator: divisor })
            }
        };
        self.whole = self.whole.checked_add(floor)?;
        self.add_fraction(fraction)
    }

    /// Adds another sum; none after more than 10^9 terms of the largest size.
    #[must_use = "the sum is unusable when a term did not fit"]
    pub fn add(&mut self, other: &Self) -> Option<()> {
        self.whole = self.whole.checked_add(other.whole)?;
        self.add_fraction(other.fraction)?;
        other.apart.iter().try_for_each(|fraction| self.add_fraction(*fraction))
    }

    /// The sum × `numerator` ÷ `denominator`; none when the denominator is not above zero or a fraction does not fit.
    pub(crate) fn times(&self, numerator: i128, denominator: i128) -> Option<Self> {
        let (by, per) = (I256::from(numerator), I256::from(denominator));
        if per <= I256::ZERO {
            return None;
        }
        let mut product = Self::default();
        let mut add = |numerator: I256, denominator: I256| {
            let floor = numerator.checked_div_euclid(denominator)?;
            denominator.checked_mul(I256::from(SCALE))?;
            product.whole = product.whole.checked_add(floor)?;
            product.add_fraction(Fraction { numerator: numerator.checked_sub(floor.checked_mul(denominator)?)?, denominator })
        };
        add(self.whole.checked_mul(by)?, per)?;
        for fraction in std::iter::once(&self.fraction).chain(&self.apart).filter(|fraction| fraction.numerator != I256::ZERO) {
            let lowest = fraction.reduced();
            add(lowest.numerator.checked_mul(by)?, lowest.denominator.checked_mul(per)?)?;
        }
        Some(product)
    }

    /// Whether the sum is below zero; none when it does not fit.
    pub(crate) fn is_negative(&self) -> Option<bool> {
        Some(self.floor_and_rest()?.0 < I256::ZERO)
    }

    fn add_fraction(&mut self, fraction: Fraction) -> Option<()> {
        if fraction.numerator == I256::ZERO {
            return Some(());
        }
        if self.fraction.numerator == I256::ZERO {
            self.fraction = fraction;
            return Some(());
        }
        for own in std::iter::once(&mut self.fraction).chain(&mut self.apart) {
            if let Some((carry, sum)) = own.plus(fraction) {
                *own = sum;
                self.whole = self.whole.checked_add(I256::from(carry))?;
                return Some(());
            }
        }
        self.apart.push(fraction);
        Some(())
    }

    /// The sum as an amount: rounded once, half to even, at scale 9; none when it leaves the range of amounts.
    ///
    /// - Source: blueprint §5, T = round(F), half-even.
    pub fn round(&self) -> Option<Amount> {
        let (floor, rest) = self.floor_and_rest()?;
        let rounded = match rest {
            Ordering::Less => floor,
            Ordering::Greater => floor.checked_add(I256::ONE)?,
            Ordering::Equal if floor.checked_rem_euclid(I256::from(2))? == I256::ZERO => floor,
            Ordering::Equal => floor.checked_add(I256::ONE)?,
        };
        let units = i64::try_from(rounded).ok()?;
        Amount::from_units(i128::from(units)).ok()
    }

    /// Whole units at or below the sum, and how the rest compares with one half.
    fn floor_and_rest(&self) -> Option<(I256, Ordering)> {
        if self.apart.is_empty() {
            let to_next = self.fraction.denominator.checked_sub(self.fraction.numerator)?;
            return Some((self.whole, self.fraction.numerator.cmp(&to_next)));
        }
        let (halves, exact) = self.halves()?;
        let floor = self.whole.checked_add(I256::from(halves.checked_div_euclid(2)?))?;
        let rest = match (halves.checked_rem_euclid(2)?, exact) {
            (0, _) => Ordering::Less,
            (_, true) => Ordering::Equal,
            (_, false) => Ordering::Greater,
        };
        Some((floor, rest))
    }

    /// How many whole halves the fractions hold together, and whether they hold nothing more.
    ///
    /// Twice each fraction is written out in binary, all of them in step. After k places their sum lies in [A, A + n) ÷ 2^k, where A
    /// sums the places so far and n counts the fractions: soon that interval holds no whole number, and the floor is known. It may
    /// close in on one for ever only if the sum *is* that number: another sum would differ from it by at least 1 ÷ Π denominators.
    fn halves(&self) -> Option<(i128, bool)> {
        let mut fractions: Vec<Fraction> = std::iter::once(self.fraction).chain(self.apart.iter().copied()).collect();
        let count = i128::try_from(fractions.len()).ok()?;
        let whole = next_places(&mut fractions)?;
        let mut places: i128 = 0;
        for _ in 0..64 {
            places = places.checked_mul(2)?.checked_add(next_places(&mut fractions)?)?;
        }
        let floor = whole.checked_add(places.checked_shr(64)?)?;
        let mut to_next = (1_i128 << 64).checked_sub(places & ((1 << 64) - 1))?;
        if to_next >= count {
            return Some((floor, to_next == 1 << 64 && nothing_left(&fractions)));
        }
        let bits: u32 = fractions.iter().map(|fraction| 256_u32.saturating_sub(fraction.denominator.leading_zeros())).sum();
        for _ in 0..bits.checked_add(64)? {
            to_next = to_next.checked_mul(2)?.checked_sub(next_places(&mut fractions)?)?;
            if to_next >= count {
                return Some((floor, false));
            }
            if to_next <= 0 {
                return Some((floor.checked_add(1)?, to_next == 0 && nothing_left(&fractions)));
            }
        }
        Some((floor.checked_add(1)?, true))
    }

    /// The sum as text, in whole money: a reduced fraction `n/d`, or `n` when d is 1. Where one fraction does not fit 256 bits, the
    /// reduced fractions that make up the sum, joined by ` + `.
    pub fn text(&self) -> String {
        let one = fraction_text;
        // Denominators below 2^225 leave room for 10^9.
        let money = |fraction: &Fraction| fraction.denominator.saturating_mul(I256::from(SCALE));
        let first =
            self.whole.checked_mul(self.fraction.denominator).and_then(|whole| whole.checked_add(self.fraction.numerator)).map_or_else(
                || format!("{} + {}", one(self.whole, I256::from(SCALE)), one(self.fraction.numerator, money(&self.fraction))),
                |numerator| one(numerator, money(&self.fraction)),
            );
        let apart = self.apart.iter().map(|fraction| one(fraction.numerator, money(fraction)));
        std::iter::once(first).chain(apart).collect::<Vec<_>>().join(" + ")
    }
}

/// Doubles every fraction and takes off what became whole; how many did.
fn next_places(fractions: &mut [Fraction]) -> Option<i128> {
    let mut wholes: i128 = 0;
    for fraction in fractions {
        let doubled = fraction.numerator.checked_mul(I256::from(2))?;
        let whole = doubled >= fraction.denominator;
        fraction.numerator = if whole { doubled.checked_sub(fraction.denominator)? } else { doubled };
        wholes = wholes.checked_add(i128::from(whole))?;
    }
    Some(wholes)
}

fn nothing_left(fractions: &[Fraction]) -> bool {
    fractions.iter().all(|fraction| fraction.numerator == I256::ZERO)
}

impl Fraction {
    /// The sum, with whether it reached one; none when its denominator would not stay below 2^225.
    fn plus(self, other: Self) -> Option<(bool, Self)> {
        let (numerator, denominator) = if self.denominator == other.denominator {
            (self.numerator.checked_add(other.numerator)?, self.denominator)
        } else {
            let (left, right) = (self.reduced(), other.reduced());
            let common = greatest_common_divisor(left.denominator, right.denominator);
            let left_factor = right.denominator.checked_div(common)?;
            let right_factor = left.denominator.checked_div(common)?;
            let denominator = left.denominator.checked_mul(left_factor)?;
            denominator.checked_mul(I256::from(SCALE))?;
            let numerator = left.numerator.checked_mul(left_factor)?.checked_add(right.numerator.checked_mul(right_factor)?)?;
            (numerator, denominator)
        };
        let carry = numerator >= denominator;
        let numerator = if carry { numerator.checked_sub(denominator)? } else { numerator };
        Some((carry, Self { numerator, denominator }))
    }

    /// In lowest terms; the denominator stays above zero.
    fn reduced(self) -> Self {
        let common = greatest_common_divisor(self.numerator, self.denominator);
        match (self.numerator.checked_div(common), self.denominator.checked_div(common)) {
            (Some(numerator), Some(denominator)) => Self { numerator, denominator },
            _ => self,
        }
    }
}

/// `n/d` in lowest terms, or `n` when d is 1; the denominator is above zero.
pub(crate) fn fraction_text(numerator: I256, denominator: I256) -> String {
    let reduced = Fraction { numerator, denominator }.reduced();
    if reduced.denominator == I256::ONE { reduced.numerator.to_string() } else { format!("{}/{}", reduced.numerator, reduced.denominator) }
}

/// A reduced fraction as a decimal, where one is exact within 36 places; the fraction itself otherwise.
pub(crate) fn decimal_text(fraction: &str) -> String {
    exact_decimal(fraction).unwrap_or_else(|| fraction.to_owned())
}

fn exact_decimal(fraction: &str) -> Option<String> {
    const PLACES: usize = 36;
    let Some((numerator, denominator)) = fraction.split_once('/') else {
        return Some(fraction.to_owned());
    };
    let (numerator, denominator): (I256, I256) = (numerator.parse().ok()?, denominator.parse().ok()?);
    let sign = if numerator.is_negative() { "-" } else { "" };
    let magnitude = numerator.checked_abs()?;
    let whole = magnitude.checked_div(denominator)?;
    let mut rest = magnitude.checked_rem(denominator)?;
    let mut digits = String::new();
    while rest != I256::ZERO {
        if digits.len() == PLACES {
            return None;
        }
        rest = rest.checked_mul(I256::from(10))?;
        digits.push_str(&rest.checked_div(denominator)?.to_string());
        rest = rest.checked_rem(denominator)?;
    }
    Some(if digits.is_empty() { format!("{sign}{whole}") } else { format!("{sign}{whole}.{digits}") })
}

/// Of the magnitudes; the other number when one is zero.
fn greatest_common_divisor(left: I256, right: I256) -> I256 {
    let (mut left, mut right) = (left.saturating_abs(), right.saturating_abs());
    while let Some(rest) = left.checked_rem(right) {
        (left, right) = (right, rest);
    }
    left
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `terms` are (factor, price units, per); what they round to, in units of 10^-9, and their text.
    fn check(terms: &[(i128, i128, i128)], rounded: Option<i64>, text: &str) {
        let mut sum = Exact::default();
        for (factor, price, per) in terms {
            sum.add_quotient(*factor, *price, *per).unwrap();
        }
        assert_eq!(sum.round().map(Amount::units), rounded, "{terms:?}");
        assert_eq!(sum.text(), text, "{terms:?}");
    }

    #[test]
    fn halves_go_to_the_even_neighbour_on_both_sides_of_zero() {
        check(&[(1, 500_000_000, 1)], Some(0), "1/2000000000");
        check(&[(3, 500_000_000, 1)], Some(2), "3/2000000000");
        check(&[(5, 500_000_000, 1)], Some(2), "1/400000000");
        check(&[(-1, 500_000_000, 1)], Some(0), "-1/2000000000");
        check(&[(-3, 500_000_000, 1)], Some(-2), "-3/2000000000");
        check(&[(1, 500_000_001, 1)], Some(1), "500000001/1000000000000000000");
        check(&[(-1, 500_000_001, 1)], Some(-1), "-500000001/1000000000000000000");
        check(&[(1, 499_999_999, 1)], Some(0), "499999999/1000000000000000000");
    }

    #[test]
    fn a_sum_is_rounded_once() {
        check(&[(1, 400_000_000, 1), (1, 400_000_000, 1)], Some(1), "1/1250000000");
        check(&[(1, 1_000_000_000, 3), (1, 1_000_000_000, 3), (1, 1_000_000_000, 3)], Some(1), "1/1000000000");
        check(&[(1, 1_000_000_000, 6), (1, 1_000_000_000, 3)], Some(0), "1/2000000000");
        check(&[(1, 1_000_000_000, 7), (-1, 1_000_000_000, 7)], Some(0), "0");
    }

    #[test]
    fn denominators_without_a_common_one_in_256_bits_still_give_the_exact_half() {
        let (a, b) = (10_i128.pow(37) - 1, 10_i128.pow(37) + 1);
        let sum = |extra: i128| {
            let mut sum = Exact::default();
            // 1/a + 1/b + (1/2 − 1/a − 1/b), all in units of 10^-9.
            sum.add_quotient(1, 1_000_000_000, a).unwrap();
            sum.add_quotient(1, 1_000_000_000, b).unwrap();
            assert_eq!(sum.apart.len(), 1);
            sum.add_quotient(-1, 1_000_000_000, a).unwrap();
            sum.add_quotient(-1, 1_000_000_000, b).unwrap();
            sum.add_quotient(1, 500_000_000, 1).unwrap();
            sum.add_quotient(extra, 1, b).unwrap();
            sum.round().map(Amount::units)
        };
        assert_eq!((sum(-1), sum(0), sum(1)), (Some(0), Some(0), Some(1)));
    }

    fn fractions() -> impl proptest::strategy::Strategy<Value = Vec<(i64, i64)>> {
        use proptest::prelude::*;
        let denominator = prop::sample::select(vec![2_i64, 3, 5, 6, 7, 9, 10, 12, 1 << 40, 3_i64.pow(30), 10_i64.pow(15)]);
        prop::collection::vec(denominator.prop_flat_map(|d| (prop_oneof![0..d, Just(1), Just(d - 1), Just(d / 2)], Just(d))), 1..6)
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(2_000))]
        #[test]
        fn fractions_kept_apart_round_like_their_sum(fractions in fractions(), whole in -3_i64..3) {
            let fractions = fractions.iter().map(|(n, d)| Fraction { numerator: I256::from(*n), denominator: I256::from(*d) });
            let mut summed = Exact { whole: I256::from(whole), ..Exact::default() };
            let mut apart = summed.clone();
            for fraction in fractions {
                summed.add_fraction(fraction).unwrap();
                apart.apart.push(fraction);
            }
            proptest::prop_assume!(summed.apart.is_empty());
            proptest::prop_assert_eq!(summed.round(), apart.round());
        }
    }

    #[test]
    fn a_product_is_exact_and_below_zero_where_it_is() {
        let mut third = Exact::default();
        third.add_quotient(7, 1_000_000_000_000_000_000, 3).unwrap();
        for (numerator, denominator, text) in
            [(-1, 1, "-7/3"), (3, 2, "7/2"), (0, 1, "0"), (1_499_999_999, 1_000_000_000, "10499999993/3000000000")]
        {
            let product = third.times(numerator, denominator).unwrap();
            assert_eq!((product.text().as_str(), product.is_negative()), (text, Some(numerator < 0)));
        }
        let mut nothing = third.clone();
        nothing.add(&third.times(-1, 1).unwrap()).unwrap();
        assert_eq!((nothing.text().as_str(), nothing.is_negative()), ("0", Some(false)));
        assert!(third.times(1, 0).is_none());
        // Fractions that are kept apart.
        let mut apart = Exact::default();
        for per in [10_i128.pow(37) - 1, 10_i128.pow(37) + 1] {
            apart.add_quotient(1, 1_000_000_000, per).unwrap();
        }
        let mut less = apart.times(-1, 1).unwrap();
        assert_eq!((apart.apart.len(), apart.is_negative(), less.is_negative()), (1, Some(false), Some(true)));
        less.add(&apart).unwrap();
        assert_eq!((less.round().map(Amount::units), less.is_negative()), (Some(0), Some(false)));
    }

    #[test]
    fn only_results_beyond_64_bits_are_refused() {
        let most = i128::from(i64::MAX);
        check(&[(most, 1_000_000_000, 1)], Some(i64::MAX), "9223372036854775807/1000000000");
        check(&[(most, 1_000_000_000, 1), (1, 1_000_000_000, 1)], None, "18014398509481984/1953125");
        check(&[(most, 1_000_000_000, 1), (1, 500_000_000, 1)], None, "3689348814741910323/400000000");
        let huge = 10_i128.pow(38) - 1;
        check(&[(huge, huge, 1), (-huge, huge, 1), (1, 1_000_000_000, 1)], Some(1), "1/1000000000");
    }
}
