//! Terms at a close: the spend of each (contract, service period) as invoices say it, what the terms make of it, less what earlier invoices
//! said. It asks the database for the latter alone.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;
use shared_db::Transaction;
use shared_types::{Amount, AssetId, ContractId, Month, OrganizationId};

use super::{Close, CloseError};
use crate::invoice::{Invoice, InvoiceError, Invoiced, KeyAtClose, Policies};
use crate::store::{KeyTotal, TERMS_BEFORE, TERMS_INSERT, TERMS_OF};
use crate::terms::{Spend, SpendError, TermLine, Termed};

/// What invoices say of the keys of contracts with terms.
pub(super) struct Closing<'p> {
    policies: &'p Policies,
    termed: &'p [Termed],
    spend: Spend,
    /// Where this close has something new.
    moved: BTreeSet<(ContractId, AssetId, Month)>,
}

impl<'p> Closing<'p> {
    pub(super) fn new(policies: &'p Policies, organization: &OrganizationId) -> Self {
        Self { policies, termed: policies.terms.of(organization), spend: Spend::default(), moved: BTreeSet::new() }
    }

    /// Whether any contract of the organization has terms.
    pub(super) fn has_terms(&self) -> bool {
        !self.termed.is_empty()
    }

    /// Takes a key in: what its line of this close says of it, or where it has none, what the last one said.
    pub(super) fn take(
        &mut self,
        key: &KeyTotal,
        at_close: Option<&KeyAtClose>,
        before: Option<&Invoiced>,
        close: &Close,
    ) -> Result<(), CloseError> {
        let holds = |termed: &&Termed| {
            (&termed.contract, &termed.currency) == (&key.contract, &key.currency) && termed.holds_in(key.service_period)
        };
        if !self.termed.iter().any(|termed| holds(&termed)) {
            return Ok(());
        }
        let amount = match (at_close, before) {
            (Some(key_at_close), _) => {
                let rounding = rounding_of(self.policies, &key.currency, close)?;
                rounding
                    .round(key_at_close.key_total)
                    .ok_or_else(|| beyond("line", &key.organization, &key.contract_line, key.service_period))?
            }
            (None, Some(said)) => said.key_amount,
            (None, None) => {
                let problem = format!("{} of {} in {} is on no invoice", key.contract_line, key.organization, key.service_period);
                return Err(CloseError::Totals { problem });
            }
        };
        self.spend.add(&key.contract, &key.currency, key.service_period, &key.sku, amount);
        if at_close.is_some() {
            self.moved.insert((key.contract.clone(), key.currency.clone(), key.service_period));
        }
        Ok(())
    }

    /// The lines of terms, by currency; in the order of contracts, service periods and application.
    ///
    /// - A term is looked at where its service period ends with this close, has something new, or is in a window behind one that has. It has a
    ///   line where what it comes to moved, and the first time that there is spend for it. One with a window has a line wherever it is looked
    ///   at: it says how much of a promise is spent, and what later lines say of the months before is what their last lines say.
    pub(super) fn lines(
        &self,
        said: &Said,
        close: &Close,
        organization: &OrganizationId,
    ) -> Result<BTreeMap<AssetId, Vec<TermLine>>, CloseError> {
        let mut lines: BTreeMap<AssetId, Vec<TermLine>> = BTreeMap::new();
        for termed in self.termed {
            let ending = termed.periods(close.previous, close.period);
            let moved = self.moved.iter().filter(|(contract, currency, period)| {
                (contract, currency) == (&termed.contract, &termed.currency) && termed.holds_in(*period)
            });
            let mut periods: BTreeSet<Month> = ending.chain(moved.map(|(_, _, period)| *period)).collect();
            let behind: Vec<Month> = periods.iter().flat_map(|period| termed.behind(*period, close.period)).collect();
            periods.extend(behind);
            for period in periods {
                let of_period = self.of_period(termed, period, said, close, organization)?;
                if !of_period.is_empty() {
                    lines.entry(termed.currency.clone()).or_default().extend(of_period);
                }
            }
        }
        for of_currency in lines.values_mut() {
            // Stable: the terms of a service period stay in the order of their application.
            of_currency.sort_by(|a, b| (&a.contract, a.service_period).cmp(&(&b.contract, b.service_period)));
        }
        Ok(lines)
    }

    fn of_period(
        &self,
        termed: &Termed,
        service_period: Month,
        said: &Said,
        close: &Close,
        organization: &OrganizationId,
    ) -> Result<Vec<TermLine>, CloseError> {
        let contract = &termed.contract;
        let applied = self.spend.apply(termed, service_period, self.policies).map_err(|error| match error {
            SpendError::NoRounding(currency) => InvoiceError::NoRounding { currency, period: close.period },
            SpendError::OutOfRange { .. } => beyond("terms", organization, contract.as_str(), service_period),
        })?;
        let mut lines = Vec::new();
        for applied in applied {
            let term = applied.term;
            let name = (contract.to_string(), term.id.clone(), service_period, termed.currency.to_string());
            let before = said.get(&name).copied();
            let invoiced_before = before.unwrap_or(Amount::ZERO);
            let amount = applied.amount.checked_sub(invoiced_before);
            let amount = amount.map_err(|_| beyond("term", organization, contract.as_str(), service_period))?;
            let nothing_new = amount == Amount::ZERO && (before.is_some() || applied.spend == Amount::ZERO);
            if applied.window.is_none() && nothing_new {
                continue;
            }
            lines.push(TermLine {
                amount,
                contract: contract.clone(),
                description: term.description.clone(),
                families: term.scope.families.clone(),
                invoiced_before,
                number: 0,
                over: termed.over,
                rule: term.rule.clone(),
                service_period,
                skus: term.scope.skus.clone(),
                spend: applied.spend,
                term: term.id.clone(),
                term_amount: applied.amount,
                window: applied.window,
            });
        }
        Ok(lines)
    }
}

fn rounding_of(policies: &Policies, currency: &AssetId, close: &Close) -> Result<crate::invoice::Rounding, InvoiceError> {
    let found = policies.roundings.get(currency).copied();
    found.ok_or_else(|| InvoiceError::NoRounding { currency: currency.clone(), period: close.period })
}

fn beyond(what: &'static str, organization: &OrganizationId, contract_line: &str, service_period: Month) -> InvoiceError {
    InvoiceError::Overflow { what, organization: organization.clone(), contract_line: contract_line.to_owned(), service_period }
}

/// By contract, term, service period and currency.
pub(super) type Said = BTreeMap<(String, String, Month, String), Amount>;

/// What the last invoice before a close said of each term.
pub(super) async fn said_before(tx: &mut Transaction, close: &Close, organization: &OrganizationId) -> Result<Said, CloseError> {
    let mut said = Said::new();
    for row in tx.query(&TERMS_BEFORE, &[organization.as_str().into(), close.period.into()]).await? {
        let name = (row.text(0)?.to_owned(), row.text(1)?.to_owned(), row.month(2)?, row.text(3)?.to_owned());
        let amount = Amount::from_units(row.integer(4)?.into());
        said.insert(name, amount.map_err(|error| CloseError::Totals { problem: error.to_string() })?);
    }
    Ok(said)
}

/// Keeps the terms of a draft.
pub(super) async fn insert(tx: &mut Transaction, invoice: &Invoice) -> Result<(), CloseError> {
    if invoice.terms.is_empty() {
        return Ok(());
    }
    let values = [
        invoice.invoice_id.as_str().into(),
        invoice.organization.as_str().into(),
        invoice.currency.as_str().into(),
        invoice.period.into(),
        json!(rows(invoice)).to_string().into(),
    ];
    tx.execute(&TERMS_INSERT, &values).await?;
    Ok(())
}

/// In the order of `terms_insert.sql`.
fn rows(invoice: &Invoice) -> Vec<serde_json::Value> {
    let row = |term: &TermLine| {
        json!([term.number, term.contract, term.term, term.service_period.number(), term.term_amount.units(), term.amount.units()])
    };
    invoice.terms.iter().map(row).collect()
}

/// Whether the rows of an invoice's terms are those of its content.
pub(super) async fn hold(tx: &mut Transaction, invoice: &Invoice) -> Result<bool, CloseError> {
    let mut stored = Vec::new();
    for row in &tx.query(&TERMS_OF, &[invoice.invoice_id.as_str().into()]).await? {
        let owner = (row.text(1)?, row.text(5)?, row.month(6)?);
        if owner != (invoice.organization.as_str(), invoice.currency.as_str(), invoice.period) {
            return Ok(false);
        }
        stored.push(json!([row.integer(0)?, row.text(2)?, row.text(3)?, row.integer(4)?, row.integer(7)?, row.integer(8)?]));
    }
    Ok(stored == rows(invoice))
}

#[cfg(test)]
mod tests;
