//! Recurring fees: which of them have fallen due up to an instant, and the events that state them. A pure function of versions and ticks;
//! it knows no clock, no stream and no price.

use std::collections::BTreeMap;
use std::fmt;

use platform_usage::OWN_SOURCE;
use serde_json::json;
use shared_types::{ContractId, Instant, Month, OrganizationId, Quantity, canonical_json};

use crate::Version;
use crate::document::{ChargedAt, Contract, Covers, Recurring};

/// Every recurring fee of a version, for each organization.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Schedule {
    fees: BTreeMap<FeeId, Terms>,
}

/// One fee of one organization.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct FeeId {
    organization: OrganizationId,
    contract: ContractId,
    id: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Terms {
    event_type: String,
    item: String,
    quantity: Quantity,
    charged_at: ChargedAt,
    from: Instant,
    until: Option<Instant>,
}

/// A fee for one service period.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fee {
    /// Who owes it.
    pub organization: OrganizationId,
    /// Under which contract.
    pub contract: ContractId,
    /// Its name in the contract.
    pub id: String,
    /// The service period.
    pub period: Month,
    /// When it falls due.
    pub due_at: Instant,
    /// Type of the event that states it.
    pub event_type: String,
    /// What is provided.
    pub item: String,
    /// How much of it.
    pub quantity: Quantity,
    /// Provided from here on, within the period.
    pub start_at: Instant,
    /// Provided up to here, within the period.
    pub end_at: Instant,
}

/// A tick: up to when fees were called due, and by which schedule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tick {
    /// The schedule in force.
    pub schedule: Schedule,
    /// The instant.
    pub at: Instant,
}

impl Tick {
    /// Whether it, or one before it, called a part of a fee due.
    fn has_called(&self, id: &FeeId, period: Month) -> bool {
        let Some(terms) = self.schedule.fees.get(id) else { return false };
        terms.parts().take_while(|part| part.period <= period).any(|part| part.period == period && part.due_at(terms) <= self.at)
    }
}

impl Schedule {
    /// The recurring fees of a version. A contract ends where the organization's next one begins.
    pub fn of(version: &Version) -> Self {
        let mut own: BTreeMap<&OrganizationId, Vec<&Contract>> = BTreeMap::new();
        for contract in version.contracts() {
            if let Covers::Organizations(organizations) = &contract.covers {
                for organization in organizations {
                    own.entry(organization).or_default().push(contract);
                }
            }
        }
        let mut fees = BTreeMap::new();
        for (organization, mut contracts) in own {
            contracts.sort_by_key(|contract| contract.effective_at);
            let ends = contracts.iter().skip(1).map(|next| Some(next.effective_at)).chain([None]);
            for (contract, ends_at) in contracts.iter().zip(ends) {
                for fee in &contract.recurring {
                    let id = FeeId { organization: organization.clone(), contract: contract.id.clone(), id: fee.id.clone() };
                    fees.insert(id, Terms::new(fee, contract.effective_at, ends_at));
                }
            }
        }
        Self { fees }
    }

    /// What has fallen due up to and including an instant and was not called due by the last tick, by (organization, contract, fee, period).
    pub fn due(&self, at: Instant, last: Option<&Tick>) -> Vec<Fee> {
        let fees = self.fees.iter().flat_map(|(id, terms)| {
            let parts = terms.parts().take_while(move |part| part.due_at(terms) <= at);
            let fresh = parts.filter(move |part| last.is_none_or(|last| !last.has_called(id, part.period)));
            fresh.map(move |part| part.fee(id, terms))
        });
        fees.collect()
    }

    /// What is provided in a service period, whether or not it has fallen due, by (organization, contract, fee).
    pub fn of_period(&self, period: Month) -> Vec<Fee> {
        let fees = self.fees.iter().filter_map(|(id, terms)| {
            let part = terms.parts().take_while(|part| part.period <= period).find(|part| part.period == period)?;
            Some(part.fee(id, terms))
        });
        fees.collect()
    }

    /// When the next fee falls due that the last tick did not call due.
    pub fn next_due(&self, last: Option<&Tick>) -> Option<Instant> {
        let next = self.fees.iter().filter_map(|(id, terms)| {
            let part = terms.parts().find(|part| last.is_none_or(|last| !last.has_called(id, part.period)))?;
            Some(part.due_at(terms))
        });
        next.min()
    }

    /// Refuses a schedule that says otherwise of what was called due: a fee that was charged is never changed or taken back in silence.
    pub fn refuse_changed(&self, last: &Tick) -> Result<(), Changed> {
        for (id, before) in &last.schedule.fees {
            for part in before.parts().take_while(|part| part.due_at(before) <= last.at) {
                let now = self.fees.get(id).and_then(|terms| {
                    let what = |terms: &Terms| (terms.event_type.clone(), terms.item.clone(), terms.quantity);
                    let same = what(terms) == what(before);
                    same.then(|| terms.parts().find(|found| found.period == part.period)).flatten()
                });
                if now.is_none_or(|now| now != part) {
                    let FeeId { organization, contract, id } = id.clone();
                    return Err(Changed { organization, contract, id, period: part.period });
                }
            }
        }
        Ok(())
    }
}

/// Why a version may not be published: it changes a fee that was charged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changed {
    organization: OrganizationId,
    contract: ContractId,
    id: String,
    period: Month,
}

impl fmt::Display for Changed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { organization, contract, id, period } = self;
        write!(
            f,
            "recurring fee {id:?} of contract {contract} was charged to organization {organization} for {period}, and this version changes it\n    \
             remedy: leave its item, quantity, from and until as they were for that period; end it with an until behind it and add a fee \
             with another id"
        )
    }
}

impl std::error::Error for Changed {}

/// The part of a service period in which a fee is provided.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Part {
    period: Month,
    start_at: Instant,
    end_at: Instant,
}

impl Terms {
    fn new(fee: &Recurring, begins_at: Instant, ends_at: Option<Instant>) -> Self {
        let until = match (fee.until, ends_at) {
            (Some(until), Some(ends_at)) => Some(until.min(ends_at)),
            (until, ends_at) => until.or(ends_at),
        };
        let from = fee.from.map_or(begins_at, |from| from.max(begins_at));
        let (event_type, item) = (fee.event_type.clone(), fee.item.clone());
        Self { event_type, item, quantity: fee.quantity, charged_at: fee.charged_at, from, until }
    }

    /// Its parts, period by period, as long as it is provided; due instants rise.
    fn parts(&self) -> impl Iterator<Item = Part> {
        let periods = std::iter::successors(Some(self.from.month()), |month| month.next());
        let until = self.until;
        let parts = periods.map_while(move |period| {
            let over = period.next()?.start();
            let start_at = self.from.max(period.start());
            let end_at = until.map_or(over, |until| until.min(over));
            Some(Part { period, start_at, end_at })
        });
        parts.take_while(|part| part.start_at < part.end_at)
    }
}

impl Part {
    fn due_at(&self, terms: &Terms) -> Instant {
        match terms.charged_at {
            ChargedAt::Start => self.start_at,
            ChargedAt::End => self.end_at,
        }
    }

    fn fee(&self, id: &FeeId, terms: &Terms) -> Fee {
        Fee {
            organization: id.organization.clone(),
            contract: id.contract.clone(),
            id: id.id.clone(),
            period: self.period,
            due_at: self.due_at(terms),
            event_type: terms.event_type.clone(),
            item: terms.item.clone(),
            quantity: terms.quantity,
            start_at: self.start_at,
            end_at: self.end_at,
        }
    }
}

impl Fee {
    /// Id of the event that states it: one for each (contract, fee, period), so that it is counted once however often it is stated.
    pub fn event_id(&self) -> String {
        format!("{}/{}/{}", self.contract, self.id, self.period)
    }

    /// The event that states it, as canonical JSON.
    pub fn event(&self) -> String {
        let event = json!({
            "specversion": "1.0",
            "source": OWN_SOURCE,
            "type": self.event_type,
            "id": self.event_id(),
            "subject": format!("{}/{}", self.contract, self.id),
            "organization": self.organization.as_str(),
            "time": self.start_at.to_string(),
            "endtime": self.end_at.to_string(),
            "data": {Recurring::ITEM: self.item, Recurring::QUANTITY: self.quantity.to_string()},
        });
        // Texts alone always have a canonical form.
        canonical_json(&event).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests;
