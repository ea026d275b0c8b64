//! F: what the accumulated quantities of a key are worth, exactly, with the steps that led there.
//! It knows price rows and states; not readings, keys or batches.

mod measured;
mod steps;
mod windows;

use std::collections::{BTreeMap, HashMap};

use shared_types::{Amount, Price, PriceId, Quantity};

use crate::amount::Exact;
use crate::plan::{Plan, PriceModel, PriceRow, Tier};
use crate::ratio::Ratio;
use crate::state::SegmentState;

pub use self::measured::{Measured, measured};
pub(crate) use self::steps::{Allowance, defect_of, steps_of_one};
pub use self::windows::Committed;
pub(crate) use self::windows::{Window, each_window};

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
    /// A share of the value and fees for readings.
    Percentage,
    /// Each tier's part in blocks of the tier.
    Blocks,
    /// All in blocks of the tier reached.
    TopBlocks,
    /// An amount for the period.
    Flat,
    /// [`Rule::PerUnit`] of a quantity that a basis measures, converts or frees.
    MeasuredPerUnit,
    /// [`Rule::Package`] of such a quantity.
    MeasuredPackage,
    /// [`Rule::Graduated`] of such a quantity.
    MeasuredGraduated,
    /// [`Rule::Volume`] of such a quantity.
    MeasuredVolume,
    /// [`Rule::Blocks`] of such a quantity.
    MeasuredBlocks,
    /// [`Rule::TopBlocks`] of such a quantity.
    MeasuredTopBlocks,
    /// [`Rule::PerUnit`] of windows, each against what was promised for it.
    CommittedPerUnit,
    /// [`Rule::Package`] of such windows.
    CommittedPackage,
    /// [`Rule::Graduated`] of such windows.
    CommittedGraduated,
    /// [`Rule::Volume`] of such windows.
    CommittedVolume,
    /// [`Rule::Blocks`] of such windows.
    CommittedBlocks,
    /// [`Rule::TopBlocks`] of such windows.
    CommittedTopBlocks,
}

/// Every rule.
const RULES: [Rule; 21] = [
    Rule::PerUnit,
    Rule::Package,
    Rule::Graduated,
    Rule::Volume,
    Rule::Free,
    Rule::Percentage,
    Rule::Blocks,
    Rule::TopBlocks,
    Rule::Flat,
    Rule::MeasuredPerUnit,
    Rule::MeasuredPackage,
    Rule::MeasuredGraduated,
    Rule::MeasuredVolume,
    Rule::MeasuredBlocks,
    Rule::MeasuredTopBlocks,
    Rule::CommittedPerUnit,
    Rule::CommittedPackage,
    Rule::CommittedGraduated,
    Rule::CommittedVolume,
    Rule::CommittedBlocks,
    Rule::CommittedTopBlocks,
];

impl Rule {
    /// Stable code with the version of the semantics, for example `graduated/1`.
    pub fn code(self) -> &'static str {
        match self {
            Self::PerUnit => "per_unit/1",
            Self::Package => "package/1",
            Self::Graduated => "graduated/1",
            Self::Volume => "volume/1",
            Self::Free => "free/1",
            Self::Percentage => "percentage/1",
            Self::Blocks => "blocks/1",
            Self::TopBlocks => "top_blocks/1",
            Self::Flat => "flat/1",
            Self::MeasuredPerUnit => "measured_per_unit/1",
            Self::MeasuredPackage => "measured_package/1",
            Self::MeasuredGraduated => "measured_graduated/1",
            Self::MeasuredVolume => "measured_volume/1",
            Self::MeasuredBlocks => "measured_blocks/1",
            Self::MeasuredTopBlocks => "measured_top_blocks/1",
            Self::CommittedPerUnit => "committed_per_unit/1",
            Self::CommittedPackage => "committed_package/1",
            Self::CommittedGraduated => "committed_graduated/1",
            Self::CommittedVolume => "committed_volume/1",
            Self::CommittedBlocks => "committed_blocks/1",
            Self::CommittedTopBlocks => "committed_top_blocks/1",
        }
    }

    /// The rule of a code.
    pub fn from_code(code: &str) -> Option<Self> {
        RULES.into_iter().find(|rule| rule.code() == code)
    }

    /// The rule of a row.
    pub fn of(row: &PriceRow) -> Self {
        let plain = row.basis.is_plain();
        match &row.model {
            PriceModel::PerUnit { .. } if plain => Self::PerUnit,
            PriceModel::PerUnit { .. } => Self::MeasuredPerUnit,
            PriceModel::Package { .. } if plain => Self::Package,
            PriceModel::Package { .. } => Self::MeasuredPackage,
            PriceModel::Graduated { .. } if plain => Self::Graduated,
            PriceModel::Graduated { .. } => Self::MeasuredGraduated,
            PriceModel::Volume { .. } if plain => Self::Volume,
            PriceModel::Volume { .. } => Self::MeasuredVolume,
            PriceModel::Blocks { top: false, .. } if plain => Self::Blocks,
            PriceModel::Blocks { top: false, .. } => Self::MeasuredBlocks,
            PriceModel::Blocks { .. } if plain => Self::TopBlocks,
            PriceModel::Blocks { .. } => Self::MeasuredTopBlocks,
            PriceModel::Percentage(_) => Self::Percentage,
            PriceModel::Flat { .. } => Self::Flat,
            PriceModel::Free { .. } => Self::Free,
            PriceModel::Committed { model, .. } => match model.as_ref() {
                PriceModel::PerUnit { .. } => Self::CommittedPerUnit,
                PriceModel::Package { .. } => Self::CommittedPackage,
                PriceModel::Graduated { .. } => Self::CommittedGraduated,
                PriceModel::Volume { .. } => Self::CommittedVolume,
                PriceModel::Blocks { top: false, .. } => Self::CommittedBlocks,
                PriceModel::Blocks { .. } => Self::CommittedTopBlocks,
                // Malformed: a plan with such a row is refused.
                PriceModel::Percentage(_) | PriceModel::Flat { .. } | PriceModel::Free { .. } | PriceModel::Committed { .. } => Self::Free,
            },
        }
    }

    /// The rule of the same model on Σ quantity.
    pub fn of_model(self) -> Self {
        match self {
            Self::MeasuredPerUnit | Self::CommittedPerUnit => Self::PerUnit,
            Self::MeasuredPackage | Self::CommittedPackage => Self::Package,
            Self::MeasuredGraduated | Self::CommittedGraduated => Self::Graduated,
            Self::MeasuredVolume | Self::CommittedVolume => Self::Volume,
            Self::MeasuredBlocks | Self::CommittedBlocks => Self::Blocks,
            Self::MeasuredTopBlocks | Self::CommittedTopBlocks => Self::TopBlocks,
            other => other,
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
    /// The state holds something else than the row measures.
    #[error("the state of price {price} does not hold what its measure needs")]
    StateDiffers {
        /// The row.
        price: PriceId,
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
    /// How much of the quantity is priced here, in the unit that is priced.
    pub quantity: Ratio,
    /// How many packages, blocks or readings that makes; none where the quantity itself is priced.
    pub packages: Option<i128>,
    /// Units in a block; block prices only.
    pub block: Option<Quantity>,
    /// Money for `per` units, or for one package, block or reading.
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
    /// What the row measures: Σ quantity, or what its basis says; several where each bucket is priced alone.
    pub measured: Vec<Ratio>,
    /// The same after conversion and free units: what the model prices.
    pub billed: Vec<Ratio>,
    /// Unit size of the unit prices.
    pub per: Quantity,
    /// Its worth in money as a reduced fraction, `n/d` or `n` ([`Exact::text`]).
    pub exact: String,
    /// The steps, in order of tiers. Of a commitment for windows they are what the windows cost by the model.
    pub steps: Vec<Step>,
    /// What a commitment for windows makes of their cost; none without one.
    pub committed: Option<Committed>,
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
        let (worth, committed) = judged(row, segment, |step| steps.push(*step))?;
        let steps = merged(steps).ok_or(EvaluateError::Overflow)?;
        sum.add(&worth).ok_or(EvaluateError::Overflow)?;
        let priced = |quantities: Option<Vec<steps::Billed>>| {
            Ok(quantities.ok_or(EvaluateError::Overflow)?.into_iter().map(|billed| billed.priced).collect())
        };
        explained.push(Segment {
            price_id: price.clone(),
            rule: Rule::of(row),
            quantity: segment.quantity,
            readings: segment.readings,
            measured: priced(steps::measured(row, segment))?,
            billed: priced(steps::billed(row, segment))?,
            per: row.per,
            exact: worth.text(),
            steps,
            committed: committed.map(|sums| sums.shown()),
        });
    }
    let rounded = sum.round().ok_or(EvaluateError::Overflow)?;
    Ok(Evaluation { segments: explained, exact: sum.text(), rounded })
}

/// Steps of many buckets at one price as one.
fn merged(steps: Vec<Step>) -> Option<Vec<Step>> {
    let mut merged: Vec<Step> = Vec::with_capacity(steps.len());
    for step in steps {
        match merged.iter_mut().find(|known| known.is_like(&step)) {
            Some(known) => {
                known.quantity = known.quantity.checked_add(step.quantity)?;
                known.packages = known
                    .packages
                    .map(|packages| packages.checked_add(step.packages.unwrap_or(0)))
                    .map_or(Some(None), |sum| sum.map(Some))?;
                known.flat_fee = known.flat_fee.checked_add(step.flat_fee).ok()?;
            }
            None => merged.push(step),
        }
    }
    Some(merged)
}

/// What a row makes of a segment's state, exactly; `visit` sees each step.
pub(crate) fn worth(row: &PriceRow, segment: &SegmentState, visit: impl FnMut(&Step)) -> Result<Exact, EvaluateError> {
    Ok(judged(row, segment, visit)?.0)
}

/// As [`worth`], with what a commitment for windows made of it.
fn judged(row: &PriceRow, segment: &SegmentState, mut visit: impl FnMut(&Step)) -> Result<(Exact, Option<windows::Sums>), EvaluateError> {
    if let PriceModel::Committed { commitment, .. } = &row.model {
        let sums = windows::sums(row, commitment, segment, visit)?;
        return Ok((sums.worth.clone(), Some(sums)));
    }
    let mut sum = Exact::default();
    steps::steps(row, segment, |step| {
        step.add_to(&mut sum, row.per)?;
        visit(&step);
        Some(())
    })?;
    Ok((sum, None))
}

impl Step {
    /// A quantity at a price, without tier and fee.
    fn of(quantity: Ratio, unit_price: Price) -> Self {
        Self { above: Quantity::ZERO, up_to: None, quantity, packages: None, block: None, unit_price, flat_fee: Price::ZERO }
    }

    /// Whether it prices the same tier at the same price.
    fn is_like(&self, other: &Self) -> bool {
        let place = |step: &Self| (step.above, step.unit_price, step.packages.is_some());
        place(self) == place(other)
    }

    /// A quantity in a tier.
    fn in_tier(tier: &Tier, above: Quantity, quantity: Ratio, flat_fee_due: bool) -> Self {
        let flat_fee = if flat_fee_due { tier.flat_fee } else { Price::ZERO };
        Self { above, up_to: tier.up_to, flat_fee, ..Self::of(quantity, tier.unit_price) }
    }

    /// Adds what the step is worth, for unit prices of `per` units.
    pub(crate) fn add_to(&self, sum: &mut Exact, per: Quantity) -> Option<()> {
        let (factor, per) = match self.packages {
            Some(packages) => (packages, 1),
            None if self.quantity.denominator() == 1 => (self.quantity.units(), per.units()),
            None => (self.quantity.units(), per.units().checked_mul(self.quantity.denominator())?),
        };
        sum.add_quotient(factor, self.unit_price.units(), per)?;
        if self.flat_fee != Price::ZERO {
            sum.add_quotient(1, self.flat_fee.units(), 1)?;
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shared_types::Instant;

    fn row(per: &str, model: PriceModel) -> PriceRow {
        PriceRow {
            id: PriceId::parse("p").unwrap(),
            effective_at: Instant::EPOCH,
            per: per.parse().unwrap(),
            model,
            basis: crate::Basis::default(),
        }
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
            let worth = worth(row, &SegmentState::of_sums(quantity.parse().unwrap(), 1), |_| {}).map(|worth| worth.text());
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
            let refused = worth(&row, &SegmentState::of_sums("5".parse().unwrap(), 1), |_| {}).map(|worth| worth.text());
            let defect = defect_of(&row).unwrap();
            assert_eq!(refused, Err(EvaluateError::Malformed { price: row.id, defect }));
        }
    }

    #[test]
    fn an_evaluation_shows_segments_steps_fraction_and_rounding() {
        let plan_row = row("3", PriceModel::Graduated { tiers: tiers() });
        let prices = PriceIndex(HashMap::from([(&plan_row.id, &plan_row)]));
        let segments = BTreeMap::from([(plan_row.id.clone(), SegmentState::of_sums("11".parse().unwrap(), 2))]);
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
