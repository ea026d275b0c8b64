//! `POST /v1/registry/versions`: a folder of registry documents becomes the version in force. `GET /v1/registry`, `/v1/registry/versions/…`:
//! what is in force, what it says, and what differs. An organization sees what prices its own usage. Owned by platform-registry.

mod differences;
mod drafts;
mod price;

pub use differences::{diff_versions, view as differences_view};
pub use drafts::{
    ProposeRequest, PublishDraftRequest, RetireRequest, ReviewRequest, changes, get_draft, list_drafts, propose_draft, publish_draft,
    retire_version, review_draft, view as draft_view,
};
pub use price::{PriceQuery, believed, get_price};

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use platform_catalog::Scope;
use platform_iam::{Action, Target};
use platform_registry::{Document, Published, SourceFile, Version};
use serde::{Deserialize, Serialize};
use shared_db::Transaction;
use shared_types::{ControlNo, Digest};

use super::platform_query::accepted;
use super::scope_of;
use crate::access::Caller;
use crate::answers::Answers;
use crate::book::{self, BookError};
use crate::contract::{Operation, wire};
use crate::problem::{JsonBody, Problem, internal};
use crate::roles::Publisher;

wire! {
    /// The documents to publish, as files.
    #[derive(Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    pub struct PublishRequest {
        /// Every `.toml` file of the folder.
        pub files: Vec<PublishFile>,
        /// Whether usage that was rated before and that the version reaches back over is rated again, each shard at the version's control
        /// record; else such a version is refused. False by default.
        pub rerate: Option<bool>,
    }
}

wire! {
    /// One file of documents.
    #[derive(Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    pub struct PublishFile {
        /// Its name, for error messages.
        pub name: String,
        /// Its text.
        pub text: String,
    }
}

wire! {
    /// A version was put in force.
    #[derive(Serialize)]
    pub struct PublishedView {
        /// Content address of the version.
        pub version: String,
        /// The control record that put it in force.
        pub control_no: u64,
        /// False when it was in force already.
        pub changed: bool,
    }
}

/// What this domain answers.
pub fn operations() -> Vec<Operation> {
    let mut operations = vec![
        Operation::get("/v1/registry", "get_registry", "What is in force, and every version before.")
            .answers::<RegistryView>(200, "The versions."),
        Operation::post("/v1/registry/versions", "publish_version", "Checks and publishes a version behind everything accepted so far.")
            .body::<PublishRequest>("application/json")
            .answers::<PublishedView>(200, "It is in force.")
            .problem(409, "The home publishes approved drafts only, or the version is retired.")
            .problem(422, "The documents do not check, or reach back over keys that were rated; detail says what to do."),
        Operation::get("/v1/registry/versions/{version}", "get_version", "The documents of a version.")
            .about("With accept: application/toml they are as they were published. An organization sees what prices its own usage.")
            .in_path("version", "Content address, 64 hex digits.")
            .answers::<DocumentsView>(200, "The documents.")
            .or("application/toml")
            .problem(404, "There is no such version.")
            .problem(406, "No format that is accepted."),
        differences::operation(),
        price::operation(),
    ];
    operations.extend(drafts::operations());
    operations
}

/// Checks and publishes a version behind everything accepted so far.
///
/// - 200: its address and control number; `changed` is false when it was in force already.
/// - 422: the documents do not check, or the version reaches back over keys that were rated; `detail` says which and what to do.
pub async fn publish_version(State(publisher): State<Publisher>, caller: Caller, JsonBody(request): JsonBody<PublishRequest>) -> Response {
    let permit = match caller.authorize(Action::RegistryPublish, Target::Deployment) {
        Ok(permit) => permit,
        Err(problem) => return problem.into_response(),
    };
    let version = match Version::check(&sources(request.files)) {
        Ok(version) => version,
        Err(problems) => return refused(problems.to_string()).into_response(),
    };
    match publisher.publish(permit, version, request.rerate.unwrap_or(false)).await {
        Ok(published) => Json(PublishedView::from(published)).into_response(),
        Err(error) => drafts::problem(&error).into_response(),
    }
}

fn sources(files: Vec<PublishFile>) -> Vec<SourceFile> {
    files.into_iter().map(|file| SourceFile { name: file.name, text: file.text }).collect()
}

fn refused(detail: String) -> Problem {
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "REGISTRY-0001", "The registry version was refused.", detail)
}

impl From<Published> for PublishedView {
    fn from(published: Published) -> Self {
        Self { version: published.address.to_string(), control_no: published.control_no.0, changed: published.changed }
    }
}

wire! {
    /// The registry: what is in force, and what was.
    #[derive(Serialize)]
    pub struct RegistryView {
        /// Content address of the version in force; null before the first one.
        pub in_force: Option<String>,
        /// Every publication, the first one first. For an organization: those that changed what it sees.
        pub versions: Vec<VersionView>,
    }
}

wire! {
    /// One publication.
    #[derive(Serialize)]
    pub struct VersionView {
        /// Content address: SHA-256 over all documents of the version.
        pub version: String,
        /// When the version was first recorded.
        pub recorded_at: String,
        /// The control record that put it in force; for the operator.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub control_no: Option<u64>,
    }
}

wire! {
    /// The documents of a version.
    #[derive(Serialize)]
    pub struct DocumentsView {
        /// Content address of the version.
        pub version: String,
        /// Whether these are all of its documents. An organization sees those by which its own usage is metered, priced and rounded.
        pub complete: bool,
        /// By kind, then by id.
        pub documents: Vec<serde_json::Value>,
    }
}

/// What is in force, and every version before.
pub async fn get_registry(State(answers): State<Answers>, caller: Caller) -> Result<Json<RegistryView>, Problem> {
    let permit = caller.authorize(Action::RegistryRead, caller.target(None))?;
    registry(&answers, &scope_of(&permit)).await.map(Json).map_err(|error| internal(&*error))
}

async fn registry(answers: &Answers, scope: &Scope) -> Result<RegistryView, Box<dyn std::error::Error + Send + Sync>> {
    let mut tx = answers.readers.books.read().await?;
    let recorded = platform_registry::store::versions(&mut tx).await?;
    let mut versions = Vec::new();
    let mut seen: Option<Vec<Document>> = None;
    for control in platform_registry::store::controls_after(&mut tx, ControlNo(0)).await? {
        let Some(address) = control.registry_version() else { continue };
        if let Scope::Organization(organization) = scope {
            let Some(version) = platform_registry::store::version(&mut tx, address).await? else { continue };
            let documents = version.seen_by(organization);
            if seen.as_ref() == Some(&documents) {
                continue;
            }
            seen = Some(documents);
        }
        let recorded_at = recorded.iter().find(|found| found.address == address).map(|found| found.recorded_at.to_string());
        let control_no = (*scope == Scope::Operator).then_some(control.control_no.0);
        versions.push(VersionView { version: address.to_string(), recorded_at: recorded_at.unwrap_or_default(), control_no });
    }
    Ok(RegistryView { in_force: versions.last().map(|last| last.version.clone()), versions })
}

/// A version by what people call it, or a problem.
pub async fn named(answers: &Answers, wanted: &str) -> Result<Version, Problem> {
    let mut tx = answers.readers.books.read().await.map_err(|error| internal(&error))?;
    book::named(&mut tx, wanted).await.map_err(|error| match error {
        BookError::Draft(error) => drafts::problem(&error.into()),
        BookError::Store(error) => internal(&error),
        BookError::Nothing | BookError::Unknown(_) | BookError::Ambiguous(_) => {
            Problem::new(StatusCode::NOT_FOUND, "REGISTRY-0003", "There is no such version.", error.to_string())
        }
    })
}

/// A published version by its address, or a problem.
async fn published(tx: &mut Transaction, address: &str) -> Result<Version, Problem> {
    let missing = || {
        let detail = format!("no published version is {address:?}; /v1/registry lists them");
        Problem::new(StatusCode::NOT_FOUND, "REGISTRY-0003", "There is no such version.", detail)
    };
    let digest = Digest::parse(address).ok_or_else(missing)?;
    platform_registry::store::version(tx, digest).await.map_err(|error| internal(&error))?.ok_or_else(missing)
}

/// What a scope sees of a version.
fn seen(version: Version, scope: &Scope) -> Result<Version, Problem> {
    match scope {
        Scope::Operator => Ok(version),
        Scope::Organization(organization) => version.view_of(organization).map_err(|error| internal(&error)),
    }
}

#[derive(Clone, Copy, Debug)]
enum Shape {
    Json,
    Toml,
}

/// What a version says: JSON, or with `accept: application/toml` the documents as they are published.
pub async fn get_version(
    State(answers): State<Answers>,
    caller: Caller,
    Path(version): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let permit = caller.authorize(Action::RegistryRead, caller.target(None))?;
    let shape = accepted(&headers, &[("application/json", Shape::Json), ("application/toml", Shape::Toml)])?;
    let mut tx = answers.readers.books.read().await.map_err(|error| internal(&error))?;
    let found = published(&mut tx, &version).await?;
    let (documents, complete) = match scope_of(&permit) {
        Scope::Operator => (found.documents().cloned().collect(), true),
        Scope::Organization(organization) => (found.seen_by(&organization), false),
    };
    Ok(match shape {
        Shape::Json => {
            let documents: Result<Vec<_>, _> = documents.iter().map(serde_json::to_value).collect();
            let documents = documents.map_err(|error| internal(&error))?;
            Json(DocumentsView { version: found.address().to_string(), complete, documents }).into_response()
        }
        Shape::Toml => {
            let text: Vec<String> = documents.iter().map(Document::to_toml).collect();
            ([(header::CONTENT_TYPE, "application/toml")], text.join("\n")).into_response()
        }
    })
}
