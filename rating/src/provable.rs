//! Which prices a bundle can prove: those that every verifier of its format recomputes (`docs/architecture/bundle-format.md`). The verifiers
//! share no code with this crate; the matches here name every measure and model, so that a new one does not compile before it is decided.

use crate::basis::{FirstFee, Measure};
use crate::plan::{PriceModel, PriceRow, TrueUp};

impl PriceRow {
    /// What of it no verifier recomputes yet, by its name in documents; none where a bundle proves all of it.
    pub fn unproved(&self) -> Option<&'static str> {
        let fee = match self.basis.first_fee {
            FirstFee::WhenUsed => None,
            FirstFee::Always => Some("first_fee"),
        };
        let measure = match self.basis.measure {
            Measure::Sum
            | Measure::Average
            | Measure::Max
            | Measure::Min
            | Measure::Latest
            | Measure::Unique { .. }
            | Measure::TimeWeighted { .. }
            | Measure::Prorated { .. }
            | Measure::Each
            | Measure::Stepped(_)
            | Measure::Bucketed { .. } => None,
        };
        let model = match self.model.of_quantity() {
            PriceModel::Flat { .. } => Some("flat"),
            PriceModel::PerUnit { .. }
            | PriceModel::Package { .. }
            | PriceModel::Graduated { .. }
            | PriceModel::Volume { .. }
            | PriceModel::Percentage(_)
            | PriceModel::Blocks { .. }
            | PriceModel::Free { .. }
            | PriceModel::Committed { .. } => None,
        };
        let committed = match &self.model {
            PriceModel::Committed { commitment, .. } => match commitment.true_up {
                TrueUp::None | TrueUp::WhenUsed | TrueUp::Always => None,
            },
            _ => None,
        };
        fee.or(measure).or(model).or(committed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::basis::Basis;
    use shared_types::{Instant, Price, PriceId};

    #[test]
    fn what_no_verifier_recomputes_is_named() {
        let row = |model: PriceModel, first_fee: FirstFee| PriceRow {
            id: PriceId::parse("p").unwrap(),
            effective_at: Instant::EPOCH,
            per: "1".parse().unwrap(),
            model,
            basis: Basis { measure: Measure::Max, first_fee, ..Basis::default() },
        };
        let tiers = PriceModel::Volume { tiers: Vec::new() };
        assert_eq!(row(PriceModel::Flat { amount: Price::ZERO }, FirstFee::WhenUsed).unproved(), Some("flat"));
        assert_eq!(row(tiers.clone(), FirstFee::Always).unproved(), Some("first_fee"));
        assert_eq!(row(tiers, FirstFee::WhenUsed).unproved(), None);
    }
}
