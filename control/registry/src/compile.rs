//! From a version to what intake and rating work with: meters and a plan. A pure function; it knows no event and no rate.

mod billable;

use std::collections::BTreeMap;
use std::sync::Arc;

use platform_rating::calendar::Zone;
use platform_rating::{Basis, Measure, plan};
use platform_usage::Dimensions;
use shared_types::{AssetId, Digest, MeterId, OrganizationId, Quantity, SkuId, UnitId};

pub(crate) use self::billable::cuts;
use crate::band::bands;
use crate::document::{
    Aggregation, AppliesTo, BillableStates, BlockTier, Bucket, Clock, Convert, Covers, Each, Meter, Negative, Percentage, PriceBook,
    PriceModel, PriceRow, Promised, RoundTo, Rounding, Sku, Then, Tier, UniquePer, Unit, WindowCommitment, WindowTrueUp,
};
use crate::{Kind, Version};

/// A version, ready for use.
#[derive(Clone, Debug)]
pub struct Compiled {
    /// Address of the version.
    pub address: Digest,
    /// Meters by id.
    pub meters: Vec<platform_usage::Meter>,
    /// Contracts, lines and prices.
    pub plan: plan::Plan,
    /// What quantities count.
    pub units: BTreeMap<UnitId, Unit>,
    /// What is sold, with the texts for invoices.
    pub skus: BTreeMap<SkuId, Sku>,
    /// How invoice lines are rounded.
    pub roundings: BTreeMap<AssetId, Rounding>,
}

/// Why a version cannot be used. A version that passed the checks has no such defect.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CompileError {
    /// A document names one that is not in the version.
    #[error("{from} names {kind} {id:?}, which the version does not hold")]
    Missing {
        /// The document that names it.
        from: String,
        /// What is missing.
        kind: Kind,
        /// Its name.
        id: String,
    },
    /// A document holds something that the checks let through no more.
    #[error("{from} has a {field} that cannot be used")]
    Unusable {
        /// The document.
        from: String,
        /// The field.
        field: &'static str,
    },
}

/// What price rows and meters need of the version at hand.
struct Documents<'v> {
    skus: &'v BTreeMap<SkuId, Sku>,
    meters: &'v BTreeMap<&'v MeterId, &'v Meter>,
    policies: &'v BTreeMap<&'v str, &'v BillableStates>,
}

/// Compiles a version.
pub fn compile(version: &Version) -> Result<Compiled, CompileError> {
    let skus: BTreeMap<SkuId, Sku> = version.skus().map(|sku| (sku.id.clone(), sku.clone())).collect();
    let meters: BTreeMap<&MeterId, &Meter> = version.meters().map(|meter| (&meter.id, meter)).collect();
    let policies: BTreeMap<&str, &BillableStates> = version.billable_states().map(|policy| (policy.id.as_str(), policy)).collect();
    let documents = Documents { skus: &skus, meters: &meters, policies: &policies };
    let mut plan = plan::Plan { version: version.address(), ..plan::Plan::default() };
    let mut books: BTreeMap<&str, usize> = BTreeMap::new();
    for book in version.price_books() {
        books.insert(&book.id, plan.books.len());
        plan.books.push(price_book(book, &documents)?);
    }
    for contract in version.contracts() {
        let missing = || CompileError::Missing {
            from: format!("contract {:?}", contract.id.as_str()),
            kind: Kind::PriceBook,
            id: contract.price_book.clone(),
        };
        let book = *books.get(contract.price_book.as_str()).ok_or_else(missing)?;
        let compiled = plan::Contract { id: contract.id.clone(), effective_at: contract.effective_at, book };
        match &contract.covers {
            Covers::Default => plan.default_contracts.push(compiled),
            Covers::Organizations(organizations) => {
                for organization in organizations {
                    contracts_of(&mut plan, organization).push(compiled.clone());
                }
            }
        }
    }
    for contracts in plan.contracts.values_mut().chain([&mut plan.default_contracts]) {
        contracts.sort_by_key(|contract| contract.effective_at);
    }
    let meters = version.meters().map(|metered| meter(metered, version, &policies)).collect::<Result<_, _>>()?;
    Ok(Compiled {
        address: version.address(),
        meters,
        plan,
        units: version.units().map(|unit| (unit.id.clone(), unit.clone())).collect(),
        skus,
        roundings: version.roundings().map(|rounding| (rounding.asset.clone(), rounding.clone())).collect(),
    })
}

fn contracts_of<'p>(plan: &'p mut plan::Plan, organization: &OrganizationId) -> &'p mut Vec<plan::Contract> {
    plan.contracts.entry(organization.clone()).or_default()
}

fn meter(meter: &Meter, version: &Version, policies: &BTreeMap<&str, &BillableStates>) -> Result<platform_usage::Meter, CompileError> {
    let billable = match &meter.billable {
        Some(id) => Some(Arc::new(billable::states(meter, policy_of(meter, id, policies)?, version)?)),
        None => None,
    };
    Ok(platform_usage::Meter {
        id: meter.id.clone(),
        event_type: meter.event_type.as_str().into(),
        // Intake reads a value or one; how readings add up is the price's business.
        aggregation: match meter.aggregation {
            Aggregation::Count | Aggregation::Unique { .. } => platform_usage::Aggregation::Count,
            _ => platform_usage::Aggregation::Sum,
        },
        value: meter.value.as_deref().map(Arc::from),
        unit: meter.unit.clone(),
        dimensions: meter.dimensions.iter().map(|(name, path)| (name.as_str().into(), path.as_str().into())).collect(),
        negative: match meter.negative {
            Negative::Quarantine => platform_usage::Negative::Quarantine,
            Negative::Accept => platform_usage::Negative::Accept,
        },
        part_of: meter.part_of.as_deref().map(Arc::from),
        billable,
    })
}

fn policy_of<'v>(meter: &Meter, id: &str, policies: &BTreeMap<&str, &'v BillableStates>) -> Result<&'v BillableStates, CompileError> {
    let missing =
        || CompileError::Missing { from: format!("meter {:?}", meter.id.as_str()), kind: Kind::BillableStates, id: id.to_owned() };
    policies.get(id).copied().ok_or_else(missing)
}

/// A line for each SKU that the book prices; its rows are sorted by SKU and instant.
fn price_book(book: &PriceBook, documents: &Documents<'_>) -> Result<plan::PriceBook, CompileError> {
    let mut compiled = plan::PriceBook { currency: book.currency.clone(), lines: BTreeMap::new() };
    for rows in book.prices.chunk_by(|a, b| a.sku == b.sku) {
        let Some(first) = rows.first() else { continue };
        let missing =
            || CompileError::Missing { from: format!("price {:?}", first.id.as_str()), kind: Kind::Sku, id: first.sku.to_string() };
        let sku = documents.skus.get(&first.sku).ok_or_else(missing)?;
        let missing = || CompileError::Missing { from: format!("sku {:?}", sku.id.as_str()), kind: Kind::Meter, id: sku.meter.to_string() };
        let meter = documents.meters.get(&sku.meter).ok_or_else(missing)?;
        let measure = match &meter.billable {
            Some(id) => billable::measure(meter, policy_of(meter, id, documents.policies)?)?,
            None => measure(&meter.aggregation),
        };
        let unusable = |_| CompileError::Unusable { from: format!("meter {:?}", meter.id.as_str()), field: "zone" };
        let zone = Zone::parse(&meter.zone).map_err(unusable)?;
        compiled.lines.entry(sku.meter.clone()).or_default().push(plan::Line {
            sku: sku.id.clone(),
            family: sku.family.as_str().into(),
            meter: sku.meter.clone(),
            matches: Dimensions::new(sku.matches.iter().map(|(name, value)| (name.as_str().into(), value.as_str().into()))),
            bands: bands(sku),
            prices: rows.iter().map(|row| price_row(row, &measure, &zone)).collect(),
        });
    }
    for lines in compiled.lines.values_mut() {
        // Stable: SKUs of equal size stay in order of their ids.
        lines.sort_by_key(|line| std::cmp::Reverse(line.names()));
    }
    Ok(compiled)
}

fn price_row(row: &PriceRow, measure: &Measure, zone: &Zone) -> plan::PriceRow {
    let (convert, free, applies_to, model) = row.model.parts();
    let (per, model) = match model {
        PriceModel::PerUnit { per, unit_price } => (*per, plan::PriceModel::PerUnit { unit_price: *unit_price }),
        PriceModel::Package { size, package_price } => (one(), plan::PriceModel::Package { size: *size, package_price: *package_price }),
        PriceModel::Graduated { per, tiers } => (*per, plan::PriceModel::Graduated { tiers: tiers.iter().map(tier).collect() }),
        PriceModel::Volume { per, tiers } => (*per, plan::PriceModel::Volume { tiers: tiers.iter().map(tier).collect() }),
        PriceModel::Percentage(terms) => (hundred(), plan::PriceModel::Percentage(percentage(terms))),
        PriceModel::GraduatedPercentage { tiers } => (hundred(), plan::PriceModel::Graduated { tiers: tiers.iter().map(tier).collect() }),
        PriceModel::Blocks { tiers } => (one(), plan::PriceModel::Blocks { tiers: tiers.iter().map(block_tier).collect(), top: false }),
        PriceModel::TopBlocks { tiers } => (one(), plan::PriceModel::Blocks { tiers: tiers.iter().map(block_tier).collect(), top: true }),
        PriceModel::Free { rule } => (one(), plan::PriceModel::Free { rule: rule.as_str().into() }),
        // Never read: neither holds another one of its kind.
        PriceModel::Adjusted { .. } | PriceModel::Committed { .. } => (one(), plan::PriceModel::Free { rule: "adjusted".into() }),
    };
    let model = match row.model.commitment() {
        Some(commitment) => plan::PriceModel::Committed { commitment: window_commitment(commitment), model: Box::new(model) },
        None => model,
    };
    let measure = if applies_to == AppliesTo::EachEvent { Measure::Each } else { measure.clone() };
    let basis = Basis { measure, zone: zone.clone(), convert: convert.map(conversion), free, ..Basis::default() };
    plan::PriceRow { id: row.id.clone(), effective_at: row.effective_at, per, model, basis }
}

/// What a row measures of the readings of its meter. A count sums what intake reads: one for each event.
pub(crate) fn measure(aggregation: &Aggregation) -> Measure {
    let clock = |by: &Clock| match by {
        Clock::Microsecond => platform_rating::Clock::Microsecond,
        Clock::Day => platform_rating::Clock::Day,
    };
    match aggregation {
        Aggregation::Sum | Aggregation::Count => Measure::Sum,
        Aggregation::Max => Measure::Max,
        Aggregation::Min => Measure::Min,
        Aggregation::Average => Measure::Average,
        Aggregation::Latest => Measure::Latest,
        Aggregation::Unique { of, per } => Measure::Unique { of: of.as_str().into(), per_day: *per == UniquePer::Day },
        Aggregation::TimeWeighted { by } => Measure::TimeWeighted { by: clock(by) },
        Aggregation::Prorated { by } => Measure::Prorated { by: clock(by) },
        Aggregation::Bucketed { bucket, each, then } => Measure::Bucketed {
            seconds: match bucket {
                Bucket::FiveMinutes => 300,
                Bucket::Hour => 3_600,
                Bucket::Day => 86_400,
            },
            each: match each {
                Each::Max => platform_rating::Each::Max,
                Each::Sum => platform_rating::Each::Sum,
            },
            then: match then {
                Then::Sum => platform_rating::Then::Sum,
                Then::Alone => platform_rating::Then::Alone,
                Then::P50 => platform_rating::Then::Percentile(50),
                Then::P90 => platform_rating::Then::Percentile(90),
                Then::P95 => platform_rating::Then::Percentile(95),
                Then::P99 => platform_rating::Then::Percentile(99),
            },
        },
    }
}

fn conversion(convert: &Convert) -> platform_rating::Convert {
    let to = match convert.rounding {
        RoundTo::None => None,
        RoundTo::Ceiling => Some(platform_rating::RoundTo::Ceiling),
        RoundTo::Floor => Some(platform_rating::RoundTo::Floor),
        RoundTo::HalfAwayFromZero => Some(platform_rating::RoundTo::HalfAwayFromZero),
        RoundTo::HalfEven => Some(platform_rating::RoundTo::HalfEven),
    };
    platform_rating::Convert { multiply: convert.multiply, divide: convert.divide, rounding: to.map(|to| (convert.places, to)) }
}

fn window_commitment(commitment: &WindowCommitment) -> plan::WindowCommitment {
    plan::WindowCommitment {
        promised: match commitment.promised {
            Promised::Amount(amount) => plan::Promised::Amount(amount),
            Promised::Quantity(quantity) => plan::Promised::Quantity(quantity),
        },
        overage_factor: commitment.overage_factor,
        true_up: match commitment.true_up {
            WindowTrueUp::None => plan::TrueUp::None,
            WindowTrueUp::OwedWhenUsed => plan::TrueUp::WhenUsed,
            WindowTrueUp::OwedAlways => plan::TrueUp::Always,
        },
    }
}

fn percentage(terms: &Percentage) -> plan::Percentage {
    plan::Percentage {
        rate: terms.rate,
        fee: terms.fee,
        least: terms.least,
        most: terms.most,
        // A document's number of free readings is whole and fits.
        free_readings: u64::try_from(terms.free_readings.units() / one().units()).unwrap_or(u64::MAX),
        free_quantity: terms.free_value,
    }
}

fn block_tier(tier: &BlockTier) -> plan::BlockTier {
    plan::BlockTier { up_to: tier.up_to, size: tier.size, block_price: tier.block_price }
}

fn tier(tier: &Tier) -> plan::Tier {
    plan::Tier { up_to: tier.up_to, unit_price: tier.unit_price, flat_fee: tier.flat_fee }
}

/// The unit size of rates in percent.
fn hundred() -> Quantity {
    Quantity::from_units(one().units().saturating_mul(100)).unwrap_or_default()
}

/// The unit size of prices that have none.
pub(crate) fn one() -> Quantity {
    // 10^9 units of 10^-9 have a place in every quantity.
    Quantity::from_units(10_i128.pow(Quantity::SCALE)).unwrap_or_default()
}
