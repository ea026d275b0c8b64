//! The price of each reading, found as [`rate()`](super::rate()) finds it and without booking anything. For whoever asks only that: benches
//! tell by it what of rating is look-up.

use platform_usage::{MeteredReading, Reason};

use std::collections::HashMap;

use super::{Desk, by_organization};
use crate::evaluate::PriceIndex;
use crate::plan::{Plan, Resolved};
use crate::state::RatingState;

/// Gives the index of each reading with its price, or why there is none; on one thread, organization by organization.
pub fn look_up(plan: &Plan, readings: &[MeteredReading], mut found: impl FnMut(usize, Result<Resolved<'_>, Reason>)) {
    let (state, prices) = (RatingState::default(), PriceIndex::of(plan));
    let mut desk = Desk { state: &state, plan, prices: &prices, lines: HashMap::new(), indices: HashMap::new(), scratch: Vec::new() };
    for group in by_organization(readings) {
        let Some((_, first)) = group.first() else { continue };
        let contracts = plan.contracts_of(&first.organization);
        for (index, reading) in group {
            found(index, desk.resolve(contracts, reading));
        }
    }
}
