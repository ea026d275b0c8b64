//! Earlier invoices that someone kept: nothing that they charged is charged again. A bundle alone cannot show it, because `from` and what was
//! invoiced before stand in the invoice that is being judged.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;

use anyhow::{Context as _, ensure};
use serde_json::Value;

use super::{INVOICE, list, member};
use crate::finding::{Findings, Stage};

/// Compares an invoice with all earlier ones of its organization; lines with those in its currency. They are believed as they were kept.
///
/// - Errors: a folder without an invoice, an invoice of another organization or of no earlier month.
pub(super) fn against_earlier(invoice: &Value, folders: &[PathBuf], findings: &mut Findings) -> anyhow::Result<()> {
    let mut earlier = BTreeMap::new();
    for folder in folders {
        let path = folder.join(INVOICE);
        let text = std::fs::read_to_string(&path).with_context(|| format!("could not read {}", path.display()))?;
        let kept: Value = serde_json::from_str(&text).with_context(|| format!("{} is no invoice", path.display()))?;
        let (whose, period) = (member(&kept, "organization"), member(&kept, "period"));
        ensure!(whose == member(invoice, "organization"), "{} is of organization {whose:?}", path.display());
        ensure!(period < member(invoice, "period"), "{} is of {period}, which is not earlier", path.display());
        earlier.insert((period, member(&kept, "invoice_id")), kept);
    }
    let mut covered: HashMap<String, u64> = HashMap::new();
    let mut charged: HashMap<[String; 3], (String, String)> = HashMap::new();
    let mut said: HashMap<[String; 3], String> = HashMap::new();
    // In order of months: the last line of a key counts.
    for kept in earlier.values() {
        for log in list(kept, "logs") {
            let to: u64 = member(log, "to").parse().with_context(|| format!("{} covers no readable log", member(kept, "invoice_id")))?;
            let known = covered.entry(member(log, "month")).or_default();
            *known = to.max(*known);
        }
        if member(kept, "currency") == member(invoice, "currency") {
            for line in list(kept, "lines") {
                charged.insert(key(line), (member(line, "key_total"), member(line, "key_amount")));
            }
            for term in list(kept, "terms") {
                said.insert(term_of(term), member(term, "term_amount"));
            }
        }
    }
    let stage = Stage::Lines;
    for log in list(invoice, "logs") {
        let month = member(log, "month");
        let expected = covered.get(&month).copied().unwrap_or(0).to_string();
        findings.compare(stage, INVOICE, &format!("log {month}"), "from, by the earlier invoices", &expected, &member(log, "from"));
    }
    for line in list(invoice, "lines") {
        let row = format!("line {} {} {}", member(line, "number"), member(line, "contract_line"), member(line, "service_period"));
        let before = charged.get(&key(line));
        let (total, amount) = before.cloned().unwrap_or_else(|| ("0".to_owned(), "0".to_owned()));
        let kind = if before.is_some() { "adjustment" } else { "usage" }.to_owned();
        for (name, expected) in [("exact_before", total), ("invoiced_before", amount), ("kind", kind)] {
            findings.compare(stage, INVOICE, &row, &format!("{name}, by the earlier invoices"), &expected, &member(line, name));
        }
    }
    for term in list(invoice, "terms") {
        let row = format!(
            "line {} {}#{} {}",
            member(term, "number"),
            member(term, "contract"),
            member(term, "term"),
            member(term, "service_period")
        );
        let before = said.get(&term_of(term)).cloned().unwrap_or_else(|| "0".to_owned());
        findings.compare(stage, INVOICE, &row, "invoiced_before, by the earlier invoices", &before, &member(term, "invoiced_before"));
    }
    Ok(())
}

fn term_of(term: &Value) -> [String; 3] {
    ["contract", "term", "service_period"].map(|name| member(term, name))
}

fn key(line: &Value) -> [String; 3] {
    ["contract", "sku", "service_period"].map(|name| member(line, name))
}
