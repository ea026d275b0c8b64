//! Organizations, projects, keys and sources over HTTP. Owned by platform-iam. Handlers ask for a permit and pass it on.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use platform_iam::{Action, IamError, KeyId, Target};
use serde_json::{Value, json};

use crate::access::{Caller, not_found};
use crate::contract::Operation;
use crate::problem::{JsonBody, Problem};
use crate::roles::iam::{Iam, KeyCreate, OrganizationAdd, ProjectAdd, SourceEnroll};

/// What this domain answers.
pub fn operations() -> Vec<Operation> {
    let unfit = "It does not fit what is there; nothing was changed.";
    vec![
        Operation::get("/v1/organizations", "list_organizations", "Registered organizations that the key may see.")
            .answers::<Value>(200, "They."),
        Operation::post("/v1/organizations", "add_organization", "Registers an organization.")
            .body::<OrganizationAdd>("application/json")
            .answers::<Value>(201, "It is registered.")
            .problem(409, "It has another name.")
            .problem(422, unfit),
        Operation::get("/v1/projects", "list_projects", "Registered projects that the key may see.").answers::<Value>(200, "They."),
        Operation::post("/v1/projects", "add_project", "Registers a project.")
            .body::<ProjectAdd>("application/json")
            .answers::<Value>(201, "It is registered.")
            .problem(409, "It has another name.")
            .problem(422, unfit),
        Operation::get("/v1/keys", "list_keys", "Keys that the key may see, without their secrets.").answers::<Value>(200, "They."),
        Operation::post("/v1/keys", "create_key", "Makes a key: the answer has its secret, and no other has.")
            .body::<KeyCreate>("application/json")
            .answers::<Value>(201, "It is made.")
            .problem(409, "The principal has another role.")
            .problem(422, unfit),
        Operation::delete("/v1/keys/{key}", "revoke_key", "Revokes a key at once, for ever.")
            .in_path("key", "Its first 17 characters.")
            .answers::<Value>(200, "It is revoked.")
            .problem(404, "There is none of that name for this key."),
        Operation::get("/v1/sources", "list_sources", "Enrolled sources.").answers::<Value>(200, "They."),
        Operation::post("/v1/sources", "enroll_source", "Enrols a source, or lets it report for more organizations.")
            .body::<SourceEnroll>("application/json")
            .answers::<Value>(201, "It is enrolled.")
            .problem(422, unfit),
    ]
}

/// A JSON answer or a problem.
type Answer = Result<(StatusCode, Json<Value>), Problem>;

/// `POST /v1/organizations`: registers an organization. 201; 409 when it has another name.
pub async fn add_organization(State(iam): State<Iam>, caller: Caller, JsonBody(wanted): JsonBody<OrganizationAdd>) -> Answer {
    let permit = caller.authorize(Action::OrganizationAdd, Target::Organization(wanted.organization.clone()))?;
    made(iam.organization_add(&permit, &wanted).await)
}

/// `GET /v1/organizations`: those that the key may see.
pub async fn list_organizations(State(iam): State<Iam>, caller: Caller) -> Answer {
    list(&iam, &caller, Action::OrganizationRead, "organizations").await
}

/// `POST /v1/projects`: registers a project. 201; 422 when its organization is not registered; 409 when it has another name.
pub async fn add_project(State(iam): State<Iam>, caller: Caller, JsonBody(wanted): JsonBody<ProjectAdd>) -> Answer {
    let permit = caller.authorize(Action::ProjectAdd, Target::Organization(wanted.organization.clone()))?;
    made(iam.project_add(&permit, &wanted).await)
}

/// `GET /v1/projects`: those that the key may see.
pub async fn list_projects(State(iam): State<Iam>, caller: Caller) -> Answer {
    list(&iam, &caller, Action::ProjectRead, "projects").await
}

/// `POST /v1/sources`: enrols a source, or lets it report for more organizations. 201; 422 for a sequenced one.
pub async fn enroll_source(State(iam): State<Iam>, caller: Caller, JsonBody(wanted): JsonBody<SourceEnroll>) -> Answer {
    let permit = caller.authorize(Action::SourceEnroll, Target::Deployment)?;
    made(iam.source_enroll(&permit, &wanted).await)
}

/// `GET /v1/sources`: those that are enrolled.
pub async fn list_sources(State(iam): State<Iam>, caller: Caller) -> Answer {
    list(&iam, &caller, Action::SourceRead, "sources").await
}

/// `POST /v1/keys`: makes a key. 201 with its `secret`, which no other answer has; 422 when role, organization, sources and scopes do not fit.
pub async fn create_key(State(iam): State<Iam>, caller: Caller, JsonBody(wanted): JsonBody<KeyCreate>) -> Answer {
    let permit = caller.authorize(Action::KeyCreate, caller.target(wanted.organization.clone()))?;
    made(iam.key_create(&permit, &wanted).await)
}

/// `GET /v1/keys`: those that the key may see, without their secrets.
pub async fn list_keys(State(iam): State<Iam>, caller: Caller) -> Answer {
    list(&iam, &caller, Action::KeyRead, "keys").await
}

/// `DELETE /v1/keys/{key}`: revokes a key at once. 200; 404 when there is none of that name for this key.
pub async fn revoke_key(State(iam): State<Iam>, caller: Caller, Path(key): Path<String>) -> Answer {
    let permit = caller.authorize(Action::KeyRevoke, caller.target(None))?;
    let key = KeyId::parse(&key).ok_or_else(not_found)?;
    Ok((StatusCode::OK, Json(iam.key_revoke(&permit, &key).await.map_err(|error| problem(&error))?)))
}

async fn list(iam: &Iam, caller: &Caller, action: Action, name: &str) -> Answer {
    let permit = caller.authorize(action, caller.target(None))?;
    Ok((StatusCode::OK, Json(json!({name: iam.list(&permit).await.map_err(|error| problem(&error))?}))))
}

fn made(answer: Result<Value, IamError>) -> Answer {
    Ok((StatusCode::CREATED, Json(answer.map_err(|error| problem(&error))?)))
}

fn problem(error: &IamError) -> Problem {
    const REFUSED: &str = "The request does not fit what is there; nothing was changed.";
    let (status, code) = match error {
        IamError::NoKey { .. } => return not_found(),
        IamError::NoOrganization { .. } => (StatusCode::UNPROCESSABLE_ENTITY, "IAM-0004"),
        IamError::NoSource { .. } => (StatusCode::UNPROCESSABLE_ENTITY, "IAM-0005"),
        IamError::Exists { .. } => (StatusCode::CONFLICT, "IAM-0007"),
        IamError::Unfit { .. } => (StatusCode::UNPROCESSABLE_ENTITY, "IAM-0008"),
        IamError::Db(_) | IamError::Audit(_) => (StatusCode::SERVICE_UNAVAILABLE, "IAM-0001"),
        IamError::Damaged { .. } => (StatusCode::INTERNAL_SERVER_ERROR, "IAM-0002"),
        IamError::Permit { .. } => (StatusCode::INTERNAL_SERVER_ERROR, "IAM-0003"),
    };
    if status.is_server_error() {
        // What the database says is for the operator's log, not for whoever has a key.
        tracing::error!(error = %error, source = std::error::Error::source(error).map(tracing::field::display), "who may do what could not be read or written");
        return Problem::new(status, code, "It could not be done; nothing was changed.", error.to_string()).retry_after(1);
    }
    Problem::new(status, code, REFUSED, error.to_string())
}
