//! What became of an event and why an amount is what it is: one story, told by the API as JSON and by `tally explain` as text.
//! It composes read models and the registry; every figure of an explanation is platform-rating's.

mod measured;
mod terms;
mod views;

use std::collections::{BTreeSet, HashMap};

use anyhow::Context;
use platform_billing::{Invoice, Issue, PriceSum, RoundingMode, StoredInvoice};
use platform_catalog::{Comparison, Filter, FilterValue, Scope};
use platform_rating::explain::{KeyFacts, LineFacts, Verdict};
use platform_rating::{ExplainError, Explanation, PriceIndex, RATED, Rated, SegmentState, Shape, rated_from_arrow};
use platform_usage::OWN_SOURCE;
use serde::Serialize;
use shared_types::{IdentityHash, Incarnation, Instant, Month, Position, Sequence, ShardId};

use crate::answers::{AnswerError, Answers, Row};
use crate::contract::wire;
use crate::read_models;
pub use measured::measured;
pub use terms::TermView;
pub use views::ExplanationView;

/// Which event is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    /// By its identity.
    Identity(IdentityHash),
    /// By what its sender calls it.
    Names {
        /// Who owes.
        organization: String,
        /// Who sent it.
        source: String,
        /// The sender's id.
        event_id: String,
    },
}

wire! {
    /// What became of an event.
    #[derive(Clone, Serialize)]
    pub struct Trace {
        /// Keyed hash of (organization, source, event id), 32 hex digits.
        pub identity: String,
        /// `accepted`: counted once. `quarantined`: could not be read; every delivery says why. `not_received`: no committed record has this
        /// identity; what was accepted a moment ago is committed within about a second.
        pub outcome: &'static str,
        /// Who owes.
        pub organization: Option<String>,
        /// Who sent it.
        pub source: Option<String>,
        /// The sender's id.
        pub event_id: Option<String>,
        /// Every record of it, in order of acceptance: the first that was accepted, repeats, and what was refused.
        pub deliveries: Vec<Delivery>,
        /// What was read from it: each is charged, free or quarantined.
        pub readings: Vec<TracedReading>,
    }
}

wire! {
    /// One record of an event in the stream.
    #[derive(Clone, Serialize)]
    pub struct Delivery {
        /// `accepted`, `duplicate` (the same again, not counted), `conflict` (the same identity with other content, not counted) or `quarantined`.
        pub outcome: String,
        /// When it entered the stream.
        pub accepted_at: String,
        /// Stable code of the reason of a quarantine.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub reason: Option<String>,
        /// The reason in words.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub detail: Option<String>,
        /// `shard/incarnation/sequence`; for the operator.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub position: Option<String>,
        /// The batch that committed it; for the operator.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub batch_no: Option<u64>,
    }
}

wire! {
    /// What was read from an event by one meter.
    #[derive(Clone, Serialize)]
    pub struct TracedReading {
        /// `<identity>:<ordinal>`: what `/v1/charges/{id}/explain` takes.
        pub charge: String,
        /// The meter.
        pub meter: String,
        /// How much.
        pub quantity: String,
        /// Whether the reading was rated again by this row: the one with the opposite quantity takes back what stood, the next one stands.
        pub rated_again: bool,
        /// What the quantity counts.
        pub unit: String,
        /// `charged`, `free` or `quarantined`.
        pub fate: String,
        /// The rule of a free reading, the reason of a quarantined one.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub reason: Option<String>,
        /// Contract and SKU.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub contract_line: Option<String>,
        /// Month of the usage, `yyyy-mm`.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub service_period: Option<String>,
        /// Month of the books, `yyyy-mm`.
        pub accounting_period: String,
        /// The price row.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub price_id: Option<String>,
        /// What it moved the running total by.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub amount: Option<String>,
        /// The currency of the amount.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub currency: Option<String>,
        /// The first invoice line that includes it; none before its month is closed.
    #[serde(skip_serializing_if = "Option::is_none")]
        pub invoice_line: Option<TracedLine>,
        /// The postings that hold it, with everything else that was netted for the same contract line; for the operator.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        pub postings: Vec<TracedPosting>,
    }
}

wire! {
    /// The invoice line that includes a reading, with all others of its contract line and service period.
    #[derive(Clone, Serialize)]
    pub struct TracedLine {
        /// The invoice: `/v1/invoices/{invoice}`.
        pub invoice_id: String,
        /// Its number; none for a draft.
        pub invoice_number: Option<String>,
        /// The line: `/v1/invoices/{invoice}/lines/{line}/explain`.
        pub line: i64,
        /// What the line asks for.
        pub amount: String,
    }
}

wire! {
    /// A posting of the ledger.
    #[derive(Clone, Serialize)]
    pub struct TracedPosting {
        /// The entry that booked it.
        pub entry_no: i64,
        /// Its number.
        pub seq: i64,
        /// Account debited.
        pub debit_account: String,
        /// Account credited.
        pub credit_account: String,
        /// The amount of the posting: of all readings netted into it.
        pub amount: String,
    }
}

/// Why there is no explanation.
#[derive(Debug, thiserror::Error)]
pub enum StoryError {
    /// The rows cannot be read.
    #[error(transparent)]
    Answer(#[from] AnswerError),
    /// The rows contradict the rule.
    #[error(transparent)]
    Explain(#[from] ExplainError),
}

impl From<anyhow::Error> for StoryError {
    fn from(error: anyhow::Error) -> Self {
        Self::Answer(AnswerError::Other(error))
    }
}

fn equal(column: &str, value: FilterValue) -> Filter {
    Filter { column: column.to_owned(), comparison: Comparison::Eq, value }
}

fn text_filter(column: &str, value: &str) -> Filter {
    equal(column, FilterValue::Text(value.to_owned()))
}

const DELIVERIES: [&str; 11] =
    ["identity", "outcome", "organization", "source", "event_id", "accepted_at", "reason", "detail", "shard", "incarnation", "sequence"];

/// What became of an event, as far as the scope may know: what is not its own was never received.
pub async fn trace(answers: &Answers, scope: &Scope, asked: &Asked) -> Result<Trace, StoryError> {
    let (identity, filters) = match asked {
        Asked::Identity(identity) => (*identity, vec![equal("identity", FilterValue::Bytes(identity.0.to_vec()))]),
        Asked::Names { organization, source, event_id } => (
            answers.identity.hash(organization, source, event_id),
            vec![text_filter("organization", organization), text_filter("source", source), text_filter("event_id", event_id)],
        ),
    };
    let mut rows = answers.scan_rows("usage.events", scope, &DELIVERIES, &filters).await?;
    let of = |row: &Row| (row.text("accepted_at").map(ToOwned::to_owned), row.integer("sequence"));
    rows.sort_by_key(of);
    let mut deliveries = Vec::with_capacity(rows.len());
    for row in &rows {
        deliveries.push(delivery(answers, row).await?);
    }
    let first = rows.iter().find(|row| row.text("outcome") == Some("accepted")).or(rows.first());
    let named = |column: &str| first.and_then(|row| row.text(column)).map(ToOwned::to_owned);
    let batch_no = deliveries.iter().find(|delivery| delivery.outcome == "accepted").and_then(|delivery| delivery.batch_no);
    let outcome = match first.and_then(|row| row.text("outcome")) {
        Some("accepted" | "duplicate" | "conflict") => "accepted",
        Some(_) => "quarantined",
        None => "not_received",
    };
    let mut readings = Vec::new();
    let found = charges(answers, scope, identity).await?;
    // Rows of usage that was rated again are in a later batch than their event.
    let again = match scope {
        Scope::Operator if found.iter().any(|rated| rated.supersedes.is_some()) => batches(answers, scope, identity).await?,
        _ => HashMap::new(),
    };
    for rated in found {
        let batch_no = match &rated.supersedes {
            None => batch_no,
            Some(_) => rated.fate.priced().and_then(|priced| again.get(&(priced.log_month, priced.log_seq)).copied()),
        };
        let postings = match (scope, batch_no) {
            (Scope::Operator, Some(batch_no)) => postings(answers, scope, &rated, batch_no).await?,
            _ => Vec::new(),
        };
        let line = invoice_line(answers, scope, &rated).await?;
        readings.push(reading(&rated, line, postings));
    }
    Ok(Trace {
        identity: identity.to_string(),
        outcome,
        organization: named("organization"),
        source: named("source"),
        event_id: named("event_id"),
        deliveries,
        readings,
    })
}

/// Where a row of the log stands, and in which batch. Positions do not exist for organizations.
async fn place(answers: &Answers, row: &Row) -> Result<(Option<Position>, Option<u64>), StoryError> {
    let number = |column: &str| row.integer(column);
    let (Some(shard), Some(incarnation), Some(sequence)) = (number("shard"), number("incarnation"), number("sequence")) else {
        return Ok((None, None));
    };
    let position = Position {
        shard: u8::try_from(shard).ok().and_then(ShardId::new).context("a row of the log has no shard")?,
        incarnation: Incarnation(u32::try_from(incarnation).map_err(anyhow::Error::from)?),
        sequence: Sequence(u64::try_from(sequence).map_err(anyhow::Error::from)?),
    };
    let mut tx = answers.readers.log.read().await.map_err(anyhow::Error::from)?;
    let batch_no = platform_ingest::store::batch_of(&mut tx, position).await.map_err(anyhow::Error::from)?;
    Ok((Some(position), batch_no.map(|batch_no| batch_no.0)))
}

/// The batches of an event's rows, by their place in the organization's log.
async fn batches(answers: &Answers, scope: &Scope, identity: IdentityHash) -> Result<HashMap<(Month, u64), u64>, StoryError> {
    let filters = [equal("identity", FilterValue::Bytes(identity.0.to_vec()))];
    let columns = ["log_month", "log_seq", "shard", "incarnation", "sequence"];
    let mut found = HashMap::new();
    for row in answers.scan_rows("usage.charges", scope, &columns, &filters).await? {
        let month = row.integer("log_month").and_then(|month| i32::try_from(month).ok()).and_then(|month| Month::from_number(month).ok());
        let log_seq = row.integer("log_seq").and_then(|log_seq| u64::try_from(log_seq).ok());
        if let (Some(month), Some(log_seq), (_, Some(batch_no))) = (month, log_seq, place(answers, &row).await?) {
            found.insert((month, log_seq), batch_no);
        }
    }
    Ok(found)
}

async fn delivery(answers: &Answers, row: &Row) -> Result<Delivery, StoryError> {
    let text = |column: &str| row.text(column).map(ToOwned::to_owned);
    let (position, batch_no) = place(answers, row).await?;
    Ok(Delivery {
        outcome: text("outcome").unwrap_or_default(),
        accepted_at: text("accepted_at").unwrap_or_default(),
        reason: text("reason"),
        detail: text("detail"),
        position: position.map(|position| position.to_string()),
        batch_no,
    })
}

/// The readings of an event, by ordinal.
pub async fn charges(answers: &Answers, scope: &Scope, identity: IdentityHash) -> Result<Vec<Rated>, StoryError> {
    let filters = [equal("identity", FilterValue::Bytes(identity.0.to_vec()))];
    let batch = answers.scan("usage.charges", scope, RATED, &filters).await?;
    let mut charges = rated_from_arrow(&batch).map_err(anyhow::Error::from)?;
    // Rows of a re-rating say when its record came; what was quarantined by one has no place in the log.
    charges.sort_by_key(|charge| (charge.ordinal, charge.supersedes.is_some(), charge.accepted_at, place_in_log(charge)));
    Ok(charges)
}

/// What was rated again comes later in the log; a reading that went into quarantine by it has its last row there.
fn place_in_log(charge: &Rated) -> u64 {
    charge.fate.priced().map_or(u64::MAX, |priced| priced.log_seq)
}

/// The postings of a charge's key in the entry that covers its batch.
async fn postings(answers: &Answers, scope: &Scope, rated: &Rated, batch_no: u64) -> Result<Vec<TracedPosting>, StoryError> {
    let Some(priced) = rated.fate.priced() else { return Ok(Vec::new()) };
    // Ids hold no quote.
    let sql = format!(
        "SELECT p.entry_no, p.seq, p.debit_account, p.credit_account, p.amount FROM ledger.postings p \
         JOIN ledger.entries e ON p.entry_no = e.entry_no \
         WHERE p.organization = '{}' AND p.contract_line = '{}' AND p.service_period = {} AND p.accounting_period = {} AND p.asset = '{}' \
         AND e.first_batch <= {batch_no} AND e.last_batch >= {batch_no} ORDER BY p.seq",
        rated.organization,
        priced.contract_line,
        priced.service_period.number(),
        rated.accounting_period.number(),
        priced.currency,
    );
    let rows = answers.rows(&sql, scope).await?;
    let text = |row: &Row, column: &str| row.text(column).map(ToOwned::to_owned).unwrap_or_default();
    let posting = |row: &Row| TracedPosting {
        entry_no: row.integer("entry_no").unwrap_or_default(),
        seq: row.integer("seq").unwrap_or_default(),
        debit_account: text(row, "debit_account"),
        credit_account: text(row, "credit_account"),
        amount: row.decimal("amount").unwrap_or_default(),
    };
    Ok(rows.iter().map(posting).collect())
}

fn reading(rated: &Rated, invoice_line: Option<TracedLine>, postings: Vec<TracedPosting>) -> TracedReading {
    let priced = rated.fate.priced();
    TracedReading {
        charge: format!("{}:{}", rated.identity, rated.ordinal),
        meter: rated.meter.to_string(),
        quantity: rated.quantity.to_string(),
        rated_again: rated.supersedes.is_some(),
        unit: rated.unit.to_string(),
        fate: rated.fate.code().to_owned(),
        reason: rated.fate.reason().map(ToOwned::to_owned),
        contract_line: priced.map(|priced| priced.contract_line.to_string()),
        service_period: priced.map(|priced| month(priced.service_period)),
        accounting_period: month(rated.accounting_period),
        price_id: priced.map(|priced| priced.price.to_string()),
        amount: rated.fate.amount().map(|amount| amount.to_string()),
        currency: priced.map(|priced| priced.currency.to_string()),
        invoice_line,
        postings,
    }
}

/// The line of the first close that covers a charge.
async fn invoice_line(answers: &Answers, scope: &Scope, rated: &Rated) -> Result<Option<TracedLine>, StoryError> {
    let Some(priced) = rated.fate.priced() else { return Ok(None) };
    // Ids hold no quote.
    let sql = format!(
        "SELECT l.invoice_id, i.number AS invoice_number, l.number AS line, l.amount FROM billing.invoice_lines l \
         JOIN billing.invoices i ON l.invoice_id = i.invoice_id \
         WHERE l.organization = '{}' AND l.contract_line = '{}' AND l.service_period = {} AND l.currency = '{}' AND l.period >= {} \
         ORDER BY l.period LIMIT 1",
        rated.organization,
        priced.contract_line,
        priced.service_period.number(),
        priced.currency,
        rated.accounting_period.number(),
    );
    let rows = answers.rows(&sql, scope).await?;
    Ok(rows.first().map(|row| TracedLine {
        invoice_id: row.text("invoice_id").unwrap_or_default().to_owned(),
        invoice_number: row.text("invoice_number").map(ToOwned::to_owned),
        line: row.integer("line").unwrap_or_default(),
        amount: row.decimal("amount").unwrap_or_default(),
    }))
}

/// An invoice that the scope may see, by its id or its number; none when there is none.
pub async fn invoice(answers: &Answers, scope: &Scope, name: &str) -> Result<Option<StoredInvoice>, StoryError> {
    let columns = ["invoice_id", "number", "content", "issued_at"];
    let column = if name.starts_with("inv-") { "invoice_id" } else { "number" };
    let rows = answers.scan_rows("billing.invoices", scope, &columns, &[text_filter(column, name)]).await?;
    let Some(row) = rows.first() else { return Ok(None) };
    let text = |column: &str| row.text(column).with_context(|| format!("the invoice {name} has no {column}"));
    let invoice = Invoice::parse(text("invoice_id")?, text("content")?).map_err(anyhow::Error::from)?;
    let issue = match row.text("number") {
        None => None,
        Some(shown) => {
            let (issuer, number) = shown.rsplit_once('-').with_context(|| format!("{shown} is no number of an invoice"))?;
            let number = number.parse().map_err(anyhow::Error::from)?;
            let issued_at = Instant::parse(text("issued_at")?).map_err(anyhow::Error::from)?;
            Some(Issue { issuer: issuer.to_owned(), number, entry_no: None, issued_at })
        }
    };
    Ok(Some(StoredInvoice { invoice, issue }))
}

/// Explains a line of an invoice under the registry version in force at its close; none when it has no such line.
pub async fn explain_line(answers: &Answers, stored: &StoredInvoice, number: u64) -> Result<Option<ExplanationView>, StoryError> {
    let invoice = &stored.invoice;
    if let Some(term) = invoice.terms.iter().find(|term| term.number == number) {
        return Ok(Some(terms::explain(stored, term)));
    }
    let Some(line) = invoice.lines.iter().find(|line| line.number == number) else { return Ok(None) };
    let compiled = answers.registry(invoice.registry_version).await?;
    let key = KeyFacts {
        organization: invoice.organization.clone(),
        contract: line.contract.clone(),
        contract_line: line.contract_line.as_str().into(),
        sku: line.sku.clone(),
        description: Some(line.description.clone()),
        service_period: line.service_period,
        currency: invoice.currency.clone(),
        unit: Some(line.unit.clone()),
        registry_version: invoice.registry_version,
    };
    let facts = LineFacts {
        invoice: stored.issue.as_ref().map_or_else(|| invoice.invoice_id.to_string(), Issue::shown),
        number: line.number,
        scale: invoice.rounding.scale,
        mode: match invoice.rounding.mode {
            RoundingMode::HalfAwayFromZero => "half_away_from_zero".to_owned(),
            RoundingMode::HalfEven => "half_even".to_owned(),
        },
        key_total: line.key_total,
        key_amount: line.key_amount,
        invoiced_before: line.invoiced_before,
        amount: line.amount,
    };
    let prices = PriceIndex::of(&compiled.plan);
    let detailed = line.prices.iter().filter_map(|sum| prices.get(&sum.price_id)).any(|row| row.basis.shape(&row.model) != Shape::Sums);
    let state = match detailed {
        // The invoice itself says enough.
        false => {
            line.prices.iter().map(|sum: &PriceSum| (sum.price_id.clone(), SegmentState::of_sums(sum.quantity, sum.readings))).collect()
        }
        true => {
            let (key, through) = (measured::key(invoice, line), invoice.period);
            let mut found = read_models::usage::states_through(&answers.readers, BTreeSet::from([key.clone()]), through).await?;
            found.remove(&key).with_context(|| format!("no batch holds the state of {} at the close of {through}", line.contract_line))?
        }
    };
    let mut explanation = Explanation::of_line(facts, key, &state, &compiled.plan)?;
    name_extremes(answers, &mut explanation).await?;
    Ok(Some((&explanation).into()))
}

/// Says which reading an extreme is, where one is priced: the earliest of that quantity.
async fn name_extremes(answers: &Answers, explanation: &mut Explanation) -> Result<(), StoryError> {
    let Some(key) = explanation.key.clone() else { return Ok(()) };
    let worth = match &mut explanation.verdict {
        Verdict::Charged { after, .. } => after,
        Verdict::Total { worth } => worth,
        Verdict::TakenBack { .. } | Verdict::Free { .. } | Verdict::Quarantined { .. } => return Ok(()),
    };
    for part in &mut worth.parts {
        let Some((extreme, basis)) = part.basis.as_mut().and_then(|basis| Some((basis.extreme?, basis))) else { continue };
        // Ids hold no quote.
        let sql = format!(
            "SELECT identity, ordinal, start_at FROM usage.charges WHERE organization = '{}' AND contract_line = '{}' AND service_period = {} \
             AND currency = '{}' AND price_id = '{}' AND fate = 'charged' AND quantity = {extreme} ORDER BY start_at, identity, ordinal LIMIT 1",
            key.organization,
            key.contract_line,
            key.service_period.number(),
            key.currency,
            part.price_id,
        );
        let rows = answers.rows(&sql, &Scope::Organization(key.organization.clone())).await?;
        basis.how.extend(rows.first().map(|row| {
            let (identity, ordinal) = (row.text("identity").unwrap_or_default(), row.integer("ordinal").unwrap_or_default());
            format!("it is {identity}:{ordinal}, used at {}", row.text("start_at").unwrap_or_default())
        }));
    }
    Ok(())
}

fn month(month: Month) -> String {
    let number = month.number();
    format!("{:04}-{:02}", number.div_euclid(100), number.rem_euclid(100))
}

/// Explains one reading of an event; none when the scope has no such charge.
pub async fn explain_charge(
    answers: &Answers,
    scope: &Scope,
    identity: IdentityHash,
    ordinal: u16,
) -> Result<Option<Explanation>, StoryError> {
    // The row that stands is the last one.
    let found = charges(answers, scope, identity).await?.into_iter().rev().find(|charge| charge.ordinal == ordinal);
    match found {
        None => Ok(None),
        Some(rated) => Ok(Some(explain(answers, rated).await?)),
    }
}

/// Explains a reading under the registry version that it was rated with.
pub async fn explain(answers: &Answers, rated: Rated) -> Result<Explanation, StoryError> {
    let compiled = answers.registry(rated.registry_version).await?;
    let sku = rated.fate.priced().and_then(|priced| compiled.skus.get(&priced.sku));
    let description = sku.and_then(|sku| sku.description.clone());
    let mut explanation = Explanation::of_charge(rated, &compiled.plan, description)?;
    name_extremes(answers, &mut explanation).await?;
    Ok(explanation)
}

/// What an event of the deployment's own says of a level that it carries into a service period; none where it states something else.
fn carried(event_id: &str) -> Option<String> {
    let (of, number) = event_id.rsplit_once("/level-")?;
    let (meter, period) = of.rsplit_once('/')?;
    let period = Month::parse(period).ok()?;
    Some(format!(
        "Tallystick states it, as statement {number} of levels: what the level of meter {meter} that is carried into {period} differs from what was stated \
         of it before. The level is the sum of its changes without an end in earlier months, of the same project and dimensions."
    ))
}

impl Trace {
    /// The story as text.
    pub fn text(&self) -> String {
        let mut out = String::new();
        let mut line = |text: &str| {
            out.push_str(text.trim_end());
            out.push('\n');
        };
        let unknown = || "unknown".to_owned();
        match &self.event_id {
            None => line(&format!("Event {}", self.identity)),
            Some(event_id) => {
                let source = self.source.clone().unwrap_or_else(unknown);
                let organization = self.organization.clone().unwrap_or_else(unknown);
                line(&format!("Event {event_id:?} of source {source} for organization {organization}"));
                line(&format!("identity {}", self.identity));
            }
        }
        line("");
        line(match self.outcome {
            "accepted" => "It was accepted and is counted once.",
            "quarantined" => "It could not be read: nothing of it is counted.",
            _ => {
                "It was never received: no committed record has this identity. What was accepted a moment ago is committed within about a second."
            }
        });
        if let Some(stated) = self.event_id.as_deref().filter(|_| self.source.as_deref() == Some(OWN_SOURCE)).and_then(carried) {
            line(&stated);
        }
        if !self.deliveries.is_empty() {
            line("");
            line("Received");
        }
        for delivery in &self.deliveries {
            let position = delivery.position.as_ref().map(|position| format!("  position {position}")).unwrap_or_default();
            let batch = delivery.batch_no.map(|batch_no| format!(", batch {batch_no}")).unwrap_or_default();
            let reason = delivery.reason.as_ref().map(|reason| format!("  {reason}")).unwrap_or_default();
            let detail = delivery.detail.as_ref().map(|detail| format!(": {detail}")).unwrap_or_default();
            line(&format!("  {}  {:<11}{position}{batch}{reason}{detail}", delivery.accepted_at, delivery.outcome));
        }
        if !self.readings.is_empty() {
            line("");
            line("Read from it");
        }
        for reading in &self.readings {
            let came_to = match (&reading.amount, &reading.currency, &reading.reason) {
                (_, _, Some(reason)) => format!("{} ({reason})", reading.fate),
                (Some(amount), Some(currency), None) => format!("{} {amount} {currency}", reading.fate),
                _ => reading.fate.clone(),
            };
            let again = if reading.rated_again { "rated again: " } else { "" };
            line(&format!("  {}  {}: {again}{} {}, {came_to}", reading.charge, reading.meter, reading.quantity, reading.unit));
            if let (Some(contract_line), Some(period)) = (&reading.contract_line, &reading.service_period) {
                line(&format!("    in the running total of {contract_line} for {period}, in the books of {}", reading.accounting_period));
            }
            if let Some(found) = &reading.invoice_line {
                let name = found.invoice_number.as_ref().unwrap_or(&found.invoice_id);
                let draft = if found.invoice_number.is_some() { "" } else { ", a draft" };
                line(&format!("    on line {} of invoice {name}{draft}, with all others of that line: {}", found.line, found.amount));
            }
            for posting in &reading.postings {
                line(&format!(
                    "    in entry {} of the ledger, posting {}: {} from {} to {}, netted with all others of that line",
                    posting.entry_no, posting.seq, posting.amount, posting.credit_account, posting.debit_account
                ));
            }
        }
        out
    }
}
