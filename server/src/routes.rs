//! The HTTP surface: which route belongs to which domain, and the limits that hold for all of them.

pub mod platform_audit;
pub mod platform_billing;
pub mod platform_catalog;
pub mod platform_evidence;
pub mod platform_iam;
pub mod platform_ingest;
pub mod platform_ledger;
pub mod platform_query;
pub mod platform_rating;
pub mod platform_registry;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ::platform_catalog::Scope;
use ::platform_iam::{Action, Permit, Target};
use axum::Router;
use axum::extract::{DefaultBodyLimit, FromRef, Request, State};
use axum::http::StatusCode;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use serde::Serialize;
use shared_types::{IdError, OrganizationId};
use tokio::sync::Semaphore;

use crate::access::{self, Access, Caller};
use crate::answers::Answers;
use crate::contract::{Operation, wire};
use crate::home::Home;
use crate::problem::{Problem, as_problem};
use crate::roles::iam::Iam;
use crate::roles::intake::Intake;
use crate::roles::proposals::Proposals;
use crate::roles::{Closer, Progress, Publisher};

/// How long a request may take, its body included.
const REQUEST_TIME: Duration = Duration::from_secs(30);

/// On whose behalf a permit reads: a key of an organization its rows, any other all.
pub fn scope_of(permit: &Permit) -> Scope {
    let scope = permit.principal().organization().map_or(Scope::Operator, |organization| Scope::Organization(organization.clone()));
    #[cfg(feature = "plant")]
    let scope = crate::roles::plant::forget_scope(scope);
    scope
}

/// The organization that a parameter names.
fn named(organization: Option<&str>) -> Result<Option<OrganizationId>, IdError> {
    organization.map(OrganizationId::parse).transpose()
}

/// The folder of the tiled log.
#[derive(Clone, Debug)]
pub struct Tiles(pub PathBuf);

/// What handlers are given.
#[derive(Clone)]
pub struct App {
    intake: Intake,
    publisher: Publisher,
    closer: Closer,
    progress: Progress,
    access: Access,
    iam: Iam,
    answers: Answers,
    tiles: Tiles,
    bundles: platform_evidence::Bundles,
    requests: Arc<Semaphore>,
    forecasts: platform_rating::Forecasts,
    body_bytes_max: usize,
    answer_bytes_max: usize,
    request_time: Duration,
}

impl App {
    /// Handles of the running roles, what is read, and the limits.
    #[expect(clippy::too_many_arguments, reason = "one call site; a struct of these would only rename them")]
    pub fn new(
        intake: Intake,
        publisher: Publisher,
        closer: Closer,
        progress: Progress,
        access: Access,
        iam: Iam,
        answers: Answers,
        home: &Home,
    ) -> Self {
        let (serve, query) = (&home.settings.serve, &home.settings.query);
        Self {
            intake,
            publisher,
            closer,
            progress,
            access,
            iam,
            answers,
            tiles: Tiles(home.path("tiles")),
            bundles: platform_evidence::Bundles::new(home),
            requests: Arc::new(Semaphore::new(serve.requests_max)),
            forecasts: platform_rating::Forecasts(Arc::new(Semaphore::new(query.concurrent_max))),
            body_bytes_max: serve.body_bytes_max,
            answer_bytes_max: query.bytes_max,
            // A query has its own limit of time, and says so itself.
            request_time: REQUEST_TIME.max(Duration::from_millis(query.timeout_ms).saturating_add(Duration::from_secs(5))),
        }
    }
}

impl FromRef<App> for Answers {
    fn from_ref(app: &App) -> Self {
        app.answers.clone()
    }
}

impl FromRef<App> for Closer {
    fn from_ref(app: &App) -> Self {
        app.closer.clone()
    }
}

impl FromRef<App> for Tiles {
    fn from_ref(app: &App) -> Self {
        app.tiles.clone()
    }
}

impl FromRef<App> for platform_evidence::Bundles {
    fn from_ref(app: &App) -> Self {
        app.bundles.clone()
    }
}

impl FromRef<App> for platform_rating::Forecasts {
    fn from_ref(app: &App) -> Self {
        app.forecasts.clone()
    }
}

impl FromRef<App> for platform_query::AnswerBytes {
    fn from_ref(app: &App) -> Self {
        Self(app.answer_bytes_max)
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

impl FromRef<App> for Proposals {
    fn from_ref(app: &App) -> Self {
        Self::new(app.iam.books().clone())
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
        .route("/v1/events/trace", get(platform_ingest::trace_event_by_name))
        .route("/v1/events/{id}/trace", get(platform_ingest::trace_event))
        .route("/v1/charges/{id}/explain", get(platform_rating::explain_charge))
        .route("/v1/forecast", get(platform_rating::get_forecast))
        .route("/v1/usage", get(platform_catalog::list_usage))
        .route("/v1/balances", get(platform_ledger::list_balances))
        .route("/v1/invoices", get(platform_billing::list_invoices))
        .route("/v1/invoices/{invoice}", get(platform_billing::get_invoice))
        .route("/v1/invoices/{invoice}/changes", get(platform_billing::compare_invoices))
        .route("/v1/invoices/{invoice}/lines/{line}/explain", get(platform_billing::explain_line))
        .route("/v1/periods", get(platform_billing::list_periods))
        .route("/v1/periods/{period}/close", post(platform_billing::close_period))
        .route("/v1/periods/{period}/opinion", post(platform_billing::record_opinion))
        .route("/v1/sql", post(platform_query::ask))
        .route("/v1/registry", get(platform_registry::get_registry))
        .route("/v1/registry/drafts", get(platform_registry::list_drafts).post(platform_registry::propose_draft))
        .route("/v1/registry/drafts/{draft}", get(platform_registry::get_draft))
        .route("/v1/registry/drafts/{draft}/publish", post(platform_registry::publish_draft))
        .route("/v1/registry/drafts/{draft}/review", post(platform_registry::review_draft))
        .route("/v1/registry/price", get(platform_registry::get_price))
        .route("/v1/registry/versions", post(platform_registry::publish_version))
        .route("/v1/registry/versions/{version}", get(platform_registry::get_version))
        .route("/v1/registry/versions/{version}/retire", post(platform_registry::retire_version))
        .route("/v1/registry/versions/{version}/diff/{other}", get(platform_registry::diff_versions))
        .route("/v1/evidence/checkpoint", get(platform_evidence::get_checkpoint))
        .route("/v1/evidence/tile/{*path}", get(platform_evidence::get_tile))
        .route("/v1/evidence/bundles/{invoice}", get(platform_evidence::get_bundle))
        .route("/v1/organizations", get(platform_iam::list_organizations).post(platform_iam::add_organization))
        .route("/v1/projects", get(platform_iam::list_projects).post(platform_iam::add_project))
        .route("/v1/keys", get(platform_iam::list_keys).post(platform_iam::create_key))
        .route("/v1/keys/{key}", delete(platform_iam::revoke_key))
        .route("/v1/sources", get(platform_iam::list_sources).post(platform_iam::enroll_source))
        .route("/v1/audit/events", get(platform_audit::list_events))
        .route("/v1/health", get(health))
        .route("/v1/progress", get(progress))
        .method_not_allowed_fallback(unknown_method)
        .fallback(unknown_route)
        .layer(limit)
        .layer(middleware::from_fn_with_state(app.access.clone(), access::recognise))
        .layer(middleware::from_fn_with_state(app.clone(), limit_requests))
        .with_state(app)
}

wire! {
    /// The process serves.
    #[derive(Serialize)]
    pub struct Health {
        /// True.
        pub serving: bool,
    }
}

wire! {
    /// How far the server is.
    #[derive(Serialize)]
    pub struct ProgressView {
        /// The last committed batch.
        pub committed: u64,
        /// Each fold's last batch.
        pub folds: std::collections::BTreeMap<String, u64>,
        /// How far merging small files is.
        pub compaction: CompactionView,
        /// Events accepted that wait to be committed.
        pub waiting: u64,
    }
}

wire! {
    /// How far merging small files is.
    #[derive(Serialize)]
    pub struct CompactionView {
        /// Batches of hours that are over which wait to be merged.
        pub backlog: u64,
        /// Files of each table of the lake.
        pub files_per_table: u64,
        /// Merges since the server started.
        pub merges: u64,
    }
}

/// What belongs to no domain.
pub fn operations() -> Vec<Operation> {
    vec![
        Operation::get("/v1/health", "health", "Whether the process serves; the one route without a key.")
            .open()
            .answers::<Health>(200, "It serves."),
        Operation::get("/v1/progress", "get_progress", "How far the log and its folds are; for keys that see all organizations.")
            .answers::<ProgressView>(200, "How far."),
    ]
}

/// Always 200 while the process serves. It says nothing else: whoever can connect may ask.
async fn health() -> axum::Json<Health> {
    axum::Json(Health { serving: true })
}

/// How far the log and its folds are: figures of everybody's usage.
async fn progress(State(app): State<App>, caller: Caller) -> Result<axum::Json<ProgressView>, Problem> {
    caller.authorize(Action::SqlAsk, Target::Deployment)?;
    let compaction = app.progress.compaction();
    Ok(axum::Json(ProgressView {
        committed: app.progress.committed().0,
        folds: app.progress.folds().map(|(name, at)| (name.to_owned(), at.0)).collect(),
        compaction: CompactionView { backlog: compaction.backlog, files_per_table: compaction.files, merges: compaction.merges },
        waiting: app.intake.waiting(),
    }))
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
    let Ok(response) = tokio::time::timeout(app.request_time, next.run(request)).await else {
        return Problem::new(
            StatusCode::REQUEST_TIMEOUT,
            "HTTP-0003",
            "The request took too long.",
            format!("body and answer must be done within {} seconds; send smaller batches", app.request_time.as_secs()),
        )
        .into_response();
    };
    as_problem(response, app.body_bytes_max).await
}
