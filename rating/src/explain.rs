//! Why an amount is what it is: F with its tiers, before and after a reading, and the one rounding. A value to be shown as text or as
//! JSON; the text is here. It knows charges, states and plans; not where they are stored, nor invoices' documents.

mod how;
mod page;

use std::collections::BTreeMap;
use std::sync::Arc;

use shared_types::{Amount, AssetId, ContractId, Digest, Month, OrganizationId, Price, PriceId, Quantity, SkuId, UnitId};

use crate::amount::{Exact, decimal_text as decimal};
use crate::basis::{FirstFee, Measure};
use crate::charges::{Fate, Priced, Rated};
use crate::evaluate::{EvaluateError, PriceIndex, Rule, Segment, Step, evaluate};
use crate::plan::{Plan, PriceModel, PriceRow, Promised, TrueUp, WindowCommitment};
use crate::ratio::Ratio;
use crate::state::{Detail, SegmentState, StateError, decode_segments};

/// Why an amount cannot be explained.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExplainError {
    /// A stored state does not read.
    #[error("the state of {contract_line} does not read")]
    State {
        /// Whose.
        contract_line: Arc<str>,
        /// Why.
        #[source]
        source: StateError,
    },
    /// A state has no total under the plan.
    #[error("the state of {contract_line} has no total under the registry version")]
    Evaluate {
        /// Whose.
        contract_line: Arc<str>,
        /// Why.
        #[source]
        source: EvaluateError,
    },
    /// The rows contradict the rule: T after minus T before is not what was booked.
    #[error("{contract_line}: the totals differ by {found}, but {booked} was booked")]
    Contradiction {
        /// Whose.
        contract_line: Arc<str>,
        /// What the states come to.
        found: Amount,
        /// What the row says.
        booked: Amount,
    },
}

/// One explanation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// What is explained.
    pub subject: Subject,
    /// The running total that it belongs to; none for a reading that could not be rated.
    pub key: Option<KeyFacts>,
    /// What it came to.
    pub verdict: Verdict,
}

/// What is explained.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// One reading.
    Charge(Box<Rated>),
    /// The running total of a key after its latest reading.
    Key,
    /// One line of an invoice.
    Line(LineFacts),
}

/// The running total: whose, for what, when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyFacts {
    /// Who owes.
    pub organization: OrganizationId,
    /// Under which agreement.
    pub contract: ContractId,
    /// `<contract>/<sku>`.
    pub contract_line: Arc<str>,
    /// What is sold.
    pub sku: SkuId,
    /// What is sold, for people.
    pub description: Option<String>,
    /// When the usage happened.
    pub service_period: Month,
    /// In which currency.
    pub currency: AssetId,
    /// What the quantity counts; none where the meter's unit is not known.
    pub unit: Option<UnitId>,
    /// The registry version whose prices are shown.
    pub registry_version: Digest,
}

/// What an invoice says of its line. Amounts are the invoice's own texts, digit by digit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LineFacts {
    /// The invoice.
    pub invoice: String,
    /// Number of the line.
    pub number: u64,
    /// Decimal places of an invoice line in its currency.
    pub scale: u32,
    /// Which way a half goes: `half_away_from_zero` or `half_even`.
    pub mode: String,
    /// T at the close.
    pub key_total: Amount,
    /// T rounded to the currency.
    pub key_amount: Amount,
    /// What earlier invoices said of the key, rounded.
    pub invoiced_before: Amount,
    /// What this line asks for.
    pub amount: Amount,
}

/// What it came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// T moved from one worth to another.
    Charged {
        /// The key's worth before.
        before: Worth,
        /// The key's worth after.
        after: Worth,
        /// T after minus T before.
        amount: Amount,
    },
    /// The reading was rated again: what it was charged before is taken back.
    TakenBack {
        /// Less than nothing, where it was charged something.
        amount: Amount,
    },
    /// T stands at a worth.
    Total {
        /// The key's worth.
        worth: Worth,
    },
    /// Nothing is owed, by a named rule.
    Free {
        /// The rule.
        rule: Arc<str>,
    },
    /// It could not be rated.
    Quarantined {
        /// Stable code of the reason.
        reason: &'static str,
    },
}

/// F and T of a key's state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Worth {
    /// Parts by price row.
    pub parts: Vec<Part>,
    /// How many readings.
    pub readings: u64,
    /// F, exactly: a decimal, or a fraction where no decimal is exact.
    pub exact: String,
    /// T: F rounded once, half to even, at scale 9.
    pub total: Amount,
}

/// What one price row makes of its part of the state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// The row.
    pub price_id: PriceId,
    /// In force for usage that starts at or after this instant.
    pub effective_at: shared_types::Instant,
    /// By which rule.
    pub rule: Rule,
    /// Unit size of the unit prices; size of a package for package prices.
    pub per: Quantity,
    /// Σ quantity.
    pub quantity: Quantity,
    /// How many readings.
    pub readings: u64,
    /// What is priced in place of Σ quantity; none where that itself is.
    pub basis: Option<PartBasis>,
    /// The steps, in order of tiers. Of a commitment for windows they are what the windows cost by the model.
    pub steps: Vec<PartStep>,
    /// What a commitment for windows makes of their cost; none without one.
    pub commitment: Option<PartCommitment>,
    /// Its worth, exactly.
    pub exact: String,
}

/// What a commitment for windows makes of their cost, exactly.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartCommitment {
    /// What a window costs beyond what was promised for it, as a multiple.
    pub overage_factor: Quantity,
    /// Windows with a reading.
    pub used: u64,
    /// Windows without one that owe what was promised for them.
    pub unused: u64,
    /// What was promised for a window.
    pub promised: String,
    /// What the windows cost by the model.
    pub cost: String,
    /// What of it lies within what was promised.
    pub within: String,
    /// What lies beyond, times the overage factor.
    pub overage: String,
    /// What was promised and is missing, where it is owed.
    pub true_up: String,
}

/// What is priced in place of Σ quantity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartBasis {
    /// What is done before the model, one sentence each.
    pub rules: Vec<String>,
    /// What is measured; several where each bucket is priced alone.
    pub measured: Vec<Ratio>,
    /// What the model prices: converted, without free units.
    pub billed: Vec<Ratio>,
    /// How what is measured came about, one sentence each.
    pub how: Vec<String>,
    /// The quantity of the one reading that is measured, where it is an extreme: its state does not hold which one it was.
    pub extreme: Option<Quantity>,
}

/// A part of a quantity and what it was priced at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartStep {
    /// Lower bound of the tier, exclusive.
    pub above: Quantity,
    /// Upper bound of the tier, inclusive; none when open.
    pub up_to: Option<Quantity>,
    /// How much of the quantity is priced here, in the unit that is priced.
    pub quantity: Ratio,
    /// How many packages, blocks or readings that makes; none where the quantity itself is priced.
    pub packages: Option<i128>,
    /// Units in a block; block prices only.
    pub block: Option<Quantity>,
    /// Money for `per` units, or for one package, block or reading.
    pub unit_price: Price,
    /// Money due once, zero where none is.
    pub flat_fee: Price,
    /// What it is worth, exactly.
    pub exact: String,
}

impl Explanation {
    /// Explains a reading under the plan that it was rated with.
    ///
    /// - `description`: what is sold, for people.
    /// - Errors: states that do not read or have no total, and rows that contradict the rule: then there is nothing to be explained.
    pub fn of_charge(rated: Rated, plan: &Plan, description: Option<String>) -> Result<Self, ExplainError> {
        let key = rated.fate.priced().map(|priced| key_facts(&rated, priced, description));
        let verdict = match &rated.fate {
            Fate::Quarantined { reason } => Verdict::Quarantined { reason: reason.code() },
            Fate::Free { named, .. } => Verdict::Free { rule: Arc::clone(named) },
            Fate::Charged { states: None, amount, .. } => Verdict::TakenBack { amount: *amount },
            Fate::Charged { priced, states: Some(states), amount } => {
                let prices = PriceIndex::of(plan);
                let line = &priced.contract_line;
                let before = worth_of(&states.before, priced, &prices)?;
                let after = worth_of(&states.after, priced, &prices)?;
                let found = after.total.checked_sub(before.total);
                if found != Ok(*amount) {
                    let found = found.unwrap_or_default();
                    return Err(ExplainError::Contradiction { contract_line: Arc::clone(line), found, booked: *amount });
                }
                Verdict::Charged { before, after, amount: *amount }
            }
        };
        Ok(Self { subject: Subject::Charge(Box::new(rated)), key, verdict })
    }

    /// Explains the running total that the latest charge of a key left behind, under the plan that it was rated with.
    ///
    /// - Errors: those of [`Explanation::of_charge`]; a reading that was not charged moves no total and explains itself instead.
    pub fn of_key(latest: Rated, plan: &Plan, description: Option<String>) -> Result<Self, ExplainError> {
        let charge = Self::of_charge(latest, plan, description)?;
        Ok(match charge.verdict {
            Verdict::Charged { after, .. } => Self { subject: Subject::Key, key: charge.key, verdict: Verdict::Total { worth: after } },
            _ => charge,
        })
    }

    /// Explains a line of an invoice from the state of its key at the close.
    ///
    /// - Errors: a state without a total, or another one than the invoice's.
    pub fn of_line(line: LineFacts, key: KeyFacts, state: &BTreeMap<PriceId, SegmentState>, plan: &Plan) -> Result<Self, ExplainError> {
        let worth = worth(state, &key.contract_line, key.service_period, &PriceIndex::of(plan))?;
        if worth.total != line.key_total {
            let contract_line = Arc::clone(&key.contract_line);
            return Err(ExplainError::Contradiction { contract_line, found: worth.total, booked: line.key_total });
        }
        Ok(Self { subject: Subject::Line(line), key: Some(key), verdict: Verdict::Total { worth } })
    }

    /// The page for people.
    pub fn text(&self) -> String {
        page::of(self)
    }
}

fn key_facts(rated: &Rated, priced: &Priced, description: Option<String>) -> KeyFacts {
    KeyFacts {
        organization: rated.organization.clone(),
        contract: priced.contract.clone(),
        contract_line: Arc::clone(&priced.contract_line),
        sku: priced.sku.clone(),
        description,
        service_period: priced.service_period,
        currency: priced.currency.clone(),
        unit: Some(rated.unit.clone()),
        registry_version: rated.registry_version,
    }
}

fn worth_of(state: &[u8], priced: &Priced, prices: &PriceIndex<'_>) -> Result<Worth, ExplainError> {
    let contract_line = &priced.contract_line;
    let segments = decode_segments(state).map_err(|source| ExplainError::State { contract_line: Arc::clone(contract_line), source })?;
    worth(&segments, contract_line, priced.service_period, prices)
}

fn worth(
    segments: &BTreeMap<PriceId, SegmentState>,
    contract_line: &Arc<str>,
    period: Month,
    prices: &PriceIndex<'_>,
) -> Result<Worth, ExplainError> {
    let failed = |source| ExplainError::Evaluate { contract_line: Arc::clone(contract_line), source };
    let evaluation = evaluate(segments, prices).map_err(failed)?;
    let of = |segment: &Segment| part(segment, segments.get(&segment.price_id), period, prices).map_err(failed);
    let parts = evaluation.segments.iter().map(of).collect::<Result<Vec<_>, _>>()?;
    Ok(Worth {
        readings: parts.iter().fold(0, |sum, part| sum.saturating_add(part.readings)),
        parts,
        exact: decimal(&evaluation.exact),
        total: evaluation.rounded,
    })
}

fn part(segment: &Segment, state: Option<&SegmentState>, period: Month, prices: &PriceIndex<'_>) -> Result<Part, EvaluateError> {
    let row = prices.get(&segment.price_id).ok_or_else(|| EvaluateError::PriceMissing { price: segment.price_id.clone() })?;
    let step = |step: &Step| {
        let mut sum = Exact::default();
        step.add_to(&mut sum, row.per).ok_or(EvaluateError::Overflow)?;
        Ok(PartStep {
            above: step.above,
            up_to: step.up_to,
            quantity: step.quantity,
            packages: step.packages,
            block: step.block,
            unit_price: step.unit_price,
            flat_fee: step.flat_fee,
            exact: decimal(&sum.text()),
        })
    };
    Ok(Part {
        price_id: segment.price_id.clone(),
        effective_at: row.effective_at,
        rule: segment.rule,
        per: match row.model.of_quantity() {
            PriceModel::Package { size, .. } => *size,
            _ => row.per,
        },
        quantity: segment.quantity,
        readings: segment.readings,
        basis: basis(row, segment, state, period),
        steps: segment.steps.iter().map(step).collect::<Result<Vec<_>, _>>()?,
        commitment: committed(row, segment),
        exact: decimal(&segment.exact),
    })
}

/// What a commitment for windows makes of their cost.
fn committed(row: &PriceRow, segment: &Segment) -> Option<PartCommitment> {
    let (PriceModel::Committed { commitment, .. }, Some(committed)) = (&row.model, &segment.committed) else { return None };
    Some(PartCommitment {
        overage_factor: commitment.overage_factor,
        used: committed.used,
        unused: committed.unused,
        promised: decimal(&committed.promised),
        cost: decimal(&committed.cost),
        within: decimal(&committed.within),
        overage: decimal(&committed.overage),
        true_up: decimal(&committed.true_up),
    })
}

/// What a commitment for windows says, in words.
fn commitment_words(commitment: &WindowCommitment, promised: &str) -> String {
    let promise = match commitment.promised {
        Promised::Amount(_) => promised.to_owned(),
        Promised::Quantity(quantity) => format!("{promised}, what a window costs that measures {quantity},"),
    };
    let owed = match commitment.true_up {
        TrueUp::None => "what is missing to it is not owed",
        TrueUp::WhenUsed => "what is missing to it is owed for windows with readings",
        TrueUp::Always => "what is missing to it is owed for every window of the period",
    };
    format!("for each window {promise} is promised: what it costs beyond is charged {} times, {owed}", commitment.overage_factor)
}

/// What is priced in place of Σ quantity, in words and numbers.
fn basis(row: &PriceRow, segment: &Segment, state: Option<&SegmentState>, period: Month) -> Option<PartBasis> {
    let mut rules = Vec::new();
    if row.basis.measure != Measure::Sum {
        rules.push(format!("measured is {}", row.basis.words()));
    }
    if let Some(convert) = &row.basis.convert {
        let rounding = match convert.rounding {
            Some((places, to)) => format!(", then rounded to {places} places ({})", to.name()),
            None => String::new(),
        };
        rules.push(format!("it is converted: times {}, divided by {}{rounding}", convert.multiply, convert.divide));
    }
    if row.basis.free != Quantity::ZERO {
        rules.push(format!("the first {} are free", row.basis.free));
    }
    if row.basis.first_fee == FirstFee::Always {
        rules.push("the first tier's flat fee is due without usage too".to_owned());
    }
    if let PriceModel::Percentage(terms) = &row.model {
        let mut free = Vec::new();
        free.extend((terms.free_readings > 0).then(|| format!("the first {} readings", terms.free_readings)));
        free.extend((terms.free_quantity > Quantity::ZERO).then(|| format!("the first {} of the value", terms.free_quantity)));
        rules.extend((!free.is_empty()).then(|| format!("{} are free, whichever is used up first", free.join(" or "))));
        rules.extend(terms.least.map(|least| format!("the share of a reading is at least {least}")));
        rules.extend(terms.most.map(|most| format!("the share of a reading is at most {most}")));
    }
    if let (PriceModel::Committed { commitment, .. }, Some(committed)) = (&row.model, &segment.committed) {
        rules.push(commitment_words(commitment, &decimal(&committed.promised)));
    }
    (!rules.is_empty()).then(|| PartBasis {
        rules,
        measured: segment.measured.clone(),
        billed: segment.billed.clone(),
        how: state.map(|state| how::came_about(row, state, period)).unwrap_or_default(),
        extreme: state.and_then(|state| if let Detail::Extreme(extreme) = state.detail { Some(extreme) } else { None }),
    })
}

#[cfg(test)]
mod tests;
