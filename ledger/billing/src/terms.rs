//! Terms of contracts: what holds of the spend of a service period as a whole. G, a pure function of what invoices say of the keys of one
//! (organization, contract, service period); it knows no table, no clock and no price.
//!
//! - Keys come as the amounts that invoices name for them, rounded to the currency. Their order means nothing: each key is discounted alone,
//!   and everything else goes by sums.
//! - Discounts come first, by id, each off what the one before left. Then the terms that name SKUs or families, scope by scope; then those over
//!   all of the contract, to which what the former added or took off counts as spend. Within a scope: capacity, graduated
//!   discount, commitment, maximum, minimum.
//! - Each amount is rounded once to the currency, the percentage of a key alone as well.
//! - A term may look at several service periods together, its window. In each of them it comes to what it makes of the window's spend so far,
//!   less what it came to before; what is missing to a promise is owed with the last one.
//! - Source: `docs/decisions/0015-terms-are-a-second-stage.md`; the functions are those of `platform_rating::contract`.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU16;
use std::ops::Bound;
use std::sync::Arc;

use platform_rating::RoundTo;
use platform_rating::contract::{self, Commitment};
use serde::{Deserialize, Serialize};
use shared_types::{Amount, AssetId, ContractId, Month, OrganizationId, Quantity, SkuId, Sum};

use crate::invoice::{Policies, Rounding, RoundingMode, as_text};

/// Whether what was promised and not spent is owed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TrueUp {
    /// It is.
    Owed,
    /// It is not.
    None,
}

/// What the terms of a contract look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Over {
    /// Usage and recurring fees.
    Everything,
    /// Usage alone.
    Usage,
}

/// What a term asks for. The order is the one in which terms are applied.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Rule {
    /// A percentage off what each SKU comes to.
    Discount {
        /// How many percent.
        percent: Quantity,
    },
    /// Of several SKUs the one that comes to the most is owed, the others are not.
    Capacity {},
    /// A percentage off what is spent, by how much it is.
    GraduatedDiscount {
        /// In rising order, the last one without a bound.
        tiers: Vec<DiscountTier>,
    },
    /// A promise to spend.
    Commitment {
        /// How much.
        amount: Amount,
        /// What spend beyond it costs, as a multiple.
        overage_factor: Quantity,
        /// Whether what was promised and not spent is owed.
        true_up: TrueUp,
    },
    /// The most that the period costs.
    MaximumSpend {
        /// How much.
        amount: Amount,
    },
    /// The least that the period costs.
    MinimumSpend {
        /// How much.
        amount: Amount,
    },
}

impl Rule {
    /// The kind, for example `minimum_spend`: the account `terms/<kind>` is its own.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Discount { .. } => "discount",
            Self::Capacity {} => "capacity",
            Self::GraduatedDiscount { .. } => "graduated_discount",
            Self::Commitment { .. } => "commitment",
            Self::MaximumSpend { .. } => "maximum_spend",
            Self::MinimumSpend { .. } => "minimum_spend",
        }
    }

    /// Whether it can be owed without anything used.
    pub fn owed_unused(&self) -> bool {
        matches!(self, Self::MinimumSpend { .. } | Self::Commitment { true_up: TrueUp::Owed, .. })
    }

    fn is_discount(&self) -> bool {
        matches!(self, Self::Discount { .. })
    }
}

/// A percentage off a part of what is spent.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DiscountTier {
    /// Up to where, inclusive; none for the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub up_to: Option<Amount>,
    /// How many percent.
    pub percent: Quantity,
}

/// Which SKUs of its contract a term looks at: all where it names none.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Scope {
    /// Revenue families.
    pub families: BTreeSet<String>,
    /// SKUs.
    pub skus: BTreeSet<SkuId>,
}

impl Scope {
    /// Whether it is all of the contract.
    pub fn is_whole(&self) -> bool {
        self.families.is_empty() && self.skus.is_empty()
    }

    fn holds(&self, sku: &SkuId, facts: Option<&SkuFacts>) -> bool {
        self.is_whole() || self.skus.contains(sku) || facts.is_some_and(|facts| self.families.contains(&*facts.family))
    }
}

/// A term of a contract.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Term {
    /// Its name in the contract.
    pub id: String,
    /// The text on an invoice.
    pub description: String,
    /// What it asks for.
    pub rule: Rule,
    /// How many service periods it looks at together: its window. 1: at each by itself.
    pub months: NonZeroU16,
    /// What it looks at.
    pub scope: Scope,
}

/// A contract with terms, as long as it is in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Termed {
    /// The contract.
    pub contract: ContractId,
    /// The currency of its price book.
    pub currency: AssetId,
    /// The first service period.
    pub from: Month,
    /// The first service period in which it is in force no more.
    pub until: Option<Month>,
    /// What the terms look at.
    pub over: Over,
    /// The terms, by id.
    pub terms: Arc<[Term]>,
}

impl Termed {
    /// Whether it is in force in a service period.
    pub fn holds_in(&self, period: Month) -> bool {
        self.from <= period && self.until.is_none_or(|until| period < until)
    }

    /// A service period's place in a term's window, from 0. Windows follow one another from the contract's first service period.
    fn place(&self, term: &Term, period: Month) -> i32 {
        period.since(self.from).rem_euclid(term.months.get().into())
    }

    /// The service periods behind one that are in a window with it, up to and including another.
    pub fn behind(&self, period: Month, through: Month) -> impl Iterator<Item = Month> {
        let left = |term: &Term| i32::from(term.months.get()).saturating_sub(self.place(term, period)).saturating_sub(1);
        let longest = self.terms.iter().map(left).max().and_then(|left| usize::try_from(left).ok()).unwrap_or(0);
        std::iter::successors(period.next(), |month| month.next()).take(longest).take_while(move |month| *month <= through)
    }

    /// Its service periods behind a month, up to and including another.
    pub(crate) fn periods(&self, after: Option<Month>, through: Month) -> impl Iterator<Item = Month> {
        let first = after.map_or(Some(self.from), |after| after.next().map(|next| next.max(self.from)));
        let until = self.until;
        std::iter::successors(first, |month| month.next())
            .take_while(move |month| *month <= through && until.is_none_or(|until| *month < until))
    }
}

/// What terms need to know of a SKU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SkuFacts {
    /// Its revenue family.
    pub family: Arc<str>,
    /// Whether it prices recurring fees.
    pub recurring: bool,
}

/// The terms of a registry version, for each organization.
#[derive(Clone, Debug, Default)]
pub struct Terms {
    /// Of organizations with a contract of their own, with terms or without: it hides the default one.
    pub own: BTreeMap<OrganizationId, Vec<Termed>>,
    /// Of everyone else.
    pub default: Vec<Termed>,
    /// What is sold.
    pub skus: BTreeMap<SkuId, SkuFacts>,
}

impl Terms {
    /// The contracts with terms that bind an organization.
    pub fn of(&self, organization: &OrganizationId) -> &[Termed] {
        self.own.get(organization).unwrap_or(&self.default)
    }

    /// Organizations that may owe something without usage in the service periods behind `previous` up to `period`, after one of them in order.
    pub(crate) fn owing(
        &self,
        after: Option<&OrganizationId>,
        previous: Option<Month>,
        period: Month,
    ) -> impl Iterator<Item = &OrganizationId> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let owing = move |termed: &Termed| {
            termed.terms.iter().any(|term| term.rule.owed_unused()) && termed.periods(previous, period).next().is_some()
        };
        let organizations = self.own.range::<OrganizationId, _>((from, Bound::Unbounded));
        organizations.filter(move |(_, termed)| termed.iter().any(owing)).map(|(organization, _)| organization)
    }
}

/// What a term comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied<'t> {
    /// The term.
    pub term: &'t Term,
    /// What it was applied to.
    pub spend: Amount,
    /// What it adds, or takes off where below zero.
    pub amount: Amount,
    /// What was before in its window; none for a term that looks at each service period by itself.
    pub window: Option<Window>,
}

/// What a term came to in the earlier service periods of its window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Window {
    /// What it came to there.
    pub amount_before: Sum,
    /// How many service periods the window has.
    #[serde(with = "as_text")]
    pub months: u16,
    /// What it was applied to there.
    pub spend_before: Sum,
}

/// A figure leaves the range of amounts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutOfRange;

impl From<contract::OutOfRange> for OutOfRange {
    fn from(_: contract::OutOfRange) -> Self {
        Self
    }
}

/// What terms came to in their windows so far, by id: what goes on from one service period to the next.
type Windows<'t> = BTreeMap<&'t str, Window>;

/// G: what each term of a contract comes to in one service period, in the order of application.
///
/// - `keys`: what invoices say of each key of the period, rounded to the currency; in any order.
/// - `windows`: behind the service period before; none of a term before its window's first.
/// - Errors: a figure beyond 64 bits.
fn apply<'t>(
    termed: &'t Termed,
    period: Month,
    keys: &[(SkuId, Amount)],
    skus: &BTreeMap<SkuId, SkuFacts>,
    rounding: Rounding,
    windows: &mut Windows<'t>,
) -> Result<Vec<Applied<'t>>, OutOfRange> {
    let to = contract::Rounding {
        places: i32::try_from(rounding.scale).map_err(|_| OutOfRange)?,
        to: match rounding.mode {
            RoundingMode::HalfAwayFromZero => RoundTo::HalfAwayFromZero,
            RoundingMode::HalfEven => RoundTo::HalfEven,
        },
    };
    let counted = |sku: &SkuId| termed.over == Over::Everything || skus.get(sku).is_none_or(|facts| !facts.recurring);
    let mut nets: Vec<(&SkuId, Amount)> = keys.iter().filter(|(sku, _)| counted(sku)).map(|(sku, amount)| (sku, *amount)).collect();
    let mut applied = Vec::with_capacity(termed.terms.len());
    for term in termed.terms.iter() {
        let Rule::Discount { percent } = term.rule else { continue };
        let (mut spend, mut amount) = (Amount::ZERO, Amount::ZERO);
        for (_, net) in nets.iter_mut().filter(|(sku, _)| term.scope.holds(sku, skus.get(*sku))) {
            let off = contract::percent_of(*net, percent, to)?;
            spend = add(spend, *net)?;
            amount = subtract(amount, off)?;
            *net = subtract(*net, off)?;
        }
        applied.push(Applied { term, spend, amount, window: None });
    }
    let mut rest: Vec<&Term> = termed.terms.iter().filter(|term| !term.rule.is_discount()).collect();
    let place = |term: &'t Term| (term.scope.is_whole(), &term.scope, &term.rule, &term.id);
    rest.sort_by(|a, b| place(a).cmp(&place(b)));
    let mut added = Amount::ZERO;
    for of_scope in rest.chunk_by(|a, b| a.scope == b.scope) {
        let Some(first) = of_scope.first() else { continue };
        let in_scope = nets.iter().filter(|(sku, _)| first.scope.holds(sku, skus.get(*sku)));
        let each: Vec<Amount> = in_scope.map(|(_, net)| *net).collect();
        let mut spend = if first.scope.is_whole() { added } else { Amount::ZERO };
        for net in &each {
            spend = add(spend, *net)?;
        }
        for term in of_scope {
            let months = term.months.get();
            let place = termed.place(term, period);
            let before = windows.remove(&*term.id).filter(|_| place > 0);
            let before = before.unwrap_or(Window { amount_before: Sum::ZERO, months, spend_before: Sum::ZERO });
            let last = place.saturating_add(1) == i32::from(months);
            // What the window comes to so far, less what it came to before.
            let so_far = before.spend_before.checked_add(spend.into()).map_err(|_| OutOfRange)?;
            let comes_to = to.apply_sum(adds(&term.rule, &each, so_far, last, to)?)?;
            let amount = comes_to.checked_sub(before.amount_before).map_err(|_| OutOfRange)?;
            let amount = Amount::from_units(amount.units()).map_err(|_| OutOfRange)?;
            let window = (months > 1).then_some(before);
            if !last {
                windows.insert(&term.id, Window { amount_before: comes_to, months, spend_before: so_far });
            }
            applied.push(Applied { term, spend, amount, window });
            spend = add(spend, amount)?;
            added = add(added, amount)?;
        }
    }
    Ok(applied)
}

/// What invoices say of the keys of one organization, by contract, currency and service period: what its terms are applied to.
#[derive(Clone, Debug, Default)]
pub struct Spend(BTreeMap<(ContractId, AssetId, Month), Vec<(SkuId, Amount)>>);

/// Why terms come to nothing that an invoice could say.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpendError {
    /// Amounts of the currency are not rounded by the version.
    #[error("the version has no rounding for {0}")]
    NoRounding(AssetId),
    /// A figure leaves the range of amounts.
    #[error("the terms of contract {contract} in {period} leave the range of amounts")]
    OutOfRange {
        /// The contract.
        contract: ContractId,
        /// The service period.
        period: Month,
    },
}

impl Spend {
    /// Takes a key in, rounded to its currency.
    pub fn add(&mut self, contract: &ContractId, currency: &AssetId, period: Month, sku: &SkuId, amount: Amount) {
        self.0.entry((contract.clone(), currency.clone(), period)).or_default().push((sku.clone(), amount));
    }

    /// G of a contract's keys in a service period, also where it has none. Terms that look at several together go through those before it.
    pub fn apply<'t>(&self, termed: &'t Termed, period: Month, policies: &Policies) -> Result<Vec<Applied<'t>>, SpendError> {
        let rounding = policies.roundings.get(&termed.currency).ok_or_else(|| SpendError::NoRounding(termed.currency.clone()))?;
        let longest = termed.terms.iter().map(|term| termed.place(term, period)).max().unwrap_or(0);
        let first = (0..longest).try_fold(period, |month, _| month.previous()).unwrap_or(period);
        let (mut windows, mut applied) = (Windows::new(), Vec::new());
        for month in std::iter::successors(Some(first), |month| month.next()).take_while(|month| *month <= period) {
            let keys = self.0.get(&(termed.contract.clone(), termed.currency.clone(), month)).map(Vec::as_slice).unwrap_or_default();
            applied = apply(termed, month, keys, &policies.terms.skus, *rounding, &mut windows)
                .map_err(|OutOfRange| SpendError::OutOfRange { contract: termed.contract.clone(), period: month })?;
        }
        Ok(applied)
    }
}

/// What a rule adds to a spend.
///
/// - `each`: what the SKUs of its scope come to in the service period; `spend`: in its window so far; `last`: whether the window ends with the
///   service period: what is missing is owed then.
fn adds(rule: &Rule, each: &[Amount], spend: Sum, last: bool, to: contract::Rounding) -> Result<Sum, OutOfRange> {
    let subtract = |a: Sum, b: Sum| a.checked_sub(b).map_err(|_| OutOfRange);
    Ok(match rule {
        Rule::Discount { .. } => Sum::ZERO,
        Rule::Capacity {} => contract::greatest_alone(each)?.into(),
        Rule::GraduatedDiscount { tiers } => {
            let tiers = tiers.iter().map(|tier| contract::DiscountTier { up_to: tier.up_to, percent: tier.percent });
            subtract(Sum::ZERO, contract::graduated_percent(spend, tiers, to)?)?
        }
        Rule::Commitment { amount, overage_factor, true_up } => {
            let true_up = last && *true_up == TrueUp::Owed;
            let commitment = Commitment { amount: *amount, overage_factor: *overage_factor, true_up };
            subtract(contract::committed(spend, &commitment, to)?, spend)?
        }
        Rule::MaximumSpend { amount } => subtract(Sum::ZERO, contract::beyond(*amount, spend)?)?,
        Rule::MinimumSpend { amount } if last => contract::missing(*amount, spend)?,
        Rule::MinimumSpend { .. } => Sum::ZERO,
    })
}

fn add(a: Amount, b: Amount) -> Result<Amount, OutOfRange> {
    a.checked_add(b).map_err(|_| OutOfRange)
}

fn subtract(a: Amount, b: Amount) -> Result<Amount, OutOfRange> {
    a.checked_sub(b).map_err(|_| OutOfRange)
}

/// A line of an invoice: what a term comes to, less what earlier invoices said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TermLine {
    /// `term_amount` − `invoiced_before`: what is asked for.
    pub amount: Amount,
    /// Under which agreement.
    pub contract: ContractId,
    /// For people.
    pub description: String,
    /// The families that the term looks at; all of the contract where no SKU is named either.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub families: BTreeSet<String>,
    /// What earlier invoices said of the term and service period; 0 without one.
    pub invoiced_before: Amount,
    /// Behind the lines of usage.
    #[serde(with = "as_text")]
    pub number: u64,
    /// What the terms of the contract look at.
    pub over: Over,
    /// What the term asks for.
    pub rule: Rule,
    /// Whose spend it is about.
    #[serde(with = "as_text")]
    pub service_period: Month,
    /// The SKUs that the term looks at, with those of the families.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub skus: BTreeSet<SkuId>,
    /// What the term was applied to.
    pub spend: Amount,
    /// Its name in the contract.
    pub term: String,
    /// What it adds to the spend, or takes off where below zero.
    pub term_amount: Amount,
    /// For a term that looks at several service periods together: what was before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<Window>,
}

impl TermLine {
    /// Contract and term as one name, in the ledger and wherever contracts and SKUs stand: no SKU's has a `#`.
    pub fn contract_line(&self) -> String {
        format!("{}#{}", self.contract, self.term)
    }
}

#[cfg(test)]
mod tests;
