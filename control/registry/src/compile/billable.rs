//! Billable states, ready for intake and rating: what is cut from events, and how its time is counted. It knows no event.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use platform_rating::calendar::Zone;
use platform_rating::{Measure, RoundTo, Stepped, Together};
use platform_usage::billable::{Changes, SESSION};
use platform_usage::{Cut, During};
use shared_types::{Instant, OrganizationId, SkuId};

use super::CompileError;
use crate::document::{
    Aggregation, BillableStates, BilledDuring, BilledMeter, Covers, CutAt, Meter, StepRounding, StepsOf, Told, micros, minutes,
};
use crate::{Kind, Version};

/// How the time of a meter's readings is counted.
pub(super) fn measure(meter: &Meter, policy: &BillableStates) -> Result<Measure, CompileError> {
    let billed = billed(meter, policy)?;
    let unusable = |field| CompileError::Unusable { from: format!("billable_states {:?}", policy.id), field };
    let step_micros = billed.increment.map_or(Some(1), micros).ok_or_else(|| unusable("increment"))?;
    Ok(Measure::Stepped(Stepped {
        together: match billed.each {
            // Without steps nothing is rounded: sums need no state of sessions.
            _ if step_micros == 1 && billed.minimum == shared_types::Quantity::ZERO => Together::Reading,
            StepsOf::Reading => Together::Reading,
            StepsOf::Session => Together::Dimension(SESSION.into()),
            StepsOf::Period => Together::Period,
        },
        step_micros,
        rounding: match billed.rounding {
            StepRounding::Up => RoundTo::Ceiling,
            StepRounding::Down => RoundTo::Floor,
            StepRounding::HalfEven => RoundTo::HalfEven,
        },
        least_micros: micros(billed.minimum).ok_or_else(|| unusable("minimum"))?,
        share: matches!(meter.aggregation, Aggregation::Prorated { .. }),
    }))
}

/// What is cut from the events of a meter.
pub(super) fn states(meter: &Meter, policy: &BillableStates, version: &Version) -> Result<platform_usage::BillableStates, CompileError> {
    let billed = billed(meter, policy)?;
    let unusable = |field| CompileError::Unusable { from: format!("billable_states {:?}", policy.id), field };
    let names = |names: &BTreeSet<String>| -> BTreeSet<Arc<str>> { names.iter().map(|name| Arc::from(name.as_str())).collect() };
    let bands = policy.bands.iter().map(|(time, band)| Some((minutes(time)?, Arc::from(band.as_str()))));
    Ok(platform_usage::BillableStates {
        told: match &policy.told {
            Told::State(path) => platform_usage::Told::State(path.as_str().into()),
            Told::Spans(path) => platform_usage::Told::Spans(path.as_str().into()),
        },
        states: names(&policy.states),
        start: names(&policy.start),
        stop: names(&policy.stop),
        never_ready: policy.never_ready.as_deref().map(|rate| (names(&policy.ready), Arc::from(rate))),
        session: policy.session.as_deref().map(Arc::from),
        cut: match policy.split {
            CutAt::Month => Cut::Month,
            CutAt::Day => Cut::Day,
        },
        zone: Zone::parse(&policy.zone).map_err(|_| unusable("zone"))?,
        bands: bands.collect::<Option<_>>().ok_or_else(|| unusable("bands"))?,
        rates: billed.rates.iter().map(|(state, rate)| (state.as_str().into(), rate.as_str().into())).collect(),
        during: match billed.during {
            BilledDuring::Session => During::Session,
            BilledDuring::Lease => During::Lease,
        },
        greater_of: billed.greater_of.iter().map(|(path, factor)| (path.as_str().into(), *factor)).collect(),
        at_least: billed.at_least,
        changes: Arc::new(cuts(meter, version)),
    })
}

fn billed<'p>(meter: &Meter, policy: &'p BillableStates) -> Result<&'p BilledMeter, CompileError> {
    let missing =
        || CompileError::Missing { from: format!("billable_states {:?}", policy.id), kind: Kind::Meter, id: meter.id.to_string() };
    policy.of(&meter.id).ok_or_else(missing)
}

/// Instants at which what a reading of the meter costs may change, for each organization: those of its own contracts and of the books that
/// these name. No organization's intervals are cut at another one's dates.
pub(crate) fn cuts(meter: &Meter, version: &Version) -> Changes {
    let skus: BTreeSet<&SkuId> = version.skus().filter(|sku| sku.meter == meter.id).map(|sku| &sku.id).collect();
    // Books by name, each with the instants at which a price of the meter begins.
    let books: BTreeMap<&str, Vec<Instant>> = version
        .price_books()
        .map(|book| (book.id.as_str(), book.prices.iter().filter(|row| skus.contains(&row.sku)).map(|row| row.effective_at).collect()))
        .collect();
    let mut default: BTreeSet<Instant> = BTreeSet::new();
    let mut own: BTreeMap<&OrganizationId, BTreeSet<Instant>> = BTreeMap::new();
    for contract in version.contracts() {
        let prices = books.get(contract.price_book.as_str()).into_iter().flatten();
        let dates: Vec<Instant> = prices.copied().chain([contract.effective_at]).collect();
        match &contract.covers {
            Covers::Default => default.extend(dates),
            Covers::Organizations(organizations) => {
                organizations.iter().for_each(|organization| own.entry(organization).or_default().extend(dates.iter().copied()));
            }
        }
    }
    let listed = |dates: BTreeSet<Instant>| -> Arc<[Instant]> { dates.into_iter().collect() };
    Changes { own: own.into_iter().map(|(organization, dates)| (organization.clone(), listed(dates))).collect(), default: listed(default) }
}
