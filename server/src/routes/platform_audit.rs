//! `GET /v1/audit/events`: who did or tried what. Owned by platform-audit.

use axum::Json;
use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use platform_audit::{Chain, Stored};
use platform_iam::Action;
use serde_json::{Value, json};
use shared_db::Database;

use crate::access::Caller;
use crate::problem::Problem;

/// Records in one answer.
const PAGE: u64 = 1_000;

/// The books, in which the audit lies.
#[derive(Clone)]
pub struct Books(pub Database);

/// Records behind `after` (0 by default), in their order: a customer's of its own organization by their number there, others' of all chains.
///
/// - 200: at most 1,000 records, and `next` to ask for the following ones with, or null at the end.
pub async fn list_events(State(Books(books)): State<Books>, caller: Caller, RawQuery(query): RawQuery) -> Result<Response, Problem> {
    let permit = caller.authorize(Action::AuditRead, caller.target(None))?;
    let after = after(query.as_deref().unwrap_or_default())?;
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

fn after(query: &str) -> Result<u64, Problem> {
    let refused = |what: &str| {
        let detail = format!("{what}: the only parameter is `after`, a number from 0");
        Problem::new(StatusCode::BAD_REQUEST, "HTTP-0005", "The request was refused; nothing was changed.", detail)
    };
    match query.split_once('=') {
        None if query.is_empty() => Ok(0),
        Some(("after", number)) => number.parse().ok().filter(|number| i64::try_from(*number).is_ok()).ok_or_else(|| refused(query)),
        _ => Err(refused(query)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_to_go_on_from_is_a_number() {
        assert_eq!((after("").ok(), after("after=7").ok()), (Some(0), Some(7)));
        for query in ["after", "after=", "after=-1", "after=9223372036854775808", "before=1", "after=1&x=2"] {
            assert!(after(query).is_err(), "{query}");
        }
    }
}
