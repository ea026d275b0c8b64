//! `GET /v1/charges/{id}/explain`: why a charge is what it is. `GET /v1/forecast`: what a running month will come to. Owned by platform-rating.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use platform_catalog::Scope;
use platform_iam::{Action, Target};
use serde::Deserialize;
use shared_types::Month;
use tokio::sync::Semaphore;

use super::platform_ingest::identity_of;
use super::platform_query::accepted;
use super::{named, platform_registry, scope_of};
use crate::access::Caller;
use crate::answers::Answers;
use crate::book::IN_FORCE;
use crate::clock::now;
use crate::contract::{Operation, wire};
use crate::forecast::{self, Asked, ForecastView, NotForecast};
use crate::problem::{Parameters, Problem, internal};
use crate::story::{self, ExplanationView};

wire! {
    /// Of which month.
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    pub struct ForecastQuery {
        /// Only this organization. For a customer's key there is no other than its own.
        pub organization: Option<String>,
        /// The month, `yyyy-mm`; the one of `as_of` by default.
        pub period: Option<String>,
        /// Usage before this instant has happened: an RFC 3339 instant, or a UTC date for its beginning; now by default.
        pub as_of: Option<String>,
        /// Rate by this book instead of the one in force: `draft-1`, or a version by its address or enough of its first digits. For keys that may
        /// read drafts.
        pub book: Option<String>,
    }
}

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
        Operation::get("/v1/forecast", "get_forecast", "What a running month will come to at its end.")
            .about(
                "The usage so far, the usage of the last seven days again until the month is over, and the recurring fees of the month, all rated \
                 together, and what terms of contracts make of them: method says how. Nothing is booked. With accept: text/plain it is the page that tally forecast prints.",
            )
            .query::<ForecastQuery>()
            .answers::<ForecastView>(200, "The forecast.")
            .or("text/plain")
            .problem(400, "A parameter does not read; detail names it.")
            .problem(403, "The key may not read drafts, and named a book.")
            .problem(404, "There is no such book.")
            .problem(406, "No format that is accepted.")
            .problem(422, "There is no such forecast; detail says what to ask instead."),
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

/// What a running month will come to at its end.
///
/// With `accept: text/plain` it is the page that `tally forecast` prints.
pub async fn get_forecast(
    State(answers): State<Answers>,
    State(Forecasts(places)): State<Forecasts>,
    caller: Caller,
    headers: HeaderMap,
    Parameters(query): Parameters<ForecastQuery>,
) -> Result<Response, Problem> {
    let unread = |parameter: &str, why: String| {
        Problem::new(StatusCode::BAD_REQUEST, "RATING-0003", "A parameter does not read.", format!("{parameter}: {why}"))
    };
    let asked = named(query.organization.as_deref()).map_err(|error| unread("organization", error.to_string()))?;
    let permit = caller.authorize(Action::UsageRead, caller.target(asked.clone()))?;
    let organization = match scope_of(&permit) {
        Scope::Organization(own) => Some(own),
        Scope::Operator => asked,
    };
    let shape = accepted(&headers, &[("application/json", Shape::Json), ("text/plain", Shape::Text)])?;
    let period = query.period.as_deref().map(Month::parse).transpose().map_err(|error| unread("period", error.to_string()))?;
    let as_of = query.as_of.as_deref().map(forecast::instant_of).transpose().map_err(|why| unread("as_of", why))?;
    if query.book.is_some() {
        caller.authorize(Action::DraftRead, Target::Deployment)?;
    }
    let version = platform_registry::named(&answers, query.book.as_deref().unwrap_or(IN_FORCE)).await?;
    // As many at once as queries, each with a query's memory.
    let _place = places.acquire().await.map_err(|error| internal(&error))?;
    let memory_bytes = answers.readers.home.settings.query.memory_bytes_max;
    let asked = Asked { organization, period, as_of: as_of.unwrap_or_else(now), version, memory_bytes };
    let refused = |why| Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "RATING-0004", "There is no such forecast.", why);
    // A query's time, too: it is looked at between organizations.
    let timeout = Duration::from_millis(answers.readers.home.settings.query.timeout_ms);
    let made = tokio::time::timeout(timeout, forecast::of(&answers.readers, &asked)).await;
    let made = made.map_err(|_| {
        refused(format!("it takes longer than the {} ms that a query may take: ask for one organization", timeout.as_millis()))
    })?;
    let made = made.map_err(|error| match error.downcast::<NotForecast>() {
        Ok(NotForecast(why)) => refused(why),
        Err(error) => internal(&*error),
    })?;
    Ok(match shape {
        Shape::Json => Json(made).into_response(),
        Shape::Text => ([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], made.text()).into_response(),
    })
}

/// Places for forecasts that are made at once.
#[derive(Clone)]
pub struct Forecasts(pub Arc<Semaphore>);

/// `<identity>:<ordinal>`.
pub fn charge_of(text: &str) -> Option<(shared_types::IdentityHash, u16)> {
    let (identity, ordinal) = text.split_once(':')?;
    Some((identity_of(identity)?, ordinal.parse().ok()?))
}
