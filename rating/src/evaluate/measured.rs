//! What is priced where Σ quantity is not: hours that levels were held, their mean, the greatest of them. For bills, on which the sum of levels
//! says nothing.

use std::collections::BTreeMap;

use shared_types::PriceId;

use super::{EvaluateError, PriceIndex, steps};
use crate::ratio::Ratio;
use crate::state::SegmentState;

/// What the rows of a state price.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Measured {
    /// By price row. Each is priced by itself, so their sum is what was priced.
    pub prices: BTreeMap<PriceId, Ratio>,
    /// Whether seconds are counted: quantity × seconds held, else a quantity in the meter's unit.
    pub seconds: bool,
    /// How it is measured, a clause for each way in which a row does.
    pub words: Vec<String>,
}

impl Measured {
    /// Their sum; none when it does not fit.
    pub fn sum(&self) -> Option<Ratio> {
        self.prices.values().try_fold(Ratio::ZERO, |sum, quantity| sum.checked_add(*quantity))
    }
}

/// What a state's rows price in the place of Σ quantity; none where that is what they price, and where some count seconds and others do not.
///
/// - Errors: a row that is missing; numbers that do not fit.
pub fn measured(segments: &BTreeMap<PriceId, SegmentState>, prices: &PriceIndex<'_>) -> Result<Option<Measured>, EvaluateError> {
    let mut found = Measured { prices: BTreeMap::new(), seconds: false, words: Vec::new() };
    let (mut seconds, mut others) = (false, false);
    for (price, segment) in segments {
        let row = prices.get(price).ok_or_else(|| EvaluateError::PriceMissing { price: price.clone() })?;
        let parts = steps::measured(row, segment).ok_or(EvaluateError::Overflow)?;
        let sum = parts.iter().try_fold(Ratio::ZERO, |sum, part| sum.checked_add(part.priced)).ok_or(EvaluateError::Overflow)?;
        found.prices.insert(price.clone(), sum);
        let of_seconds = row.basis.measure.counts_seconds();
        (seconds, others) = (seconds || of_seconds, others || !of_seconds);
        let words = row.basis.words();
        if !row.basis.measure.counts_quantity() && !found.words.contains(&words) {
            found.words.push(words);
        }
    }
    found.seconds = seconds;
    let mixed = seconds && others;
    Ok(Some(found).filter(|found| !mixed && !found.words.is_empty()))
}

#[cfg(test)]
mod tests {
    use shared_types::{Instant, Quantity};

    use super::*;
    use crate::basis::{Basis, Clock, Measure};
    use crate::plan::{PriceModel, PriceRow};
    use crate::state::Detail;

    fn row(id: &str, measure: Measure) -> PriceRow {
        PriceRow {
            id: PriceId::parse(id).unwrap(),
            effective_at: Instant::EPOCH,
            per: "1".parse().unwrap(),
            model: PriceModel::PerUnit { unit_price: "1".parse().unwrap() },
            basis: Basis { measure, ..Basis::default() },
        }
    }

    /// What rows measure of states; sums in units of 10^-9 over a denominator.
    fn of(parts: &[(PriceRow, SegmentState)]) -> Option<(bool, i128, i128, Vec<String>)> {
        let prices = PriceIndex(parts.iter().map(|(row, _)| (&row.id, row)).collect());
        let segments = parts.iter().map(|(row, segment)| (row.id.clone(), segment.clone())).collect();
        let found = measured(&segments, &prices).unwrap()?;
        let sum = found.sum().unwrap();
        Some((found.seconds, sum.units(), sum.denominator(), found.words))
    }

    #[test]
    fn what_rows_price_is_added_up_unless_it_is_the_sum_of_what_was_read() {
        let level =
            |level: i64, detail| SegmentState { detail, ..SegmentState::of_sums(Quantity::from_units(i128::from(level)).unwrap(), 1) };
        // Two units of 10^-9 for three seconds; for a third of the period.
        let held = || level(2, Detail::Held { unit_micros: 6_000_000, period_micros: 9_000_000 });
        let clock = Clock::Microsecond;
        let (hours, mean) = (Measure::TimeWeighted { by: clock }, Measure::Prorated { by: clock });
        assert_eq!(of(&[(row("a", Measure::Sum), level(5, Detail::Sums)), (row("b", Measure::Each), level(5, Detail::Sums))]), None);
        let of_seconds = of(&[(row("a", hours.clone()), held()), (row("b", hours.clone()), held())]).unwrap();
        assert_eq!(of_seconds, (true, 12, 1, vec!["quantity times seconds held".to_owned()]));
        let (seconds, sum, denominator, words) = of(&[(row("a", mean), held()), (row("b", Measure::Sum), level(5, Detail::Sums))]).unwrap();
        assert_eq!((seconds, sum, denominator, words.len()), (false, 17, 3, 1));
        // Seconds and other things have no sum.
        assert_eq!(of(&[(row("a", hours), held()), (row("b", Measure::Sum), level(5, Detail::Sums))]), None);
    }
}
