//! The money at stake in quarantined usage: what the parts of a total would have cost as they were stated, and what the total could cost
//! at most. A pure function; it books nothing and knows no quarantine.

use std::collections::BTreeMap;

use platform_rating::{EvaluateError, Plan, PriceIndex, SegmentState, evaluate};
use platform_usage::StatedParts;
use shared_types::{Amount, AssetId, Instant, OrganizationId, PriceId, Quantity};

/// Money that depends on how a quarantine is decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stake {
    /// The currency.
    pub currency: AssetId,
    /// What the parts cost as they were stated, unpriced ones left out.
    pub stated: Amount,
    /// What the greater of total and sum of the parts costs at the dearest price of a part.
    pub most: Amount,
}

/// The stake of one total, as if nothing else was used in the service period.
///
/// - Units: quantities in the meters' unit; amounts of the book's currency, rounded half to even once.
/// - Nulls: none where no part has a price: what is unpriced has no known worth.
/// - Errors: the sum of the parts or an amount leaves its range.
pub fn at_stake(
    plan: &Plan,
    prices: &PriceIndex<'_>,
    organization: &OrganizationId,
    at: Instant,
    stated: &StatedParts,
) -> Result<Option<Stake>, EvaluateError> {
    let mut segments: BTreeMap<PriceId, SegmentState> = BTreeMap::new();
    let mut currency = None;
    let mut sum = Quantity::ZERO;
    for (meter, dimensions, quantity) in &stated.parts {
        sum = sum.checked_add(*quantity).map_err(|_| EvaluateError::Overflow)?;
        let Ok(resolved) = plan.resolve(organization, meter, dimensions, at) else { continue };
        currency = Some(resolved.currency.clone());
        let segment = segments.entry(resolved.price.id.clone()).or_insert_with(|| SegmentState::of_sums(Quantity::ZERO, 0));
        segment.quantity = segment.quantity.checked_add(*quantity).map_err(|_| EvaluateError::Overflow)?;
        segment.readings = segment.readings.saturating_add(1);
    }
    let Some(currency) = currency else { return Ok(None) };
    let all = stated.total.map_or(sum, |total| total.max(sum));
    let mut most = Amount::ZERO;
    for price in segments.keys() {
        let alone = BTreeMap::from([(price.clone(), SegmentState::of_sums(all, 1))]);
        most = most.max(evaluate(&alone, prices)?.rounded);
    }
    Ok(Some(Stake { currency, stated: evaluate(&segments, prices)?.rounded, most }))
}
