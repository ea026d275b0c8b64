//! Prices, meters and instants in words. What is said of a price is made of facts, so that two prices of one shape can be compared fact by
//! fact.

use shared_types::{AssetId, Instant, Quantity};

use crate::compile::one;
use crate::document::{Aggregation, AppliesTo, BlockTier, PriceModel, Promised, RoundTo, Tier, WindowTrueUp};

/// One thing that a price says: `up to 1M:` is `0.15` `USD per 1k token`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Fact {
    label: String,
    value: String,
    per: String,
}

/// How money and quantities of a price are called.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms<'t> {
    /// The currency.
    pub(crate) currency: &'t AssetId,
    /// The unit, where it is to be named; what is sold may name it already.
    pub(crate) unit: Option<&'t str>,
}

/// A price: `0.15 USD per 1M token`.
pub(crate) fn price(model: &PriceModel, terms: Terms<'_>) -> String {
    let facts = facts(model, terms);
    let mut said = Vec::with_capacity(facts.len());
    for (place, fact) in facts.iter().enumerate() {
        // What several facts in a row are for is said once, behind the last of them.
        let again = facts.get(place + 1).is_some_and(|next| next.per == fact.per);
        said.push(fact.words(&fact.value, !again));
    }
    format!("{}{}", shape(model), said.join(", "))
}

/// What became of a price: the facts that differ where both have one shape, else both in full.
pub(crate) fn change(before: Option<&PriceModel>, after: Option<&PriceModel>, was: Terms<'_>, is: Terms<'_>) -> String {
    let none = || "no price".to_owned();
    let both = || {
        let [before, after] = [(before, was), (after, is)].map(|(model, terms)| model.map_or_else(none, |model| price(model, terms)));
        format!("{before} → {after}")
    };
    let (Some(old), Some(new)) = (before, after) else { return both() };
    let (old_facts, new_facts) = (facts(old, was), facts(new, is));
    let alike = |(a, b): (&Fact, &Fact)| (&a.label, &a.per) == (&b.label, &b.per);
    if shape(old) != shape(new) || old_facts.len() != new_facts.len() || !old_facts.iter().zip(&new_facts).all(alike) {
        return both();
    }
    let changed = old_facts.iter().zip(&new_facts).filter(|(old, new)| old != new);
    let said: Vec<String> = changed.map(|(old, new)| new.words(&format!("{} → {}", old.value, new.value), true)).collect();
    format!("{}{}", shape(new), said.join(", "))
}

/// A day where the instant is its beginning in UTC, else the instant.
pub(crate) fn day(at: Instant) -> String {
    let text = at.to_string();
    text.strip_suffix("T00:00:00Z").map_or_else(|| text.clone(), str::to_owned)
}

/// How the readings of a meter add up.
pub(crate) fn aggregation(aggregation: &Aggregation) -> String {
    let name = aggregation.name();
    match aggregation {
        Aggregation::Unique { of, per } => format!("{name} {of} per {}", per.name()),
        Aggregation::TimeWeighted { by } | Aggregation::Prorated { by } => format!("{name} by {}", by.name()),
        Aggregation::Bucketed { bucket, each, then } => {
            format!("{name} by {}, {} of each, then {}", bucket.name(), each.name(), then.name())
        }
        _ => name.to_owned(),
    }
}

impl Fact {
    fn words(&self, value: &str, with_per: bool) -> String {
        let per = if with_per && !self.per.is_empty() { format!(" {}", self.per) } else { String::new() };
        if self.label.is_empty() { format!("{value}{per}") } else { format!("{} {value}{per}", self.label) }
    }
}

/// The model's name before its facts, where they do not say it.
fn shape(model: &PriceModel) -> &'static str {
    match model.parts().3 {
        PriceModel::Graduated { .. } => "graduated: ",
        PriceModel::Volume { .. } => "volume: ",
        PriceModel::Blocks { .. } => "blocks: ",
        PriceModel::TopBlocks { .. } => "top blocks: ",
        PriceModel::GraduatedPercentage { .. } => "graduated percentage: ",
        _ => "",
    }
}

fn facts(model: &PriceModel, terms: Terms<'_>) -> Vec<Fact> {
    let fact = |label: &str, value: String, per: String| Fact { label: label.to_owned(), value, per };
    let currency = terms.currency;
    let counted = |size: Quantity| match terms.unit {
        Some(unit) => format!("{} {unit}", short(size)),
        None => short(size),
    };
    let money_per = |per: Quantity| match terms.unit {
        Some(unit) if per == one() => format!("{currency} per {unit}"),
        _ => format!("{currency} per {}", counted(per)),
    };
    match model {
        PriceModel::PerUnit { per, unit_price } => vec![fact("", unit_price.to_string(), money_per(*per))],
        PriceModel::Package { size, package_price } => {
            vec![fact("", package_price.to_string(), format!("{currency} per begun package of {}", counted(*size)))]
        }
        PriceModel::Graduated { per, tiers } | PriceModel::Volume { per, tiers } => tier_facts(tiers, &money_per(*per), currency),
        PriceModel::GraduatedPercentage { tiers } => tier_facts(tiers, "%", currency),
        PriceModel::Blocks { tiers } | PriceModel::TopBlocks { tiers } => {
            let ranges = ranges(tiers.iter().map(|tier| tier.up_to));
            let block = |(range, tier): (String, &BlockTier)| {
                fact(&range, tier.block_price.to_string(), format!("{currency} per begun block of {}", counted(tier.size)))
            };
            ranges.into_iter().zip(tiers).map(block).collect()
        }
        PriceModel::Percentage(terms) => {
            let mut facts = vec![fact("", terms.rate.to_string(), "%".to_owned())];
            facts.push(fact("fee", terms.fee.to_string(), format!("{currency} per event")));
            for (label, bound) in [("at least", terms.least), ("at most", terms.most)] {
                facts.extend(bound.map(|bound| fact(label, bound.to_string(), format!("{currency} per event"))));
            }
            facts.push(fact("free events", terms.free_readings.to_string(), String::new()));
            facts.push(fact("free value", terms.free_value.to_string(), String::new()));
            facts
        }
        PriceModel::Free { rule } => vec![fact("", format!("free by rule {rule}"), String::new())],
        PriceModel::Adjusted { convert, free_units, applies_to, model } => {
            let mut facts = facts(model, terms);
            if let Some(convert) = convert {
                let rounded = match convert.rounding {
                    RoundTo::None => String::new(),
                    way => format!(", rounded ({}) to {} places", way.name(), convert.places),
                };
                facts.push(fact("converted", format!("× {} ÷ {}{rounded}", convert.multiply, convert.divide), String::new()));
            }
            facts.push(fact("free units", free_units.to_string(), String::new()));
            let each = match applies_to {
                AppliesTo::Period => "the service period",
                AppliesTo::EachEvent => "each event",
            };
            facts.push(fact("applied to", each.to_owned(), String::new()));
            facts
        }
        PriceModel::Committed { commitment, model } => {
            let mut facts = facts(model, terms);
            let label = "promised for each window";
            facts.push(match commitment.promised {
                Promised::Amount(amount) => fact(label, amount.to_string(), currency.to_string()),
                Promised::Quantity(quantity) => fact(label, format!("the cost of {}", counted(quantity)), String::new()),
            });
            facts.push(fact("beyond it", format!("{} times", commitment.overage_factor), String::new()));
            let missing = match commitment.true_up {
                WindowTrueUp::None => "not owed",
                WindowTrueUp::OwedWhenUsed => "owed for windows with usage",
                WindowTrueUp::OwedAlways => "owed for every window",
            };
            facts.push(fact("what is missing is", missing.to_owned(), String::new()));
            facts
        }
    }
}

fn tier_facts(tiers: &[Tier], per: &str, currency: &AssetId) -> Vec<Fact> {
    let mut facts = Vec::new();
    for (range, tier) in ranges(tiers.iter().map(|tier| tier.up_to)).into_iter().zip(tiers) {
        let fee = tier.flat_fee != shared_types::Price::ZERO;
        facts.push(Fact { label: range.clone(), value: tier.unit_price.to_string(), per: per.to_owned() });
        if fee {
            facts.push(Fact { label: format!("flat fee {range}"), value: tier.flat_fee.to_string(), per: currency.to_string() });
        }
    }
    facts
}

/// `up to 1k:`, `up to 10k:`, `above 10k:`.
fn ranges(bounds: impl Iterator<Item = Option<Quantity>>) -> Vec<String> {
    let mut last = None;
    let range = |bound: Option<Quantity>| {
        let said = match (bound, last) {
            (Some(bound), _) => format!("up to {}:", short(bound)),
            (None, Some(last)) => format!("above {}:", short(last)),
            (None, None) => "all:".to_owned(),
        };
        last = bound.or(last);
        said
    };
    bounds.map(range).collect()
}

/// `1M` for 1000000, `20k` for 20000; anything uneven as it is.
fn short(quantity: Quantity) -> String {
    for (size, letter) in [(1_000_000_000, "B"), (1_000_000, "M"), (1_000, "k")] {
        let Some(size) = one().units().checked_mul(size) else { continue };
        if quantity.units() >= size && quantity.units() % size == 0 {
            return format!("{}{letter}", quantity.units() / size);
        }
    }
    quantity.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_quantities_are_short() {
        for (quantity, said) in [
            ("1", "1"),
            ("999", "999"),
            ("1000", "1k"),
            ("3600", "3600"),
            ("1500", "1500"),
            ("1000000", "1M"),
            ("20000000", "20M"),
            ("2000000000", "2B"),
            ("1000.5", "1000.5"),
        ] {
            assert_eq!(short(Quantity::parse(quantity).unwrap()), said);
        }
    }

    #[test]
    fn the_beginning_of_a_day_is_the_day() {
        assert_eq!(day(Instant::parse("2026-11-01T00:00:00Z").unwrap()), "2026-11-01");
        assert_eq!(day(Instant::parse("2026-11-01T06:00:00Z").unwrap()), "2026-11-01T06:00:00Z");
    }
}
