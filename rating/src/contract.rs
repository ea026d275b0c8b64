//! The second stage: functions of a contract over totals of keys. Minimum and maximum spend, discounts, commitments, true-ups, capacity over
//! several meters, and the split of a service period into lines. Pure; it knows no key, no state and no ledger.

use shared_types::{Amount, Quantity, Sum};

use crate::amount::Exact;
use crate::ratio::{Ratio, RoundTo};

/// A result leaves the range of amounts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the result leaves the range of amounts")]
pub struct OutOfRange;

/// How money of a line is rounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rounding {
    /// Decimal places, at most 9.
    pub places: i32,
    /// Which way.
    pub to: RoundTo,
}

impl Rounding {
    /// The rounded amount.
    pub fn apply(self, amount: Amount) -> Result<Amount, OutOfRange> {
        self.round(Some(ratio(amount)))
    }

    /// The rounded sum.
    pub fn apply_sum(self, sum: Sum) -> Result<Sum, OutOfRange> {
        self.sum(Some(ratio(sum)))
    }

    /// The one rounding of an exact number; none where that left its range.
    fn round(self, exact: Option<Ratio>) -> Result<Amount, OutOfRange> {
        Amount::from_units(self.sum(exact)?.units()).map_err(|_| OutOfRange)
    }

    fn sum(self, exact: Option<Ratio>) -> Result<Sum, OutOfRange> {
        let rounded = exact.and_then(|exact| exact.round(self.places, self.to)).ok_or(OutOfRange)?;
        Sum::from_units(rounded.units()).map_err(|_| OutOfRange)
    }
}

/// A sum as an exact number: both count in units of 10^-9.
fn ratio(sum: impl Into<Sum>) -> Ratio {
    Ratio::new(sum.into().units(), 1).unwrap_or(Ratio::ZERO)
}

/// Which part of its service period a line covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Split {
    /// All of it.
    Single,
    /// Its beginning.
    First,
    /// Something between.
    Mid,
    /// Its end.
    Last,
}

impl Split {
    /// Whether the period begins with it.
    pub fn opens(self) -> bool {
        matches!(self, Self::Single | Self::First)
    }

    /// Whether the period ends with it.
    pub fn closes(self) -> bool {
        matches!(self, Self::Single | Self::Last)
    }

    /// Whether a price is charged on it: progressively on every split, else on the one that closes the period.
    pub fn charges(self, progressive: bool) -> bool {
        progressive || self.closes()
    }
}

/// When a flat fee falls due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Term {
    /// With the beginning of the period.
    InAdvance,
    /// With its end.
    InArrears,
}

impl Term {
    /// Whether a split carries the fee: once in a full service period.
    pub fn due_on(self, split: Split) -> bool {
        match self {
            Self::InAdvance => split.opens(),
            Self::InArrears => split.closes(),
        }
    }
}

/// What a contract says of the spend of a service period.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Spend {
    /// The least that a period costs.
    pub minimum: Option<Amount>,
    /// The most that a period costs.
    pub maximum: Option<Amount>,
    /// Taken off usage before the maximum, in percent.
    pub discount_percent: Quantity,
}

/// What a split comes to.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct SplitTotal {
    /// What was taken off each line as a percentage.
    pub discounts: Vec<Amount>,
    /// What was taken off each line because of the maximum.
    pub over_maximum: Vec<Amount>,
    /// What is added to reach the minimum; only where the period ends.
    pub minimum_line: Amount,
    /// What is asked for.
    pub total: Amount,
}

/// Applies discount, maximum and minimum to the rounded lines of a split, in this order.
///
/// - `billed_before`: what earlier splits of the period asked for. `rounding`: of each discount and of what lies over the maximum.
/// - Errors: sums beyond the range of amounts.
pub fn split(lines: &[Amount], billed_before: Amount, spend: &Spend, split: Split, rounding: Rounding) -> Result<SplitTotal, OutOfRange> {
    let mut result = SplitTotal::default();
    let mut billed = billed_before;
    for line in lines {
        let discount = percent_of(*line, spend.discount_percent, rounding)?;
        let net = line.checked_sub(discount).map_err(|_| OutOfRange)?;
        let over = match spend.maximum {
            Some(maximum) => rounding.apply(over_maximum(maximum, billed, net)?)?,
            None => Amount::ZERO,
        };
        let net = net.checked_sub(over).map_err(|_| OutOfRange)?;
        billed = billed.checked_add(net).map_err(|_| OutOfRange)?;
        result.discounts.push(discount);
        result.over_maximum.push(over);
    }
    if let Some(minimum) = spend.minimum.filter(|_| split.closes()) {
        result.minimum_line = true_up(minimum, billed)?;
        billed = billed.checked_add(result.minimum_line).map_err(|_| OutOfRange)?;
    }
    result.total = billed.checked_sub(billed_before).map_err(|_| OutOfRange)?;
    Ok(result)
}

/// What of a line lies over a maximum: never more than the line, never below zero.
pub fn over_maximum(maximum: Amount, billed_before: Amount, line: Amount) -> Result<Amount, OutOfRange> {
    let after = billed_before.checked_add(line).map_err(|_| OutOfRange)?;
    let over = after.checked_sub(maximum).map_err(|_| OutOfRange)?;
    Ok(over.max(Amount::ZERO).min(line.max(Amount::ZERO)))
}

/// What of a spend lies beyond an amount above zero: never below zero.
pub fn beyond(amount: Amount, spend: Sum) -> Result<Sum, OutOfRange> {
    Ok(spend.checked_sub(amount.into()).map_err(|_| OutOfRange)?.max(Sum::ZERO))
}

/// What is missing of a spend to an amount: never below zero.
pub fn missing(amount: Amount, spend: Sum) -> Result<Sum, OutOfRange> {
    Ok(Sum::from(amount).checked_sub(spend).map_err(|_| OutOfRange)?.max(Sum::ZERO))
}

/// What is missing to a minimum or commitment: never below zero.
pub fn true_up(minimum: Amount, spent: Amount) -> Result<Amount, OutOfRange> {
    Amount::from_units(missing(minimum, spent.into())?.units()).map_err(|_| OutOfRange)
}

/// A percentage of an amount, rounded once.
pub fn percent_of(amount: Amount, percent: Quantity, rounding: Rounding) -> Result<Amount, OutOfRange> {
    let hundred = hundred()?;
    rounding.round(ratio(amount).checked_mul(percent).and_then(|part| part.checked_div(hundred)))
}

fn hundred() -> Result<Quantity, OutOfRange> {
    Quantity::from_units(100_000_000_000).map_err(|_| OutOfRange)
}

/// A percentage off a part of a spend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiscountTier {
    /// Up to where, inclusive; none for the last one.
    pub up_to: Option<Amount>,
    /// How many percent.
    pub percent: Quantity,
}

/// What tiers take off a spend, rounded once. What is below zero lies in the first one.
///
/// - `tiers`: by rising bounds, the last one without.
pub fn graduated_percent(spend: Sum, tiers: impl IntoIterator<Item = DiscountTier>, rounding: Rounding) -> Result<Sum, OutOfRange> {
    let (mut off, mut above) = (Ratio::ZERO, None::<Sum>);
    for DiscountTier { up_to, percent } in tiers {
        let up_to = up_to.map(Sum::from);
        let within = up_to.map_or(spend, |up_to| spend.min(up_to));
        // A tier that begins where the spend ends has nothing of it.
        let part = match above {
            None => within,
            Some(above) => within.max(above).checked_sub(above).map_err(|_| OutOfRange)?,
        };
        off = ratio(part).checked_mul(percent).and_then(|part| off.checked_add(part)).ok_or(OutOfRange)?;
        above = up_to;
    }
    rounding.sum(off.checked_div(hundred()?))
}

/// A part of an amount: `part` of `whole` days, microseconds or anything else that is counted.
///
/// - Result: exact; the fraction is what a document shows, its T what is booked.
/// - Errors: a whole that is not above zero.
pub fn prorate(amount: Amount, part: i64, whole: i64) -> Result<Exact, OutOfRange> {
    let mut sum = Exact::default();
    let price = i128::from(amount.units()).checked_mul(1_000_000_000).ok_or(OutOfRange)?;
    sum.add_quotient(i128::from(part), price, i128::from(whole)).ok_or(OutOfRange)?;
    Ok(sum)
}

/// A promise to spend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Commitment {
    /// How much.
    pub amount: Amount,
    /// What is spent beyond it costs, as a multiple of its price.
    pub overage_factor: Quantity,
    /// Whether what was promised and not spent is owed.
    pub true_up: bool,
}

/// What a commitment makes of a spend: what lies within it as it is, what lies beyond times the factor, what is missing where it is owed.
///
/// - `rounding`: of the overage, once.
pub fn committed(spend: Sum, commitment: &Commitment, rounding: Rounding) -> Result<Sum, OutOfRange> {
    let over = beyond(commitment.amount, spend)?;
    let overage = rounding.sum(ratio(over).checked_mul(commitment.overage_factor))?;
    let missing = if commitment.true_up { missing(commitment.amount, spend)? } else { Sum::ZERO };
    let within = spend.min(commitment.amount.into()).checked_add(overage).map_err(|_| OutOfRange)?;
    within.checked_add(missing).map_err(|_| OutOfRange)
}

/// What is taken off so that of several amounts only the greatest is owed: below zero, or 0 where there is but one.
///
/// - Capacity over several meters is this: the tier that a meter's peak reaches has a price, the highest tier that any of them reaches is owed.
pub fn greatest_alone(amounts: &[Amount]) -> Result<Amount, OutOfRange> {
    let Some(greatest) = amounts.iter().max() else { return Ok(Amount::ZERO) };
    amounts.iter().try_fold(*greatest, |rest, amount| rest.checked_sub(*amount).map_err(|_| OutOfRange))
}

/// What of a total is in none of its parts, for example tokens that no kind accounts for; none when the parts exceed the total.
pub fn remainder(total: Quantity, parts: &[Quantity]) -> Option<Quantity> {
    let rest = parts.iter().try_fold(total, |rest, part| rest.checked_sub(*part).ok())?;
    (rest >= Quantity::ZERO).then_some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn amount(text: &str) -> Amount {
        text.parse().unwrap()
    }

    const CENTS: Rounding = Rounding { places: 2, to: RoundTo::HalfAwayFromZero };

    #[test]
    fn the_discount_comes_before_the_maximum_and_the_minimum_last() {
        let spend = Spend { minimum: Some(amount("150")), maximum: Some(amount("100")), discount_percent: "50".parse().unwrap() };
        let mid = split(&[amount("200")], amount("35"), &spend, Split::Mid, CENTS).unwrap();
        assert_eq!((mid.discounts, mid.over_maximum, mid.total), (vec![amount("100")], vec![amount("35")], amount("65")));
        let last = split(&[amount("200")], amount("35"), &spend, Split::Last, CENTS).unwrap();
        assert_eq!((last.minimum_line, last.total), (amount("50"), amount("115")));
    }

    #[test]
    fn nothing_negative_comes_of_a_cap_or_a_promise() {
        assert_eq!(over_maximum(amount("10"), amount("20"), amount("3")), Ok(amount("3")));
        assert_eq!(over_maximum(amount("10"), amount("20"), amount("-3")), Ok(Amount::ZERO));
        assert_eq!(true_up(amount("10"), amount("20")), Ok(Amount::ZERO));
        assert_eq!(true_up(amount("9000000000"), amount("-9000000000")), Err(OutOfRange));
        assert_eq!(remainder("5".parse().unwrap(), &["6".parse().unwrap()]), None);
        assert!(prorate(amount("1"), 1, 0).is_err());
        assert_eq!(greatest_alone(&[amount("10"), amount("30"), amount("20")]), Ok(amount("-30")));
        assert_eq!(greatest_alone(&[amount("-3")]), Ok(Amount::ZERO));
        assert_eq!(greatest_alone(&[]), Ok(Amount::ZERO));
    }

    #[test]
    fn a_percentage_and_an_overage_are_rounded_once() {
        // 0.00499999999 exactly: by way of nine places it would be half a cent.
        assert_eq!(percent_of(amount("1"), "0.499999999".parse().unwrap(), CENTS), Ok(Amount::ZERO));
        assert_eq!(percent_of(amount("1"), "0.5".parse().unwrap(), CENTS), Ok(amount("0.01")));
        for (spend, factor, true_up, total) in [
            ("10.01", "1.499999999", true, "10.01"),
            ("10.01", "1.5", true, "10.02"),
            ("4", "2", true, "10"),
            ("4", "2", false, "4"),
            ("-1", "2", true, "10"),
        ] {
            let commitment = Commitment { amount: amount("10"), overage_factor: factor.parse().unwrap(), true_up };
            assert_eq!(committed(amount(spend).into(), &commitment, CENTS), Ok(amount(total).into()), "{spend} at {factor}");
        }
    }

    #[test]
    fn a_graduated_discount_takes_each_part_at_its_own_percentage_and_is_rounded_once() {
        let tier = |up_to: Option<&str>, percent: &str| DiscountTier { up_to: up_to.map(amount), percent: percent.parse().unwrap() };
        let tiers = [tier(Some("100"), "0"), tier(Some("200"), "2.5"), tier(None, "10")];
        for (spend, off) in
            [("0", "0"), ("100", "0"), ("100.2", "0.01"), ("200", "2.5"), ("200.05", "2.51"), ("1200", "102.5"), ("-50", "0")]
        {
            assert_eq!(graduated_percent(amount(spend).into(), tiers, CENTS), Ok(amount(off).into()), "{spend}");
        }
        let tiers = [tier(Some("100"), "10"), tier(None, "50")];
        assert_eq!(graduated_percent(amount("-30").into(), tiers, CENTS), Ok(amount("-3").into()));
        let halves = [tier(Some("0.05"), "50"), tier(None, "50")];
        assert_eq!(graduated_percent(amount("0.11").into(), halves, CENTS), Ok(amount("0.06").into()));
        // What months come to together may be more than one amount holds.
        assert_eq!(graduated_percent("900000000000".parse().unwrap(), tiers, CENTS), Ok("449999999960".parse().unwrap()));
    }

    #[test]
    fn a_rounded_amount_goes_by_its_mode() {
        for (text, up, even) in [("0.125", "0.13", "0.12"), ("-0.125", "-0.13", "-0.12"), ("0.1251", "0.13", "0.13")] {
            assert_eq!(CENTS.apply(amount(text)), Ok(amount(up)));
            assert_eq!(Rounding { to: RoundTo::HalfEven, ..CENTS }.apply(amount(text)), Ok(amount(even)));
        }
    }
}
