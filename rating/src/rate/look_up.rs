//! The price of each reading, found as [`rate()`](super::rate()) finds it and without booking anything. For whoever asks only that: benches
//! tell by it what of rating is look-up.

use platform_usage::{Dimensions, MeteredReading, Reason};
use shared_types::{Instant, MeterId, OrganizationId};

use std::collections::HashMap;

use super::{Desk, by_organization};
use crate::evaluate::PriceIndex;
use crate::line_index::LineIndex;
use crate::plan::{Plan, Resolved};
use crate::state::RatingState;

/// Finds prices one by one, for whoever has no readings yet; each meter of a book is indexed once.
pub struct PriceFinder<'a> {
    plan: &'a Plan,
    indices: HashMap<(usize, MeterId), LineIndex<'a>>,
}

impl<'a> PriceFinder<'a> {
    /// For a plan.
    pub fn of(plan: &'a Plan) -> Self {
        Self { plan, indices: HashMap::new() }
    }

    /// [`Plan::resolve`].
    pub fn resolve(
        &mut self,
        organization: &OrganizationId,
        meter: &MeterId,
        dimensions: &Dimensions,
        at: Instant,
    ) -> Result<Resolved<'a>, Reason> {
        let indices = &mut self.indices;
        self.plan.resolve_under(self.plan.contracts_of(organization), at, |index, book| {
            indices.entry((index, meter.clone())).or_insert_with(|| LineIndex::of(book, meter)).line(dimensions)
        })
    }
}

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
