//! Invoices: what running totals say at a close, less what earlier invoices said. Pure; it knows no table, no clock and no price.
//!
//! Content, canonical JSON, every number as text, is frozen in `docs/architecture/close.md` §3; a change is a new `"v"`, as terms of contracts were.

use std::collections::BTreeMap;
use std::fmt;

use platform_ledger::posting::Sides;
use platform_ledger::{AccountId, Command, CommandError, Kind, Posting, PostingError, PostingKey};
use serde::{Deserialize, Serialize};
use shared_types::{Amount, AssetId, ContractId, Digest, Month, OrganizationId, PriceId, Quantity, SkuId, Sum, UnitId, canonical_json};

use crate::terms::{TermLine, Terms};

/// The kind of the ledger command that books an invoice; its subject is the invoice's id.
pub const INVOICE_COMMAND: &str = "invoice";

/// Names an invoice: it follows from organization, currency and month, so a month is invoiced once.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct InvoiceId(String);

impl InvoiceId {
    /// The id: `inv-<yyyymm>-<first 16 hex digits of SHA-256 of organization, currency and month>`.
    pub fn of(organization: &OrganizationId, currency: &AssetId, period: Month) -> Self {
        let month = period.number().to_string();
        let digest = Digest::of_parts(&[
            b"tallystick invoice id 1\n",
            organization.as_str().as_bytes(),
            currency.as_str().as_bytes(),
            month.as_bytes(),
        ]);
        let hex: String = digest.to_string().chars().take(16).collect();
        Self(format!("inv-{month}-{hex}"))
    }

    /// An id as someone wrote it.
    pub fn named(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for InvoiceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Which way a half goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RoundingMode {
    /// 0.5 to 1, -0.5 to -1.
    HalfAwayFromZero,
    /// To the even neighbour.
    HalfEven,
}

/// How amounts of a currency are rounded on invoice lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rounding {
    /// Which way a half goes.
    pub mode: RoundingMode,
    /// Decimal places, 0 to 9.
    #[serde(with = "as_text")]
    pub scale: u32,
}

impl Rounding {
    /// The nearest amount with the policy's decimal places.
    ///
    /// - Errors: none within the range of [`Amount`] but at its very ends, where the rounded amount has no place: `None`.
    pub fn round(self, amount: Amount) -> Option<Amount> {
        let unit = 10_i128.checked_pow(Amount::SCALE.checked_sub(self.scale)?)?;
        let units = i128::from(amount.units());
        let (whole, rest) = (units.div_euclid(unit), units.rem_euclid(unit));
        let up = match rest.checked_mul(2)?.cmp(&unit) {
            std::cmp::Ordering::Less => false,
            std::cmp::Ordering::Greater => true,
            std::cmp::Ordering::Equal => match self.mode {
                // The floor of a negative amount lies further from zero.
                RoundingMode::HalfAwayFromZero => units > 0,
                RoundingMode::HalfEven => whole.rem_euclid(2) == 1,
            },
        };
        Amount::from_units(whole.checked_add(i128::from(up))?.checked_mul(unit)?).ok()
    }
}

/// What a close and an invoice need to know of the registry version in force at the close.
#[derive(Clone, Debug, Default)]
pub struct Policies {
    /// How lines are rounded, by currency.
    pub roundings: BTreeMap<AssetId, Rounding>,
    /// What a person reads of a SKU.
    pub skus: BTreeMap<SkuId, SkuText>,
    /// What holds of spend as a whole.
    pub terms: Terms,
}

/// What a person reads of a SKU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SkuText {
    /// The text of the line.
    pub description: String,
    /// What its quantity counts.
    pub unit: UnitId,
}

/// What was charged under one price row, in a key's state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PriceSum {
    /// The price row.
    pub price_id: PriceId,
    /// Σ quantity.
    pub quantity: Quantity,
    /// How many readings.
    #[serde(with = "as_text")]
    pub readings: u64,
}

/// A key at a close, and what earlier invoices said of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyAtClose {
    /// Under which agreement.
    pub contract: ContractId,
    /// Which line of it.
    pub contract_line: String,
    /// For what.
    pub sku: SkuId,
    /// When the usage happened.
    pub service_period: Month,
    /// Quantity since the last close.
    pub quantity: Quantity,
    /// Readings since the last close.
    pub readings: u64,
    /// Quantity so far.
    pub key_quantity: Quantity,
    /// Readings so far.
    pub key_readings: u64,
    /// T of the key.
    pub key_total: Amount,
    /// State of the key.
    pub prices: Vec<PriceSum>,
    /// The key's total and amount on its last invoice line, if it has one.
    pub before: Option<Invoiced>,
}

/// What a key's last invoice line said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Invoiced {
    /// T then.
    pub key_total: Amount,
    /// T then, rounded to the currency.
    pub key_amount: Amount,
}

/// Leaves of one of the organization's logs: `from` included, `to` not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogRange {
    /// The first leaf that no earlier close covered.
    #[serde(with = "as_text")]
    pub from: u64,
    /// The log's month.
    #[serde(with = "as_text")]
    pub month: Month,
    /// The size of the log at the close.
    #[serde(with = "as_text")]
    pub to: u64,
}

/// Whether a line is the key's first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LineKind {
    /// No invoice named the key before.
    Usage,
    /// The key was invoiced; usage came late.
    Adjustment,
}

impl LineKind {
    /// `usage` or `adjustment`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Usage => "usage",
            Self::Adjustment => "adjustment",
        }
    }
}

/// One line: what one key owes more than earlier invoices said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Line {
    /// `key_amount` − `invoiced_before`: what is asked for.
    pub amount: Amount,
    /// Under which agreement.
    pub contract: ContractId,
    /// Which line of it.
    pub contract_line: String,
    /// For people.
    pub description: String,
    /// `key_total` − `exact_before`: what was booked since.
    pub exact: Amount,
    /// T on the key's last line; 0 without one.
    pub exact_before: Amount,
    /// The rounded T on the key's last line; 0 without one.
    pub invoiced_before: Amount,
    /// T rounded to the currency.
    pub key_amount: Amount,
    /// Quantity so far.
    pub key_quantity: Quantity,
    /// Readings so far.
    #[serde(with = "as_text")]
    pub key_readings: u64,
    /// T of the key at the close.
    pub key_total: Amount,
    /// Usage or adjustment.
    pub kind: LineKind,
    /// From 1.
    #[serde(with = "as_text")]
    pub number: u64,
    /// State of the key: F over it, rounded, is `key_total`.
    pub prices: Vec<PriceSum>,
    /// Quantity since the last close.
    pub quantity: Quantity,
    /// Readings since the last close.
    #[serde(with = "as_text")]
    pub readings: u64,
    /// `amount` − `exact`: posted as rounding.
    pub rounding: Amount,
    /// When the usage happened.
    #[serde(with = "as_text")]
    pub service_period: Month,
    /// For what.
    pub sku: SkuId,
    /// What the quantity counts.
    pub unit: UnitId,
}

/// An invoice without its number: immutable from the draft on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Invoice {
    /// What is asked for.
    pub currency: AssetId,
    /// Its id.
    pub invoice_id: InvoiceId,
    /// By contract, SKU and service period.
    pub lines: Vec<Line>,
    /// The leaves that its close covers, of the organization as a whole.
    pub logs: Vec<LogRange>,
    /// Who owes.
    pub organization: OrganizationId,
    /// The accounting month whose close made it.
    #[serde(with = "as_text")]
    pub period: Month,
    /// The registry version in force at the close.
    pub registry_version: Digest,
    /// How its lines are rounded.
    pub rounding: Rounding,
    /// What the terms of contracts add or take off, numbered behind the lines.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub terms: Vec<TermLine>,
    /// Σ amounts of the lines and terms.
    pub total: Sum,
    /// Version of this content: `1`, or `2` where there are terms.
    pub v: String,
}

/// Why an invoice cannot be made or booked.
#[derive(Debug, thiserror::Error)]
pub enum InvoiceError {
    /// No rounding policy for the currency.
    #[error(
        "the registry version in force at the close of {period} says nothing of how {currency} is rounded; publish a [[rounding]] for it"
    )]
    NoRounding {
        /// The currency.
        currency: AssetId,
        /// The month.
        period: Month,
    }, // BILLING-0004
    /// No text for a SKU.
    #[error("the registry version in force at the close of {period} does not hold SKU {sku}; publish a version that describes it")]
    NoSku {
        /// The SKU.
        sku: SkuId,
        /// The month.
        period: Month,
    }, // BILLING-0008
    /// An amount does not fit 64 bits.
    #[error("the {what} of {organization} for {contract_line} in {service_period} is beyond 9223372036.854775807")]
    Overflow {
        /// What was computed.
        what: &'static str,
        /// Who owes.
        organization: OrganizationId,
        /// The line, or `all lines`.
        contract_line: String,
        /// The service period, or the invoice's month.
        service_period: Month,
    }, // BILLING-0005
    /// Stored content that is not that of an invoice.
    #[error("the content of invoice {invoice_id} is damaged: {problem}")]
    Damaged {
        /// The invoice.
        invoice_id: String,
        /// What is wrong.
        problem: String,
    }, // BILLING-0006
    /// Something cannot be posted.
    #[error("invoice {invoice_id} cannot be posted")]
    Posting {
        /// The invoice.
        invoice_id: InvoiceId,
        /// Why.
        #[source]
        source: PostingError,
    }, // BILLING-0007
    /// The postings are no command.
    #[error("invoice {invoice_id} cannot be posted")]
    Command {
        /// The invoice.
        invoice_id: InvoiceId,
        /// Why.
        #[source]
        source: CommandError,
    }, // BILLING-0007
}

/// What an invoice is made for.
#[derive(Clone, Debug)]
pub struct Subject {
    /// Who owes.
    pub organization: OrganizationId,
    /// In which currency.
    pub currency: AssetId,
    /// The accounting month that was closed.
    pub period: Month,
    /// The registry version in force at the close.
    pub registry_version: Digest,
}

/// Makes an invoice of the keys that were touched since the last close.
///
/// - `keys`: in any order, each once. A key whose amount is zero has a line too: a price of zero is a price.
/// - Errors: no rounding policy for the currency; an amount beyond 64 bits, by its line.
/// - Source: blueprint §5, the rule: a line is T rounded to the currency, an adjustment that less what was invoiced.
pub fn draft(subject: &Subject, mut keys: Vec<KeyAtClose>, logs: Vec<LogRange>, policies: &Policies) -> Result<Invoice, InvoiceError> {
    let Subject { organization, currency, period, registry_version } = subject.clone();
    let rounding = *policies.roundings.get(&currency).ok_or_else(|| InvoiceError::NoRounding { currency: currency.clone(), period })?;
    keys.sort_by(|a, b| (&a.contract, &a.sku, a.service_period).cmp(&(&b.contract, &b.sku, b.service_period)));
    let mut lines = Vec::with_capacity(keys.len());
    let mut total = Sum::ZERO;
    for (number, key) in (1..).zip(keys) {
        let place = (organization.clone(), key.contract_line.clone(), key.service_period);
        let beyond = |what| {
            let (organization, contract_line, service_period) = place.clone();
            InvoiceError::Overflow { what, organization, contract_line, service_period }
        };
        let text = policies.skus.get(&key.sku).ok_or_else(|| InvoiceError::NoSku { sku: key.sku.clone(), period })?;
        let line = line(number, key, rounding, text).ok_or_else(|| beyond("line"))?;
        total = total.checked_add(line.amount.into()).map_err(|_| beyond("invoice total"))?;
        lines.push(line);
    }
    let invoice_id = InvoiceId::of(&organization, &currency, period);
    let (terms, v) = (Vec::new(), VERSION.to_owned());
    Ok(Invoice { currency, invoice_id, lines, logs, organization, period, registry_version, rounding, terms, total, v })
}

/// Version of a content without terms, and of one with terms.
const VERSION: &str = "1";
const VERSION_WITH_TERMS: &str = "2";

/// `None` when an amount does not fit.
fn line(number: u64, key: KeyAtClose, rounding: Rounding, text: &SkuText) -> Option<Line> {
    let before = key.before.unwrap_or(Invoiced { key_total: Amount::ZERO, key_amount: Amount::ZERO });
    let key_amount = rounding.round(key.key_total)?;
    let exact = key.key_total.checked_sub(before.key_total).ok()?;
    let amount = key_amount.checked_sub(before.key_amount).ok()?;
    Some(Line {
        amount,
        contract: key.contract,
        contract_line: key.contract_line,
        description: text.description.clone(),
        exact,
        exact_before: before.key_total,
        invoiced_before: before.key_amount,
        key_amount,
        key_quantity: key.key_quantity,
        key_readings: key.key_readings,
        key_total: key.key_total,
        kind: if key.before.is_some() { LineKind::Adjustment } else { LineKind::Usage },
        number,
        prices: key.prices,
        quantity: key.quantity,
        readings: key.readings,
        rounding: amount.checked_sub(exact).ok()?,
        service_period: key.service_period,
        sku: key.sku,
        unit: text.unit.clone(),
    })
}

impl Invoice {
    /// The draft with what the terms of contracts add or take off.
    ///
    /// - `terms`: in the order of the invoice; they are numbered behind the lines.
    /// - Errors: a total beyond 38 digits.
    pub fn with_terms(mut self, terms: Vec<TermLine>) -> Result<Self, InvoiceError> {
        let after = u64::try_from(self.lines.len()).unwrap_or(u64::MAX);
        for (number, term) in (1_u64..).zip(terms) {
            self.total = self.total.checked_add(term.amount.into()).map_err(|_| InvoiceError::Overflow {
                what: "invoice total",
                organization: self.organization.clone(),
                contract_line: term.contract_line(),
                service_period: term.service_period,
            })?;
            self.terms.push(TermLine { number: after.saturating_add(number), ..term });
        }
        if !self.terms.is_empty() {
            VERSION_WITH_TERMS.clone_into(&mut self.v);
        }
        Ok(self)
    }

    /// Canonical JSON: what is stored, digested and proved.
    pub fn canonical(&self) -> String {
        // Texts and whole numbers always have a JSON value and a canonical form.
        serde_json::to_value(self).ok().and_then(|value| canonical_json(&value).ok()).unwrap_or_default()
    }

    /// SHA-256 of the canonical JSON.
    pub fn digest(&self) -> Digest {
        Digest::of(self.canonical().as_bytes())
    }

    /// From stored content; anything but its canonical form is refused.
    pub fn parse(invoice_id: &str, content: &str) -> Result<Self, InvoiceError> {
        let damaged = |problem: String| InvoiceError::Damaged { invoice_id: invoice_id.to_owned(), problem };
        let invoice: Self = serde_json::from_str(content).map_err(|error| damaged(error.to_string()))?;
        if invoice.canonical() != content || invoice.invoice_id.as_str() != invoice_id {
            return Err(damaged("it is not in canonical form, or names another invoice".to_owned()));
        }
        if invoice.v != if invoice.terms.is_empty() { VERSION } else { VERSION_WITH_TERMS } {
            return Err(damaged(format!("its version {:?} is not the one of its content", invoice.v)));
        }
        Ok(invoice)
    }

    /// The command that books it; `None` when nothing moves.
    ///
    /// - Per line `org/<organization>/receivable` ← `org/<organization>/unbilled`, the exact part, and its rounding against `rounding`:
    ///   so what is unbilled clears to zero, and what is receivable is what was asked for.
    /// - Per term `org/<organization>/receivable` ← `terms/<kind>`: there is no usage behind it, so nothing was unbilled.
    /// - `accounting_period`: an open month; the entry takes effect with the end of the invoice's month.
    pub fn command(&self, accounting_period: Month) -> Result<Option<Command>, InvoiceError> {
        let refused = |source| InvoiceError::Posting { invoice_id: self.invoice_id.clone(), source };
        let account = |name: &str| AccountId::of(&["org", self.organization.as_str(), name]).map_err(refused);
        let (receivable, unbilled) = (account("receivable")?, account("unbilled")?);
        let rounding = AccountId::of(&["rounding"]).map_err(refused)?;
        let effective_at = self.period.next().map_or_else(|| self.period.start(), Month::start);
        let mut postings = Vec::new();
        let mut post = |amount: Amount, credit: &AccountId, kind, key: PostingKey, quantity| -> Result<(), InvoiceError> {
            let Some(sides) = sides(amount, &receivable, credit) else { return Ok(()) };
            let magnitude = Amount::from_units(i128::from(amount.units()).abs()).unwrap_or(Amount::ZERO);
            let posting = Posting::new(sides, self.currency.clone(), magnitude, accounting_period, effective_at)
                .and_then(|posting| posting.of_kind(kind).about(key, quantity))
                .map_err(refused)?;
            postings.push(posting);
            Ok(())
        };
        for line in &self.lines {
            let key = self.key(&line.contract, line.contract_line.clone(), line.service_period);
            post(line.exact, &unbilled, Kind::Post, key.clone(), line.quantity)?;
            post(line.rounding, &rounding, Kind::Rounding, key, Quantity::ZERO)?;
        }
        for term in &self.terms {
            let account = AccountId::of(&["terms", term.rule.kind()]).map_err(refused)?;
            let key = self.key(&term.contract, term.contract_line(), term.service_period);
            post(term.amount, &account, Kind::Post, key, Quantity::ZERO)?;
        }
        if postings.is_empty() {
            return Ok(None);
        }
        let command = Command::new(INVOICE_COMMAND, self.invoice_id.as_str(), postings);
        command.map(Some).map_err(|source| InvoiceError::Command { invoice_id: self.invoice_id.clone(), source })
    }

    fn key(&self, contract: &ContractId, contract_line: String, service_period: Month) -> PostingKey {
        let (organization, currency) = (self.organization.clone(), self.currency.clone());
        PostingKey { organization, contract: contract.clone(), contract_line, service_period, currency }
    }
}

/// The sides of a signed amount; none for zero.
fn sides(amount: Amount, debit: &AccountId, credit: &AccountId) -> Option<Sides> {
    match amount.cmp(&Amount::ZERO) {
        std::cmp::Ordering::Equal => None,
        std::cmp::Ordering::Greater => Some(Sides { debit: debit.clone(), credit: credit.clone() }),
        std::cmp::Ordering::Less => Some(Sides { debit: credit.clone(), credit: debit.clone() }),
    }
}

/// Whole numbers as text on the wire, as in everything that is digested.
pub(crate) mod as_text {
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    /// A whole number that has one text.
    pub(crate) trait Whole: Sized {
        fn text(&self) -> String;
        fn read(text: &str) -> Option<Self>;
    }

    impl Whole for u64 {
        fn text(&self) -> String {
            self.to_string()
        }
        fn read(text: &str) -> Option<Self> {
            text.parse().ok()
        }
    }

    impl Whole for u32 {
        fn text(&self) -> String {
            self.to_string()
        }
        fn read(text: &str) -> Option<Self> {
            text.parse().ok()
        }
    }

    impl Whole for u16 {
        fn text(&self) -> String {
            self.to_string()
        }
        fn read(text: &str) -> Option<Self> {
            text.parse().ok()
        }
    }

    impl Whole for shared_types::Month {
        fn text(&self) -> String {
            self.number().to_string()
        }
        fn read(text: &str) -> Option<Self> {
            Self::parse(text).ok()
        }
    }

    pub(crate) fn serialize<T: Whole, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&value.text())
    }

    pub(crate) fn deserialize<'de, T: Whole, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
        let text = String::deserialize(deserializer)?;
        T::read(&text).ok_or_else(|| D::Error::custom(format!("{text:?} is not the whole number that belongs here")))
    }
}

#[cfg(test)]
mod tests;
