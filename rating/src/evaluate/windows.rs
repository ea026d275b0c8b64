//! Windows that are priced alone, each against what was promised for it. What a window costs by the model is owed up to the promise, × the
//! overage factor beyond it; what is missing to it is owed where the commitment says so. It knows no key and no rounding of money.

use shared_types::Quantity;

use super::{EvaluateError, Step, steps};
use crate::amount::Exact;
use crate::plan::{PriceRow, Promised, TrueUp, WindowCommitment};
use crate::state::{Detail, SegmentState};

/// Units of an overage factor in one whole: 10^9.
const ONE: i128 = 10_i128.pow(Quantity::SCALE);

/// What a commitment makes of the windows of a segment. Money as reduced fractions, `n/d` or `n` ([`Exact::text`]).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// Windows with a reading.
    pub used: u64,
    /// Windows without one that owe what was promised for them.
    pub unused: u64,
    /// What was promised for a window.
    pub promised: String,
    /// What the windows cost by the model.
    pub cost: String,
    /// What of it lies within what was promised.
    pub within: String,
    /// What lies beyond, times the overage factor.
    pub overage: String,
    /// What was promised and is missing, where it is owed.
    pub true_up: String,
}

/// The same as sums, with their sum.
pub(super) struct Sums {
    used: u64,
    unused: u64,
    promised: Exact,
    cost: Exact,
    within: Exact,
    overage: Exact,
    true_up: Exact,
    /// What is owed for all of it.
    pub(super) worth: Exact,
}

impl Sums {
    pub(super) fn shown(&self) -> Committed {
        Committed {
            used: self.used,
            unused: self.unused,
            promised: self.promised.text(),
            cost: self.cost.text(),
            within: self.within.text(),
            overage: self.overage.text(),
            true_up: self.true_up.text(),
        }
    }
}

/// One window with a reading.
pub(crate) struct Window {
    /// Its number within the service period, from 0.
    pub(crate) number: u32,
    /// What it measures.
    pub(crate) measured: Quantity,
    /// What it costs by the model.
    pub(crate) cost: Exact,
    /// Its cost less what was promised for it: below zero where that is not reached.
    pub(crate) beyond: Exact,
}

/// What one window costs by the model.
fn cost_of(row: &PriceRow, quantity: Quantity, mut visit: impl FnMut(&Step)) -> Result<Exact, EvaluateError> {
    let mut cost = Exact::default();
    steps::of_window(row, quantity, |step| {
        step.add_to(&mut cost, row.per)?;
        visit(&step);
        Some(())
    })?;
    Ok(cost)
}

fn promised(row: &PriceRow, commitment: &WindowCommitment) -> Result<Exact, EvaluateError> {
    match commitment.promised {
        Promised::Quantity(quantity) => cost_of(row, quantity, |_| {}),
        Promised::Amount(amount) => {
            let mut promised = Exact::default();
            promised.add_quotient(1, amount.units(), 1).ok_or(EvaluateError::Overflow)?;
            Ok(promised)
        }
    }
}

/// Visits the windows with a reading by their numbers, and the steps of each before it; what was promised for each of them.
pub(crate) fn each_window(
    row: &PriceRow,
    commitment: &WindowCommitment,
    segment: &SegmentState,
    mut visit: impl FnMut(&Step),
    mut take: impl FnMut(Window) -> Option<()>,
) -> Result<Exact, EvaluateError> {
    steps::fits(row, segment)?;
    let Detail::Buckets { values, .. } = &segment.detail else {
        return Err(EvaluateError::StateDiffers { price: row.id.clone() });
    };
    let promised = promised(row, commitment)?;
    let less = promised.times(-1, 1).ok_or(EvaluateError::Overflow)?;
    for (number, measured) in values {
        let cost = cost_of(row, *measured, &mut visit)?;
        let mut beyond = cost.clone();
        beyond.add(&less).ok_or(EvaluateError::Overflow)?;
        take(Window { number: *number, measured: *measured, cost, beyond }).ok_or(EvaluateError::Overflow)?;
    }
    Ok(promised)
}

/// What the windows of a segment come to; `visit` sees each step of the model.
pub(super) fn sums(
    row: &PriceRow,
    commitment: &WindowCommitment,
    segment: &SegmentState,
    visit: impl FnMut(&Step),
) -> Result<Sums, EvaluateError> {
    let (mut used, mut over) = (0_u64, 0_u64);
    let (mut cost, mut within, mut beyond, mut missing) = (Exact::default(), Exact::default(), Exact::default(), Exact::default());
    let promised = each_window(row, commitment, segment, visit, |window| {
        used = used.checked_add(1)?;
        cost.add(&window.cost)?;
        if window.beyond.is_negative()? {
            within.add(&window.cost)?;
            missing.add(&window.beyond)
        } else {
            over = over.checked_add(1)?;
            beyond.add(&window.beyond)
        }
    })?;
    let windows = if let Detail::Buckets { count, .. } = segment.detail { u64::from(count) } else { 0 };
    let unused = if commitment.true_up == TrueUp::Always { windows.saturating_sub(used) } else { 0 };
    let owed = || -> Option<Sums> {
        within.add(&promised.times(i128::from(over), 1)?)?;
        let overage = beyond.times(commitment.overage_factor.units(), ONE)?;
        let mut true_up = promised.times(i128::from(unused), 1)?;
        if commitment.true_up != TrueUp::None {
            true_up.add(&missing.times(-1, 1)?)?;
        }
        let mut worth = within.clone();
        worth.add(&overage)?;
        worth.add(&true_up)?;
        Some(Sums { used, unused, promised, cost, within, overage, true_up, worth })
    };
    owed().ok_or(EvaluateError::Overflow)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    use shared_types::{Instant, PriceId};

    use crate::basis::{Basis, Each, Measure, Then};
    use crate::evaluate::{defect_of, worth};
    use crate::plan::PriceModel;

    fn row(promised: Promised, overage_factor: &str, true_up: TrueUp) -> PriceRow {
        let commitment = WindowCommitment { promised, overage_factor: overage_factor.parse().unwrap(), true_up };
        let model = Box::new(PriceModel::PerUnit { unit_price: "2".parse().unwrap() });
        let measure = Measure::Bucketed { seconds: 3_600, each: Each::Sum, then: Then::Alone };
        PriceRow {
            id: PriceId::parse("p").unwrap(),
            effective_at: Instant::EPOCH,
            per: "1".parse().unwrap(),
            model: PriceModel::Committed { commitment, model },
            basis: Basis { measure, ..Basis::default() },
        }
    }

    fn segment(values: &[&str]) -> SegmentState {
        let values: BTreeMap<u32, Quantity> = (0..).zip(values).map(|(number, value)| (number, value.parse().unwrap())).collect();
        SegmentState { detail: Detail::Buckets { count: 720, values }, ..SegmentState::of_sums(Quantity::ZERO, 9) }
    }

    #[test]
    fn each_window_stands_against_its_own_promise() {
        let amount = |text: &str| Promised::Amount(text.parse().unwrap());
        let check = |row: &PriceRow, values: &[&str], shown: [&str; 5]| {
            let PriceModel::Committed { commitment, .. } = &row.model else { panic!("no commitment") };
            let sums = sums(row, commitment, &segment(values), |_| {}).unwrap();
            let Committed { cost, within, overage, true_up, .. } = sums.shown();
            assert_eq!([&cost, &within, &overage, &true_up, &sums.worth.text()], shown.each_ref(), "{values:?} under {:?}", row.model);
            assert_eq!(worth(row, &segment(values), |_| {}).unwrap().text(), shown[4]);
        };
        // A window of 20 does not make up for one of 4; one that is reached exactly is neither beyond nor short.
        let windows = ["10", "2", "5", "-1"];
        check(&row(amount("10"), "1.5", TrueUp::None), &windows, ["32", "22", "15", "0", "37"]);
        check(&row(amount("10"), "1.5", TrueUp::WhenUsed), &windows, ["32", "22", "15", "18", "55"]);
        check(&row(amount("10"), "1.5", TrueUp::Always), &windows, ["32", "22", "15", "7178", "7215"]);
        check(&row(Promised::Quantity("5".parse().unwrap()), "1.5", TrueUp::WhenUsed), &windows, ["32", "22", "15", "18", "55"]);
        check(
            &row(amount("0.000000000000000001"), "1", TrueUp::WhenUsed),
            &["0.5"],
            ["1", "1/1000000000000000000", "999999999999999999/1000000000000000000", "0", "1"],
        );
    }

    #[test]
    fn a_commitment_without_windows_or_of_nothing_is_malformed() {
        let amount = Promised::Amount("10".parse().unwrap());
        let good = row(amount, "1", TrueUp::None);
        assert_eq!(defect_of(&good), None);
        let mut summed = good.clone();
        summed.basis.measure = Measure::Bucketed { seconds: 3_600, each: Each::Sum, then: Then::Sum };
        let mut twice = good.clone();
        let PriceModel::Committed { model, .. } = &mut twice.model else { panic!("no commitment") };
        **model = good.model.clone();
        let defects = [summed, twice, row(Promised::Quantity(Quantity::ZERO), "1", TrueUp::None), row(amount, "0", TrueUp::None)];
        assert!(defects.iter().all(|row| defect_of(row).is_some()));
        let sums = SegmentState::of_sums("5".parse().unwrap(), 1);
        assert!(matches!(worth(&good, &sums, |_| {}), Err(EvaluateError::StateDiffers { .. })));
    }
}
