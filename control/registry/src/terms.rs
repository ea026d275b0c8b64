//! Terms of contracts by organization and month: which are in force when, and the refusal of a version that says otherwise of closed months.
//! A pure function of versions; it knows no amount, no ledger and no clock.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use shared_types::{AssetId, ContractId, Month, OrganizationId};

use crate::Version;
use crate::diff::term_words;
use crate::document::{Contract, Covers, RoundingMode, Term, TermsOver};

/// The terms of a version, for each organization.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TermSchedule {
    /// Of every organization that a contract names, with terms or without: they hide the default ones.
    own: BTreeMap<OrganizationId, Vec<Termed>>,
    default: Vec<Termed>,
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
    pub over: TermsOver,
    /// The terms, by id.
    pub terms: Arc<[Term]>,
    /// How the currency is rounded, where terms look at several months together: what these came to was rounded so.
    rounding: Option<Rounding>,
}

/// Contract, currency, what the terms look at, the terms, and how what they came to was rounded.
type Says<'t> = (&'t ContractId, &'t AssetId, TermsOver, Vec<Term>, Option<Rounding>);

/// Decimal places, and which way a half goes.
type Rounding = (u32, RoundingMode);

impl Termed {
    /// Whether it is in force in a service period.
    pub fn holds_in(&self, period: Month) -> bool {
        self.from <= period && self.until.is_none_or(|until| period < until)
    }

    /// The first month from one on in which another contract may begin: behind those that its terms look at together.
    fn ends_from(&self, month: Month) -> Month {
        let months = self.terms.iter().filter_map(|term| i32::try_from(term.months).ok()).max().unwrap_or(1);
        let mut end = month;
        while end.since(self.from).checked_rem(months).is_some_and(|rest| rest != 0) {
            let Some(next) = end.next() else { return month };
            end = next;
        }
        end
    }

    /// What it says of an amount: everything but the texts for people.
    fn says(&self) -> Says<'_> {
        let terms = self.terms.iter().map(|term| Term { description: None, ..term.clone() }).collect();
        (&self.contract, &self.currency, self.over, terms, self.rounding)
    }
}

impl TermSchedule {
    /// The terms of a version. A contract ends where the organization's next one begins.
    pub fn of(version: &Version) -> Self {
        let currencies: BTreeMap<&str, &AssetId> = version.price_books().map(|book| (book.id.as_str(), &book.currency)).collect();
        let roundings: BTreeMap<&AssetId, _> = version.roundings().map(|of| (&of.asset, (of.scale, of.mode))).collect();
        let terms: BTreeMap<&ContractId, Arc<[Term]>> =
            version.contracts().map(|contract| (&contract.id, contract.terms.iter().cloned().collect())).collect();
        let mut own: BTreeMap<&OrganizationId, Vec<&Contract>> = BTreeMap::new();
        let mut default = Vec::new();
        for contract in version.contracts() {
            match &contract.covers {
                Covers::Default => default.push(contract),
                Covers::Organizations(organizations) => {
                    for organization in organizations {
                        own.entry(organization).or_default().push(contract);
                    }
                }
            }
        }
        let termed = |mut contracts: Vec<&Contract>| -> Vec<Termed> {
            contracts.sort_by_key(|contract| contract.effective_at);
            let ends = contracts.iter().skip(1).map(|next| Some(next.effective_at.month())).chain([None]);
            let with_terms = contracts.iter().zip(ends).filter_map(|(contract, until)| {
                let currency = *currencies.get(contract.price_book.as_str())?;
                let together = contract.terms.iter().any(|term| term.months > 1);
                Some(Termed {
                    contract: contract.id.clone(),
                    currency: currency.clone(),
                    rounding: roundings.get(currency).copied().filter(|_| together),
                    from: contract.effective_at.month(),
                    until,
                    over: contract.terms_over?,
                    terms: Arc::clone(terms.get(&contract.id)?),
                })
            });
            with_terms.collect()
        };
        Self {
            default: termed(default),
            own: own.into_iter().map(|(organization, contracts)| (organization.clone(), termed(contracts))).collect(),
        }
    }

    /// Every organization that a contract names, with its contracts that have terms.
    pub fn own(&self) -> impl Iterator<Item = (&OrganizationId, &[Termed])> {
        self.own.iter().map(|(organization, termed)| (organization, termed.as_slice()))
    }

    /// The contracts with terms of everyone else.
    pub fn default(&self) -> &[Termed] {
        &self.default
    }

    /// The contracts with terms that bind an organization, in the order of time.
    pub fn of_organization(&self, organization: &OrganizationId) -> &[Termed] {
        self.own.get(organization).unwrap_or(&self.default)
    }

    /// Refuses a schedule that says otherwise of a month up to and including `closed`: invoices were made by what this one says.
    ///
    /// - `used`: whether an organization has usage. The terms of everyone else's contract said nothing of one that has none: nobody owes them unused.
    pub fn refuse_changed(&self, new: &Self, closed: Month, used: impl Fn(&OrganizationId) -> bool) -> Result<(), TermsChanged> {
        let named: BTreeSet<&OrganizationId> = self.own.keys().chain(new.own.keys()).collect();
        let organizations = named.into_iter().map(|organization| {
            let unused = !self.own.contains_key(organization) && !used(organization);
            let before = if unused { &[] } else { self.of_organization(organization) };
            let left = !unused && !self.own.contains_key(organization);
            (Some(organization), before, new.of_organization(organization), left)
        });
        for (organization, before, after, left) in organizations.chain([(None, &*self.default, &*new.default, false)]) {
            if let Some(Difference { month, contract, what, next }) = first_difference(before, after, closed) {
                return Err(TermsChanged { organization: organization.cloned(), contract, month, closed, left, what, next });
            }
        }
        Ok(())
    }
}

/// What two lists say differently.
struct Difference {
    month: Month,
    contract: ContractId,
    what: String,
    /// The first month behind the closed ones in which another contract may begin.
    next: Month,
}

/// The first month up to `closed` for which two lists say different things, and the contract that says it.
fn first_difference(before: &[Termed], after: &[Termed], closed: Month) -> Option<Difference> {
    let bounds = before.iter().chain(after).flat_map(|termed| [Some(termed.from), termed.until]).flatten();
    let months: BTreeSet<Month> = bounds.filter(|month| *month <= closed).collect();
    months.into_iter().find_map(|month| {
        let [was, is] = [before, after].map(|termed| termed.iter().find(|termed| termed.holds_in(month)));
        let contract = was.or(is)?.contract.clone();
        (was.map(Termed::says) != is.map(Termed::says)).then(|| {
            let open = closed.next().unwrap_or(closed);
            Difference { month, contract, what: difference(was, is), next: was.map_or(open, |was| was.ends_from(open)) }
        })
    })
}

/// The first difference of what two contracts say, in words.
fn difference(was: Option<&Termed>, is: Option<&Termed>) -> String {
    let (Some(was), Some(is)) = (was, is) else {
        return if is.is_some() { "there were none" } else { "there would be none" }.to_owned();
    };
    let changed = |what: &str, was: &str, is: &str| (was != is).then(|| format!("{what}: {was} -> {is}"));
    let rounded = |termed: &Termed| termed.rounding.map(|(scale, mode)| format!("{scale} places, {}", mode.name())).unwrap_or_default();
    let ids: BTreeSet<&str> = was.terms.iter().chain(is.terms.iter()).map(|term| term.id.as_str()).collect();
    let of_terms = ids.into_iter().find_map(|id| {
        let words = |termed: &Termed| {
            let term = termed.terms.iter().find(|term| term.id == id);
            term.map_or_else(|| "none".to_owned(), |term| term_words(&Term { description: None, ..term.clone() }))
        };
        changed(&format!("term {id}"), &words(was), &words(is))
    });
    let contract = changed("contract", was.contract.as_str(), is.contract.as_str());
    let currency = changed("currency", was.currency.as_str(), is.currency.as_str());
    let looks_at = changed("terms_over", was.over.name(), is.over.name());
    let rounding = changed(&format!("rounding of {}", was.currency), &rounded(was), &rounded(is));
    contract.or(currency).or(looks_at).or(of_terms).or(rounding).unwrap_or_else(|| "they look at other months together".to_owned())
}

/// Why a version may not be published: it changes terms of a month that is closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TermsChanged {
    /// Whose terms; none: of every organization without a contract of its own.
    organization: Option<OrganizationId>,
    contract: ContractId,
    month: Month,
    closed: Month,
    what: String,
    next: Month,
    /// The organization would leave the contract of everyone else, by whose terms it was invoiced.
    left: bool,
}

impl fmt::Display for TermsChanged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { organization, contract, month, closed, left, what, next } = self;
        let whom = match organization {
            Some(organization) => format!("organization {organization} has"),
            None => "organizations without a contract of their own have".to_owned(),
        };
        if *left {
            return write!(
                f,
                "the terms of contract {contract} that {whom} in {month} would be others ({what}), and months up to {closed} are closed and invoiced \
                 by them: an organization with a contract of its own has it from its beginning on\n    remedy: leave it with the contract that has \
                 default = true, which was its contract in these months"
            );
        }
        let open = next.start();
        write!(
            f,
            "the terms of contract {contract} that {whom} in {month} would be others ({what}), and months up to {closed} are closed and invoiced by \
             them\n    remedy: leave the contract, its price book and its terms as they were (and how its currency is rounded, where a term looks at \
             several months together), and write another contract with effective_at = \"{open}\" or a later month"
        )
    }
}

impl std::error::Error for TermsChanged {}

#[cfg(test)]
mod tests;
