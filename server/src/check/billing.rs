//! What was closed and invoiced follows from the totals of the batches: running totals, drafts, lines, numbers, entries, and what is unbilled.

use std::collections::BTreeMap;

use platform_billing::{Invoice, StoredInvoice};
use platform_ledger::Command;
use shared_db::Transaction;
use shared_types::{BatchNo, Month, OrganizationId};

use super::{Gathered, KeyText, Report, units};
use crate::roles::invoicing::policies;

/// Organizations read at a time.
const PAGE: u32 = 500;

/// Everything of billing; `through` is where the ledger's fold stands.
pub async fn rules(books: &mut Transaction, through: BatchNo, gathered: &Gathered, report: &mut Report) -> anyhow::Result<()> {
    let mut owed = totals(books, through, gathered, report).await?;
    reratings(books, through, gathered, report).await?;
    drafts(books, report).await?;
    let commands: BTreeMap<u64, Command> =
        platform_ledger::commands(books, 0, u32::MAX).await?.into_iter().map(|booked| (booked.entry_no, booked.command)).collect();
    let mut numbers: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for stored in &platform_billing::invoices(books).await? {
        let invoice = &stored.invoice;
        if !platform_billing::lines_hold(books, invoice).await? {
            report.add("invoice-lines", &invoice.invoice_id, "the rows of its lines are not those of its content");
        }
        let Some(issue) = &stored.issue else { continue };
        numbers.entry(issue.issuer.clone()).or_default().push(issue.number);
        entry(stored, issue.entry_no, &commands, report);
        for line in &invoice.lines {
            let place = (invoice.organization.to_string(), invoice.currency.to_string());
            *owed.entry(place).or_default() -= i128::from(line.exact.units());
        }
    }
    for (issuer, mut given) in numbers {
        given.sort_unstable();
        if let Some((wanted, found)) = (1..).zip(&given).find(|(wanted, found)| wanted != *found) {
            report.add("invoice-number", format!("{issuer} {wanted}"), format!("is missing; the next number that was given is {found}"));
        }
    }
    unbilled(books, &owed, report).await
}

/// What the books say was rated again is what the batches say.
async fn reratings(books: &mut Transaction, through: BatchNo, gathered: &Gathered, report: &mut Report) -> anyhow::Result<()> {
    let mut expected: BTreeMap<(u64, KeyText), i128> = BTreeMap::new();
    for (batch_no, booked) in gathered.booked.iter().filter(|(batch_no, _)| *batch_no <= through && gathered.again.contains(batch_no)) {
        expected.extend(booked.iter().map(|(key, amount)| ((batch_no.0, key.clone()), *amount)));
    }
    for rerating in platform_billing::reratings(books).await? {
        let key = (
            rerating.organization.to_string(),
            format!("{}/{}", rerating.contract, rerating.sku),
            rerating.service_period.number(),
            rerating.currency.to_string(),
            rerating.accounting_period.number(),
        );
        let (wanted, found) = (expected.remove(&(rerating.by.batch_no.0, key.clone())), i128::from(rerating.amount.units()));
        if wanted != Some(found) {
            report.add("billing-rerating", name(&key), format!("is {}, the batch's totals say {}", units(Some(found)), units(wanted)));
        }
    }
    for ((_, key), wanted) in expected {
        report.add("billing-rerating", name(&key), format!("is missing; the batch's totals say {}", units(Some(wanted))));
    }
    Ok(())
}

/// The running totals are the sums of the batches' totals; what each organization was charged by currency.
async fn totals(
    books: &mut Transaction,
    through: BatchNo,
    gathered: &Gathered,
    report: &mut Report,
) -> anyhow::Result<BTreeMap<(String, String), i128>> {
    let mut expected: BTreeMap<KeyText, i128> = BTreeMap::new();
    for (_, booked) in gathered.booked.iter().filter(|(batch_no, _)| *batch_no <= through) {
        for (key, amount) in booked {
            *expected.entry(key.clone()).or_default() += amount;
        }
    }
    let mut owed = BTreeMap::new();
    for total in platform_billing::totals(books).await? {
        let key = (
            total.organization.to_string(),
            total.contract_line.clone(),
            total.service_period.number(),
            total.currency.to_string(),
            total.accounting_period.number(),
        );
        let (wanted, found) = (expected.remove(&key), i128::from(total.amount.units()));
        if wanted != Some(found) {
            report.add("billing-total", name(&key), format!("is {}, the batches' totals sum to {}", units(Some(found)), units(wanted)));
        }
        *owed.entry((key.0, key.3)).or_default() += wanted.unwrap_or(0);
    }
    for (key, wanted) in expected {
        report.add("billing-total", name(&key), format!("is missing; the batches' totals sum to {}", units(Some(wanted))));
    }
    Ok(owed)
}

fn name(key: &KeyText) -> String {
    format!("{} {} {} {} {}", key.0, key.1, key.2, key.3, key.4)
}

/// Every draft is what the totals say; a month whose drafts are complete has them all.
async fn drafts(books: &mut Transaction, report: &mut Report) -> anyhow::Result<()> {
    let held: BTreeMap<OrganizationId, Month> =
        platform_billing::held(books).await?.into_iter().map(|held| (held.organization, held.period)).collect();
    for close in platform_billing::closes(books).await? {
        let policies = policies(books, close.registry_version).await?;
        let mut organizations: Vec<OrganizationId> = Vec::new();
        loop {
            let page = platform_billing::organizations(books, &close, &policies.terms, organizations.last(), PAGE).await?;
            if page.is_empty() {
                break;
            }
            organizations.extend(page);
        }
        let mut drafted = 0_u64;
        let left = |organization: &&OrganizationId| held.get(*organization).is_some_and(|since| *since <= close.period);
        for organization in organizations.iter().filter(|organization| !left(organization)) {
            let stored: Vec<Invoice> =
                platform_billing::invoices_in(books, organization, close.period).await?.into_iter().map(|stored| stored.invoice).collect();
            drafted = drafted.saturating_add(u64::try_from(stored.len())?);
            if stored.is_empty() && close.drafted.is_none() {
                continue;
            }
            let computed = platform_billing::invoices_of(books, &close, organization, &policies).await?;
            if stored != computed {
                let subject = format!("{organization} {}", close.period);
                report.add("invoice", subject, "its invoices are not what the running totals make them");
                terms(&stored, &computed, report);
            }
        }
        if close.drafted.is_some_and(|said| said != drafted) {
            report.add("invoice", close.period, format!("{drafted} invoices are stored, {:?} were drafted", close.drafted));
        }
    }
    Ok(())
}

/// Names each term that the running totals make another one.
fn terms(stored: &[Invoice], computed: &[Invoice], report: &mut Report) {
    let of = |invoices: &[Invoice]| -> BTreeMap<(String, String, i32), String> {
        let terms = invoices.iter().flat_map(|invoice| invoice.terms.iter().map(move |term| (invoice, term)));
        let named = terms.map(|(invoice, term)| {
            let name = (invoice.invoice_id.to_string(), term.contract_line(), term.service_period.number());
            (name, format!("{} for a spend of {}, less {}", term.term_amount, term.spend, term.invoiced_before))
        });
        named.collect()
    };
    let (mut wanted, none) = (of(computed), "absent".to_owned());
    for (name, said) in of(stored) {
        let makes = wanted.remove(&name);
        if makes.as_ref() != Some(&said) {
            let detail = format!("is {said}; the running totals make it {}", makes.unwrap_or_else(|| none.clone()));
            report.add("invoice-term", format!("{} {} {}", name.0, name.1, name.2), detail);
        }
    }
    for (name, makes) in wanted {
        report.add("invoice-term", format!("{} {} {}", name.0, name.1, name.2), format!("is absent; the running totals make it {makes}"));
    }
}

/// An issued invoice is booked by its own command, in the entry that its number names.
fn entry(stored: &StoredInvoice, entry_no: Option<u64>, commands: &BTreeMap<u64, Command>, report: &mut Report) {
    let invoice = &stored.invoice;
    let booked = entry_no.and_then(|entry_no| commands.get(&entry_no));
    let period = booked.and_then(|command| command.postings().first()).map_or(invoice.period, platform_ledger::Posting::accounting_period);
    let holds = match invoice.command(period) {
        Ok(command) => command.as_ref() == booked && (booked.is_some() || entry_no.is_none()),
        Err(_) => false,
    };
    if !holds {
        report.add("invoice-entry", &invoice.invoice_id, format!("entry {entry_no:?} of the ledger does not book it"));
    }
}

/// What is unbilled is what was charged and not yet invoiced.
async fn unbilled(books: &mut Transaction, owed: &BTreeMap<(String, String), i128>, report: &mut Report) -> anyhow::Result<()> {
    let mut stands: BTreeMap<(String, String), i128> = BTreeMap::new();
    for balance in platform_ledger::balances(books).await? {
        stands.insert((balance.account.to_string(), balance.asset.to_string()), balance.debits - balance.credits);
    }
    for ((organization, currency), wanted) in owed {
        let account = platform_ledger::AccountId::of(&["org", organization, "unbilled"])?;
        let found = stands.get(&(account.to_string(), currency.clone())).copied().unwrap_or(0);
        if found != *wanted {
            let detail = format!("stands at {}, charged and not invoiced are {}", units(Some(found)), units(Some(*wanted)));
            report.add("unbilled", format!("{account} {currency}"), detail);
        }
    }
    Ok(())
}
