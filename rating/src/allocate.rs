//! Parts that add up to the whole: the largest-remainder method. It knows no price, no currency and no organization.

use ethnum::I256;
use shared_types::{Amount, Quantity};

/// Who gets the next unit where remainders are equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TieBreak {
    /// The earlier one of the list.
    InputOrder,
    /// The one whose key sorts first.
    Key,
}

/// Why an amount cannot be shared out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AllocateError {
    /// No weight is above zero.
    #[error("no weight is above zero")]
    NoWeight,
    /// A weight is below zero.
    #[error("weight {weight} is below zero")]
    NegativeWeight {
        /// The weight.
        weight: Quantity,
    },
    /// The amount is finer than the parts may be.
    #[error("{amount} has more than {places} decimal places")]
    TooFine {
        /// The amount.
        amount: Amount,
        /// Decimal places of a part.
        places: u32,
    },
    /// More than nine decimal places, or numbers beyond 256 bits.
    #[error("the parts do not fit")]
    Overflow,
}

/// Shares an amount out by weights, in whole units of 10^-places, so that the parts add up to it exactly.
///
/// - Each part is the share rounded towards zero; what is left goes, one unit each, to the largest remainders.
/// - Result: in the order of the weights; a part may be zero.
/// - Errors: no weight above zero, one below, an amount finer than the parts.
/// - Source: blueprint §5, cost per project is an allocation of T by largest remainder.
pub fn allocate(amount: Amount, weights: &[(&str, Quantity)], places: u32, tie: TieBreak) -> Result<Vec<Amount>, AllocateError> {
    let fit = || AllocateError::Overflow;
    let step = 10_i64.checked_pow(Amount::SCALE.checked_sub(places).ok_or_else(fit)?).ok_or_else(fit)?;
    if amount.units().checked_rem(step) != Some(0) {
        return Err(AllocateError::TooFine { amount, places });
    }
    if let Some((_, weight)) = weights.iter().find(|(_, weight)| *weight < Quantity::ZERO) {
        return Err(AllocateError::NegativeWeight { weight: *weight });
    }
    let whole = I256::from(amount.units().checked_div(step).ok_or_else(fit)?.unsigned_abs());
    let sum = weights.iter().try_fold(I256::ZERO, |sum, (_, weight)| sum.checked_add(I256::from(weight.units()))).ok_or_else(fit)?;
    if sum == I256::ZERO {
        return Err(AllocateError::NoWeight);
    }
    let mut parts = Vec::with_capacity(weights.len());
    for (place, (key, weight)) in weights.iter().enumerate() {
        let product = whole.checked_mul(I256::from(weight.units())).ok_or_else(fit)?;
        let part = product.checked_div(sum).ok_or_else(fit)?;
        parts.push((part, product.checked_rem(sum).ok_or_else(fit)?, *key, place));
    }
    let given = parts.iter().try_fold(I256::ZERO, |given, (part, ..)| given.checked_add(*part)).ok_or_else(fit)?;
    let left = usize::try_from(whole.checked_sub(given).ok_or_else(fit)?).map_err(|_| fit())?;
    parts.sort_by(|(_, a, a_key, a_place), (_, b, b_key, b_place)| {
        b.cmp(a).then_with(|| if tie == TieBreak::Key { a_key.cmp(b_key) } else { std::cmp::Ordering::Equal }).then(a_place.cmp(b_place))
    });
    for (part, ..) in parts.iter_mut().take(left) {
        *part = part.checked_add(I256::ONE).ok_or_else(fit)?;
    }
    parts.sort_by_key(|(.., place)| *place);
    parts
        .into_iter()
        .map(|(part, ..)| {
            let units = i128::try_from(part).ok().and_then(|part| part.checked_mul(i128::from(step))).ok_or_else(fit)?;
            let units = if amount < Amount::ZERO { units.checked_neg().ok_or_else(fit)? } else { units };
            Amount::from_units(units).map_err(|_| fit())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(amount: &str, weights: &[(&str, &str)], tie: TieBreak, wanted: &[&str]) {
        let weights: Vec<(&str, Quantity)> = weights.iter().map(|(key, weight)| (*key, weight.parse().unwrap())).collect();
        let parts = allocate(amount.parse().unwrap(), &weights, 2, tie).unwrap();
        assert_eq!(parts.iter().map(ToString::to_string).collect::<Vec<_>>(), wanted);
    }

    #[test]
    fn parts_add_up_to_the_whole() {
        check("0.05", &[("C", "1"), ("A", "1"), ("B", "1")], TieBreak::InputOrder, &["0.02", "0.02", "0.01"]);
        check("0.05", &[("C", "1"), ("A", "1"), ("B", "1")], TieBreak::Key, &["0.01", "0.02", "0.02"]);
        check("-0.05", &[("A", "1"), ("B", "1"), ("C", "0")], TieBreak::InputOrder, &["-0.03", "-0.02", "0"]);
        check("1", &[("A", "0.001"), ("B", "0.002")], TieBreak::InputOrder, &["0.33", "0.67"]);
    }

    #[test]
    fn what_cannot_be_shared_out_is_refused() {
        let refused = |amount: &str, weight: &str| {
            allocate(amount.parse().unwrap(), &[("A", weight.parse().unwrap())], 2, TieBreak::Key).unwrap_err().to_string()
        };
        assert_eq!(refused("1", "0"), "no weight is above zero");
        assert_eq!(refused("1", "-1"), "weight -1 is below zero");
        assert_eq!(refused("0.001", "1"), "0.001 has more than 2 decimal places");
        assert_eq!(allocate(Amount::ZERO, &[], 10, TieBreak::Key), Err(AllocateError::Overflow));
    }
}
