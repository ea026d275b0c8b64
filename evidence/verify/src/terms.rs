//! Terms of contracts: what each of them makes of what the keys of a service period come to. It knows no invoice and no file.

use std::collections::{BTreeMap, BTreeSet};

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

    /// A service period's place among those that a term looks at together, from 0.
    pub fn place(&self, term: &Term, month: i32) -> i32 {
        (months_of(month) - months_of(self.from)).rem_euclid(term.months)
    }

    /// The first of the service periods that a term looks at together with one.
    pub fn first(&self, term: &Term, month: i32) -> i32 {
        month_of(months_of(month) - self.place(term, month))
    }

    /// The service periods behind one that a term looks at together with it, up to another.
    pub fn behind(&self, term: &Term, month: i32, through: i32) -> Vec<i32> {
        let left = term.months - self.place(term, month);
        (1..left).map(|after| month_of(months_of(month) + after)).filter(|month| *month <= through).collect()
    }
}

fn month_of(months: i32) -> i32 {
    months / 12 * 100 + months % 12 + 1
}

/// Months since the year 0.
fn months_of(month: i32) -> i32 {
    month / 100 * 12 + month % 100 - 1
}

/// A term, as its document has it.
#[derive(Debug)]
pub struct Term {
    /// Its name in the contract.
    pub id: String,
    /// What it asks for, as it stands in the document.
    pub rule: Value,
    /// How many service periods it looks at together, from the contract's first one on; 1: at each by itself.
    pub months: i32,
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
    /// Up to where, none for the last one, and percent.
    Graduated(Vec<(Option<Number>, Number)>),
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
    /// What it was applied to, and what that came to, in earlier service periods; for a term that looks at several together.
    pub before: Option<(Number, Number)>,
}

/// What is known of the terms that look at several service periods together, by their ids.
#[derive(Default)]
pub struct Before {
    /// What each was applied to in the earlier ones.
    pub spent: BTreeMap<String, Number>,
    /// What the first of each scope is applied to, without what such terms before it added: where nothing else says what the keys come to.
    pub bases: Option<BTreeMap<String, Number>>,
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
        only(document, &["description", "families", "id", "months", "rule", "skus"]).with_context(|| format!("term {id}"))?;
        let months = document.get("months").map_or(Some(1), |months| {
            months
                .as_str()?
                .parse::<i32>()
                .ok()
                .filter(|number| (2..=120).contains(number) && Some(&*number.to_string()) == months.as_str())
        });
        let months = months.with_context(|| format!("term {id} looks at a number of months that this program has not learnt"))?;
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
            "graduated_discount" => {
                let tiers = of.get("tiers").and_then(Value::as_array).filter(|tiers| !tiers.is_empty());
                let tiers = tiers.with_context(|| format!("term {id} has no tiers"))?;
                let mut read = Vec::with_capacity(tiers.len());
                for (at, tier) in tiers.iter().enumerate() {
                    only(tier, &["percent", "up_to"]).with_context(|| format!("a tier of term {id}"))?;
                    let up_to = text(tier, "up_to").map(|text| decimal(&text)).transpose()?;
                    if up_to.is_some() == (at + 1 == tiers.len()) {
                        bail!("a tier of term {id} ends, or does not, where this program has not learnt it");
                    }
                    read.push((up_to, decimal(&text(tier, "percent").with_context(|| format!("a tier of term {id} has no percent"))?)?));
                }
                (Asks::Graduated(read), "Graduated discount".to_owned())
            }
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
            Asks::Graduated(_) => &["tiers"],
            Asks::Commitment { .. } => &["amount", "overage_factor", "true_up"],
            Asks::Maximum(_) | Asks::Minimum(_) => &["amount"],
        };
        only(of, fields).with_context(|| format!("term {id}"))?;
        if months > 1 && matches!(asks, Asks::Discount(_) | Asks::Capacity) {
            bail!("term {id} looks at months together, which this program has not learnt of its kind");
        }
        let description = text(document, "description").unwrap_or(words);
        Ok(Self { id, months, description, families: names("families"), skus: names("skus"), asks, rule })
    }

    /// Whether it looks at all of the contract.
    pub fn is_whole(&self) -> bool {
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
            Asks::Graduated(_) => 2,
            Asks::Commitment { .. } => 3,
            Asks::Maximum(_) => 4,
            Asks::Minimum(_) => 5,
        };
        (self.is_whole(), &self.families, &self.skus, kind)
    }
}

/// What each term comes to, in the order of application: discounts by id, then scope by scope, then all of the contract, to which what the
/// former added or took off is spend.
///
/// - `keys`: of the service period `month`, in any order. `places`, `half`: the currency's rounding, of each amount once.
pub fn apply<'t>(termed: &'t Termed<'_>, month: i32, keys: &[Key<'_>], before: &Before, (places, half): (u32, Half)) -> Vec<Applied<'t>> {
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
        applied.push(Applied { term, spend, amount, before: None });
    }
    rest.sort_by(|a, b| a.place().cmp(&b.place()));
    let (mut added, mut added_together) = (money::zero(), money::zero());
    for of_scope in rest.chunk_by(|a, b| (&a.families, &a.skus) == (&b.families, &b.skus)) {
        let Some(first) = of_scope.first() else { continue };
        let each: Vec<&Number> = keys.iter().filter(|key| first.looks_at(key)).map(|key| &key.amount).collect();
        let mut spend: Number = each.iter().copied().sum();
        if first.is_whole() {
            spend += &added;
        }
        let mut bases = before.bases.as_ref();
        for term in of_scope {
            let together = term.months > 1;
            if let Some(bases) = bases.take_if(|_| together) {
                spend = bases.get(&term.id).cloned().unwrap_or_else(money::zero);
                if term.is_whole() {
                    spend += &added_together;
                }
            }
            let spent = before.spent.get(&term.id).cloned().unwrap_or_else(money::zero);
            let comes_to = |spend: &Number, last: bool| round(&term.adds(&each, spend, last, (places, half)), places, half);
            let came_to = if together { comes_to(&spent, false) } else { money::zero() };
            let amount = comes_to(&(&spent + &spend), termed.place(term, month) + 1 == term.months) - &came_to;
            applied.push(Applied { term, spend: spend.clone(), amount: amount.clone(), before: together.then_some((spent, came_to)) });
            spend += &amount;
            if together {
                added_together += &amount;
            }
            added += amount;
        }
    }
    applied
}

impl Term {
    /// What it adds to a spend, which is that so far where it looks at several months together; `last`: whether these are over.
    fn adds(&self, each: &[&Number], spend: &Number, last: bool, (places, half): (u32, Half)) -> Number {
        let zero = money::zero();
        match &self.asks {
            Asks::Discount(_) => zero,
            Asks::Capacity => each.iter().max().map_or(zero, |greatest| *greatest - each.iter().copied().sum::<Number>()),
            Asks::Graduated(tiers) => {
                let (mut off, mut above) = (zero, None);
                for (up_to, percent) in tiers {
                    let within = up_to.as_ref().map_or(spend, |up_to| spend.min(up_to));
                    let part = above.map_or_else(|| within.clone(), |above: &Number| within.max(above) - above);
                    off += part * percent / money::whole(100);
                    above = up_to.as_ref();
                }
                -round(&off, places, half)
            }
            Asks::Commitment { amount, factor, owed } => {
                let beyond = (spend - amount).max(money::zero());
                let overage = round(&(&beyond * factor), places, half);
                let missing = if *owed && last { (amount - spend).max(zero) } else { zero };
                overage - beyond + missing
            }
            // Never more than there is.
            Asks::Maximum(amount) => -(spend - amount).max(money::zero()).min(spend.clone().max(zero)),
            Asks::Minimum(amount) if last => (amount - spend).max(zero),
            Asks::Minimum(_) => zero,
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
        let applied = apply(&termed, 202_610, &keys, &Before::default(), (2, Half::Away));
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
    fn a_term_over_months_comes_to_what_they_make_together_less_what_they_came_to() {
        let document = |rule: Value| json!({"id": "x", "months": "3", "rule": rule, "families": ["f"]});
        let tiers = json!([{"up_to": "100", "percent": "0"}, {"up_to": "200", "percent": "2.5"}, {"percent": "10"}]);
        for (rule, months) in [
            (json!({"graduated_discount": {"tiers": tiers}}), [("60", "0"), ("60.2", "-0.51"), ("180", "-12.01")]),
            (
                json!({"commitment": {"amount": "1000", "overage_factor": "1.5", "true_up": "owed"}}),
                [("700", "0"), ("200", "0"), ("0", "100")],
            ),
            (
                json!({"commitment": {"amount": "1000", "overage_factor": "1.5", "true_up": "owed"}}),
                [("900", "0"), ("300", "100"), ("-250", "-50")],
            ),
            (json!({"maximum_spend": {"amount": "100"}}), [("130", "-30"), ("-50", "30"), ("30", "-10")]),
            (json!({"minimum_spend": {"amount": "100"}}), [("70", "0"), ("20", "0"), ("0", "10")]),
        ] {
            let terms = vec![Term::of(&document(rule.clone())).unwrap()];
            // The second of two such stretches.
            let termed = Termed { contract: "acme", over: "everything", from: 202_610, until: None, terms };
            let mut spent = money::zero();
            for (month, (spend, amount)) in [202_701, 202_702, 202_703].into_iter().zip(months) {
                let known = Before { spent: [("x".to_owned(), spent.clone())].into(), bases: None };
                let stated = Before { bases: Some([("x".to_owned(), decimal(spend).unwrap())].into()), spent: known.spent.clone() };
                for (keys, before) in [(vec![key("a", "f", spend)], &known), (vec![], &stated)] {
                    let [applied] = &apply(&termed, month, &keys, before, (2, Half::Away))[..] else { panic!() };
                    assert_eq!(
                        (money::plain(&applied.spend), money::plain(&applied.amount)),
                        (spend.to_owned(), amount.to_owned()),
                        "{rule} {month}"
                    );
                }
                spent += decimal(spend).unwrap();
            }
            assert_eq!(termed.behind(&termed.terms[0], 202_701, 202_702), [202_702]);
            assert_eq!(termed.behind(&termed.terms[0], 202_610, 203_001), [202_611, 202_612]);
            assert_eq!(termed.behind(&termed.terms[0], 202_612, 203_001), [0; 0]);
        }
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
            json!({"graduated_discount": {"tiers": [{"percent": "5"}, {"percent": "6"}]}}),
            json!({"graduated_discount": {"tiers": [{"percent": "5", "flat_fee": "6"}]}}),
            json!({"commitment": {"amount": "1", "overage_factor": "1", "true_up": "later"}}),
        ] {
            assert!(Term::of(&json!({"id": "odd", "rule": rule})).is_err(), "{rule}");
        }
        assert_eq!(Term::of(&json!({"id": "off", "rule": {"discount": {"percent": "7.5"}}})).unwrap().description, "Discount of 7.5 %");
    }
}
