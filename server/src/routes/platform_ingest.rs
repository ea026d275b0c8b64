//! `POST /v1/events`: CloudEvents 1.0 in, durable before the answer. Owned by platform-ingest.

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use platform_iam::{Action, Role, Target};
use platform_ingest::wire::{self, WireError};
use serde_json::json;

use crate::access::Caller;
use crate::problem::Problem;
use crate::roles::intake::{Intake, IntakeError, reports};

/// Accepts one event, or a batch of them.
///
/// - 202: every event of the body is durable in the stream; each has its position. Whether it was new is seen later.
/// - 400: the body is not JSON events; nothing was stored. 413: too large. 415: another media type.
/// - 403: the key may not send, or not what it sent: nothing was stored.
/// - 503 with Retry-After: no registry version is published yet, or too much waits to be committed.
pub async fn accept_events(State(intake): State<Intake>, caller: Caller, headers: HeaderMap, body: Bytes) -> Response {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let events = match wire::split_body(content_type, &body, intake.limits()) {
        Ok(events) => events,
        Err(error) => return refuse(&error).into_response(),
    };
    // An operator may send anything, also what cannot be read; an agent what its sources may report.
    let target = if caller.principal().role() == Role::Agent { Target::Reports(reports(&events)) } else { Target::Deployment };
    let permit = match caller.authorize(Action::EventsSend, target) {
        Ok(permit) => permit,
        Err(problem) => return problem.into_response(),
    };
    match intake.append(&permit, events).await {
        Ok(appended) => {
            let positions: Vec<String> = appended.iter().map(|appended| appended.position.to_string()).collect();
            (StatusCode::ACCEPTED, axum::Json(json!({"accepted": positions.len(), "positions": positions}))).into_response()
        }
        Err(error) => unavailable(&error).into_response(),
    }
}

fn refuse(error: &WireError) -> Problem {
    let (status, code) = match error.status() {
        415 => (StatusCode::UNSUPPORTED_MEDIA_TYPE, "INGEST-0002"),
        413 => (StatusCode::PAYLOAD_TOO_LARGE, "INGEST-0003"),
        _ => (StatusCode::BAD_REQUEST, "INGEST-0001"),
    };
    Problem::new(status, code, "The body was refused; nothing of it was stored.", error.to_string())
}

fn unavailable(error: &IntakeError) -> Problem {
    let code = match error {
        IntakeError::NoRegistry => "INGEST-0004",
        IntakeError::Lagging { .. } => "INGEST-0005",
        IntakeError::Permit { .. } => {
            let title = "The events were not accepted.";
            return Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "INGEST-0007", title, error.to_string());
        }
        IntakeError::Stream(_) => "INGEST-0006",
    };
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, code, "The events were not accepted; send them again later.", error.to_string())
        .retry_after(1)
}
