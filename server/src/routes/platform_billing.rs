//! `/v1/invoices`: what is asked of customers, and why. `/v1/periods`: closed months, the close itself, and the second opinion on one.
//! Owned by platform-billing.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use platform_billing::{CloseError, Issue, StoredInvoice};
use platform_catalog::{Comparison, Filter, FilterValue};
use platform_iam::{Action, Target};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use shared_types::Month;

use super::platform_audit::Books;
use super::platform_query::accepted;
use super::{named, scope_of};
use crate::access::Caller;
use crate::answers::{Answers, Row};
use crate::commands::invoice::MeasuredView;
use crate::commands::invoice::changes::{Compared, NotCompared};
use crate::commands::{Refused, close, invoice, period};
use crate::contract::{Operation, wire};
use crate::problem::{JsonBody, Parameters, Problem, internal};
use crate::roles::Closer;
use crate::story::{self, ExplanationView};

wire! {
    /// The closed months.
    #[derive(Serialize)]
    pub struct PeriodsView {
        /// In order.
        pub periods: Vec<PeriodView>,
    }
}

wire! {
    /// A closed month, and what became of it.
    #[derive(Serialize)]
    pub struct PeriodView {
        /// The month, for example `2026-10`: it and every month before it are closed.
        pub period: String,
        /// `closing`, `drafted` or `issued`.
        pub stage: &'static str,
        /// Whether the second engine has yet to agree.
        pub provisional: bool,
        /// How many invoices were drafted; null while drafting goes on.
        pub invoices: Option<u64>,
        /// How many of them have their number.
        pub issued: u64,
        /// The registry version in force at the close.
        pub registry_version: String,
    }
}

wire! {
    /// The month closes.
    #[derive(Serialize)]
    pub struct ClosedView {
        /// The month that the record names: the one asked for, or a later one that closed it already.
        pub period: String,
        /// The control record that closes it.
        pub control_no: u64,
        /// False when it was closed already.
        pub changed: bool,
    }
}

wire! {
    /// Which invoices.
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    pub struct InvoicesQuery {
        /// Only those of this organization. For a customer's key there is no other than its own.
        pub organization: Option<String>,
        /// Only those that the close of this month made, for example 2026-10.
        pub period: Option<String>,
        /// Invoices of a page, 1 to 1000; 100 by default.
        pub limit: Option<usize>,
        /// `next` of the page before.
        pub page: Option<String>,
    }
}

wire! {
    /// A page of invoices.
    #[derive(Serialize)]
    pub struct InvoicesPage {
        /// By month, then by id.
        pub invoices: Vec<InvoiceRow>,
        /// Asks for the next page; null on the last one.
        pub next: Option<String>,
    }
}

wire! {
    /// An invoice in a list.
    #[derive(Serialize)]
    pub struct InvoiceRow {
        /// Its id.
        pub invoice_id: String,
        /// Its number, gapless per issuer; null for a draft.
        pub number: Option<String>,
        /// `draft` or `issued`.
        pub state: String,
        /// Who owes.
        pub organization: String,
        /// In which currency.
        pub currency: String,
        /// The month whose close made it.
        pub period: String,
        /// Sum of the lines' amounts.
        pub total: String,
        /// How many lines.
        pub lines: i64,
        /// When it got its number.
        pub issued_at: Option<String>,
    }
}

wire! {
    /// Compared with which invoice.
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    pub struct ChangesQuery {
        /// The earlier invoice of the same organization: its id or its number.
        pub since: String,
    }
}

wire! {
    /// An invoice.
    #[derive(Serialize)]
    pub struct InvoiceView {
        /// Its content, as `docs/architecture/close.md` has it: every number is a text.
        pub invoice: Value,
        /// SHA-256 of the content's canonical JSON.
        pub digest: String,
        /// Its number, gapless per issuer; null for a draft.
        pub number: Option<String>,
        /// When it got its number.
        pub issued_at: Option<String>,
        /// What lines count in the place of their quantity; a line that is not named counts its quantity.
        pub measured: Vec<MeasuredView>,
    }
}

/// What this domain answers.
pub fn operations() -> Vec<Operation> {
    vec![
        Operation::get("/v1/invoices", "list_invoices", "Invoices, drafts included, a page at a time.")
            .query::<InvoicesQuery>()
            .answers::<InvoicesPage>(200, "A page.")
            .problem(400, "A parameter does not read; detail names it."),
        Operation::get("/v1/invoices/{invoice}", "get_invoice", "One invoice with its lines.")
            .about("With accept: text/plain it is the page that tally invoice show prints, with text/csv its lines.")
            .in_path("invoice", "Its id or its number.")
            .answers::<InvoiceView>(200, "The invoice.")
            .or("text/plain")
            .or("text/csv")
            .problem(404, "The asker has no such invoice.")
            .problem(406, "No format that is accepted."),
        Operation::get("/v1/invoices/{invoice}/changes", "compare_invoices", "Why a bill changed: what volume, price and mix moved.")
            .about("Amounts and quantities are texts; the sums add up to the difference of the totals. With accept: text/plain or text/csv the page and the lines that tally invoice compare prints.")
            .in_path("invoice", "The later invoice: its id or its number.")
            .query::<ChangesQuery>()
            .answers::<Value>(200, "What moved the total.")
            .or("text/plain")
            .or("text/csv")
            .problem(404, "The asker has no such invoice.")
            .problem(406, "No format that is accepted.")
            .problem(422, "The invoices are of two organizations or currencies."),
        Operation::get(
            "/v1/invoices/{invoice}/lines/{line}/explain",
            "explain_line",
            "Why a line of an invoice asks for what it asks for.",
        )
        .about("The tiers, F, the one rounding to T, the rounding to the currency, and what was invoiced before; of a term of a contract the spend and what the term makes of it.")
        .in_path("invoice", "Its id or its number.")
        .in_path("line", "The line, from 1.")
        .answers::<ExplanationView>(200, "The explanation.")
        .or("text/plain")
        .problem(404, "The asker has no such line.")
        .problem(406, "No format that is accepted."),
        Operation::get("/v1/periods", "list_periods", "The closed months, and where each stands.")
            .answers::<PeriodsView>(200, "The months."),
        Operation::post("/v1/periods/{period}/close", "close_period", "Closes a month and every month before it, for ever.")
            .about("The answer comes when the close record is in every shard; invoices are drafted and issued behind it.")
            .in_path("period", "The month, for example 2026-10.")
            .answers::<ClosedView>(200, "It closes, or was closed already.")
            .problem(404, "The path names no month.")
            .problem(422, "The month is not over."),
        Operation::post("/v1/periods/{period}/opinion", "record_opinion", "Records what the second engine said of a closed month.")
            .in_path("period", "The month, for example 2026-10.")
            .body::<Value>("application/json")
            .answers::<PeriodsView>(200, "It is recorded; the months as they stand now.")
            .problem(404, "The path names no month.")
            .problem(422, "The month is not closed, or the verdict is none about it."),
    ]
}

/// Invoices of a page at most, and by default.
const PAGE_MAX: usize = 1_000;
const PAGE: usize = 100;

/// Invoices that the caller may see, a page at a time.
pub async fn list_invoices(
    State(answers): State<Answers>,
    caller: Caller,
    Parameters(query): Parameters<InvoicesQuery>,
) -> Result<Json<InvoicesPage>, Problem> {
    let refused = |detail: String| Problem::new(StatusCode::BAD_REQUEST, "BILLING-0023", "A parameter does not read.", detail);
    let organization = named(query.organization.as_deref()).map_err(|error| refused(error.to_string()))?;
    let mut filters = Vec::new();
    let text = |column: &str, comparison, value: &str| Filter {
        column: column.to_owned(),
        comparison,
        value: FilterValue::Text(value.to_owned()),
    };
    if let Some(organization) = &organization {
        filters.push(text("organization", Comparison::Eq, organization.as_str()));
    }
    if let Some(period) = &query.period {
        let month = Month::parse(period).map_err(|error| refused(format!("period: {error}")))?;
        let value = FilterValue::Integer(month.number().into());
        filters.push(Filter { column: "period".to_owned(), comparison: Comparison::Eq, value });
    }
    if let Some(page) = &query.page {
        filters.push(text("invoice_id", Comparison::Gt, page));
    }
    let limit = query.limit.unwrap_or(PAGE);
    if !(1..=PAGE_MAX).contains(&limit) {
        return Err(refused(format!("limit = {limit} is not 1 to {PAGE_MAX}")));
    }
    let permit = caller.authorize(Action::InvoiceRead, caller.target(organization))?;
    let columns = ["invoice_id", "number", "state", "organization", "currency", "period", "total", "lines", "issued_at"];
    let rows = answers.scan_rows("billing.invoices", &scope_of(&permit), &columns, &filters).await?;
    let mut invoices: Vec<InvoiceRow> = rows.iter().map(invoice_row).collect();
    // An id begins with its month.
    invoices.sort_by(|a, b| a.invoice_id.cmp(&b.invoice_id));
    let more = invoices.len() > limit;
    invoices.truncate(limit);
    let next = invoices.last().filter(|_| more).map(|last| last.invoice_id.clone());
    Ok(Json(InvoicesPage { invoices, next }))
}

fn invoice_row(row: &Row) -> InvoiceRow {
    let text = |column: &str| row.text(column).map(ToOwned::to_owned);
    let period = row.integer("period").and_then(|number| Month::from_number(i32::try_from(number).ok()?).ok());
    InvoiceRow {
        invoice_id: text("invoice_id").unwrap_or_default(),
        number: text("number"),
        state: text("state").unwrap_or_default(),
        organization: text("organization").unwrap_or_default(),
        currency: text("currency").unwrap_or_default(),
        period: period.map(|month| month.to_string()).unwrap_or_default(),
        total: row.decimal("total").unwrap_or_default(),
        lines: row.integer("lines").unwrap_or_default(),
        issued_at: text("issued_at"),
    }
}

#[derive(Clone, Copy, Debug)]
enum Shape {
    Json,
    Text,
    Csv,
}

/// One invoice of the caller's.
async fn found(answers: &Answers, caller: &Caller, name: &str) -> Result<StoredInvoice, Problem> {
    let permit = caller.authorize(Action::InvoiceRead, caller.target(None))?;
    story::invoice(answers, &scope_of(&permit), name).await?.ok_or_else(|| missing(format!("no invoice is named {name:?}")))
}

/// No such invoice, for who asks.
pub(super) fn missing(detail: String) -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "BILLING-0024", "There is no such invoice, or it has no such line.", detail)
}

/// One invoice with its lines.
pub async fn get_invoice(
    State(answers): State<Answers>,
    caller: Caller,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let formats = [("application/json", Shape::Json), ("text/plain", Shape::Text), ("text/csv", Shape::Csv)];
    let stored = found(&answers, &caller, &name).await?;
    let measured = story::measured(&answers, &stored.invoice).await.map_err(|error| internal(&error))?;
    Ok(match accepted(&headers, &formats)? {
        Shape::Json => Json(InvoiceView {
            invoice: serde_json::from_str(&stored.invoice.canonical()).map_err(|error| internal(&error))?,
            digest: stored.invoice.digest().to_string(),
            number: stored.issue.as_ref().map(Issue::shown),
            issued_at: stored.issue.as_ref().map(|issue| issue.issued_at.to_string()),
            measured: invoice::views(&measured),
        })
        .into_response(),
        Shape::Text => {
            let mut books = answers.readers.books.read().await.map_err(|error| internal(&error))?;
            let causes = invoice::causes(&mut books, &stored.invoice).await.map_err(|error| internal(&*error))?;
            ([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], invoice::page(&stored, &causes, &measured)).into_response()
        }
        Shape::Csv => ([(header::CONTENT_TYPE, "text/csv; charset=utf-8")], invoice::csv_lines(&stored, &measured)).into_response(),
    })
}

/// Why a bill changed.
pub async fn compare_invoices(
    State(answers): State<Answers>,
    caller: Caller,
    Path(name): Path<String>,
    Parameters(query): Parameters<ChangesQuery>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let formats = [("application/json", Shape::Json), ("text/plain", Shape::Text), ("text/csv", Shape::Csv)];
    let after = found(&answers, &caller, &name).await?;
    let before = found(&answers, &caller, &query.since).await?;
    let compared = Compared::of(&answers, before, after).await.map_err(|error| match error {
        NotCompared::Changes(error) => {
            Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "BILLING-0025", "These invoices are not compared.", error.to_string())
        }
        NotCompared::Story(error) => internal(&error),
    })?;
    Ok(match accepted(&headers, &formats)? {
        Shape::Json => Json(compared.view()).into_response(),
        Shape::Text => ([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], compared.page()).into_response(),
        Shape::Csv => ([(header::CONTENT_TYPE, "text/csv; charset=utf-8")], compared.csv()).into_response(),
    })
}

/// Why a line asks for what it asks for.
pub async fn explain_line(
    State(answers): State<Answers>,
    caller: Caller,
    Path((name, line)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let stored = found(&answers, &caller, &name).await?;
    let shape = accepted(&headers, &[("application/json", Shape::Json), ("text/plain", Shape::Text)])?;
    let none = || missing(format!("invoice {name} has no line {line:?}"));
    let number = line.parse().map_err(|_| none())?;
    let explanation = story::explain_line(&answers, &stored, number).await?.ok_or_else(none)?;
    Ok(match shape {
        Shape::Json => Json(explanation).into_response(),
        Shape::Text | Shape::Csv => ([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], explanation.text).into_response(),
    })
}

fn month(text: &str) -> Result<Month, Problem> {
    Month::parse(text).map_err(|error| Problem::new(StatusCode::NOT_FOUND, "BILLING-0020", "There is no such month.", error.to_string()))
}

/// The closed months, and where each stands.
pub async fn list_periods(State(answers): State<Answers>, caller: Caller) -> Result<Json<PeriodsView>, Problem> {
    caller.authorize(Action::InvoiceRead, Target::Deployment)?;
    periods(&answers).await.map(Json)
}

async fn periods(answers: &Answers) -> Result<PeriodsView, Problem> {
    let mut tx = answers.readers.books.read().await.map_err(|error| internal(&error))?;
    let closes = platform_billing::closes(&mut tx).await.map_err(|error| internal(&error))?;
    let view = |close: platform_billing::Close| PeriodView {
        period: close.period.to_string(),
        stage: close.stage(),
        provisional: close.provisional(),
        invoices: close.drafted,
        issued: close.issued,
        registry_version: close.registry_version.to_string(),
    };
    Ok(PeriodsView { periods: closes.into_iter().map(view).collect() })
}

/// Closes a month and every month before it.
pub async fn close_period(State(closer): State<Closer>, caller: Caller, Path(period): Path<String>) -> Response {
    let permit = match caller.authorize(Action::PeriodClose, Target::Deployment) {
        Ok(permit) => permit,
        Err(problem) => return problem.into_response(),
    };
    let month = match month(&period) {
        Ok(month) => month,
        Err(problem) => return problem.into_response(),
    };
    if let Err(Refused(detail)) = close::refuse_running(month) {
        return Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "BILLING-0021", "The month cannot be closed.", detail).into_response();
    }
    match closer.close(permit, month).await {
        Ok(closed) => {
            Json(ClosedView { period: closed.month.to_string(), control_no: closed.control_no.0, changed: closed.changed }).into_response()
        }
        Err(error) => internal(&*error).into_response(),
    }
}

/// Records what the second engine said of a closed month.
pub async fn record_opinion(
    State(answers): State<Answers>,
    State(closer): State<Closer>,
    State(Books(books)): State<Books>,
    caller: Caller,
    Path(period): Path<String>,
    JsonBody(report): JsonBody<Value>,
) -> Result<Json<PeriodsView>, Problem> {
    let permit = caller.authorize(Action::OpinionRecord, Target::Deployment)?;
    let month = month(&period)?;
    let refused = |detail: String| Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "BILLING-0022", "The opinion was refused.", detail);
    if let Err(error) = period::record(&books, &permit, month, &report.to_string()).await {
        let expected = error.chain().any(|cause| cause.is::<Refused>() || matches!(cause.downcast_ref(), Some(CloseError::Open { .. })));
        return Err(if expected { refused(format!("{error:#}")) } else { internal(&*error) });
    }
    closer.look_again();
    periods(&answers).await.map(Json)
}
