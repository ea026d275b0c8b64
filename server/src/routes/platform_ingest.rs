//! `POST /v1/events`: CloudEvents 1.0 in, durable before the answer. `GET /v1/events/…/trace`: what became of one. Owned by platform-ingest.

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use platform_iam::{Action, Role, Target};
use platform_ingest::wire::{self, WireError};
use serde::{Deserialize, Serialize};
use shared_types::IdentityHash;

use super::{named, scope_of};
use crate::access::Caller;
use crate::answers::Answers;
use crate::contract::{Operation, wire};
use crate::problem::{Parameters, Problem};
use crate::roles::intake::{Intake, IntakeError, reports};
use crate::story::{self, Asked, Trace};

wire! {
    /// What was accepted.
    #[derive(Serialize)]
    pub struct AcceptedView {
        /// How many events.
        pub accepted: usize,
        /// Where each stands in the stream, `shard/incarnation/sequence`, in the order of the body.
        pub positions: Vec<String>,
    }
}

/// What this domain answers.
pub fn operations() -> Vec<Operation> {
    vec![
        Operation::post("/v1/events", "accept_events", "Accepts one event, or a batch of them: CloudEvents 1.0 in JSON.")
            .body::<serde_json::Value>("application/cloudevents+json")
            .body::<serde_json::Value>("application/cloudevents-batch+json")
            .body::<serde_json::Value>("application/json")
            .answers::<AcceptedView>(202, "Every event is durable; whether it was new is seen later.")
            .problem(400, "Not JSON events; nothing was stored.")
            .problem(403, "The key may not send, or not what it sent; nothing was stored.")
            .problem(413, "Too large; nothing was stored.")
            .problem(415, "Another media type; nothing was stored.")
            .problem(503, "Send it again after retry-after."),
        Operation::get("/v1/events/trace", "trace_event_by_name", "Why was this event billed, or not? By what its sender calls it.")
            .query::<TraceQuery>()
            .answers::<Trace>(200, "What became of it.")
            .problem(400, "A parameter does not read, or the organization is not named."),
        Operation::get("/v1/events/{id}/trace", "trace_event", "Why was this event billed, or not? By its identity.")
            .about("For whatever does not belong to the asker, and for what never came, the answer is one and the same: not_received.")
            .in_path("id", "The identity, 32 hex digits.")
            .answers::<Trace>(200, "What became of it.")
            .problem(400, "The id is no identity."),
    ]
}

/// Accepts one event, or a batch of them: CloudEvents 1.0 in JSON.
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
            (StatusCode::ACCEPTED, Json(AcceptedView { accepted: positions.len(), positions })).into_response()
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

wire! {
    /// An event by the names that its sender gave it.
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    pub struct TraceQuery {
        /// Who owes. A customer's key need not name it: it is its own.
        pub organization: Option<String>,
        /// Who sent it.
        pub source: String,
        /// The sender's id of the event.
        pub id: String,
    }
}

/// Why was this event billed, or not? By its identity.
///
/// For whatever does not belong to the asker, and for what never came, the answer is one and the same: `not_received`.
pub async fn trace_event(State(answers): State<Answers>, caller: Caller, Path(id): Path<String>) -> Result<Json<Trace>, Problem> {
    let permit = caller.authorize(Action::UsageRead, caller.target(None))?;
    let identity = identity_of(&id).ok_or_else(|| {
        let detail = format!("{id:?} is no identity: 32 hex digits. By the sender's own names ask /v1/events/trace?source=…&id=…");
        Problem::new(StatusCode::BAD_REQUEST, "INGEST-0008", "No event is named.", detail)
    })?;
    Ok(Json(story::trace(&answers, &scope_of(&permit), &Asked::Identity(identity)).await?))
}

/// Why was this event billed, or not? By what its sender calls it.
pub async fn trace_event_by_name(
    State(answers): State<Answers>,
    caller: Caller,
    Parameters(query): Parameters<TraceQuery>,
) -> Result<Json<Trace>, Problem> {
    let unnamed = |detail: String| Problem::new(StatusCode::BAD_REQUEST, "INGEST-0008", "No event is named.", detail);
    let organization = named(query.organization.as_deref()).map_err(|error| unnamed(error.to_string()))?;
    let target = caller.target(organization);
    let organization = match &target {
        Target::Organization(organization) => Some(organization.to_string()),
        Target::Deployment | Target::Reports(_) => None,
    };
    let permit = caller.authorize(Action::UsageRead, target)?;
    let organization =
        organization.ok_or_else(|| unnamed("organization is missing: an identity is (organization, source, id)".to_owned()))?;
    let asked = Asked::Names { organization, source: query.source, event_id: query.id };
    Ok(Json(story::trace(&answers, &scope_of(&permit), &asked).await?))
}

/// An identity as 32 hex digits.
pub fn identity_of(text: &str) -> Option<IdentityHash> {
    let mut bytes = [0; 16];
    hex::decode_to_slice(text, &mut bytes).ok()?;
    Some(IdentityHash(bytes))
}
