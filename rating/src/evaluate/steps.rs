//! The arithmetic of the price models: from a segment's state to the steps at which it is priced. It knows no key and no rounding of money.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use shared_types::{Price, Quantity};

use super::{EvaluateError, Step};
use crate::basis::{Basis, FirstFee, Measure, Then};
use crate::plan::{BlockTier, Percentage, PriceModel, PriceRow, Tier};
use crate::ratio::Ratio;
use crate::state::{Classes, Detail, SegmentState, StepSum, counted};

/// A quantity on its way through a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Billed {
    /// What is priced.
    pub(super) priced: Ratio,
    /// What tiers go by; another one than `priced` only for prorated levels.
    pub(super) reached: Ratio,
}

/// Why a quantity has no steps.
enum Failure {
    Overflow,
    Malformed(&'static str),
}

impl Failure {
    fn of(self, row: &PriceRow) -> EvaluateError {
        match self {
            Self::Overflow => EvaluateError::Overflow,
            Self::Malformed(defect) => EvaluateError::Malformed { price: row.id.clone(), defect },
        }
    }
}

impl From<&'static str> for Failure {
    fn from(defect: &'static str) -> Self {
        Self::Malformed(defect)
    }
}

/// Refuses a state that is not the one that the row needs, and a row without a unit size.
pub(super) fn fits(row: &PriceRow, segment: &SegmentState) -> Result<(), EvaluateError> {
    if row.per <= Quantity::ZERO {
        return Err(EvaluateError::Malformed { price: row.id.clone(), defect: "its unit size is not above zero" });
    }
    if !segment.detail.fits(row.basis.shape(&row.model)) {
        return Err(EvaluateError::StateDiffers { price: row.id.clone() });
    }
    Ok(())
}

/// Splits a segment's state into the steps at which its row prices it.
pub(super) fn steps(row: &PriceRow, segment: &SegmentState, mut take: impl FnMut(Step) -> Option<()>) -> Result<(), EvaluateError> {
    fits(row, segment)?;
    let mut run = || -> Result<(), Failure> {
        match (&row.model, &segment.detail) {
            (PriceModel::Free { .. }, _) => Ok(()),
            (PriceModel::Flat { amount }, _) => {
                take(Step { packages: Some(1), ..Step::of(Ratio::from(segment.quantity), *amount) }).ok_or(Failure::Overflow)
            }
            (PriceModel::Percentage(terms), _) => percentage(terms, row.per, segment, &mut take),
            (PriceModel::Graduated { tiers }, Detail::Levels { .. }) => levels(tiers, &row.basis, &segment.detail, &mut take),
            (model, Detail::Steps(sums)) => alone(model, sums, &mut take),
            (model, _) if row.basis.is_plain() => {
                let quantity = Ratio::from(segment.quantity);
                of_model(model, &row.basis, Billed { priced: quantity, reached: quantity }, &mut take)
            }
            (model, _) => billed(row, segment)
                .ok_or(Failure::Overflow)?
                .into_iter()
                .try_for_each(|billed| of_model(model, &row.basis, billed, &mut take)),
        }
    };
    run().map_err(|failure| failure.of(row))
}

/// The steps of one window that is priced alone.
pub(super) fn of_window(row: &PriceRow, quantity: Quantity, mut take: impl FnMut(Step) -> Option<()>) -> Result<(), EvaluateError> {
    let billed = bill(&row.basis, Ratio::from(quantity)).ok_or(EvaluateError::Overflow)?;
    of_model(row.model.of_quantity(), &row.basis, Billed { priced: billed, reached: billed }, &mut take).map_err(|failure| failure.of(row))
}

/// The steps of one reading that is priced alone; none when it does not fit.
pub(crate) fn steps_of_one(row: &PriceRow, quantity: Quantity) -> Option<Vec<Step>> {
    let billed = bill(&row.basis, Ratio::from(quantity))?;
    let mut steps = Vec::new();
    let mut take = |step| {
        steps.push(step);
        Some(())
    };
    of_model(&row.model, &row.basis, Billed { priced: billed, reached: billed }, &mut take).ok()?;
    Some(steps)
}

/// What the tiers got of readings that were priced alone, at the tiers' prices.
fn alone(model: &PriceModel, sums: &BTreeMap<Quantity, StepSum>, take: &mut impl FnMut(Step) -> Option<()>) -> Result<(), Failure> {
    for (above, sum) in sums {
        // Lower bound, upper bound, block, price, flat fee.
        let tier = match model {
            PriceModel::PerUnit { unit_price } => Some((None, None, *unit_price, Price::ZERO, false)),
            PriceModel::Package { package_price, .. } => Some((None, None, *package_price, Price::ZERO, true)),
            PriceModel::Graduated { tiers } | PriceModel::Volume { tiers } => {
                let found = bounded(tiers, |tier| tier.up_to).filter_map(Result::ok).find(|(lower, _)| lower == above);
                found.map(|(_, tier)| (tier.up_to, None, tier.unit_price, tier.flat_fee, false))
            }
            PriceModel::Blocks { tiers, .. } => {
                let found = bounded(tiers, |tier| tier.up_to).filter_map(Result::ok).find(|(lower, _)| lower == above);
                found.map(|(_, tier)| (tier.up_to, Some(tier.size), tier.block_price, Price::ZERO, true))
            }
            PriceModel::Percentage(_) | PriceModel::Flat { .. } | PriceModel::Free { .. } | PriceModel::Committed { .. } => None,
        };
        let (up_to, block, price, flat_fee, counted) = tier.ok_or("it has no tier for what was priced before")?;
        let packages = counted.then_some(sum.packages);
        take(Step { above: *above, up_to, packages, block, ..Step::of(Ratio::from(sum.quantity), price) }).ok_or(Failure::Overflow)?;
        if sum.fees > 0 {
            let packages = Some(i128::from(sum.fees));
            take(Step { above: *above, up_to, packages, ..Step::of(Ratio::ZERO, flat_fee) }).ok_or(Failure::Overflow)?;
        }
    }
    Ok(())
}

/// What the state measures: one quantity, or one for each bucket that is priced alone. None when it does not fit.
pub(super) fn measured(row: &PriceRow, segment: &SegmentState) -> Option<Vec<Billed>> {
    let one = |priced: Ratio| Some(vec![Billed { priced, reached: priced }]);
    match (&row.basis.measure, &segment.detail) {
        (Measure::Average, _) => {
            one(if segment.readings == 0 { Ratio::ZERO } else { Ratio::new(segment.quantity.units(), i128::from(segment.readings))? })
        }
        (_, Detail::Extreme(quantity)) => one(Ratio::from(*quantity)),
        (_, Detail::Latest(_, quantity)) => one(Ratio::from(Quantity::ZERO.max(*quantity))),
        (_, Detail::Set { days, items }) => {
            one(Ratio::new(i128::try_from(items.len()).ok()?.checked_mul(1_000_000_000)?, i128::from(*days).max(1))?)
        }
        (Measure::Stepped(stepped), Detail::Held { unit_micros, period_micros }) => {
            one(Ratio::new(*unit_micros, if stepped.share { i128::from(*period_micros) } else { 1_000_000 })?)
        }
        (Measure::Stepped(stepped), Detail::Sessions { period_micros, held }) => {
            one(Ratio::new(counted(stepped, held)?, if stepped.share { i128::from(*period_micros) } else { 1_000_000 })?)
        }
        (Measure::Prorated { .. }, Detail::Held { unit_micros, period_micros }) => {
            Some(vec![Billed { priced: Ratio::new(*unit_micros, i128::from(*period_micros))?, reached: Ratio::from(segment.quantity) }])
        }
        (_, Detail::Held { unit_micros, .. }) => one(Ratio::new(*unit_micros, 1_000_000)?),
        (_, Detail::Levels { period_micros, changes }) => {
            let sum = changes
                .values()
                .try_fold(0_i128, |sum, (quantity, held)| sum.checked_add(quantity.units().checked_mul(i128::from(*held))?))?;
            Some(vec![Billed { priced: Ratio::new(sum, i128::from(*period_micros))?, reached: Ratio::from(segment.quantity) }])
        }
        (Measure::Bucketed { then, .. }, Detail::Buckets { count, values }) => match then {
            Then::Sum => one(values.values().try_fold(Ratio::ZERO, |sum, value| sum.checked_add(Ratio::from(*value)))?),
            Then::Alone => {
                Some(values.values().map(|value| Billed { priced: Ratio::from(*value), reached: Ratio::from(*value) }).collect())
            }
            Then::Percentile(percent) => one(percentile(values.values().copied().collect(), *count, *percent)?),
        },
        _ => one(Ratio::from(segment.quantity)),
    }
}

/// The value that so many of a hundred buckets do not exceed: the one at rank ⌈count × percent ÷ 100⌉, empty buckets being zero.
fn percentile(mut values: Vec<Quantity>, count: u32, percent: u8) -> Option<Ratio> {
    let count = usize::try_from(count).ok()?.max(values.len());
    values.resize(count, Quantity::ZERO);
    values.sort_unstable();
    let rank = count.checked_mul(usize::from(percent))?.div_ceil(100).checked_sub(1)?;
    Some(values.get(rank).copied().map_or(Ratio::ZERO, Ratio::from))
}

/// What is measured, converted and without its free units. None when it does not fit.
pub(super) fn billed(row: &PriceRow, segment: &SegmentState) -> Option<Vec<Billed>> {
    if let Detail::Steps(sums) = &segment.detail {
        // Converted and freed reading by reading.
        let sum = sums.values().try_fold(Ratio::ZERO, |sum, step| sum.checked_add(Ratio::from(step.quantity)))?;
        return Some(vec![Billed { priced: sum, reached: sum }]);
    }
    let one = |quantity: Ratio| bill(&row.basis, quantity);
    measured(row, segment)?.into_iter().map(|billed| Some(Billed { priced: one(billed.priced)?, reached: one(billed.reached)? })).collect()
}

/// A quantity, converted and without its free units. None when it does not fit.
fn bill(basis: &Basis, quantity: Ratio) -> Option<Ratio> {
    let quantity = basis.convert.map_or(Some(quantity), |convert| convert.apply(quantity))?;
    // Free units lessen what is owed; they never make a quantity below zero, nor touch one that is.
    if quantity <= Ratio::ZERO { Some(quantity) } else { Some(quantity.checked_sub(Ratio::from(basis.free))?.max(Ratio::ZERO)) }
}

fn of_model(model: &PriceModel, basis: &Basis, billed: Billed, take: &mut impl FnMut(Step) -> Option<()>) -> Result<(), Failure> {
    let quantity = billed.priced;
    match model {
        PriceModel::PerUnit { unit_price } => take(Step::of(quantity, *unit_price)).ok_or(Failure::Overflow),
        PriceModel::Package { size, package_price } => {
            if *size <= Quantity::ZERO {
                return Err("its package size is not above zero".into());
            }
            let packages = quantity.begun(*size).ok_or(Failure::Overflow)?;
            take(Step { packages: Some(packages), ..Step::of(quantity, *package_price) }).ok_or(Failure::Overflow)
        }
        PriceModel::Graduated { tiers } => {
            for bounded in bounded(tiers, |tier| tier.up_to) {
                let (above, tier) = bounded?;
                let first = above == Quantity::ZERO;
                if !first && quantity.cmp_quantity(above) != Ordering::Greater {
                    break;
                }
                let part = part_in(quantity, above, tier.up_to).ok_or(Failure::Overflow)?;
                let due = quantity.cmp_quantity(above) == Ordering::Greater || (first && basis.first_fee == FirstFee::Always);
                take(Step::in_tier(tier, above, part, due)).ok_or(Failure::Overflow)?;
            }
            Ok(())
        }
        PriceModel::Volume { tiers } => {
            for bounded in bounded(tiers, |tier| tier.up_to) {
                let (above, tier) = bounded?;
                if reaches(billed.reached, tier.up_to) {
                    let due = billed.reached > Ratio::ZERO || basis.first_fee == FirstFee::Always;
                    return take(Step::in_tier(tier, above, quantity, due)).ok_or(Failure::Overflow);
                }
            }
            Ok(())
        }
        PriceModel::Blocks { tiers, top } => blocks(tiers, *top, billed, take),
        PriceModel::Percentage(_) | PriceModel::Flat { .. } | PriceModel::Free { .. } | PriceModel::Committed { .. } => Ok(()),
    }
}

/// Whether a quantity lies at or below a tier's bound.
fn reaches(quantity: Ratio, up_to: Option<Quantity>) -> bool {
    up_to.is_none_or(|bound| quantity.cmp_quantity(bound) != Ordering::Greater)
}

/// The part of a quantity above one bound and up to another.
fn part_in(quantity: Ratio, above: Quantity, up_to: Option<Quantity>) -> Option<Ratio> {
    up_to.map_or(quantity, |bound| quantity.min(Ratio::from(bound))).checked_sub(Ratio::from(above))
}

fn blocks(tiers: &[BlockTier], top: bool, billed: Billed, take: &mut impl FnMut(Step) -> Option<()>) -> Result<(), Failure> {
    for bounded in bounded(tiers, |tier| tier.up_to) {
        let (above, tier) = bounded?;
        if tier.size <= Quantity::ZERO {
            return Err("its block size is not above zero".into());
        }
        let mut visit = |part: Ratio| {
            let packages = Some(part.begun(tier.size)?);
            take(Step { above, up_to: tier.up_to, packages, block: Some(tier.size), ..Step::of(part, tier.block_price) })
        };
        if top {
            if reaches(billed.reached, tier.up_to) {
                return visit(billed.priced).ok_or(Failure::Overflow);
            }
        } else if above == Quantity::ZERO || billed.priced.cmp_quantity(above) == Ordering::Greater {
            part_in(billed.priced, above, tier.up_to).and_then(&mut visit).ok_or(Failure::Overflow)?;
        }
    }
    Ok(())
}

/// Each change of a level, in order, spread over the tiers that it passes and weighted with the share of the period that it is held.
fn levels(tiers: &[Tier], basis: &Basis, detail: &Detail, take: &mut impl FnMut(Step) -> Option<()>) -> Result<(), Failure> {
    let Detail::Levels { period_micros, changes } = detail else { return Ok(()) };
    for bounded in bounded(tiers, |tier| tier.up_to) {
        let (above, tier) = bounded?;
        let first = above == Quantity::ZERO;
        let part = || -> Option<(i128, bool)> {
            let inside = |level: Quantity| {
                let level = tier.up_to.map_or(level, |bound| level.min(bound));
                if first { Some(level.units()) } else { level.max(above).units().checked_sub(above.units()) }
            };
            let (mut level, mut sum, mut entered) = (Quantity::ZERO, 0_i128, first && basis.first_fee == FirstFee::Always);
            for (quantity, held) in changes.values() {
                let after = level.checked_add(*quantity).ok()?;
                let moved = inside(after)?.checked_sub(inside(level)?)?;
                sum = sum.checked_add(moved.checked_mul(i128::from(*held))?)?;
                entered |= after > above;
                level = after;
            }
            Some((sum, entered))
        };
        let (sum, entered) = part().ok_or(Failure::Overflow)?;
        if first || entered {
            let quantity = Ratio::new(sum, i128::from(*period_micros)).ok_or(Failure::Overflow)?;
            take(Step::in_tier(tier, above, quantity, entered)).ok_or(Failure::Overflow)?;
        }
    }
    Ok(())
}

/// What is left of an allowance.
pub(crate) struct Allowance {
    readings: Option<u64>,
    units: Option<i128>,
}

impl Allowance {
    pub(crate) fn of(terms: &Percentage) -> Self {
        Self {
            readings: (terms.free_readings > 0).then_some(terms.free_readings),
            units: (terms.free_quantity > Quantity::ZERO).then(|| terms.free_quantity.units()),
        }
    }

    /// Whether nothing is free any more: a limit is used up, or there is none.
    pub(crate) fn is_over(&self) -> bool {
        self.readings == Some(0) || self.units == Some(0) || (self.readings.is_none() && self.units.is_none())
    }

    /// Uses it for a reading; how much of the reading is charged, none when all of it is free.
    pub(crate) fn take(&mut self, quantity: Quantity) -> Option<Quantity> {
        if self.is_over() {
            return Some(quantity);
        }
        self.readings = self.readings.map(|left| left.saturating_sub(1));
        let Some(left) = &mut self.units else { return None };
        let free = quantity.units().clamp(0, *left);
        *left = left.saturating_sub(free);
        let charged = quantity.units().saturating_sub(free);
        (charged > 0).then(|| Quantity::from_units(charged).unwrap_or(quantity))
    }
}

fn percentage(terms: &Percentage, per: Quantity, segment: &SegmentState, take: &mut impl FnMut(Step) -> Option<()>) -> Result<(), Failure> {
    if segment.quantity <= Quantity::ZERO {
        return Ok(());
    }
    let charged = || -> Option<(Classes, u64)> {
        let Detail::Transactions { head, tail } = &segment.detail else {
            return Some((Classes { within: segment.quantity, ..Classes::default() }, segment.readings));
        };
        let (mut classes, mut allowance) = (*tail, Allowance::of(terms));
        let mut paid = segment.readings.checked_sub(u64::try_from(head.len()).ok()?)?;
        for quantity in head.values() {
            if let Some(charged) = allowance.take(*quantity) {
                classes.add(terms, per, charged)?;
                paid = paid.checked_add(1)?;
            }
        }
        Some((classes, paid))
    };
    let (classes, paid) = charged().ok_or(Failure::Overflow)?;
    take(Step::of(Ratio::from(classes.within), terms.rate)).ok_or(Failure::Overflow)?;
    let counted = [(classes.least, terms.least), (classes.most, terms.most), (paid, Some(terms.fee).filter(|fee| *fee != Price::ZERO))];
    for (count, price) in counted {
        if let Some(price) = price.filter(|_| count > 0) {
            take(Step { packages: Some(i128::from(count)), ..Step::of(Ratio::ZERO, price) }).ok_or(Failure::Overflow)?;
        }
    }
    Ok(())
}

/// Tiers with their lower bounds, each checked as it comes: bounds rise from above zero, the last tier and only it is open.
fn bounded<T>(tiers: &[T], up_to: impl Fn(&T) -> Option<Quantity> + Copy) -> impl Iterator<Item = Result<(Quantity, &T), &'static str>> {
    let lower = std::iter::once(Some(Quantity::ZERO)).chain(tiers.iter().map(up_to));
    let open_end = tiers.last().is_some_and(|tier| up_to(tier).is_none());
    let missing = (!open_end).then_some(Err("its tiers have no open end"));
    let tiers = lower.zip(tiers).map(move |(lower, tier)| match (lower, up_to(tier)) {
        (None, _) => Err("a tier follows the open one"),
        (Some(lower), Some(bound)) if bound <= lower => Err("its tier bounds do not rise from above zero"),
        (Some(lower), _) => Ok((lower, tier)),
    });
    missing.into_iter().chain(tiers)
}

/// What is wrong with a row whatever the quantity, as [`crate::Plan::validate`] asks.
pub(crate) fn defect_of(row: &PriceRow) -> Option<&'static str> {
    if row.per <= Quantity::ZERO {
        return Some("its unit size is not above zero");
    }
    let committed = match &row.model {
        PriceModel::Committed { commitment, model } => commitment.defect(&row.basis, model),
        _ => None,
    };
    let of_model = match row.model.of_quantity() {
        PriceModel::Package { size, .. } if *size <= Quantity::ZERO => Some("its package size is not above zero"),
        PriceModel::Graduated { tiers } | PriceModel::Volume { tiers } => bounded(tiers, |tier| tier.up_to).find_map(Result::err),
        PriceModel::Blocks { tiers, .. } if tiers.iter().any(|tier| tier.size <= Quantity::ZERO) => {
            Some("its block size is not above zero")
        }
        PriceModel::Blocks { tiers, .. } => bounded(tiers, |tier| tier.up_to).find_map(Result::err),
        PriceModel::Percentage(terms) if terms.free_quantity < Quantity::ZERO => Some("its free value is below zero"),
        PriceModel::Percentage(terms) if terms.least.zip(terms.most).is_some_and(|(least, most)| least > most) => {
            Some("its least is above its most")
        }
        _ => None,
    };
    committed.or(of_model).or_else(|| row.basis.defect(&row.model))
}
