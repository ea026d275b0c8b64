//! `/v1/registry/drafts…`: versions that are proposed, reviewed and then published by more than one person; and retiring a version.

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use platform_iam::{Action, Target};
use platform_registry::levels::LevelChanged;
use platform_registry::recurring::Changed;
use platform_registry::{Draft, DraftError, DraftNo, ReachBack, StoreError, TermsChanged, Verdict, Version, drafts};
use serde::{Deserialize, Serialize};
use shared_db::Transaction;
use shared_types::Digest;

use super::differences::{DifferenceView, view as differences};
use super::{PublishFile, PublishedView, refused, sources};
use crate::access::Caller;
use crate::answers::Answers;
use crate::book::draft_of;
use crate::contract::{Operation, wire};
use crate::problem::{JsonBody, Problem, internal};
use crate::roles::Publisher;
use crate::roles::billing::{NotRerated, ReviewRequired};
use crate::roles::proposals::Proposals;

wire! {
    /// The documents to propose, as files.
    #[derive(Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    pub struct ProposeRequest {
        /// Every `.toml` file of the folder.
        pub files: Vec<PublishFile>,
        /// Why it is proposed.
        #[serde(default)]
        pub note: Option<String>,
    }
}

wire! {
    /// What is said of a draft.
    #[derive(Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    pub struct ReviewRequest {
        /// `approved` or `rejected`.
        pub verdict: String,
        /// Why.
        pub reason: String,
    }
}

wire! {
    /// How a draft is published. No body at all says the same as an empty object.
    #[derive(Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    pub struct PublishDraftRequest {
        /// Whether usage that was rated before and that the draft reaches back over is rated again, each shard at the draft's control record;
        /// else such a draft is refused. False by default.
        pub rerate: Option<bool>,
    }
}

wire! {
    /// Why a version is retired.
    #[derive(Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    pub struct RetireRequest {
        /// Why.
        pub reason: String,
    }
}

wire! {
    /// A version was retired.
    #[derive(Serialize)]
    pub struct RetiredView {
        /// Content address of the version.
        pub version: String,
    }
}

wire! {
    /// A draft of a registry version.
    #[derive(Serialize)]
    pub struct DraftView {
        /// Its number.
        pub draft: u64,
        /// `proposed`, `approved`, `rejected` or `published`.
        pub state: String,
        /// Content address of the version.
        pub version: String,
        /// The version that was in force when it was proposed; absent where there was none.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub base: Option<String>,
        /// Whether it is about money: then whoever proposed it does not approve it.
        pub money: bool,
        /// Why it was proposed.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub note: Option<String>,
        /// By whom.
        pub proposed_by: String,
        /// When.
        pub proposed_at: String,
        /// What was said of it; absent until it is reviewed.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub review: Option<ReviewView>,
        /// The control record that put it in force; absent until it is published.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub control_no: Option<u64>,
        /// Who published it.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub published_by: Option<String>,
    }
}

wire! {
    /// What was said of a draft.
    #[derive(Serialize)]
    pub struct ReviewView {
        /// `approved` or `rejected`.
        pub verdict: String,
        /// Why.
        pub reason: String,
        /// By whom.
        pub reviewed_by: String,
        /// When.
        pub reviewed_at: String,
    }
}

wire! {
    /// Every draft.
    #[derive(Serialize)]
    pub struct DraftsView {
        /// In order.
        pub drafts: Vec<DraftView>,
    }
}

wire! {
    /// A draft with what it changes.
    #[derive(Serialize)]
    pub struct DraftChanges {
        /// The draft.
        pub draft: DraftView,
        /// What differs from the version that was in force when it was proposed; absent where there was none.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub differences: Option<Vec<DifferenceView>>,
    }
}

pub(super) fn operations() -> Vec<Operation> {
    let (number, missing) = ("Number of the draft: `1` or `draft-1`.", "There is no such draft.");
    let unready = "It cannot be done with the draft as it is; detail says why.";
    vec![
        Operation::get("/v1/registry/drafts", "list_drafts", "Drafts of registry versions.").answers::<DraftsView>(200, "The drafts."),
        Operation::post("/v1/registry/drafts", "propose_draft", "Checks documents and records them as a draft.")
            .body::<ProposeRequest>("application/json")
            .answers::<DraftView>(201, "The draft.")
            .problem(409, "There is nothing to propose: it is in force, or retired.")
            .problem(422, "The documents do not check; detail says what to do."),
        Operation::get("/v1/registry/drafts/{draft}", "get_draft", "A draft with what it changes, in words.")
            .in_path("draft", number)
            .answers::<DraftChanges>(200, "The draft.")
            .problem(404, missing),
        Operation::post("/v1/registry/drafts/{draft}/review", "review_draft", "Approves or rejects a draft.")
            .about("Once for each draft. Where money is concerned, whoever proposed it does not approve it.")
            .in_path("draft", number)
            .body::<ReviewRequest>("application/json")
            .answers::<DraftView>(200, "The draft.")
            .problem(400, "Verdict or reason do not read.")
            .problem(403, "The key may not, or proposed the draft itself.")
            .problem(404, missing)
            .problem(409, unready),
        Operation::post("/v1/registry/drafts/{draft}/publish", "publish_draft", "Puts an approved draft in force.")
            .about("Behind everything accepted so far. Refused where another version came into force since it was proposed.")
            .in_path("draft", number)
            .body::<PublishDraftRequest>("application/json")
            .answers::<PublishedView>(200, "It is in force.")
            .problem(400, "The request does not read.")
            .problem(404, missing)
            .problem(409, unready)
            .problem(422, "It reaches back over keys that were rated, or they cannot be rated again; detail says what to do."),
        Operation::post("/v1/registry/versions/{version}/retire", "retire_version", "Retires a version: it is not put in force again.")
            .about("It stays, and so does what was rated by it.")
            .in_path("version", "Content address, 64 hex digits.")
            .body::<RetireRequest>("application/json")
            .answers::<RetiredView>(200, "It is retired.")
            .problem(400, "The reason does not read.")
            .problem(404, "There is no such version.")
            .problem(409, "It is in force, or retired already."),
    ]
}

/// Every draft.
pub async fn list_drafts(State(answers): State<Answers>, caller: Caller) -> Result<Json<DraftsView>, Problem> {
    caller.authorize(Action::DraftRead, Target::Deployment)?;
    let mut tx = answers.readers.books.read().await.map_err(|error| internal(&error))?;
    let drafts = drafts::drafts(&mut tx).await.map_err(|error| problem(&error.into()))?;
    Ok(Json(DraftsView { drafts: drafts.into_iter().map(view).collect() }))
}

/// A draft with what it changes.
pub async fn get_draft(State(answers): State<Answers>, caller: Caller, Path(draft): Path<String>) -> Result<Json<DraftChanges>, Problem> {
    caller.authorize(Action::DraftRead, Target::Deployment)?;
    let mut tx = answers.readers.books.read().await.map_err(|error| internal(&error))?;
    changes(&mut tx, number(&draft)?).await.map(Json).map_err(|error| problem(&error.into()))
}

/// Checks documents and records them as a draft.
pub async fn propose_draft(
    State(proposals): State<Proposals>,
    caller: Caller,
    JsonBody(request): JsonBody<ProposeRequest>,
) -> Result<(StatusCode, Json<DraftView>), Problem> {
    let permit = caller.authorize(Action::DraftPropose, Target::Deployment)?;
    let version = Version::check(&sources(request.files)).map_err(|problems| refused(problems.to_string()))?;
    let draft = proposals.propose(&permit, &version, request.note.as_deref()).await.map_err(|error| problem(&error))?;
    Ok((StatusCode::CREATED, Json(view(draft))))
}

/// Approves or rejects a draft.
pub async fn review_draft(
    State(proposals): State<Proposals>,
    caller: Caller,
    Path(draft): Path<String>,
    JsonBody(request): JsonBody<ReviewRequest>,
) -> Result<Json<DraftView>, Problem> {
    let permit = caller.authorize(Action::DraftReview, Target::Deployment)?;
    let verdict = Verdict::parse(&request.verdict).ok_or_else(|| {
        let detail = format!("verdict = {:?} is neither approved nor rejected", request.verdict);
        Problem::new(StatusCode::BAD_REQUEST, "REGISTRY-0004", UNREAD, detail)
    })?;
    let draft = proposals.review(&permit, number(&draft)?, verdict, &request.reason).await.map_err(|error| problem(&error))?;
    Ok(Json(view(draft)))
}

/// Puts an approved draft in force.
pub async fn publish_draft(State(publisher): State<Publisher>, caller: Caller, Path(draft): Path<String>, body: Bytes) -> Response {
    let answer = async {
        let permit = caller.authorize(Action::RegistryPublish, Target::Deployment)?;
        let rerate = match body.is_empty() {
            true => None,
            false => {
                let unread = |error: serde_json::Error| Problem::new(StatusCode::BAD_REQUEST, "REGISTRY-0004", UNREAD, error.to_string());
                serde_json::from_slice::<PublishDraftRequest>(&body).map_err(unread)?.rerate
            }
        };
        publisher.publish_draft(permit, number(&draft)?, rerate.unwrap_or(false)).await.map_err(|error| problem(&error))
    };
    match answer.await {
        Ok(published) => Json(PublishedView::from(published)).into_response(),
        Err(problem) => problem.into_response(),
    }
}

/// Retires a version.
pub async fn retire_version(
    State(proposals): State<Proposals>,
    caller: Caller,
    Path(version): Path<String>,
    JsonBody(request): JsonBody<RetireRequest>,
) -> Result<Json<RetiredView>, Problem> {
    let permit = caller.authorize(Action::RegistryRetire, Target::Deployment)?;
    let address = Digest::parse(&version).ok_or_else(|| no_version(&version))?;
    proposals.retire(&permit, address, &request.reason).await.map_err(|error| problem(&error))?;
    Ok(Json(RetiredView { version: address.to_string() }))
}

/// A draft with what it changes, from the books.
pub async fn changes(tx: &mut Transaction, draft_no: DraftNo) -> Result<DraftChanges, DraftError> {
    let draft = drafts::draft(tx, draft_no).await?;
    let version = drafts::version_of(tx, &draft).await?;
    let base = match draft.base {
        Some(base) => platform_registry::store::version(tx, base).await?,
        None => None,
    };
    Ok(DraftChanges { differences: base.map(|base| differences(&base, &version).differences), draft: view(draft) })
}

/// A draft as it is shown.
pub fn view(draft: Draft) -> DraftView {
    let state = draft.state().to_owned();
    let (control_no, published_by) = draft.published.map(|(control_no, by)| (control_no.0, by)).unzip();
    DraftView {
        draft: draft.draft_no.0,
        state,
        version: draft.version.to_string(),
        base: draft.base.map(|base| base.to_string()),
        money: draft.money,
        note: draft.note,
        proposed_by: draft.proposed_by,
        proposed_at: draft.recorded_at.to_string(),
        review: draft.review.map(|review| ReviewView {
            verdict: review.verdict.name().to_owned(),
            reason: review.reason,
            reviewed_by: review.reviewed_by,
            reviewed_at: review.recorded_at.to_string(),
        }),
        control_no,
        published_by,
    }
}

const UNREAD: &str = "The request does not read.";

fn number(text: &str) -> Result<DraftNo, Problem> {
    let missing = || Problem::new(StatusCode::NOT_FOUND, "REGISTRY-0007", NO_DRAFT, format!("no draft is {text:?}"));
    draft_of(text).ok_or_else(missing)
}

const NO_DRAFT: &str = "There is no such draft.";

fn no_version(version: &str) -> Problem {
    let detail = format!("no published version is {version:?}; /v1/registry lists them");
    Problem::new(StatusCode::NOT_FOUND, "REGISTRY-0003", "There is no such version.", detail)
}

/// Why a step of the workflow, or a publication, was not taken.
pub(super) fn problem(error: &anyhow::Error) -> Problem {
    const UNREADY: &str = "It cannot be done as things are.";
    let detail = format!("{error:#}");
    let not_in_force = |cause: &(dyn std::error::Error + 'static)| {
        cause.is::<ReachBack>()
            || cause.is::<Changed>()
            || cause.is::<LevelChanged>()
            || cause.is::<TermsChanged>()
            || cause.is::<NotRerated>()
    };
    if error.chain().any(not_in_force) {
        return refused(detail);
    }
    if error.is::<ReviewRequired>() {
        return Problem::new(StatusCode::CONFLICT, "REGISTRY-0006", "A review is required.", detail);
    }
    let (status, code, title) = match error.downcast_ref::<DraftError>() {
        Some(DraftError::NoDraft(_)) => (StatusCode::NOT_FOUND, "REGISTRY-0007", NO_DRAFT),
        Some(DraftError::NoVersion(address)) => return no_version(&address.to_string()),
        Some(DraftError::Words { .. }) => (StatusCode::BAD_REQUEST, "REGISTRY-0004", UNREAD),
        Some(DraftError::FourEyes { .. }) => (StatusCode::FORBIDDEN, "REGISTRY-0009", "Another person has to approve it."),
        Some(DraftError::Store(StoreError::Retired(_))) => (StatusCode::CONFLICT, "REGISTRY-0008", UNREADY),
        Some(DraftError::Store(_)) | None => match error.downcast_ref::<StoreError>() {
            Some(StoreError::Retired(_)) => (StatusCode::CONFLICT, "REGISTRY-0008", UNREADY),
            _ => (StatusCode::INTERNAL_SERVER_ERROR, "REGISTRY-0002", "The registry could not be written."),
        },
        Some(_) => (StatusCode::CONFLICT, "REGISTRY-0008", UNREADY),
    };
    Problem::new(status, code, title, detail)
}
