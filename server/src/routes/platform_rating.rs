//! `GET /v1/charges/{id}/explain`: why a charge is what it is. Owned by platform-rating.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use platform_iam::Action;

use super::platform_ingest::identity_of;
use super::platform_query::accepted;
use super::scope_of;
use crate::access::Caller;
use crate::answers::Answers;
use crate::contract::Operation;
use crate::problem::Problem;
use crate::story::{self, ExplanationView};

#[derive(Clone, Copy, Debug)]
enum Shape {
    Json,
    Text,
}

/// What this domain answers.
pub fn operations() -> Vec<Operation> {
    vec![
        Operation::get("/v1/charges/{id}/explain", "explain_charge", "Why a charge is what it is.")
            .about(
                "F and its tiers before and after the reading, the one rounding, and what the difference came to. \
                 With accept: text/plain it is the page that tally explain prints.",
            )
            .in_path("id", "<identity>:<ordinal>, as a trace names it, for example 76a4c0c1e6fe5281bee01e8e31693e79:0.")
            .answers::<ExplanationView>(200, "The explanation.")
            .or("text/plain")
            .problem(404, "The asker has no such charge.")
            .problem(406, "No format that is accepted."),
    ]
}

/// Explains a charge: F and its tiers before and after the reading, the one rounding, and what the difference came to.
///
/// With `accept: text/plain` it is the page that `tally explain` prints.
pub async fn explain_charge(
    State(answers): State<Answers>,
    caller: Caller,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let permit = caller.authorize(Action::UsageRead, caller.target(None))?;
    let shape = accepted(&headers, &[("application/json", Shape::Json), ("text/plain", Shape::Text)])?;
    let missing = || {
        let detail = format!("{id:?} is no charge; a charge is named <identity>:<ordinal>, for example by /v1/events/trace");
        Problem::new(StatusCode::NOT_FOUND, "RATING-0001", "There is no such charge.", detail)
    };
    let (identity, ordinal) = charge_of(&id).ok_or_else(missing)?;
    let explanation = story::explain_charge(&answers, &scope_of(&permit), identity, ordinal).await?.ok_or_else(missing)?;
    Ok(match shape {
        Shape::Json => Json(ExplanationView::from(&explanation)).into_response(),
        Shape::Text => ([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], explanation.text()).into_response(),
    })
}

/// `<identity>:<ordinal>`.
pub fn charge_of(text: &str) -> Option<(shared_types::IdentityHash, u16)> {
    let (identity, ordinal) = text.split_once(':')?;
    Some((identity_of(identity)?, ordinal.parse().ok()?))
}
