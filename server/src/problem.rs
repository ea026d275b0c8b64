//! Errors on HTTP: RFC 9457 problem documents with stable codes, also where the framework itself refuses a request.

use axum::extract::rejection::QueryRejection;
use axum::extract::{FromRequest, FromRequestParts, Json, Query, Request};
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use platform_query::QueryError;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::answers::AnswerError;
use crate::contract::wire;
use crate::story::StoryError;

/// Characters of a foreign error text that a problem repeats.
const DETAIL_MAX: usize = 2_048;

/// One problem document.
#[derive(Clone, Debug)]
pub struct Problem {
    status: StatusCode,
    code: &'static str,
    title: &'static str,
    detail: String,
    retry_after: Option<u32>,
}

impl Problem {
    /// A problem with its stable code (a page in `docs/reference/errors.md`), what happened and the particulars.
    pub fn new(status: StatusCode, code: &'static str, title: &'static str, detail: String) -> Self {
        Self { status, code, title, detail, retry_after: None }
    }

    /// Says after how many seconds to try again.
    pub fn retry_after(self, seconds: u32) -> Self {
        Self { retry_after: Some(seconds), ..self }
    }
}

wire! {
    /// A problem document as it is sent (RFC 9457).
    #[derive(Serialize)]
    pub struct ProblemView {
        /// Address of the code's page.
        pub r#type: String,
        /// What happened, the same for every problem of the code.
        pub title: String,
        /// The HTTP status.
        pub status: u16,
        /// Stable code; `docs/reference/errors.md` has a section for each.
        pub code: String,
        /// The particulars.
        pub detail: String,
    }
}

/// Parameters of the query; ones that do not read are refused as a problem.
#[derive(Debug)]
pub struct Parameters<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Parameters<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let rejected = |rejected: QueryRejection| refused(StatusCode::BAD_REQUEST, rejected.body_text());
        let Query(parameters) = Query::from_request_parts(parts, state).await.map_err(rejected)?;
        Ok(Self(parameters))
    }
}

impl From<QueryError> for Problem {
    fn from(error: QueryError) -> Self {
        let status = match &error {
            QueryError::Syntax { .. } | QueryError::Refused { .. } | QueryError::Invalid { .. } => StatusCode::BAD_REQUEST,
            QueryError::TooLong { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            QueryError::Overflow { .. } | QueryError::Data { .. } | QueryError::Memory { .. } | QueryError::Timeout { .. } => {
                StatusCode::UNPROCESSABLE_ENTITY
            }
            QueryError::Read { .. } | QueryError::Isolation { .. } | QueryError::Failed { .. } => {
                tracing::error!(error = &error as &dyn std::error::Error, "a query failed");
                StatusCode::INTERNAL_SERVER_ERROR
            }
        };
        Self::new(status, error.code(), "The query has no answer.", error.to_string())
    }
}

impl From<AnswerError> for Problem {
    fn from(error: AnswerError) -> Self {
        match error {
            AnswerError::Query(error) => error.into(),
            other => internal(&other),
        }
    }
}

impl From<StoryError> for Problem {
    fn from(error: StoryError) -> Self {
        match error {
            StoryError::Answer(error) => error.into(),
            StoryError::Explain(error) => {
                tracing::error!(error = &error as &dyn std::error::Error, "a charge contradicts the rule");
                Self::new(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "RATING-0002",
                    "The charge contradicts the rule that made it.",
                    error.to_string(),
                )
            }
        }
    }
}

/// Something of ours failed: the asker is told that, the log is told why.
pub fn internal(error: &(dyn std::error::Error + 'static)) -> Problem {
    tracing::error!(error, "a request failed");
    let detail = "the cause is in the server's log".to_owned();
    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "HTTP-0006", "The server could not answer.", detail)
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = json!({
            "type": format!("https://tallystick.dev/errors/{}", self.code),
            "title": self.title,
            "status": self.status.as_u16(),
            "code": self.code,
            "detail": self.detail,
        });
        let mut response = (self.status, body.to_string()).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

/// A JSON body; one that does not read is a problem that says where.
pub struct JsonBody<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for JsonBody<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let Json(body) =
            Json::<T>::from_request(request, state).await.map_err(|rejected| refused(rejected.status(), rejected.body_text()))?;
        Ok(Self(body))
    }
}

fn refused(status: StatusCode, detail: String) -> Problem {
    Problem::new(status, "HTTP-0005", "The request was refused; nothing was changed.", detail)
}

/// An answer whose error, if it is one, is a problem document: what the framework says by itself is put into one.
pub async fn as_problem(response: Response, body_bytes_max: usize) -> Response {
    let status = response.status();
    let is_error = status.is_client_error() || status.is_server_error();
    let kind = response.headers().get(header::CONTENT_TYPE);
    if !is_error || kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/problem")) {
        return response;
    }
    if status == StatusCode::PAYLOAD_TOO_LARGE {
        let detail = format!("the body is larger than {body_bytes_max} bytes; send smaller batches");
        return Problem::new(status, "INGEST-0003", "The body was refused; nothing of it was stored.", detail).into_response();
    }
    let (mut parts, body) = response.into_parts();
    let text = axum::body::to_bytes(body, DETAIL_MAX).await.unwrap_or_default();
    let mut problem = refused(status, String::from_utf8_lossy(&text).into_owned()).into_response();
    // What else the answer says, for example `Allow`, still holds.
    parts.headers.remove(header::CONTENT_LENGTH);
    for (name, value) in &parts.headers {
        if name != header::CONTENT_TYPE {
            problem.headers_mut().insert(name, value.clone());
        }
    }
    problem
}
