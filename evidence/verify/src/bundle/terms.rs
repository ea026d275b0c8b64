//! Stage 5, terms of contracts: each line of a term from what all keys of its service period come to. The months are those of the invoice and
//! of its logs: what a month without usage owes of a minimum, and was not billed, is the issuer's word.
//!
//! A term that looks at several months together has a line in each that the invoice looked at, from the first that moved on. What was spent
//! before that one is the issuer's word, as is what is spent in a month of which the bundle has no leaves; earlier invoices judge both.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use anyhow::ensure;
use serde_json::{Value, json};

use super::lines::Lines;
use super::{INVOICE, list, member, unreadable};
use crate::finding::{Findings, Stage};
use crate::money::{Half, Number, decimal, plain, round, zero};
use crate::registry::Version;
use crate::terms::{Applied, Before, Key, Term, Termed, apply};

/// Contract, term and service period.
pub(super) type Place = (String, String, i32);

/// What was found of the terms.
#[derive(Default)]
pub(super) struct Terms {
    /// What their lines add up to.
    pub(super) total: Number,
    /// What each term that looks at each service period by itself comes to in those that were looked at.
    pub(super) amounts: BTreeMap<Place, Number>,
    /// For each other one the first of the service periods that it looks at together with this one.
    pub(super) together: BTreeMap<Place, i32>,
}

/// What a term that looks at several service periods together was applied to in them, up to one: now, and by the earlier invoices.
struct SoFar {
    month: i32,
    now: Number,
    then: Number,
}

/// Compares the lines of terms with what the contracts make of the keys.
///
/// - `from`: the first leaf of each month that is on no earlier invoice.
/// - Errors: a term that this program has not learnt, a figure that cannot be read.
pub(super) fn terms(
    invoice: &Value,
    versions: &HashMap<String, Version>,
    from: &HashMap<i32, i64>,
    lines: &Lines,
    findings: &mut Findings,
) -> anyhow::Result<Terms> {
    let stage = Stage::Lines;
    let (organization, currency) = (member(invoice, "organization"), member(invoice, "currency"));
    let version = versions.get(&member(invoice, "registry_version"));
    let Some((version, rounding)) = version.and_then(|version| Some((version, *version.roundings.get(&currency)?))) else {
        return Ok(Terms::default());
    };
    let stated: Vec<&Value> = list(invoice, "terms").collect();
    let expected_v = if stated.is_empty() { "1" } else { "2" };
    findings.compare(stage, INVOICE, "", "v", &expected_v, &member(invoice, "v").as_str());
    let month_of = |value: &Value, name: &str| member(value, name).parse::<i32>().unwrap_or(0);
    let period = month_of(invoice, "period");
    let mut months: BTreeSet<i32> = stated.iter().map(|line| month_of(line, "service_period")).collect();
    months.extend(list(invoice, "logs").map(|log| month_of(log, "month")));
    months.insert(period);
    let termed = version.termed(&organization, &currency)?;
    for (termed, line) in termed.iter().flat_map(|termed| stated.iter().map(move |line| (termed, line))) {
        let of = termed.terms.iter().find(|term| (termed.contract, &term.id) == (&*member(line, "contract"), &member(line, "term")));
        months.extend(of.into_iter().flat_map(|term| termed.behind(term, month_of(line, "service_period"), period)));
    }
    // No month, or one that is not closed yet: nothing of it is owed.
    months.retain(|month| *month <= period && crate::time::period(*month).is_ok());
    let mut found: BTreeMap<Place, &Value> = BTreeMap::new();
    let mut total = zero();
    for (at, line) in stated.iter().enumerate() {
        let row = row_of(line);
        let number = lines.count + at + 1;
        findings.compare(stage, INVOICE, &row, "number", &number.to_string(), &member(line, "number"));
        total += decimal(&member(line, "amount")).map_err(|error| unreadable(stage, INVOICE, error))?;
        let place = (member(line, "contract"), member(line, "term"), month_of(line, "service_period"));
        if found.insert(place, line).is_some() {
            findings.add(stage, INVOICE, row, "lines of this term", 1, 2);
        }
    }
    let (mut order, mut amounts, mut together, nothing) = (Vec::new(), BTreeMap::new(), BTreeMap::new(), zero());
    for termed in &termed {
        let mut so_far: BTreeMap<&str, SoFar> = BTreeMap::new();
        for month in months.iter().copied().filter(|month| termed.holds_in(*month)) {
            // Keys of this month that have no line are on earlier invoices, rounded as these say.
            let roundings: HashSet<(u32, Half)> =
                versions.values().filter_map(|version| version.roundings.get(&currency)).copied().collect();
            ensure!(
                roundings.len() == 1,
                "terms of contract {} cannot be judged: {currency} is rounded otherwise in an earlier version",
                termed.contract
            );
            let keys = |before: bool| -> Vec<Key<'_>> {
                let of_month = lines.keys.iter().filter(|key| (key.contract.as_str(), key.month) == (termed.contract, month));
                let known = of_month.filter(|key| !before || key.earlier);
                let key = |worth: &Number, sku| {
                    let (family, recurring) = version.family(sku).unwrap_or_default();
                    Key { sku, family, recurring, amount: round(worth, rounding.0, rounding.1) }
                };
                known.map(|of| key(if before { &of.before } else { &of.after }, &of.sku)).collect()
            };
            let stated = |id: &str| found.get(&(termed.contract.to_owned(), id.to_owned(), month)).copied();
            let (mut before_now, mut before_then) = (Before::default(), Before::default());
            for term in termed.terms.iter().filter(|term| term.months > 1) {
                let known = so_far.get(&*term.id).filter(|so_far| termed.behind(term, so_far.month, month).len() == 1);
                let (now, then) = match (termed.place(term, month), known) {
                    (0, _) => (zero(), zero()),
                    (_, Some(known)) => (known.now.clone(), known.then.clone()),
                    (_, None) => stated(&term.id).map_or_else(
                        || Ok((zero(), zero())),
                        |line| figure(window(line), "spend_before").map(|spent| (spent.clone(), spent)),
                    )?,
                };
                before_now.spent.insert(term.id.clone(), now);
                before_then.spent.insert(term.id.clone(), then);
            }
            // The bundle has no leaves of a month that was looked at for an earlier one alone.
            if month != period && !from.contains_key(&month) {
                let lines = termed.terms.iter().filter(|term| term.months > 1).filter_map(|term| Some((term, stated(&term.id)?)));
                let bases = bases(lines)?;
                (before_now.bases, before_then.bases) = (Some(bases.clone()), Some(bases));
            }
            let now = apply(termed, month, &keys(false), &before_now, rounding);
            let then = apply(termed, month, &keys(true), &before_then, rounding);
            // A month that no earlier invoice had leaves of may have been closed all the same, before this one.
            let known = from.get(&month).is_some_and(|from| *from > 0);
            for (applied, before) in now.iter().zip(&then) {
                let place = (termed.contract.to_owned(), applied.term.id.clone(), month);
                let befores = match (known, month == period) {
                    (true, _) => vec![&before.amount],
                    (false, true) => vec![&nothing],
                    (false, false) => vec![&nothing, &before.amount],
                };
                order.push(place.clone());
                let several = applied.before.is_some();
                if let (Some((spent, _)), Some((spent_then, _))) = (&applied.before, &before.before) {
                    let (now, then) = (spent + &applied.spend, spent_then + &before.spend);
                    so_far.insert(&applied.term.id, SoFar { month, now, then });
                    together.insert(place.clone(), termed.first(applied.term, month));
                } else {
                    amounts.insert(place.clone(), applied.amount.clone());
                }
                match found.remove(&place) {
                    Some(line) => judge(line, month, termed, applied, &befores, findings)?,
                    None if !several && befores.contains(&&applied.amount) => {}
                    None => {
                        let row = format!("{}#{} {month}", termed.contract, applied.term.id);
                        let expected = befores.first().map(|before| plain(&(&applied.amount - *before))).unwrap_or_default();
                        findings.add(stage, INVOICE, row, "line of the term", expected, "");
                    }
                }
            }
        }
    }
    for line in found.values() {
        findings.add(stage, INVOICE, row_of(line), "term", "one of the contract in this service period", member(line, "term"));
    }
    let place_of = |place: &Place| order.iter().position(|known| known == place);
    let places: Vec<usize> = stated
        .iter()
        .filter_map(|line| place_of(&(member(line, "contract"), member(line, "term"), month_of(line, "service_period"))))
        .collect();
    if !places.is_sorted() {
        findings.add(stage, INVOICE, "terms", "order", "by contract and service period, as terms are applied", "another one");
    }
    Ok(Terms { total, amounts, together })
}

/// What the first term of each scope that looks at months together was applied to in a month, by the lines of such terms, without what these
/// added to the whole.
fn bases<'t>(lines: impl Iterator<Item = (&'t Term, &'t Value)>) -> anyhow::Result<BTreeMap<String, Number>> {
    let lines: Vec<(&Term, &Value)> = lines.collect();
    let mut added = zero();
    for (_, line) in lines.iter().filter(|(term, _)| !term.is_whole()) {
        added += figure(line, "term_amount")?;
    }
    let base = |(term, line): &(&Term, &Value)| {
        let spend = figure(line, "spend")?;
        anyhow::Ok((term.id.clone(), if term.is_whole() { spend - &added } else { spend }))
    };
    lines.iter().map(base).collect()
}

fn window(line: &Value) -> &Value {
    line.get("window").unwrap_or(&Value::Null)
}

/// A number of a line.
fn figure(of: &Value, name: &str) -> anyhow::Result<Number> {
    decimal(&member(of, name)).map_err(|error| unreadable(Stage::Lines, INVOICE, error))
}

/// What a line has; `families` and `skus` only where they name something, `window` only of a term that looks at several months together.
const MEMBERS: [&str; 14] = [
    "amount",
    "contract",
    "description",
    "families",
    "invoiced_before",
    "number",
    "over",
    "rule",
    "service_period",
    "skus",
    "spend",
    "term",
    "term_amount",
    "window",
];

fn row_of(line: &Value) -> String {
    format!("line {} {}#{} {}", member(line, "number"), member(line, "contract"), member(line, "term"), member(line, "service_period"))
}

/// One line of a term.
fn judge(
    line: &Value,
    month: i32,
    termed: &Termed<'_>,
    applied: &Applied<'_>,
    befores: &[&Number],
    findings: &mut Findings,
) -> anyhow::Result<()> {
    let row = row_of(line);
    let term = applied.term;
    let stated = figure(line, "invoiced_before")?;
    let before = befores.iter().find(|before| ***before == stated).or(befores.first());
    let before = before.map_or_else(zero, |before| (*before).clone());
    let amount = &applied.amount - &stated;
    for (what, expected) in [
        ("spend", plain(&applied.spend)),
        ("term_amount", plain(&applied.amount)),
        ("invoiced_before", plain(&before)),
        ("amount", plain(&amount)),
        ("description", term.description.clone()),
        ("over", termed.over.to_owned()),
        ("service_period", month.to_string()),
    ] {
        findings.compare(Stage::Lines, INVOICE, &row, what, &expected, &member(line, what));
    }
    let names = |name: &str| -> BTreeSet<String> { list(line, name).filter_map(|name| name.as_str().map(str::to_owned)).collect() };
    for (what, expected, found) in [("families", &term.families, names("families")), ("skus", &term.skus, names("skus"))] {
        let shown = |names: &BTreeSet<String>| names.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
        findings.compare(Stage::Lines, INVOICE, &row, what, &shown(expected), &shown(&found));
    }
    let rule = line.get("rule").cloned().unwrap_or_default();
    findings.compare(Stage::Lines, INVOICE, &row, "rule", &term.rule.to_string(), &rule.to_string());
    let expected = applied.before.as_ref().map_or(
        Value::Null,
        |(spent, came_to)| json!({"amount_before": plain(came_to), "months": term.months.to_string(), "spend_before": plain(spent)}),
    );
    findings.compare(Stage::Lines, INVOICE, &row, "window", &expected.to_string(), &window(line).to_string());
    for name in line.as_object().into_iter().flatten().map(|(name, _)| name).filter(|name| !MEMBERS.contains(&name.as_str())) {
        findings.add(Stage::Lines, INVOICE, &*row, "member of the line", "one of a term's", name);
    }
    if applied.before.is_none() && applied.spend == zero() && amount == zero() {
        findings.add(Stage::Lines, INVOICE, row, "line of the term", "none, of nothing", "one");
    }
    Ok(())
}
