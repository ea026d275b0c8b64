//! Terms of a contract. Whether their SKUs are priced, and whether two of them contradict each other, is checked elsewhere.

use std::collections::BTreeSet;

use shared_types::{Amount, Quantity, SkuId};
use toml::de::DeValue;

use super::field::type_name;
use super::{Field, Places, Reader, Table};
use crate::compile::one;
use crate::document::{Covers, DiscountTier, Term, TermRule, TermsOver, TrueUp};

impl Reader<'_> {
    /// `[[contract.term]]`, sorted by id, and what they look at.
    pub(super) fn terms(
        &mut self,
        contract: &Table<'_, '_>,
        covers: Option<&Covers>,
        places: &mut Places,
    ) -> Option<(Vec<Term>, Option<TermsOver>)> {
        let tables = self.tables(contract, "term", "[[contract.term]]")?;
        let (mut terms, mut good, mut ids) = (Vec::new(), true, BTreeSet::new());
        for (members, at) in tables {
            let name = format!("a term of {}", contract.name);
            let Some(term) = self.term(&Table { members, at, name }) else {
                good = false;
                continue;
            };
            if !ids.insert(term.id.clone()) {
                let message = format!("term {:?} is there twice in {}", term.id, contract.name);
                self.findings.add(at, message, "give this one another id");
                good = false;
            }
            if matches!(covers, Some(Covers::Default)) && term.rule.owed_unused() {
                let kind = term.rule.kind();
                let message =
                    format!("{} is for everyone without a contract of their own, so nobody owes its {kind} unused", contract.name);
                self.findings.add(at, message, "give the organizations that owe it a contract with organizations = [\"…\"]");
                good = false;
            }
            terms.push((term, at));
        }
        let over = self.word(contract, "terms_over", TermsOver::WORDS);
        if let (Field::Good(_, at), true) = (&over, terms.is_empty() && good) {
            let message = format!("terms_over of {} would be ignored: it has no [[contract.term]]", contract.name);
            self.findings.add(*at, message, "remove it, or write the terms");
            return None;
        }
        let over = self.or(over, TermsOver::Everything)?;
        terms.sort_by(|(a, _), (b, _)| a.id.cmp(&b.id));
        places.extend(terms.iter().enumerate().map(|(row, (_, at))| (("term", row), *at)));
        let terms: Vec<Term> = terms.into_iter().map(|(term, _)| term).collect();
        let over = (!terms.is_empty()).then_some(over);
        good.then_some((terms, over))
    }

    fn term(&mut self, table: &Table<'_, '_>) -> Option<Term> {
        let id = self.required_text(table, "id", "give the term a name, for example id = \"minimum\"");
        let id = id.and_then(|id| self.plain_name(table, "id", id));
        let kinds = TermRule::KINDS.map(|kind| (kind, kind));
        let kind = self.word(table, "kind", &kinds);
        let kind = self.required(table, kind, "kind", &format!("write kind = one of {}", TermRule::KINDS.join(", ")));
        let own: &[&str] = match kind {
            Some("discount") => &["percent", "months"],
            Some("capacity") => &["months"],
            Some("graduated_discount") => &["tiers", "months"],
            Some("commitment") => &["amount", "overage_factor", "true_up", "months"],
            Some(_) => &["amount", "months"],
            // Which fields belong to it is not known.
            None => &["percent", "tiers", "amount", "overage_factor", "true_up", "months"],
        };
        self.only(table, &[&["id", "kind", "description", "skus", "families"], own].concat());
        if let (Some(kind @ ("discount" | "capacity")), Some(value)) = (kind, table.members.get("months")) {
            let message = format!("{} is a {kind}, which looks at each month by itself: it takes no months", table.name);
            let remedy = "remove months; tiers by what is spent in several months are kind = \"graduated_discount\"";
            self.findings.add(self.at(value.span().start), message, remedy);
            return None;
        }
        let description = self.description(table);
        let rule = kind.and_then(|kind| self.rule(table, kind));
        let months = self.months(table);
        let skus = self.names(table, "skus", |text| SkuId::parse(text).map_err(|error| error.to_string()));
        let families = self.names(table, "families", |text| Ok(text.to_owned()));
        if matches!((&rule, &skus, &families), (Some(TermRule::Capacity {}), Some(skus), Some(families)) if skus.is_empty() && families.is_empty())
        {
            let message = format!("{} names no SKUs of which the dearest alone is owed", table.name);
            self.findings.add(table.at, message, "write skus = [\"…\", \"…\"] or families = [\"…\"]");
            return None;
        }
        Some(Term { id: id?, description: description?, rule: rule?, months: months?, skus: skus?, families: families? })
    }

    /// How many service periods a term looks at together, 1 where it does not say.
    fn months(&mut self, table: &Table<'_, '_>) -> Option<u32> {
        let Some(value) = table.members.get("months") else { return Some(1) };
        let months = match value.get_ref() {
            DeValue::Integer(number) => {
                u32::from_str_radix(number.as_str(), number.radix()).ok().filter(|months| Term::MONTHS.contains(months))
            }
            _ => None,
        };
        if months.is_none() {
            let at = self.at(value.span().start);
            let raw = self.text.get(value.span()).unwrap_or_default();
            let (least, most) = (Term::MONTHS.start(), Term::MONTHS.end());
            let remedy = format!(
                "write a whole number from {least} to {most} without quotes, for example months = 12, or leave it out: the term then holds for each month by itself"
            );
            self.findings.add(at, format!("months of {} is {raw}, not a number of months", table.name), remedy);
        }
        months
    }

    /// Tiers of a discount; one of them takes something off.
    fn discount_tiers(&mut self, table: &Table<'_, '_>) -> Option<Vec<DiscountTier>> {
        let example = "tiers = [{ up_to = \"10000\", percent = \"0\" }, { percent = \"10\" }]";
        let tiers = self.tiers(table, example, |reader, tier, up_to| {
            reader.only(tier, &["up_to", "percent"]);
            let percent = match reader.quantity(tier, "percent") {
                Field::Good(percent, at) if percent < Quantity::ZERO || percent > hundred() => {
                    let message = format!("percent of {} is {percent}, not 0 to 100", tier.name);
                    reader.findings.add(at, message, "write what is taken off, for example percent = \"7.5\"");
                    None
                }
                percent => reader.required(tier, percent, "percent", "say what is taken off, for example percent = \"7.5\""),
            };
            // Both have nine decimal places and 64 bits.
            let up_to = up_to?.map(|up_to| Amount::from_units(up_to.units()).unwrap_or(Amount::ZERO));
            Some(DiscountTier { up_to, percent: percent? })
        })?;
        if tiers.iter().all(|tier| tier.percent == Quantity::ZERO) {
            self.findings.add(table.at, format!("{} takes nothing off", table.name), "write a percent above zero, or remove the term");
            return None;
        }
        Some(tiers)
    }

    fn rule(&mut self, table: &Table<'_, '_>, kind: &str) -> Option<TermRule> {
        if kind == "discount" {
            let percent = match self.quantity(table, "percent") {
                Field::Good(percent, at) if percent <= Quantity::ZERO || percent > hundred() => {
                    let message = format!("percent of {} is {percent}, not above zero and at most 100", table.name);
                    self.findings.add(at, message, "write what is taken off, for example percent = \"7.5\"");
                    None
                }
                percent => self.required(table, percent, "percent", "say what is taken off, for example percent = \"7.5\""),
            };
            return Some(TermRule::Discount { percent: percent? });
        }
        if kind == "capacity" {
            return Some(TermRule::Capacity {});
        }
        if kind == "graduated_discount" {
            return Some(TermRule::GraduatedDiscount { tiers: self.discount_tiers(table)? });
        }
        let remedy = "write money above zero in quotes, for example amount = \"10000\"";
        let amount = match self.parsed(table, "amount", Amount::parse, |_| remedy.to_owned()) {
            Field::Good(amount, at) if amount <= Amount::ZERO => {
                self.findings.add(at, format!("amount of {} is {amount}, not above zero", table.name), remedy);
                None
            }
            amount => self.required(table, amount, "amount", remedy),
        };
        Some(match kind {
            "maximum_spend" => TermRule::MaximumSpend { amount: amount? },
            "minimum_spend" => TermRule::MinimumSpend { amount: amount? },
            _ => {
                let factor = match self.quantity(table, "overage_factor") {
                    Field::Good(factor, at) if factor <= Quantity::ZERO || factor > thousand() => {
                        let message = format!("overage_factor of {} is {factor}, not above zero and at most 1000", table.name);
                        self.findings.add(at, message, "write what spend beyond the commitment costs as a multiple, for example \"1.2\"");
                        None
                    }
                    factor => self.or(factor, one()),
                };
                let true_up = self.word(table, "true_up", TrueUp::WORDS);
                let remedy = "say whether what was promised and not spent is owed: true_up = \"owed\" or \"none\"";
                let true_up = self.required(table, true_up, "true_up", remedy);
                let (amount, overage_factor, true_up) = (amount?, factor?, true_up?);
                if overage_factor == one() && true_up == TrueUp::None {
                    let message = format!("{} moves nothing: no true-up is owed and overage costs what it costs anyway", table.name);
                    self.findings.add(table.at, message, "write true_up = \"owed\" or an overage_factor, or remove the term");
                    return None;
                }
                TermRule::Commitment { amount, overage_factor, true_up }
            }
        })
    }

    /// A list of names; empty when left out.
    fn names<T: Ord>(
        &mut self,
        table: &Table<'_, '_>,
        field: &'static str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<BTreeSet<T>> {
        let Some(value) = table.members.get(field) else { return Some(BTreeSet::new()) };
        let remedy = format!("write {field} = [\"…\"], each name once, or leave it out for all of the contract");
        let items = match value.get_ref() {
            DeValue::Array(items) if !items.is_empty() => items,
            other => {
                let at = self.at(value.span().start);
                let is = if let DeValue::Array(_) = other { "an empty list" } else { type_name(other) };
                self.findings.add(at, format!("{field} of {} is {is}, not a list of names", table.name), remedy);
                return None;
            }
        };
        let mut names = BTreeSet::new();
        let mut good = true;
        for item in items.iter() {
            let at = self.at(item.span().start);
            let read = match item.get_ref() {
                DeValue::String(text) => parse(text),
                other => Err(format!("a name is written as {}", type_name(other))),
            };
            let message = match read {
                Ok(name) if names.contains(&name) => "a name is there twice".to_owned(),
                Ok(name) => {
                    names.insert(name);
                    continue;
                }
                Err(message) => message,
            };
            self.findings.add(at, format!("{field} of {}: {message}", table.name), remedy.clone());
            good = false;
        }
        good.then_some(names)
    }
}

fn thousand() -> Quantity {
    Quantity::from_units(one().units().saturating_mul(1_000)).unwrap_or_default()
}

fn hundred() -> Quantity {
    Quantity::from_units(one().units().saturating_mul(100)).unwrap_or_default()
}
