//! What invoices make of rating again: each line as it is rounded there, and the terms of contracts, which look at a service period as a whole.
//! It asks nothing of the books: both follow from what the keys come to, before and after.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context;
use platform_billing::terms::Spend;
use platform_billing::{Policies, Rounding};
use platform_rating::Key;
use serde_json::{Value, json};
use shared_types::{Amount, AssetId, ContractId, Month, OrganizationId};

/// T of every key of the units that are rated again: before and after.
pub type Moved = BTreeMap<Key, (Amount, Amount)>;

/// What an organization sees on its next invoice of a currency.
#[derive(Debug, PartialEq, Eq)]
pub struct Invoiced {
    /// The currency.
    pub currency: AssetId,
    /// What the lines of usage move by.
    pub usage: Amount,
    /// Terms that move.
    pub terms: Vec<TermMoved>,
    /// Both together.
    pub difference: Amount,
    /// What months behind the one that closes next move by, terms included: on later invoices.
    pub later: Amount,
}

/// A term that comes to something else.
#[derive(Debug, PartialEq, Eq)]
pub struct TermMoved {
    contract: ContractId,
    service_period: Month,
    term: String,
    kind: &'static str,
    before: Amount,
    after: Amount,
    difference: Amount,
}

/// What each organization with other keys sees, by currency. A currency that the version has no rounding for is left out: it is not booked.
///
/// - `standing`: T of the other keys of these organizations: terms may look at their service periods together with those that move.
/// - `before` and `after`: what holds now, and under the version. Usage is taken as it stands: a month that goes on may still reach its minimum.
/// - `closes_next`: the oldest open month, where any is closed; months behind it are invoiced later.
pub fn invoiced(
    moved: &Moved,
    standing: &BTreeMap<&Key, Amount>,
    (before, after): (&Policies, &Policies),
    closes_next: Option<Month>,
) -> anyhow::Result<BTreeMap<OrganizationId, Vec<Invoiced>>> {
    let mut found: BTreeMap<OrganizationId, Vec<Invoiced>> = BTreeMap::new();
    let others: BTreeSet<(&OrganizationId, &AssetId)> =
        moved.iter().filter(|(_, (before, after))| before != after).map(|(key, _)| (&key.organization, &key.currency)).collect();
    for (organization, currency) in others {
        let Some(rounding) = after.roundings.get(currency) else { continue };
        let rounding = (before.roundings.get(currency).unwrap_or(rounding), rounding);
        let keys = moved.iter().filter(|(key, _)| (&key.organization, &key.currency) == (organization, currency));
        let mut periods: BTreeSet<(&ContractId, Month)> = BTreeSet::new();
        let mut spend = [Spend::default(), Spend::default()];
        let (mut usage, mut later) = (Amount::ZERO, Amount::ZERO);
        let is_later = |period: Month| closes_next.is_some_and(|next| period > next);
        for (key, (was, is)) in keys {
            let (was, is) = (round(rounding.0, *was)?, round(rounding.1, *is)?);
            let sum = if is_later(key.service_period) { &mut later } else { &mut usage };
            *sum = sum.checked_add(is.checked_sub(was)?)?;
            periods.insert((&key.contract, key.service_period));
            for (spend, amount) in spend.iter_mut().zip([was, is]) {
                spend.add(&key.contract, currency, key.service_period, &key.sku, amount);
            }
        }
        let mut latest: BTreeMap<&ContractId, Month> = BTreeMap::new();
        for (key, stands) in standing.iter().filter(|(key, _)| (&key.organization, &key.currency) == (organization, currency)) {
            let stands = round(rounding.0, *stands)?;
            for spend in &mut spend {
                spend.add(&key.contract, currency, key.service_period, &key.sku, stands);
            }
            let latest = latest.entry(&key.contract).or_insert(key.service_period);
            *latest = key.service_period.max(*latest);
        }
        let behind: Vec<(&ContractId, Month)> = periods
            .iter()
            .flat_map(|(contract, period)| {
                let through = latest.get(contract).copied().unwrap_or(*period);
                let termed = [before, after].into_iter().flat_map(|policies| policies.terms.of(organization));
                let of_contract = termed.filter(|termed| &termed.contract == *contract && &termed.currency == currency);
                of_contract.flat_map(move |termed| termed.behind(*period, through)).map(|month| (*contract, month))
            })
            .collect();
        periods.extend(behind);
        let (mut terms, mut difference) = (Vec::new(), usage);
        let [was, is] = &spend;
        for (contract, service_period) in periods {
            let of = |policies: &Policies, spend: &Spend| come_to(policies, organization, (contract, currency, service_period), spend);
            let mut both: BTreeMap<String, (&'static str, Amount, Amount)> = BTreeMap::new();
            for (term, kind, amount) in of(before, was)? {
                both.insert(term, (kind, amount, Amount::ZERO));
            }
            for (term, kind, amount) in of(after, is)? {
                both.entry(term).or_insert((kind, Amount::ZERO, Amount::ZERO)).2 = amount;
            }
            for (term, (kind, before, after)) in both.into_iter().filter(|(_, (_, before, after))| before != after) {
                let moves_by = after.checked_sub(before)?;
                let sum = if is_later(service_period) { &mut later } else { &mut difference };
                *sum = sum.checked_add(moves_by)?;
                let contract = contract.clone();
                terms.push(TermMoved { contract, service_period, term, kind, before, after, difference: moves_by });
            }
        }
        found.entry(organization.clone()).or_default().push(Invoiced { currency: currency.clone(), usage, terms, difference, later });
    }
    Ok(found)
}

/// What the terms of a contract come to in a service period: name, kind, amount.
fn come_to(
    policies: &Policies,
    organization: &OrganizationId,
    (contract, currency, period): (&ContractId, &AssetId, Month),
    spend: &Spend,
) -> anyhow::Result<Vec<(String, &'static str, Amount)>> {
    let mut found = Vec::new();
    for termed in policies.terms.of(organization) {
        if (&termed.contract, &termed.currency) == (contract, currency) && termed.holds_in(period) {
            let applied = spend.apply(termed, period, policies)?;
            found.extend(applied.into_iter().map(|applied| (applied.term.id.clone(), applied.term.rule.kind(), applied.amount)));
        }
    }
    Ok(found)
}

fn round(rounding: &Rounding, amount: Amount) -> anyhow::Result<Amount> {
    rounding.round(amount).context("an invoice line leaves the range of amounts")
}

impl Invoiced {
    /// For programs.
    pub fn json(&self, organization: &OrganizationId) -> Value {
        let terms = self.terms.iter().map(|term| {
            json!({
                "contract": term.contract, "term": term.term, "kind": term.kind, "service_period": term.service_period.to_string(),
                "before": term.before, "after": term.after, "difference": term.difference,
            })
        });
        json!({
            "organization": organization, "currency": self.currency, "usage": self.usage, "difference": self.difference, "later": self.later,
            "terms": terms.collect::<Vec<_>>(),
        })
    }

    /// For people, a line each.
    pub fn lines(&self) -> Vec<String> {
        let currency = &self.currency;
        let mut lines: Vec<String> = Vec::with_capacity(self.terms.len() + 1);
        for term in &self.terms {
            let moves_by = super::signed(term.difference);
            let name = format!("{}#{} ({})", term.contract, term.term, term.kind);
            lines.push(format!("  {}  {name}  {currency} {} instead of {}: {moves_by}", term.service_period, term.after, term.before));
        }
        let [usage, all] = [self.usage, self.difference].map(super::signed);
        let apart = if self.terms.is_empty() { String::new() } else { format!(": usage {usage}, the rest by terms") };
        lines.push(format!("  on the next invoice  {currency} {all}{apart}"));
        if self.later != Amount::ZERO {
            lines.push(format!("  on later invoices  {currency} {}", super::signed(self.later)));
        }
        lines
    }
}
