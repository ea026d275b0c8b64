//! Earlier invoices that someone kept: nothing that they charged is charged again. A bundle alone cannot show it, because `from` and what was
//! invoiced before stand in the invoice that is being judged.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::PathBuf;

use anyhow::{Context as _, ensure};
use serde_json::Value;

use super::terms::{Place, Terms};
use super::{INVOICE, list, member};
use crate::finding::{Findings, Stage};
use crate::money::{Number, decimal, plain, zero};

/// Compares an invoice with all earlier ones of its organization; lines with those in its currency. They are believed as they were kept.
///
/// - Errors: a folder without an invoice, an invoice of another organization or of no earlier month.
///
/// - `terms`: what each term comes to in each service period that was looked at, and which look at several together.
pub(super) fn against_earlier(invoice: &Value, folders: &[PathBuf], terms: &Terms, findings: &mut Findings) -> anyhow::Result<()> {
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
    let mut said: HashMap<Place, Value> = HashMap::new();
    let last = earlier.keys().filter_map(|(period, _)| period.parse::<i32>().ok()).max().unwrap_or(0);
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
                said.insert(place_of(term), term.clone());
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
    let new: HashSet<i32> = list(invoice, "logs").filter_map(|log| member(log, "month").parse().ok()).collect();
    let lines: HashSet<Place> = list(invoice, "terms").map(place_of).collect();
    let figure = |place: &Place, name: &str| said.get(place).map_or_else(|| Ok(zero()), |line| decimal(&member(line, name)));
    for term in list(invoice, "terms") {
        let place = place_of(term);
        let row = format!("line {} {}#{} {}", member(term, "number"), place.0, place.1, place.2);
        let before = plain(&figure(&place, "term_amount")?);
        findings.compare(stage, INVOICE, &row, "invoiced_before, by the earlier invoices", &before, &member(term, "invoiced_before"));
        let others = |of: &dyn Fn(&&Place) -> bool| -> Vec<Place> {
            let others = lines.iter().chain(said.keys()).filter(|other| (&other.0, &other.1) == (&place.0, &place.1)).filter(of);
            others.cloned().collect::<BTreeSet<_>>().into_iter().collect()
        };
        let first = terms.together.get(&place).copied();
        let earlier = first.map(|first| others(&|other| (first..place.2).contains(&other.2))).unwrap_or_default();
        let behind = earlier.iter().any(|earlier| lines.contains(earlier));
        if place.2 <= last && !new.contains(&place.2) && !behind {
            let expected = format!("one with new usage, or one behind {last}");
            findings.add(stage, INVOICE, &*row, "service period, by the earlier invoices", expected, place.2);
        }
        // Of the first month that moved, what was spent before it; of a month without leaves, what was spent in it.
        if first.is_some() && !behind {
            let mut spent = zero();
            for earlier in &earlier {
                spent += figure(earlier, "spend")?;
            }
            let stated = term.get("window").map(|window| member(window, "spend_before")).unwrap_or_default();
            findings.compare(stage, INVOICE, &row, "spend_before, by the earlier invoices", &plain(&spent), &stated);
        }
        if first.is_some() && !new.contains(&place.2) && member(term, "service_period") != member(invoice, "period") {
            let (before, now) = (base(said.values(), term)?, base(list(invoice, "terms"), term)?);
            if let (before, Some(now)) = (before.unwrap_or_else(zero), now)
                && before != now
            {
                findings.add(stage, INVOICE, &*row, "spend, by the earlier invoices", plain(&before), plain(&now));
            }
        }
    }
    // A month without usage before may have been billed a minimum: what it came to must be taken back. One that they closed and that has nothing
    // new is looked at only for terms that look at it together with another: of it the bundle has no leaves.
    let looked_at = |place: &Place| place.2 > last || new.contains(&place.2);
    for (place, amount) in terms.amounts.iter().filter(|(place, _)| !lines.contains(*place) && looked_at(place)) {
        let before = figure(place, "term_amount")?;
        if *amount != before {
            let row = format!("{}#{} {}", place.0, place.1, place.2);
            findings.add(stage, INVOICE, row, "line of the term, by the earlier invoices", plain(&(amount - before)), "");
        }
    }
    Ok(())
}

/// What the first term over the SKUs of a line, of those that look at several months together, was applied to in the line's month, without what
/// such terms before it added: the same as long as nothing is new there. None where it has no line.
fn base<'l>(lines: impl Iterator<Item = &'l Value>, of: &Value) -> anyhow::Result<Option<Number>> {
    let month =
        |line: &&Value| line.get("window").is_some() && ["contract", "service_period"].iter().all(|name| line.get(*name) == of.get(*name));
    let lines: Vec<&Value> = lines.filter(month).collect();
    let scope = |line: &Value| ["families", "skus"].map(|name| line.get(name).cloned());
    let whole = |line: &Value| scope(line).iter().all(Option::is_none);
    // In the order of application, which is that of their numbers on one invoice.
    let first =
        lines.iter().filter(|line| scope(line) == scope(of)).min_by_key(|line| member(line, "number").parse::<u64>().unwrap_or(u64::MAX));
    let Some(first) = first else { return Ok(None) };
    let mut base = decimal(&member(first, "spend"))?;
    for line in lines.iter().filter(|line| whole(first) && !whole(line)) {
        base -= decimal(&member(line, "term_amount"))?;
    }
    Ok(Some(base))
}

fn place_of(term: &Value) -> Place {
    (member(term, "contract"), member(term, "term"), member(term, "service_period").parse().unwrap_or(0))
}

fn key(line: &Value) -> [String; 3] {
    ["contract", "sku", "service_period"].map(|name| member(line, name))
}
