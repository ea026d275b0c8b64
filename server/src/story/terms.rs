//! A line of a term, explained: what it looks at, what was spent, what the term makes of it, what earlier invoices said.

use std::fmt::Write as _;

use platform_billing::{Invoice, Issue, StoredInvoice, TermLine};
use serde::Serialize;
use shared_types::Sum;

use super::{ExplanationView, month};
use crate::commands::invoice::terms::{reason, scope};
use crate::commands::invoice::{grouped, money};
use crate::contract::wire;

wire! {
    /// A line of a term of a contract.
    #[derive(Clone, Serialize)]
    pub struct TermView {
        /// The invoice: its number, or its id while it is a draft.
        pub invoice: String,
        /// The line.
        pub number: u64,
        /// Who owes.
        pub organization: String,
        /// The contract.
        pub contract: String,
        /// The term's name in it.
        pub term: String,
        /// For people.
        pub description: String,
        /// `discount`, `capacity`, `graduated_discount`, `commitment`, `maximum_spend` or `minimum_spend`.
        pub kind: &'static str,
        /// Month of the spend, `yyyy-mm`.
        pub service_period: String,
        /// The currency.
        pub currency: String,
        /// What the term was applied to.
        pub spend: String,
        /// What it adds to that, or takes off where below zero.
        pub term_amount: String,
        /// How many service periods the term looks at together; null where it looks at each by itself.
        pub months: Option<u16>,
        /// What it was applied to in the earlier ones of these; null without `months`.
        pub spend_before: Option<String>,
        /// What it came to in the earlier ones of these; null without `months`.
        pub amount_before: Option<String>,
        /// What earlier invoices said of the same.
        pub invoiced_before: String,
        /// What the line asks for.
        pub amount: String,
        /// The registry version whose terms these are.
        pub registry_version: String,
    }
}

/// Explains the line of a term.
pub(super) fn explain(stored: &StoredInvoice, term: &TermLine) -> ExplanationView {
    let invoice = &stored.invoice;
    let name = stored.issue.as_ref().map_or_else(|| invoice.invoice_id.to_string(), Issue::shown);
    let text = text(invoice, &name, term);
    let term = TermView {
        invoice: name,
        number: term.number,
        organization: invoice.organization.to_string(),
        contract: term.contract.to_string(),
        term: term.term.clone(),
        description: term.description.clone(),
        kind: term.rule.kind(),
        service_period: month(term.service_period),
        currency: invoice.currency.to_string(),
        spend: term.spend.to_string(),
        term_amount: term.term_amount.to_string(),
        months: term.window.map(|window| window.months),
        spend_before: term.window.map(|window| window.spend_before.to_string()),
        amount_before: term.window.map(|window| window.amount_before.to_string()),
        invoiced_before: term.invoiced_before.to_string(),
        amount: term.amount.to_string(),
        registry_version: invoice.registry_version.to_string(),
    };
    ExplanationView {
        subject: "term",
        charge: None,
        line: None,
        amount: Some(term.amount.clone()),
        term: Some(term),
        key: None,
        reading: None,
        verdict: "term",
        reason: None,
        before: None,
        after: None,
        text,
    }
}

fn text(invoice: &Invoice, name: &str, term: &TermLine) -> String {
    let scale = invoice.rounding.scale;
    let shown = |amount: Sum| format!("{:>18} {}", grouped(&money(amount, scale)), invoice.currency);
    let mut out = String::new();
    // Writing to a string does not fail.
    let _ = writeln!(out, "Line {} of invoice {name}: {}\n", term.number, term.description);
    let _ = writeln!(
        out,
        "term {} ({}) of contract {}, for organization {} in {}",
        term.term,
        term.rule.kind(),
        term.contract,
        invoice.organization,
        month(term.service_period)
    );
    let _ = writeln!(out, "looks at {}", scope(term));
    let _ = writeln!(out, "registry version {}\n", invoice.registry_version);
    let together =
        term.window.map(|window| [("spend in earlier months", window.spend_before), ("what that came to", window.amount_before)]);
    let own = [
        ("spend, as invoices say it", term.spend),
        ("what the term makes of it", term.term_amount),
        ("less, on earlier invoices", term.invoiced_before),
        ("asked for on this line", term.amount),
    ];
    for (label, amount) in together.into_iter().flatten().chain(own.map(|(label, amount)| (label, amount.into()))) {
        let _ = writeln!(out, "  {label:<26} {}", shown(amount));
    }
    let _ = writeln!(out, "\nbecause: {}", reason(term, scale));
    out
}
