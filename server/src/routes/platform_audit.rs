//! `GET /v1/audit/events`: who did or tried what. Owned by platform-audit.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use platform_audit::{Chain, Stored};
use platform_iam::Action;
use serde::Deserialize;
use serde_json::{Value, json};
use shared_db::Database;

use crate::access::Caller;
use crate::contract::{Operation, wire};
use crate::problem::{Parameters, Problem};

/// Records in one answer.
const PAGE: u64 = 1_000;

wire! {
    /// From where on.
    #[derive(Clone, Copy, Deserialize)]
    #[serde(deny_unknown_fields)]
    pub struct AuditQuery {
        /// Records behind this number; 0 by default.
        pub after: Option<u64>,
    }
}

/// What this domain answers.
pub fn operations() -> Vec<Operation> {
    vec![
        Operation::get("/v1/audit/events", "list_audit_events", "Who did or tried what, in order.")
            .about("A customer's key sees the chain of its organization.")
            .query::<AuditQuery>()
            .answers::<Value>(200, "At most 1,000 records, and next to ask for the following ones with, or null at the end.")
            .problem(400, "The parameter does not read.")
            .problem(503, "Send it again after retry-after."),
    ]
}

/// The books, in which the audit lies.
#[derive(Clone)]
pub struct Books(pub Database);

/// Records behind `after` (0 by default), in their order: a customer's of its own organization by their number there, others' of all chains.
///
/// - 200: at most 1,000 records, and `next` to ask for the following ones with, or null at the end.
pub async fn list_events(
    State(Books(books)): State<Books>,
    caller: Caller,
    Parameters(query): Parameters<AuditQuery>,
) -> Result<Response, Problem> {
    let permit = caller.authorize(Action::AuditRead, caller.target(None))?;
    // No chain is longer.
    let after = query.after.unwrap_or_default().min(i64::MAX.unsigned_abs());
    let failed = |error: platform_audit::AuditError| {
        tracing::error!(error = %error, "the audit could not be read");
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "AUDIT-0001", "The audit could not be read.", error.to_string()).retry_after(1)
    };
    let mut tx = books.read().await.map_err(|error| failed(error.into()))?;
    let own = permit.organization().cloned().map(Chain::Organization);
    let records = match &own {
        Some(chain) => platform_audit::records_of(&mut tx, chain, after, PAGE).await,
        None => platform_audit::records_after(&mut tx, after, PAGE).await,
    }
    .map_err(failed)?;
    let number = |record: &Stored| if own.is_some() { record.seq } else { record.record_no };
    let full = u64::try_from(records.len()).unwrap_or(u64::MAX) >= PAGE;
    let next = records.last().filter(|_| full).map(|record| number(record).to_string());
    let events: Vec<Value> = records.iter().map(event).collect();
    Ok(Json(json!({"events": events, "next": next})).into_response())
}

/// The text of a record as JSON, with its digest.
fn event(record: &Stored) -> Value {
    let mut event: Value = serde_json::from_str(&record.content).unwrap_or_default();
    if let Some(fields) = event.as_object_mut() {
        fields.insert("digest".to_owned(), json!(record.digest));
    }
    event
}
