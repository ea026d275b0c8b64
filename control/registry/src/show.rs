//! Documents as TOML again: what it writes reads back to the same address. It does not keep comments, files or spellings.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use shared_types::Quantity;

use crate::Version;
use crate::document::{
    Aggregation, AppliesTo, BillableStates, BilledMeter, BillingPeriod, BlockTier, Convert, Covers, DiscountTier, Document, Meter,
    Negative, PriceModel, PriceRow, Promised, Recurring, Term, TermRule, TermsOver, Tier, Told, WindowCommitment,
};

impl Version {
    /// All documents in one TOML text that checks to the same address.
    pub fn to_toml(&self) -> String {
        let documents: Vec<String> = self.documents().map(Document::to_toml).collect();
        documents.join("\n")
    }
}

impl Document {
    /// The document as TOML, every default written out.
    pub fn to_toml(&self) -> String {
        let mut toml = Toml { text: format!("[[{}]]\n", self.kind()) };
        match self {
            Self::BillableStates(policy) => toml.billable_states(policy),
            Self::Contract(contract) => {
                toml.field("id", contract.id.as_str());
                match &contract.covers {
                    Covers::Default => toml.raw("default", "true"),
                    Covers::Organizations(organizations) => {
                        let names: Vec<String> = organizations.iter().map(|id| quoted(id.as_str())).collect();
                        toml.raw("organizations", &format!("[{}]", names.join(", ")));
                    }
                }
                toml.field("price_book", &contract.price_book);
                toml.field("effective_at", &contract.effective_at.to_string());
                let BillingPeriod::Month = contract.billing_period;
                toml.field("billing_period", "month");
                toml.optional("terms_over", contract.terms_over.map(TermsOver::name));
                for fee in &contract.recurring {
                    toml.recurring(fee);
                }
                for term in &contract.terms {
                    toml.term(term);
                }
            }
            Self::Meter(meter) => {
                toml.field("id", meter.id.as_str());
                toml.field("event_type", &meter.event_type);
                toml.aggregation(&meter.aggregation);
                toml.optional("zone", (meter.zone != Meter::UTC).then_some(meter.zone.as_str()));
                toml.optional("value", meter.value.as_deref());
                toml.field("unit", meter.unit.as_str());
                toml.texts("dimensions", &meter.dimensions);
                let negative = match meter.negative {
                    Negative::Quarantine => "quarantine",
                    Negative::Accept => "accept",
                };
                toml.field("negative", negative);
                toml.optional("part_of", meter.part_of.as_deref());
                toml.optional("billable", meter.billable.as_deref());
                toml.optional("recurring_from", meter.recurring_from.map(|from| from.to_string()).as_deref());
                toml.optional("recurring_until", meter.recurring_until.map(|until| until.to_string()).as_deref());
            }
            Self::PriceBook(book) => {
                toml.field("id", &book.id);
                toml.field("currency", book.currency.as_str());
                for price in &book.prices {
                    toml.price(price);
                }
            }
            Self::Rounding(rounding) => {
                toml.field("asset", rounding.asset.as_str());
                toml.raw("scale", &rounding.scale.to_string());
                toml.field("mode", rounding.mode.name());
            }
            Self::Sku(sku) => {
                toml.field("id", sku.id.as_str());
                toml.field("family", &sku.family);
                toml.field("meter", sku.meter.as_str());
                toml.texts("match", &sku.matches);
                for (field, bounds) in [("above", &sku.above), ("up_to", &sku.up_to)] {
                    toml.texts(field, &bounds.iter().map(|(name, bound)| (name.clone(), bound.to_string())).collect());
                }
                toml.optional("description", sku.description.as_deref());
            }
            Self::Unit(unit) => {
                toml.field("id", unit.id.as_str());
                toml.optional("description", unit.description.as_deref());
                toml.raw("scale", &unit.scale.to_string());
            }
        }
        toml.text
    }
}

impl PriceRow {
    /// The row as a block of its book.
    pub fn to_toml(&self) -> String {
        let mut toml = Toml { text: String::new() };
        toml.price(self);
        toml.text
    }
}

struct Toml {
    text: String,
}

impl Toml {
    fn raw(&mut self, name: &str, value: &str) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.text, "{name} = {value}");
    }

    fn field(&mut self, name: &str, value: &str) {
        self.raw(name, &quoted(value));
    }

    fn optional(&mut self, name: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.field(name, value);
        }
    }

    fn texts(&mut self, name: &str, texts: &BTreeMap<String, String>) {
        if !texts.is_empty() {
            let members: Vec<String> = texts.iter().map(|(name, value)| format!("{} = {}", quoted(name), quoted(value))).collect();
            self.raw(name, &format!("{{ {} }}", members.join(", ")));
        }
    }

    fn recurring(&mut self, fee: &Recurring) {
        self.text.push_str("\n[[contract.recurring]]\n");
        self.field("id", &fee.id);
        self.field("event_type", &fee.event_type);
        self.field("item", &fee.item);
        self.field("quantity", &fee.quantity.to_string());
        self.field("charged_at", fee.charged_at.name());
        self.optional("from", fee.from.map(|from| from.to_string()).as_deref());
        self.optional("until", fee.until.map(|until| until.to_string()).as_deref());
    }

    fn term(&mut self, term: &Term) {
        self.text.push_str("\n[[contract.term]]\n");
        self.field("id", &term.id);
        self.optional("description", term.description.as_deref());
        self.field("kind", term.rule.kind());
        match &term.rule {
            TermRule::Discount { percent } => self.field("percent", &percent.to_string()),
            TermRule::Capacity {} => {}
            TermRule::GraduatedDiscount { tiers } => {
                let tier = |tier: &DiscountTier| match tier.up_to {
                    Some(up_to) => format!("{{ up_to = \"{up_to}\", percent = \"{}\" }}", tier.percent),
                    None => format!("{{ percent = \"{}\" }}", tier.percent),
                };
                self.raw("tiers", &format!("[{}]", tiers.iter().map(tier).collect::<Vec<_>>().join(", ")));
            }
            TermRule::Commitment { amount, overage_factor, true_up } => {
                self.field("amount", &amount.to_string());
                self.field("overage_factor", &overage_factor.to_string());
                self.field("true_up", true_up.name());
            }
            TermRule::MaximumSpend { amount } | TermRule::MinimumSpend { amount } => self.field("amount", &amount.to_string()),
        }
        if term.months != 1 {
            self.raw("months", &term.months.to_string());
        }
        let skus: Vec<String> = term.skus.iter().map(|sku| quoted(sku.as_str())).collect();
        let families: Vec<String> = term.families.iter().map(|family| quoted(family)).collect();
        for (name, names) in [("skus", skus), ("families", families)].into_iter().filter(|(_, names)| !names.is_empty()) {
            self.raw(name, &format!("[{}]", names.join(", ")));
        }
    }

    fn price(&mut self, price: &PriceRow) {
        self.text.push_str("\n[[price_book.price]]\n");
        self.field("id", price.id.as_str());
        self.field("sku", price.sku.as_str());
        self.field("effective_at", &price.effective_at.to_string());
        let (convert, free_units, applies_to, model) = price.model.parts();
        self.field("model", model.name());
        if let Some(convert) = convert {
            let Convert { multiply, divide, rounding, places } = convert;
            let rounding = rounding.name();
            self.raw(
                "convert",
                &format!("{{ multiply = \"{multiply}\", divide = \"{divide}\", rounding = \"{rounding}\", places = \"{places}\" }}"),
            );
        }
        if free_units != Quantity::ZERO {
            self.field("free_units", &free_units.to_string());
        }
        if applies_to != AppliesTo::Period {
            self.field("applies_to", applies_to.name());
        }
        if let Some(WindowCommitment { promised, overage_factor, true_up }) = price.model.commitment() {
            let promised = match promised {
                Promised::Amount(amount) => format!("amount = \"{amount}\""),
                Promised::Quantity(quantity) => format!("quantity = \"{quantity}\""),
            };
            let true_up = true_up.name();
            self.raw("window_commitment", &format!("{{ {promised}, overage_factor = \"{overage_factor}\", true_up = \"{true_up}\" }}"));
        }
        self.model(model);
    }

    fn model(&mut self, model: &PriceModel) {
        match model {
            PriceModel::PerUnit { per, unit_price } => {
                self.field("per", &per.to_string());
                self.field("unit_price", &unit_price.to_string());
            }
            PriceModel::Package { size, package_price } => {
                self.field("size", &size.to_string());
                self.field("package_price", &package_price.to_string());
            }
            PriceModel::Graduated { per, tiers } | PriceModel::Volume { per, tiers } => {
                self.field("per", &per.to_string());
                self.tiers(tiers.iter().map(|row| tier(row, "unit_price")));
            }
            PriceModel::GraduatedPercentage { tiers } => self.tiers(tiers.iter().map(|row| tier(row, "rate"))),
            PriceModel::Blocks { tiers } | PriceModel::TopBlocks { tiers } => self.tiers(tiers.iter().map(block_tier)),
            PriceModel::Percentage(terms) => {
                self.field("rate", &terms.rate.to_string());
                self.field("fee", &terms.fee.to_string());
                self.optional("least", terms.least.map(|least| least.to_string()).as_deref());
                self.optional("most", terms.most.map(|most| most.to_string()).as_deref());
                self.field("free_readings", &terms.free_readings.to_string());
                self.field("free_value", &terms.free_value.to_string());
            }
            PriceModel::Free { rule } => self.field("rule", rule),
            PriceModel::Adjusted { model, .. } | PriceModel::Committed { model, .. } => self.model(model),
        }
    }

    fn tiers(&mut self, tiers: impl Iterator<Item = String>) {
        self.raw("tiers", &format!("[\n{}]", tiers.collect::<String>()));
    }

    fn list(&mut self, name: &str, words: &BTreeSet<String>) {
        if !words.is_empty() {
            let words: Vec<String> = words.iter().map(|word| quoted(word)).collect();
            self.raw(name, &format!("[{}]", words.join(", ")));
        }
    }

    fn billable_states(&mut self, policy: &BillableStates) {
        self.field("id", &policy.id);
        self.optional("description", policy.description.as_deref());
        self.list("states", &policy.states);
        match &policy.told {
            Told::State(path) => self.field("state", path),
            Told::Spans(path) => self.field("spans", path),
        }
        for (name, states) in [("start", &policy.start), ("stop", &policy.stop), ("ready", &policy.ready)] {
            self.list(name, states);
        }
        self.optional("never_ready", policy.never_ready.as_deref());
        self.optional("session", policy.session.as_deref());
        self.field("split", policy.split.name());
        self.field("zone", &policy.zone);
        self.texts("bands", &policy.bands);
        for billed in &policy.meters {
            self.text.push_str("\n[[billable_states.meter]]\n");
            self.billed(billed);
        }
    }

    fn billed(&mut self, billed: &BilledMeter) {
        self.field("meter", billed.meter.as_str());
        self.texts("rates", &billed.rates);
        self.field("during", billed.during.name());
        self.optional("increment", billed.increment.map(|seconds| seconds.to_string()).as_deref());
        if billed.minimum > Quantity::ZERO {
            self.field("minimum", &billed.minimum.to_string());
        }
        // Without steps neither says anything, and reading refuses what says nothing.
        if billed.increment.is_some() || billed.minimum > Quantity::ZERO {
            self.field("rounding", billed.rounding.name());
            self.field("each", billed.each.name());
        }
        self.texts("greater_of", &billed.greater_of.iter().map(|(path, factor)| (path.clone(), factor.to_string())).collect());
        if billed.at_least > Quantity::ZERO {
            self.field("at_least", &billed.at_least.to_string());
        }
    }

    fn aggregation(&mut self, aggregation: &Aggregation) {
        self.field("aggregation", aggregation.name());
        match aggregation {
            Aggregation::Unique { of, per } => {
                self.field("of", of);
                self.field("per", per.name());
            }
            Aggregation::TimeWeighted { by } | Aggregation::Prorated { by } => self.field("by", by.name()),
            Aggregation::Bucketed { bucket, each, then } => {
                self.field("bucket", bucket.name());
                self.field("each", each.name());
                self.field("then", then.name());
            }
            _ => {}
        }
    }
}

fn tier(tier: &Tier, rate: &str) -> String {
    let up_to = tier.up_to.map(|up_to| format!("up_to = \"{up_to}\", ")).unwrap_or_default();
    format!("    {{ {up_to}{rate} = \"{}\", flat_fee = \"{}\" }},\n", tier.unit_price, tier.flat_fee)
}

fn block_tier(tier: &BlockTier) -> String {
    let up_to = tier.up_to.map(|up_to| format!("up_to = \"{up_to}\", ")).unwrap_or_default();
    format!("    {{ {up_to}size = \"{}\", block_price = \"{}\" }},\n", tier.size, tier.block_price)
}

/// A TOML basic string.
fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() => {
                let _ = write!(out, "\\u{:04X}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}
