//! `POST /v1/registry/versions`: a folder of registry documents becomes the version in force. Owned by platform-registry.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use platform_iam::{Action, Target};
use platform_registry::{ReachBack, SourceFile, Version};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::access::Caller;
use crate::problem::{JsonBody, Problem};
use crate::roles::Publisher;

/// The documents to publish, as files.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PublishRequest {
    /// Every `.toml` file of the folder.
    pub files: Vec<PublishFile>,
}

/// One file of documents.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PublishFile {
    /// Its name, for error messages.
    pub name: String,
    /// Its text.
    pub text: String,
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
    let files: Vec<SourceFile> = request.files.into_iter().map(|file| SourceFile { name: file.name, text: file.text }).collect();
    let refused = |detail: String| {
        Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "REGISTRY-0001", "The registry version was refused.", detail).into_response()
    };
    let version = match Version::check(&files) {
        Ok(version) => version,
        Err(problems) => return refused(problems.to_string()),
    };
    match publisher.publish(permit, version).await {
        Ok(published) => Json(json!({
            "version": published.address,
            "control_no": published.control_no,
            "changed": published.changed,
        }))
        .into_response(),
        Err(error) if error.chain().any(|cause| cause.is::<ReachBack>()) => refused(format!("{error:#}")),
        Err(error) => Problem::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "REGISTRY-0002",
            "The registry version could not be published.",
            format!("{error:#}"),
        )
        .into_response(),
    }
}
