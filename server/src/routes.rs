//! The HTTP surface: which route belongs to which domain, and the limits that hold for all of them.

pub mod platform_audit;
pub mod platform_iam;
pub mod platform_ingest;
pub mod platform_registry;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, FromRef, Request, State};
use axum::http::StatusCode;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use serde_json::json;
use tokio::sync::Semaphore;

use crate::access::{self, Access};
use crate::home::ServeSettings;
use crate::problem::{Problem, as_problem};
use crate::roles::iam::Iam;
use crate::roles::intake::Intake;
use crate::roles::{Progress, Publisher};

/// How long a request may take, its body included.
const REQUEST_TIME: Duration = Duration::from_secs(30);

/// What handlers are given.
#[derive(Clone)]
pub struct App {
    intake: Intake,
    publisher: Publisher,
    progress: Progress,
    access: Access,
    iam: Iam,
    requests: Arc<Semaphore>,
    body_bytes_max: usize,
}

impl App {
    /// Handles of the running roles, and the limits.
    pub fn new(intake: Intake, publisher: Publisher, progress: Progress, access: Access, iam: Iam, settings: &ServeSettings) -> Self {
        Self {
            intake,
            publisher,
            progress,
            access,
            iam,
            requests: Arc::new(Semaphore::new(settings.requests_max)),
            body_bytes_max: settings.body_bytes_max,
        }
    }
}

impl FromRef<App> for Intake {
    fn from_ref(app: &App) -> Self {
        app.intake.clone()
    }
}

impl FromRef<App> for Iam {
    fn from_ref(app: &App) -> Self {
        app.iam.clone()
    }
}

impl FromRef<App> for platform_audit::Books {
    fn from_ref(app: &App) -> Self {
        Self(app.iam.books().clone())
    }
}

impl FromRef<App> for Publisher {
    fn from_ref(app: &App) -> Self {
        app.publisher.clone()
    }
}

/// All routes.
pub fn router(app: App) -> Router {
    let limit = DefaultBodyLimit::max(app.body_bytes_max);
    Router::new()
        .route("/v1/events", post(platform_ingest::accept_events))
        .route("/v1/registry/versions", post(platform_registry::publish_version))
        .route("/v1/organizations", get(platform_iam::list_organizations).post(platform_iam::add_organization))
        .route("/v1/projects", get(platform_iam::list_projects).post(platform_iam::add_project))
        .route("/v1/keys", get(platform_iam::list_keys).post(platform_iam::create_key))
        .route("/v1/keys/{key}", delete(platform_iam::revoke_key))
        .route("/v1/sources", get(platform_iam::list_sources).post(platform_iam::enroll_source))
        .route("/v1/audit/events", get(platform_audit::list_events))
        .route("/v1/health", get(health))
        .method_not_allowed_fallback(unknown_method)
        .fallback(unknown_route)
        .layer(limit)
        .layer(middleware::from_fn_with_state(app.access.clone(), access::recognise))
        .layer(middleware::from_fn_with_state(app.clone(), limit_requests))
        .with_state(app)
}

/// How far the log and its folds are. Always 200 while the process serves.
async fn health(State(app): State<App>) -> Response {
    let folds: serde_json::Map<String, serde_json::Value> = app.progress.folds().map(|(name, at)| (name.to_owned(), json!(at))).collect();
    axum::Json(json!({"committed": app.progress.committed(), "folds": folds, "waiting": app.intake.waiting()})).into_response()
}

async fn unknown_route(request: Request) -> Problem {
    Problem::new(
        StatusCode::NOT_FOUND,
        "HTTP-0001",
        "There is no such route.",
        format!("{} {} is not served", request.method(), request.uri().path()),
    )
}

async fn unknown_method(request: Request) -> Problem {
    Problem::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "HTTP-0004",
        "The route is not served with this method.",
        format!("{} {} is not served; the header Allow lists what is", request.method(), request.uri().path()),
    )
}

/// At most so many requests are worked on at once; more are told to come back, and every error is a problem document.
async fn limit_requests(State(app): State<App>, request: Request, next: Next) -> Response {
    if request.uri().path() == "/v1/health" {
        return next.run(request).await;
    }
    let Ok(_permit) = app.requests.try_acquire() else {
        return Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "HTTP-0002",
            "Too many requests at once.",
            "the server works on as many requests as it is set to; send it again".to_owned(),
        )
        .retry_after(1)
        .into_response();
    };
    // The handler reads the body: a source that sends it drop by drop must not hold its place for ever.
    let Ok(response) = tokio::time::timeout(REQUEST_TIME, next.run(request)).await else {
        return Problem::new(
            StatusCode::REQUEST_TIMEOUT,
            "HTTP-0003",
            "The request took too long.",
            format!("body and answer must be done within {} seconds; send smaller batches", REQUEST_TIME.as_secs()),
        )
        .into_response();
    };
    as_problem(response, app.body_bytes_max).await
}
