//! An explanation as it goes over the wire. Every figure is platform-rating's; nothing is calculated here.

use platform_rating::explain::{KeyFacts, LineFacts, Part, PartBasis, PartCommitment, PartStep, Subject, Verdict, Worth};
use platform_rating::{Explanation, Rated, Ratio};
use serde::Serialize;

use super::{TermView, month};
use crate::contract::wire;

wire! {
    /// An amount, explained.
    #[derive(Clone, Serialize)]
    pub struct ExplanationView {
        /// `charge`, `key`, `line` or `term`.
        pub subject: &'static str,
        /// The charge, `<identity>:<ordinal>`.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub charge: Option<String>,
        /// The invoice line.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub line: Option<LineView>,
        /// The invoice line of a term of a contract, in place of all that follows.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub term: Option<TermView>,
        /// The running total that it belongs to; none for a reading that could not be rated.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub key: Option<KeyView>,
        /// The reading.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub reading: Option<ReadingView>,
        /// `charged`, `taken_back` (the row takes back what the reading was charged before it was rated again), `total`, `free`, `quarantined` or `term`.
        pub verdict: &'static str,
        /// The rule of a free reading, the reason of a quarantined one.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub reason: Option<String>,
        /// The running total before the reading.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub before: Option<WorthView>,
        /// The running total after it.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub after: Option<WorthView>,
        /// T after minus T before.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub amount: Option<String>,
        /// The same as one page of text.
        pub text: String,
    }
}

wire! {
    /// What an invoice says of its line.
    #[derive(Clone, Serialize)]
    pub struct LineView {
        /// The invoice: its number, or its id while it is a draft.
        pub invoice: String,
        /// The line.
        pub number: u64,
        /// Decimal places of a line in its currency.
        pub scale: u64,
        /// `half_away_from_zero` or `half_even`.
        pub mode: String,
        /// T at the close.
        pub key_total: String,
        /// T rounded to the currency.
        pub key_amount: String,
        /// What earlier invoices asked for the same.
        pub invoiced_before: String,
        /// What the line asks for.
        pub amount: String,
    }
}

wire! {
    /// A running total: whose, for what, when.
    #[derive(Clone, Serialize)]
    pub struct KeyView {
        /// Who owes.
        pub organization: String,
        /// Contract and SKU.
        pub contract_line: String,
        /// What is sold.
        pub sku: String,
        /// What is sold, for people.
        pub description: Option<String>,
        /// Month of the usage, `yyyy-mm`.
        pub service_period: String,
        /// The currency.
        pub currency: String,
        /// The registry version whose prices are shown.
        pub registry_version: String,
    }
}

wire! {
    /// A reading.
    #[derive(Clone, Serialize)]
    pub struct ReadingView {
        /// Sub-account, if named.
        pub project: Option<String>,
        /// Who sent the event.
        pub source: String,
        /// The meter.
        pub meter: String,
        /// How much.
        pub quantity: String,
        /// What the quantity counts.
        pub unit: String,
        /// What tells prices apart.
        pub dimensions: std::collections::BTreeMap<String, String>,
        /// When the usage began.
        pub start_at: String,
        /// When it ended, for intervals.
        pub end_at: Option<String>,
        /// When the event entered the stream; of a reading that was rated again, when the record did that asked for it.
        pub accepted_at: String,
        /// Month of the books, `yyyy-mm`.
        pub accounting_period: String,
    }
}

wire! {
    /// What a state is worth.
    #[derive(Clone, Serialize)]
    pub struct WorthView {
        /// How many readings.
        pub readings: u64,
        /// F, exactly: a decimal, or a fraction where no decimal is exact.
        pub exact: String,
        /// T: F rounded once, half to even, to 9 places.
        pub total: String,
        /// Parts by price row.
        pub parts: Vec<PartView>,
    }
}

wire! {
    /// What one price row makes of its part of a state.
    #[derive(Clone, Serialize)]
    pub struct PartView {
        /// The row.
        pub price_id: String,
        /// In force for usage that starts at or after this instant.
        pub effective_at: String,
        /// Price model and version of its semantics.
        pub rule: &'static str,
        /// Unit size of the prices; size of a package for package prices.
        pub per: String,
        /// Sum of the quantities.
        pub quantity: String,
        /// How many readings.
        pub readings: u64,
        /// Its worth, exactly.
        pub exact: String,
        /// What is priced in place of the sum of the quantities; absent where that itself is.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub basis: Option<BasisView>,
        /// The tiers, or one step.
        pub steps: Vec<StepView>,
        /// What a commitment for windows makes of their cost, which the steps show; absent where the price has none.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub commitment: Option<CommitmentView>,
    }
}

wire! {
    /// Windows, each against what was promised for it; money exactly.
    #[derive(Clone, Serialize)]
    pub struct CommitmentView {
        /// What a window costs beyond what was promised for it, as a multiple.
        pub overage_factor: String,
        /// Windows with a reading.
        pub used: u64,
        /// Windows without one that owe what was promised for them.
        pub unused: u64,
        /// What was promised for a window.
        pub promised: String,
        /// What the windows cost at the prices of the steps.
        pub cost: String,
        /// What of it lies within what was promised.
        pub within: String,
        /// What lies beyond, times the factor.
        pub overage: String,
        /// What was promised, is missing and is owed.
        pub true_up: String,
    }
}

wire! {
    /// What is priced in place of the sum of the quantities.
    #[derive(Clone, Serialize)]
    pub struct BasisView {
        /// What is done before the price model, one sentence each.
        pub rules: Vec<String>,
        /// What is measured: decimals, or fractions where no decimal is exact; several where each bucket is priced alone.
        pub measured: Vec<String>,
        /// What the model prices: converted, without free units.
        pub billed: Vec<String>,
        /// How what is measured came about: the reading, rank, level or time behind it, one sentence each.
        pub how: Vec<String>,
    }
}

wire! {
    /// A part of a quantity and what it was priced at.
    #[derive(Clone, Serialize)]
    pub struct StepView {
        /// Lower bound of the tier, exclusive.
        pub above: String,
        /// Upper bound of the tier, inclusive; none when open.
        pub up_to: Option<String>,
        /// How much is priced here.
        pub quantity: String,
        /// Begun packages; package prices only.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub packages: Option<String>,
        /// Money for `per` units, or for one package.
        pub unit_price: String,
        /// Money due once.
        pub flat_fee: String,
        /// What it is worth, exactly.
        pub exact: String,
    }
}

impl From<&Explanation> for ExplanationView {
    fn from(explanation: &Explanation) -> Self {
        let (subject, rated) = match &explanation.subject {
            Subject::Charge(rated) => ("charge", Some(rated.as_ref())),
            Subject::Key => ("key", None),
            Subject::Line(_) => ("line", None),
        };
        let line = match &explanation.subject {
            Subject::Line(line) => Some(line.into()),
            Subject::Charge(_) | Subject::Key => None,
        };
        let (verdict, reason, before, after, amount) = match &explanation.verdict {
            Verdict::Charged { before, after, amount } => {
                ("charged", None, Some(before.into()), Some(after.into()), Some(amount.to_string()))
            }
            Verdict::TakenBack { amount } => ("taken_back", None, None, None, Some(amount.to_string())),
            Verdict::Total { worth } => ("total", None, None, Some(worth.into()), None),
            Verdict::Free { rule } => ("free", Some(rule.to_string()), None, None, None),
            Verdict::Quarantined { reason } => ("quarantined", Some((*reason).to_owned()), None, None, None),
        };
        Self {
            subject,
            charge: rated.map(|rated| format!("{}:{}", rated.identity, rated.ordinal)),
            line,
            term: None,
            key: explanation.key.as_ref().map(Into::into),
            reading: rated.map(Into::into),
            verdict,
            reason,
            before,
            after,
            amount,
            text: explanation.text(),
        }
    }
}

impl From<&LineFacts> for LineView {
    fn from(line: &LineFacts) -> Self {
        Self {
            invoice: line.invoice.clone(),
            number: line.number,
            scale: line.scale.into(),
            mode: line.mode.clone(),
            key_total: line.key_total.to_string(),
            key_amount: line.key_amount.to_string(),
            invoiced_before: line.invoiced_before.to_string(),
            amount: line.amount.to_string(),
        }
    }
}

impl From<&KeyFacts> for KeyView {
    fn from(key: &KeyFacts) -> Self {
        Self {
            organization: key.organization.to_string(),
            contract_line: key.contract_line.to_string(),
            sku: key.sku.to_string(),
            description: key.description.clone(),
            service_period: month(key.service_period),
            currency: key.currency.to_string(),
            registry_version: key.registry_version.to_string(),
        }
    }
}

impl From<&Rated> for ReadingView {
    fn from(rated: &Rated) -> Self {
        Self {
            project: rated.project.as_ref().map(ToString::to_string),
            source: rated.source.to_string(),
            meter: rated.meter.to_string(),
            quantity: rated.quantity.to_string(),
            unit: rated.unit.to_string(),
            dimensions: rated.dimensions.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect(),
            start_at: rated.start_at.to_string(),
            end_at: rated.end_at.map(|at| at.to_string()),
            accepted_at: rated.accepted_at.to_string(),
            accounting_period: month(rated.accounting_period),
        }
    }
}

impl From<&Worth> for WorthView {
    fn from(worth: &Worth) -> Self {
        Self {
            readings: worth.readings,
            exact: worth.exact.clone(),
            total: worth.total.to_string(),
            parts: worth.parts.iter().map(Into::into).collect(),
        }
    }
}

impl From<&Part> for PartView {
    fn from(part: &Part) -> Self {
        Self {
            price_id: part.price_id.to_string(),
            effective_at: part.effective_at.to_string(),
            rule: part.rule.code(),
            per: part.per.to_string(),
            quantity: part.quantity.to_string(),
            readings: part.readings,
            exact: part.exact.clone(),
            basis: part.basis.as_ref().map(Into::into),
            steps: part.steps.iter().map(Into::into).collect(),
            commitment: part.commitment.as_ref().map(Into::into),
        }
    }
}

impl From<&PartCommitment> for CommitmentView {
    fn from(commitment: &PartCommitment) -> Self {
        let PartCommitment { overage_factor, used, unused, promised, cost, within, overage, true_up } = commitment.clone();
        Self { overage_factor: overage_factor.to_string(), used, unused, promised, cost, within, overage, true_up }
    }
}

impl From<&PartBasis> for BasisView {
    fn from(basis: &PartBasis) -> Self {
        let texts = |quantities: &[Ratio]| quantities.iter().map(ToString::to_string).collect();
        Self { rules: basis.rules.clone(), measured: texts(&basis.measured), billed: texts(&basis.billed), how: basis.how.clone() }
    }
}

impl From<&PartStep> for StepView {
    fn from(step: &PartStep) -> Self {
        Self {
            above: step.above.to_string(),
            up_to: step.up_to.map(|bound| bound.to_string()),
            quantity: step.quantity.to_string(),
            packages: step.packages.map(|count| count.to_string()),
            unit_price: step.unit_price.to_string(),
            flat_fee: step.flat_fee.to_string(),
            exact: step.exact.clone(),
        }
    }
}
