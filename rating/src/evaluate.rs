//! F: what the accumulated quantities of a key are worth, exactly, with the steps that led there.
//! It knows price rows and sums; not readings, keys or batches.

use std::collections::{BTreeMap, HashMap};

use shared_types::{Amount, Price, PriceId, Quantity};

use crate::amount::Exact;
use crate::plan::{Plan, PriceModel, PriceRow, Tier};
use crate::state::SegmentState;

/// The model and version of the semantics by which a quantity became money. A mended kernel gets a new version beside the old one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Rule {
    /// quantity × unit price ÷ per.
    PerUnit,
    /// Begun packages × package price.
    Package,
    /// Each tier's part at the tier's price.
    Graduated,
    /// All at the price of the tier reached.
    Volume,
    /// Nothing is owed.
    Free,
}

impl Rule {
    /// Stable code with the version of the semantics, for example `graduated/1`.
    pub fn code(self) -> &'static str {
        match self {
            Self::PerUnit => "per_unit/1",
            Self::Package => "package/1",
            Self::Graduated => "graduated/1",
            Self::Volume => "volume/1",
            Self::Free => "free/1",
        }
    }

    /// The rule of a code.
    pub fn from_code(code: &str) -> Option<Self> {
        [Self::PerUnit, Self::Package, Self::Graduated, Self::Volume, Self::Free].into_iter().find(|rule| rule.code() == code)
    }

    /// The rule of a model.
    pub fn of(model: &PriceModel) -> Self {
        match model {
            PriceModel::PerUnit { .. } => Self::PerUnit,
            PriceModel::Package { .. } => Self::Package,
            PriceModel::Graduated { .. } => Self::Graduated,
            PriceModel::Volume { .. } => Self::Volume,
            PriceModel::Free { .. } => Self::Free,
        }
    }
}

/// Why a state has no total.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EvaluateError {
    /// The plan lacks a row that the state refers to (`RAT-2`).
    #[error("price {price} was used before and is not in the registry version")]
    PriceMissing {
        /// The row.
        price: PriceId,
    },
    /// The row is not what the registry lets through.
    #[error("price {price} is malformed: {defect}")]
    Malformed {
        /// The row.
        price: PriceId,
        /// What is wrong with it.
        defect: &'static str,
    },
    /// The rounded total leaves the range of amounts.
    #[error("the total leaves the range of amounts")]
    Overflow,
}

/// Price rows of a plan by name.
#[derive(Debug, Default)]
pub struct PriceIndex<'a>(HashMap<&'a PriceId, &'a PriceRow>);

impl<'a> PriceIndex<'a> {
    /// All rows of all books. Names are unique in a registry version ([`Plan::validate`]).
    pub fn of(plan: &'a Plan) -> Self {
        let lines = plan.books.iter().flat_map(|book| book.lines.values().flatten());
        Self(lines.flat_map(|line| &line.prices).map(|row| (&row.id, row)).collect())
    }

    /// The row of a name.
    pub fn get(&self, price: &PriceId) -> Option<&'a PriceRow> {
        self.0.get(price).copied()
    }
}

/// A part of a quantity and what it was priced at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// Lower bound of the tier, exclusive, in the meter's unit; zero for the first tier and for models without tiers.
    pub above: Quantity,
    /// Upper bound of the tier, inclusive; none when open.
    pub up_to: Option<Quantity>,
    /// How much of the quantity is priced here, in the meter's unit.
    pub quantity: Quantity,
    /// How many packages that makes; package prices only.
    pub packages: Option<i128>,
    /// Money for `per` units, or for one package.
    pub unit_price: Price,
    /// Money due once, zero where none is.
    pub flat_fee: Price,
}

/// What one price row's part of a state is worth.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// The row.
    pub price_id: PriceId,
    /// By which rule.
    pub rule: Rule,
    /// Σ quantity, in the meter's unit.
    pub quantity: Quantity,
    /// How many readings.
    pub readings: u64,
    /// Unit size of the unit prices.
    pub per: Quantity,
    /// Its worth in money as a reduced fraction, `n/d` or `n` ([`Exact::text`]).
    pub exact: String,
    /// The steps, in order of tiers.
    pub steps: Vec<Step>,
}

/// F of a state, explained.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evaluation {
    /// Parts by price row, in order of their names.
    pub segments: Vec<Segment>,
    /// F in money as a reduced fraction, `n/d` or `n` ([`Exact::text`]).
    pub exact: String,
    /// T: F rounded once, half to even, at scale 9.
    pub rounded: Amount,
}

/// F and T of a state, with the steps that lead there.
///
/// - Units: quantities in the meter's unit, prices per `per` units, result in money of the key's currency.
/// - Errors: a row that is missing or malformed; a total out of range.
/// - Source: blueprint §5, the rule.
pub fn evaluate(segments: &BTreeMap<PriceId, SegmentState>, prices: &PriceIndex<'_>) -> Result<Evaluation, EvaluateError> {
    let mut sum = Exact::default();
    let mut explained = Vec::with_capacity(segments.len());
    for (price, segment) in segments {
        let row = prices.get(price).ok_or_else(|| EvaluateError::PriceMissing { price: price.clone() })?;
        let mut steps = Vec::new();
        let worth = worth(row, segment.quantity, |step| steps.push(*step))?;
        sum.add(&worth).ok_or(EvaluateError::Overflow)?;
        explained.push(Segment {
            price_id: price.clone(),
            rule: Rule::of(&row.model),
            quantity: segment.quantity,
            readings: segment.readings,
            per: row.per,
            exact: worth.text(),
            steps,
        });
    }
    let rounded = sum.round().ok_or(EvaluateError::Overflow)?;
    Ok(Evaluation { segments: explained, exact: sum.text(), rounded })
}

/// What a row makes of a summed quantity, exactly; `visit` sees each step.
pub(crate) fn worth(row: &PriceRow, quantity: Quantity, mut visit: impl FnMut(&Step)) -> Result<Exact, EvaluateError> {
    let mut sum = Exact::default();
    steps(row, quantity, |step| {
        step.add_to(&mut sum, row.per)?;
        visit(&step);
        Some(())
    })?;
    Ok(sum)
}

impl Step {
    /// Adds what the step is worth, for unit prices of `per` units.
    pub(crate) fn add_to(&self, sum: &mut Exact, per: Quantity) -> Option<()> {
        let (factor, per) = self.packages.map_or((self.quantity.units(), per.units()), |packages| (packages, 1));
        sum.add_quotient(factor, self.unit_price.units(), per)?;
        if self.flat_fee != Price::ZERO {
            sum.add_quotient(1, self.flat_fee.units(), 1)?;
        }
        Some(())
    }
}

/// Splits a quantity into the steps at which its model prices it.
fn steps(row: &PriceRow, quantity: Quantity, mut take: impl FnMut(Step) -> Option<()>) -> Result<(), EvaluateError> {
    let malformed = |defect| EvaluateError::Malformed { price: row.id.clone(), defect };
    if row.per <= Quantity::ZERO {
        return Err(malformed("its unit size is not above zero"));
    }
    let whole = |unit_price, packages| Step { above: Quantity::ZERO, up_to: None, quantity, packages, unit_price, flat_fee: Price::ZERO };
    match &row.model {
        PriceModel::PerUnit { unit_price } => take(whole(*unit_price, None)).ok_or(EvaluateError::Overflow),
        PriceModel::Package { size, package_price } => {
            if *size <= Quantity::ZERO {
                return Err(malformed("its package size is not above zero"));
            }
            let packages = packages(quantity, *size).ok_or(EvaluateError::Overflow)?;
            take(whole(*package_price, Some(packages))).ok_or(EvaluateError::Overflow)
        }
        PriceModel::Graduated { tiers } => {
            for bounded in bounded(tiers) {
                let (above, tier) = bounded.map_err(malformed)?;
                let first = above == Quantity::ZERO;
                if !first && quantity <= above {
                    break;
                }
                let top = tier.up_to.map_or(quantity, |bound| bound.min(quantity));
                let part = top.checked_sub(above).map_err(|_| EvaluateError::Overflow)?;
                take(step_in(tier, above, part, quantity > above)).ok_or(EvaluateError::Overflow)?;
            }
            Ok(())
        }
        PriceModel::Volume { tiers } => {
            for bounded in bounded(tiers) {
                let (above, tier) = bounded.map_err(malformed)?;
                if tier.up_to.is_none_or(|bound| quantity <= bound) {
                    return take(step_in(tier, above, quantity, quantity > Quantity::ZERO)).ok_or(EvaluateError::Overflow);
                }
            }
            Ok(())
        }
        PriceModel::Free { .. } => Ok(()),
    }
}

fn step_in(tier: &Tier, above: Quantity, quantity: Quantity, flat_fee_due: bool) -> Step {
    let flat_fee = if flat_fee_due { tier.flat_fee } else { Price::ZERO };
    Step { above, up_to: tier.up_to, quantity, packages: None, unit_price: tier.unit_price, flat_fee }
}

/// Begun packages: ceil(quantity ÷ size), none for negative quantities.
fn packages(quantity: Quantity, size: Quantity) -> Option<i128> {
    if quantity <= Quantity::ZERO {
        return Some(0);
    }
    let full = quantity.units().checked_div(size.units())?;
    let begun = quantity.units().checked_rem(size.units())? > 0;
    full.checked_add(i128::from(begun))
}

/// Tiers with their lower bounds, each checked as it comes: bounds rise from above zero, the last tier and only it is open.
fn bounded(tiers: &[Tier]) -> impl Iterator<Item = Result<(Quantity, &Tier), &'static str>> {
    let lower = std::iter::once(Some(Quantity::ZERO)).chain(tiers.iter().map(|tier| tier.up_to));
    let open_end = tiers.last().is_some_and(|tier| tier.up_to.is_none());
    let missing = (!open_end).then_some(Err("its tiers have no open end"));
    let tiers = lower.zip(tiers).map(|(lower, tier)| match (lower, tier.up_to) {
        (None, _) => Err("a tier follows the open one"),
        (Some(lower), Some(bound)) if bound <= lower => Err("its tier bounds do not rise from above zero"),
        (Some(lower), _) => Ok((lower, tier)),
    });
    missing.into_iter().chain(tiers)
}

/// What is wrong with a row whatever the quantity, as [`Plan::validate`] asks.
pub(crate) fn defect_of(row: &PriceRow) -> Option<&'static str> {
    if row.per <= Quantity::ZERO {
        return Some("its unit size is not above zero");
    }
    match &row.model {
        PriceModel::Package { size, .. } if *size <= Quantity::ZERO => Some("its package size is not above zero"),
        PriceModel::Graduated { tiers } | PriceModel::Volume { tiers } => bounded(tiers).find_map(Result::err),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shared_types::Instant;

    fn row(per: &str, model: PriceModel) -> PriceRow {
        PriceRow { id: PriceId::parse("p").unwrap(), effective_at: Instant::EPOCH, per: per.parse().unwrap(), model }
    }

    fn tier(up_to: &str, unit_price: &str, flat_fee: &str) -> Tier {
        Tier { up_to: up_to.parse().ok(), unit_price: unit_price.parse().unwrap(), flat_fee: flat_fee.parse().unwrap() }
    }

    fn tiers() -> Vec<Tier> {
        vec![tier("10", "2", "0.5"), tier("20", "1", "3"), tier("open", "0.1", "0")]
    }

    /// Each quantity with its exact worth.
    fn check(row: &PriceRow, worths: &[(&str, &str)]) {
        for (quantity, text) in worths {
            let worth = worth(row, quantity.parse().unwrap(), |_| {}).map(|worth| worth.text());
            assert_eq!(worth.as_deref(), Ok(*text), "{quantity} under {:?}", row.model);
        }
    }

    #[test]
    fn a_unit_price_is_for_per_units() {
        let million = row("1000000", PriceModel::PerUnit { unit_price: "3".parse().unwrap() });
        check(&million, &[("1", "3/1000000"), ("-2", "-3/500000"), ("0", "0"), ("1000000", "3")]);
        let hour = row("3600", PriceModel::PerUnit { unit_price: "2.1".parse().unwrap() });
        check(&hour, &[("0.000001", "7/12000000000"), ("3600", "21/10")]);
    }

    #[test]
    fn begun_packages_are_owed_and_negative_quantities_are_not() {
        let package = row("1000", PriceModel::Package { size: "10".parse().unwrap(), package_price: "1.5".parse().unwrap() });
        check(&package, &[("-5", "0"), ("0", "0"), ("0.000000001", "3/2"), ("10", "3/2"), ("10.000000001", "3"), ("20", "3")]);
    }

    #[test]
    fn graduated_bounds_belong_to_the_lower_tier_and_flat_fees_fall_due_above_them() {
        let graduated = row("1", PriceModel::Graduated { tiers: tiers() });
        check(&graduated, &[("-4", "-8"), ("0", "0"), ("1", "5/2"), ("10", "41/2"), ("10.000000001", "23500000001/1000000000")]);
        check(&graduated, &[("20", "67/2"), ("30", "69/2")]);
    }

    #[test]
    fn volume_prices_everything_in_the_tier_reached() {
        let volume = row("1", PriceModel::Volume { tiers: tiers() });
        check(&volume, &[("-4", "-8"), ("0", "0"), ("10", "41/2"), ("11", "14"), ("20", "23"), ("30", "3")]);
    }

    #[test]
    fn malformed_rows_are_named() {
        let defects = [
            row("0", PriceModel::PerUnit { unit_price: Price::ZERO }),
            row("1", PriceModel::Package { size: Quantity::ZERO, package_price: Price::ZERO }),
            row("1", PriceModel::Volume { tiers: vec![] }),
            row("1", PriceModel::Volume { tiers: vec![tier("1", "1", "0")] }),
            row("1", PriceModel::Graduated { tiers: vec![tier("2", "1", "0"), tier("2", "1", "0"), tier("open", "1", "0")] }),
            row("1", PriceModel::Graduated { tiers: vec![tier("0", "1", "0"), tier("open", "1", "0")] }),
            row("1", PriceModel::Graduated { tiers: vec![tier("open", "1", "0"), tier("open", "1", "0")] }),
        ];
        for row in defects {
            let refused = worth(&row, "5".parse().unwrap(), |_| {}).map(|worth| worth.text());
            let defect = defect_of(&row).unwrap();
            assert_eq!(refused, Err(EvaluateError::Malformed { price: row.id, defect }));
        }
    }

    #[test]
    fn an_evaluation_shows_segments_steps_fraction_and_rounding() {
        let plan_row = row("3", PriceModel::Graduated { tiers: tiers() });
        let prices = PriceIndex(HashMap::from([(&plan_row.id, &plan_row)]));
        let segments = BTreeMap::from([(plan_row.id.clone(), SegmentState { quantity: "11".parse().unwrap(), readings: 2 })]);
        let evaluation = evaluate(&segments, &prices).unwrap();
        assert_eq!((evaluation.exact.as_str(), evaluation.rounded.to_string().as_str()), ("21/2", "10.5"));
        let shown: Vec<String> = evaluation.segments[0]
            .steps
            .iter()
            .map(|step| format!("{}..{:?}: {} x {} + {}", step.above, step.up_to, step.quantity, step.unit_price, step.flat_fee))
            .collect();
        assert_eq!(shown, ["0..Some(Quantity(10)): 10 x 2 + 0.5", "10..Some(Quantity(20)): 1 x 1 + 3"]);
        let missing = evaluate(&segments, &PriceIndex::default());
        assert_eq!(missing, Err(EvaluateError::PriceMissing { price: plan_row.id.clone() }));
    }
}
