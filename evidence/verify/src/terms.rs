//! Terms of contracts: what each of them makes of what the keys of a service period come to. It knows no invoice and no file.

use std::collections::BTreeSet;

use anyhow::{Context as _, bail};
use serde_json::Value;

use crate::money::{self, Half, Number, decimal, round};

/// A contract with terms, as long as it is in force.
#[derive(Debug)]
pub struct Termed<'v> {
    /// The contract.
    pub contract: &'v str,
    /// What its terms look at: `everything`, or `usage` without recurring fees.
    pub over: &'v str,
    /// The first service period, yyyymm.
    pub from: i32,
    /// The first one in which it is in force no more.
    pub until: Option<i32>,
    /// By id.
    pub terms: Vec<Term>,
}

impl Termed<'_> {
    /// Whether it is in force in a service period.
    pub fn holds_in(&self, month: i32) -> bool {
        self.from <= month && self.until.is_none_or(|until| month < until)
    }
}

/// A term, as its document has it.
#[derive(Debug)]
pub struct Term {
    /// Its name in the contract.
    pub id: String,
    /// What it asks for, as it stands in the document.
    pub rule: Value,
    /// Its text on an invoice.
    pub description: String,
    /// The families that it looks at.
    pub families: BTreeSet<String>,
    /// The SKUs that it looks at; all of the contract where no family is named either.
    pub skus: BTreeSet<String>,
    asks: Asks,
}

/// The order is that of application.
#[derive(Debug)]
enum Asks {
    /// Percent.
    Discount(Number),
    Capacity,
    Commitment {
        amount: Number,
        factor: Number,
        owed: bool,
    },
    Maximum(Number),
    Minimum(Number),
}

/// What a key of a service period comes to.
#[derive(Clone, Debug)]
pub struct Key<'k> {
    /// Its SKU.
    pub sku: &'k str,
    /// The SKU's family.
    pub family: &'k str,
    /// Whether its meter reads recurring fees.
    pub recurring: bool,
    /// As invoices say it, rounded to the currency.
    pub amount: Number,
}

/// What a term comes to.
#[derive(Debug)]
pub struct Applied<'t> {
    /// The term.
    pub term: &'t Term,
    /// What it was applied to.
    pub spend: Number,
    /// What it adds to that, or takes off where below zero.
    pub amount: Number,
}

/// Refuses members that this program has not learnt.
fn only(object: &Value, names: &[&str]) -> anyhow::Result<()> {
    match object.as_object().into_iter().flatten().find(|(name, _)| !names.contains(&name.as_str())) {
        Some((name, _)) => bail!("has a member {name:?}, which this program has not learnt"),
        None => Ok(()),
    }
}

impl Term {
    /// Whether another one asks for the same kind of thing of the same SKUs: which of them comes first is not written anywhere.
    pub fn rivals(&self, other: &Self) -> bool {
        !matches!(self.asks, Asks::Discount(_)) && self.place() == other.place()
    }

    /// Reads a term of a contract.
    ///
    /// - Errors: a rule that this program has not learnt.
    pub fn of(document: &Value) -> anyhow::Result<Self> {
        let text = |of: &Value, name: &str| of.get(name).and_then(Value::as_str).map(str::to_owned);
        let names = |name: &str| -> BTreeSet<String> {
            let names = document.get(name).and_then(Value::as_array).into_iter().flatten();
            names.filter_map(|name| name.as_str().map(str::to_owned)).collect()
        };
        let id = text(document, "id").context("a term has no id")?;
        only(document, &["description", "families", "id", "rule", "skus"]).with_context(|| format!("term {id}"))?;
        let rule = document.get("rule").cloned().unwrap_or_default();
        let Some((kind, of)) =
            rule.as_object().and_then(|rule| rule.iter().next()).filter(|_| rule.as_object().is_some_and(|all| all.len() == 1))
        else {
            bail!("term {id} asks for nothing, or for two things");
        };
        let number = |name: &str| decimal(&text(of, name).with_context(|| format!("term {id} has no {name}"))?);
        let (asks, words) = match kind.as_str() {
            "discount" => (Asks::Discount(number("percent")?), format!("Discount of {} %", text(of, "percent").unwrap_or_default())),
            "capacity" => (Asks::Capacity, "Capacity".to_owned()),
            "commitment" => {
                let owed = match text(of, "true_up").as_deref() {
                    Some("owed") => true,
                    Some("none") => false,
                    other => bail!("the true-up {other:?} of term {id} is unknown"),
                };
                (Asks::Commitment { amount: number("amount")?, factor: number("overage_factor")?, owed }, "Commitment".to_owned())
            }
            "maximum_spend" => (Asks::Maximum(number("amount")?), "Maximum spend".to_owned()),
            "minimum_spend" => (Asks::Minimum(number("amount")?), "Minimum spend".to_owned()),
            other => bail!("term {id} is a {other:?}, which this program has not learnt"),
        };
        let fields: &[&str] = match asks {
            Asks::Discount(_) => &["percent"],
            Asks::Capacity => &[],
            Asks::Commitment { .. } => &["amount", "overage_factor", "true_up"],
            Asks::Maximum(_) | Asks::Minimum(_) => &["amount"],
        };
        only(of, fields).with_context(|| format!("term {id}"))?;
        let description = text(document, "description").unwrap_or(words);
        Ok(Self { id, description, families: names("families"), skus: names("skus"), asks, rule })
    }

    fn is_whole(&self) -> bool {
        self.families.is_empty() && self.skus.is_empty()
    }

    fn looks_at(&self, key: &Key<'_>) -> bool {
        self.is_whole() || self.skus.contains(key.sku) || self.families.contains(key.family)
    }

    /// By scope, the whole contract last; within a scope as terms are applied.
    fn place(&self) -> (bool, &BTreeSet<String>, &BTreeSet<String>, u8) {
        let kind = match self.asks {
            Asks::Discount(_) => 0,
            Asks::Capacity => 1,
            Asks::Commitment { .. } => 2,
            Asks::Maximum(_) => 3,
            Asks::Minimum(_) => 4,
        };
        (self.is_whole(), &self.families, &self.skus, kind)
    }
}

/// What each term comes to, in the order of application: discounts by id, then scope by scope, then all of the contract, to which what the
/// former added or took off is spend.
///
/// - `keys`: of one service period, in any order. `places`, `half`: the currency's rounding, of each amount once.
pub fn apply<'t>(termed: &'t Termed<'_>, keys: &[Key<'_>], (places, half): (u32, Half)) -> Vec<Applied<'t>> {
    let mut keys: Vec<Key<'_>> = keys.iter().filter(|key| termed.over == "everything" || !key.recurring).cloned().collect();
    let (discounts, mut rest): (Vec<&Term>, Vec<&Term>) = termed.terms.iter().partition(|term| matches!(term.asks, Asks::Discount(_)));
    let mut applied = Vec::new();
    for term in discounts {
        let Asks::Discount(percent) = &term.asks else { continue };
        let (mut spend, mut amount) = (money::zero(), money::zero());
        for key in keys.iter_mut().filter(|key| term.looks_at(key)) {
            let off = round(&(&key.amount * percent / money::whole(100)), places, half);
            spend += &key.amount;
            amount -= &off;
            key.amount -= off;
        }
        applied.push(Applied { term, spend, amount });
    }
    rest.sort_by(|a, b| a.place().cmp(&b.place()));
    let mut added = money::zero();
    for of_scope in rest.chunk_by(|a, b| (&a.families, &a.skus) == (&b.families, &b.skus)) {
        let Some(first) = of_scope.first() else { continue };
        let each: Vec<&Number> = keys.iter().filter(|key| first.looks_at(key)).map(|key| &key.amount).collect();
        let mut spend: Number = each.iter().copied().sum();
        if first.is_whole() {
            spend += &added;
        }
        for term in of_scope {
            let amount = round(&term.adds(&each, &spend, (places, half)), places, half);
            applied.push(Applied { term, spend: spend.clone(), amount: amount.clone() });
            spend += &amount;
            added += amount;
        }
    }
    applied
}

impl Term {
    fn adds(&self, each: &[&Number], spend: &Number, (places, half): (u32, Half)) -> Number {
        let zero = money::zero();
        match &self.asks {
            Asks::Discount(_) => zero,
            Asks::Capacity => each.iter().max().map_or(zero, |greatest| *greatest - each.iter().copied().sum::<Number>()),
            Asks::Commitment { amount, factor, owed } => {
                let beyond = (spend - amount).max(money::zero());
                let overage = round(&(&beyond * factor), places, half);
                let missing = if *owed { (amount - spend).max(zero) } else { zero };
                overage - beyond + missing
            }
            // Never more than there is.
            Asks::Maximum(amount) => -(spend - amount).max(money::zero()).min(spend.clone().max(zero)),
            Asks::Minimum(amount) => (amount - spend).max(zero),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn key<'k>(sku: &'k str, family: &'k str, amount: &str) -> Key<'k> {
        Key { sku, family, recurring: family == "fees", amount: decimal(amount).unwrap() }
    }

    fn check(over: &str, terms: &[Value], keys: &[(&str, &str, &str)], expected: &[&str]) {
        let terms = terms.iter().map(|term| Term::of(term).unwrap()).collect();
        let termed = Termed { contract: "acme", over, from: 202_610, until: None, terms };
        let keys: Vec<Key<'_>> = keys.iter().map(|(sku, family, amount)| key(sku, family, amount)).collect();
        let applied = apply(&termed, &keys, (2, Half::Away));
        let shown =
            |applied: &Applied<'_>| format!("{} {} of {}", applied.term.id, money::plain(&applied.amount), money::plain(&applied.spend));
        assert_eq!(applied.iter().map(shown).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn terms_are_applied_in_their_order_each_rounded_once() {
        let terms = [
            json!({"id": "least", "rule": {"minimum_spend": {"amount": "2000"}}}),
            json!({"id": "most", "rule": {"maximum_spend": {"amount": "600"}}, "families": ["gpu"]}),
            json!({"id": "off", "rule": {"discount": {"percent": "10"}}}),
            json!({"id": "promise", "rule": {"commitment": {"amount": "1500", "overage_factor": "2", "true_up": "owed"}}}),
        ];
        let keys = [("h100", "gpu", "500"), ("a100", "gpu", "300"), ("tokens", "llm", "200")];
        check("everything", &terms, &keys, &["off -100 of 1000", "most -120 of 720", "promise 720 of 780", "least 500 of 1500"]);
        let overage = [json!({"id": "promise", "rule": {"commitment": {"amount": "10", "overage_factor": "1.5", "true_up": "none"}}})];
        check("usage", &overage, &[("x", "f", "10.01"), ("support", "fees", "99")], &["promise 0.01 of 10.01"]);
        check("everything", &overage, &[("x", "f", "-5")], &["promise 0 of -5"]);
        let dearest = [json!({"id": "peak", "rule": {"capacity": {}}, "skus": ["a", "b"]})];
        check("everything", &dearest, &[("a", "f", "-5"), ("c", "f", "9")], &["peak 0 of -5"]);
        check("everything", &dearest, &[("a", "f", "7"), ("b", "f", "9")], &["peak -7 of 16"]);
        check("everything", &[json!({"id": "most", "rule": {"maximum_spend": {"amount": "1"}}})], &[("a", "f", "-5")], &["most 0 of -5"]);
    }

    #[test]
    fn what_is_not_learnt_is_no_term() {
        let odd = json!({"id": "odd", "rule": {"capacity": {}}, "projects": ["x"]});
        assert_eq!(format!("{:#}", Term::of(&odd).unwrap_err()), "term odd: has a member \"projects\", which this program has not learnt");
        let minimum = |id: &str| Term::of(&json!({"id": id, "rule": {"minimum_spend": {"amount": "1"}}})).unwrap();
        assert!(minimum("a").rivals(&minimum("b")));
        for rule in [
            json!({"minimum_spend": {"amount": "1", "per_day": "true"}}),
            json!({}),
            json!({"rebate": {}}),
            json!({"discount": {}}),
            json!({"commitment": {"amount": "1", "overage_factor": "1", "true_up": "later"}}),
        ] {
            assert!(Term::of(&json!({"id": "odd", "rule": rule})).is_err(), "{rule}");
        }
        assert_eq!(Term::of(&json!({"id": "off", "rule": {"discount": {"percent": "7.5"}}})).unwrap().description, "Discount of 7.5 %");
    }
}
