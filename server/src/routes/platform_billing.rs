//! `/v1/periods`: closed months, the close itself, and the second opinion on one. Owned by platform-billing.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use platform_billing::CloseError;
use platform_iam::{Action, Target};
use serde::Serialize;
use serde_json::Value;
use shared_types::Month;

use super::platform_audit::Books;
use crate::access::Caller;
use crate::answers::Answers;
use crate::commands::{Refused, close, period};
use crate::contract::{Operation, wire};
use crate::problem::{JsonBody, Problem, internal};
use crate::roles::Closer;

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

/// What this domain answers.
pub fn operations() -> Vec<Operation> {
    vec![
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
