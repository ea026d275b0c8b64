//! Documents field by field. It does not know what is in force when: prices are compared elsewhere.

use std::collections::{BTreeMap, BTreeSet};

use super::words::{aggregation, day};
use super::{Change, Difference};
use crate::document::{
    BillableStates, BilledMeter, BillingPeriod, Contract, Covers, DiscountTier, Document, Meter, Negative, PriceBook, Recurring, Rounding,
    Sku, Term, TermRule, Told, Unit,
};
use crate::{Kind, Version};

/// What differs between two documents of one name, prices aside: the whole document where there is only one, else each field.
pub(super) fn differences(before: Option<&Document>, after: Option<&Document>) -> Vec<Difference> {
    let Some(document) = after.or(before) else { return Vec::new() };
    let (kind, id) = (document.kind(), document.id());
    let difference = |change, field: Option<&str>, before: Option<String>, after: Option<String>, text| Difference {
        kind,
        id: id.to_owned(),
        change,
        field: field.map(str::to_owned),
        sku: None,
        before,
        after,
        effective_at: None,
        until: None,
        money: kind != Kind::Unit && field != Some("description"),
        text,
    };
    let name = name(kind, id);
    match (before, after) {
        (Some(before), Some(after)) => {
            let (old, new) = (fields(before), fields(after));
            let labels: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
            let altered = labels.into_iter().filter_map(|label| {
                let (was, is) = (old.get(label), new.get(label));
                if was == is {
                    return None;
                }
                let (change, said) = match (was, is) {
                    (None, Some(is)) => (Change::Added, spaced(label, is, " is added")),
                    (Some(was), None) => (Change::Removed, spaced(label, was, " is removed")),
                    _ => (Change::Altered, format!("{label} {} → {}", shown(was), shown(is))),
                };
                Some(difference(change, Some(label), was.cloned(), is.cloned(), format!("{name}: {said}")))
            });
            altered.collect()
        }
        _ => {
            let all: Vec<String> = fields(document).iter().map(|(label, value)| spaced(label, value, "")).collect();
            let all = all.join(", ");
            let (change, said) = if after.is_some() { (Change::Added, "is added") } else { (Change::Removed, "is removed") };
            let (was, is) = if after.is_some() { (None, Some(all.clone())) } else { (Some(all.clone()), None) };
            vec![difference(change, None, was, is, format!("{name} {said}: {all}"))]
        }
    }
}

/// `meter llm.tokens`; a rounding is named by its asset.
pub(super) fn name(kind: Kind, id: &str) -> String {
    match kind {
        Kind::Rounding => format!("rounding of {id}"),
        Kind::PriceBook => format!("price book {id}"),
        kind => format!("{kind} {id}"),
    }
}

/// How many price books two versions have between them.
pub(super) fn books(from: &Version, to: &Version) -> usize {
    from.price_books().chain(to.price_books()).map(|book| &book.id).collect::<BTreeSet<_>>().len()
}

fn spaced(label: &str, value: &str, end: &str) -> String {
    if value.is_empty() { format!("{label}{end}") } else { format!("{label} {value}{end}") }
}

fn shown(value: Option<&String>) -> &str {
    value.map_or("", String::as_str)
}

/// Everything that a document says beside its name and its prices. Each field is taken by name: one that is added to a document and
/// forgotten here does not compile.
fn fields(document: &Document) -> BTreeMap<String, String> {
    let mut fields = BTreeMap::new();
    let mut add = |label: &str, value: &str| {
        fields.insert(label.to_owned(), value.to_owned());
    };
    match document {
        Document::BillableStates(policy) => states(policy, &mut add),
        Document::Contract(contract) => {
            let Contract { id: _, covers, price_book, effective_at, billing_period: BillingPeriod::Month, recurring, terms, terms_over } =
                contract;
            add("price book", price_book);
            add("from", &day(*effective_at));
            add("billing period", "month");
            for fee in recurring {
                let Recurring { id, event_type, item, quantity, charged_at, from, until } = fee;
                let from = from.map(|from| format!(" from {}", day(from))).unwrap_or_default();
                let until = until.map(|until| format!(" until {}", day(until))).unwrap_or_default();
                let words =
                    format!("{quantity} of {item} as {event_type}, charged at the {} of the period{from}{until}", charged_at.name());
                add(&format!("recurring fee {id}"), &words);
            }
            terms_over.iter().for_each(|over| add("terms look at", over.name()));
            terms.iter().for_each(|term| add(&format!("term {}", term.id), &term_words(term)));
            match covers {
                Covers::Default => add("for", "every organization without a contract of its own"),
                Covers::Organizations(organizations) => {
                    organizations.iter().for_each(|organization| add(&format!("organization {organization}"), ""));
                }
            }
        }
        Document::Meter(meter) => {
            let Meter {
                id: _,
                event_type,
                aggregation: how,
                value,
                unit,
                dimensions,
                negative,
                part_of,
                billable,
                zone,
                recurring_from,
                recurring_until,
            } = meter;
            recurring_from.iter().for_each(|from| add("level is carried from", &day(*from)));
            recurring_until.iter().for_each(|until| add("level is carried until", &day(*until)));
            billable.iter().for_each(|states| add("billable states", states));
            add("event type", event_type);
            add("aggregation", &aggregation(how));
            if zone != Meter::UTC {
                add("zone", zone);
            }
            add("unit", unit.as_str());
            let negative = match negative {
                Negative::Quarantine => "quarantined",
                Negative::Accept => "accepted",
            };
            add("negative values", negative);
            value.iter().for_each(|path| add("value", path));
            part_of.iter().for_each(|path| add("part of", path));
            dimensions.iter().for_each(|(name, path)| add(&format!("dimension {name}"), path));
        }
        Document::PriceBook(PriceBook { id: _, currency, prices: _ }) => add("currency", currency.as_str()),
        Document::Rounding(Rounding { asset: _, scale, mode }) => {
            add("decimal places", &scale.to_string());
            add("mode", mode.name());
        }
        Document::Sku(Sku { id: _, family, meter, matches, above, up_to, description }) => {
            add("family", family);
            add("meter", meter.as_str());
            matches.iter().for_each(|(name, value)| add(&format!("match {name}"), value));
            above.iter().for_each(|(name, bound)| add(&format!("{name} above"), &bound.to_string()));
            up_to.iter().for_each(|(name, bound)| add(&format!("{name} up to"), &bound.to_string()));
            description.iter().for_each(|text| add("description", text));
        }
        Document::Unit(Unit { id: _, description, scale }) => {
            add("decimal places", &scale.to_string());
            description.iter().for_each(|text| add("description", text));
        }
    }
    fields
}

/// What a term asks for, its description included: that stands on invoices.
pub(crate) fn term_words(term: &Term) -> String {
    let Term { id: _, description, rule, months, skus, families } = term;
    let mut words = match rule {
        TermRule::Discount { percent } => format!("{percent} % off"),
        TermRule::Capacity {} => "only the SKU that comes to the most".to_owned(),
        TermRule::GraduatedDiscount { tiers } => {
            let tier = |tier: &DiscountTier| match tier.up_to {
                Some(up_to) => format!("{} % off up to {up_to}", tier.percent),
                None => format!("{} % off beyond", tier.percent),
            };
            tiers.iter().map(tier).collect::<Vec<_>>().join(", ")
        }
        TermRule::Commitment { amount, overage_factor, true_up } => {
            format!("commitment of {amount}, overage at {overage_factor} times, true-up {}", true_up.name())
        }
        TermRule::MaximumSpend { amount } => format!("at most {amount}"),
        TermRule::MinimumSpend { amount } => format!("at least {amount}"),
    };
    if *months != 1 {
        words = format!("{words}, over {months} months together");
    }
    let skus = skus.iter().map(|sku| format!("sku {sku}"));
    let families = families.iter().map(|family| format!("family {family}"));
    let scope: Vec<String> = skus.chain(families).collect();
    if !scope.is_empty() {
        words = format!("{words}, of {}", scope.join(", "));
    }
    description.iter().for_each(|text| words = format!("{words}, shown as {text:?}"));
    words
}

fn states(policy: &BillableStates, add: &mut impl FnMut(&str, &str)) {
    let BillableStates { id: _, description, states, told, start, stop, ready, never_ready, session, split, zone, bands, meters } = policy;
    description.iter().for_each(|text| add("description", text));
    let listed = |states: &BTreeSet<String>| states.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
    add("states", &listed(states));
    match told {
        Told::State(path) => add("state of an event", path),
        Told::Spans(path) => add("spans of an event", path),
    }
    for (label, states) in [("a session opens at", start), ("a session closes at", stop), ("a session is ready at", ready)] {
        if !states.is_empty() {
            add(label, &listed(states));
        }
    }
    never_ready.iter().for_each(|rate| add("rate of a session that never was ready", rate));
    session.iter().for_each(|path| add("session", path));
    add("cut at each local", split.name());
    add("zone", zone);
    bands.iter().for_each(|(time, band)| add(&format!("band from {time}"), band));
    for billed in meters {
        let BilledMeter { meter, rates, during, increment, rounding, minimum, each, greater_of, at_least } = billed;
        let mut add = |label: &str, value: &str| add(&format!("meter {meter}: {label}"), value);
        rates.iter().for_each(|(state, rate)| add(&format!("rate of {state}"), rate));
        add("billed time", during.name());
        increment.iter().for_each(|seconds| add("increment", &format!("{seconds} seconds")));
        add("begun steps", rounding.name());
        add("minimum", &format!("{minimum} seconds"));
        add("steps of each", each.name());
        greater_of.iter().for_each(|(path, factor)| add(&format!("or {path} times"), &factor.to_string()));
        add("level at least", &at_least.to_string());
    }
}
