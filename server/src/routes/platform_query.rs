//! `POST /v1/sql`: one question, one answer, in the format that the asker accepts. Owned by platform-query.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use platform_catalog::{AsOf, ReadModel};
use platform_iam::{Action, Target};
use platform_query::{Format, Limits, render_within};
use serde::Deserialize;

use super::{platform_registry, scope_of};
use crate::access::Caller;
use crate::answers::Answers;
use crate::contract::{Operation, wire};
use crate::problem::{JsonBody, Problem, internal};
use crate::read_models;

/// Says whether rows are missing from an answer, whatever its format.
const TRUNCATED: HeaderName = HeaderName::from_static("tally-truncated");

wire! {
    /// A question.
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    pub struct SqlRequest {
        /// One SELECT, WITH or VALUES, EXPLAIN of one, SHOW TABLES or DESCRIBE; at most 32 KiB.
        pub sql: String,
        /// Tighter limits than those of the server.
        pub limits: Option<SqlLimits>,
        /// A book, for the table what_if.charges: the usage that was rated, rated under it instead. `draft-1`, `in-force`, or a version by its
        /// address or enough of its first digits. For keys that may read drafts.
        pub book: Option<String>,
    }
}

wire! {
    /// Tighter limits than those of the server; larger ones than its own change nothing.
    #[derive(Default, Deserialize)]
    #[serde(deny_unknown_fields)]
    pub struct SqlLimits {
        /// Rows of the answer; those beyond are left out, and that is told.
        pub rows: Option<usize>,
        /// Bytes of the answer; whole rows that go beyond are left out, and that is told.
        pub bytes: Option<usize>,
        /// Milliseconds; the query fails after them.
        pub time_ms: Option<u64>,
        /// Bytes of memory; the query fails when it needs more.
        pub memory_bytes: Option<usize>,
    }
}

/// What this domain answers.
pub fn operations() -> Vec<Operation> {
    vec![
        Operation::post("/v1/sql", "ask", "Asks in SQL, with exact money.")
            .about(
                "An organization's key sees the rows of its organization, and no table that has none. Decimals are texts in JSON. \
                 The header tally-truncated says whether rows are missing; so does the member truncated in JSON.",
            )
            .body::<SqlRequest>("application/json")
            .answers::<serde_json::Value>(200, "The rows.")
            .or("application/x-ndjson")
            .or("text/csv")
            .or("application/vnd.apache.arrow.stream")
            .or("text/plain")
            .with_header("tally-truncated", "Whether rows are missing: true or false.")
            .problem(400, "Not SQL, refused, or no such table or column.")
            .problem(403, "The key may not read drafts, and named a book.")
            .problem(404, "There is no such book.")
            .problem(406, "No format that is accepted.")
            .problem(413, "The text is too long.")
            .problem(422, "Overflow, a computation that the data does not allow, or a limit of time or memory."),
    ]
}

/// What of the settings a handler needs.
#[derive(Clone, Copy, Debug)]
pub struct AnswerBytes(pub usize);

/// The formats by media type: the first is the one for askers that do not mind.
const FORMATS: [(&str, Format); 5] = [
    ("application/json", Format::Json),
    ("application/x-ndjson", Format::Ndjson),
    ("text/csv", Format::Csv),
    ("application/vnd.apache.arrow.stream", Format::Arrow),
    ("text/plain", Format::Table),
];

/// Asks in SQL, with exact money.
///
/// An organization's key sees the rows of its organization, and no table that has none. Decimals are texts in JSON. The header
/// `tally-truncated` says whether rows are missing; so does the member `truncated` in JSON.
pub async fn ask(
    State(answers): State<Answers>,
    State(AnswerBytes(bytes_max)): State<AnswerBytes>,
    caller: Caller,
    headers: HeaderMap,
    JsonBody(request): JsonBody<SqlRequest>,
) -> Result<Response, Problem> {
    let permit = caller.authorize(Action::SqlAsk, caller.target(None))?;
    let format = accepted(&headers, &FORMATS)?;
    let tighter = request.limits.unwrap_or_default();
    let more = match &request.book {
        None => Vec::new(),
        Some(book) => vec![what_if(&answers, &caller, book, tighter.memory_bytes).await?],
    };
    let limits = Limits { timeout: tighter.time_ms.map(Duration::from_millis), max_rows: tighter.rows, memory_bytes: tighter.memory_bytes };
    let answer = answers.engine().query_with(&request.sql, &scope_of(&permit), AsOf(None), limits, &more).await?;
    let bytes_max = tighter.bytes.map_or(bytes_max, |bytes| bytes.min(bytes_max));
    let rendered = render_within(&answer, format, bytes_max)?;
    let truncated = HeaderValue::from_static(if rendered.truncated { "true" } else { "false" });
    let content_type = HeaderValue::from_static(format.content_type());
    Ok(([(header::CONTENT_TYPE, content_type), (TRUNCATED, truncated)], rendered.bytes).into_response())
}

/// The usage that was rated, under a book that the asker may read.
async fn what_if(answers: &Answers, caller: &Caller, book: &str, memory_bytes: Option<usize>) -> Result<Arc<dyn ReadModel>, Problem> {
    caller.authorize(Action::DraftRead, Target::Deployment)?;
    let version = platform_registry::named(answers, book).await?;
    let most = answers.readers.home.settings.query.memory_bytes_max;
    let memory_bytes = memory_bytes.map_or(most, |bytes| bytes.min(most));
    read_models::what_if::charges(&answers.readers, version, memory_bytes).map_err(|error| internal(&*error))
}

/// The format that the asker likes best among those of a route.
pub fn accepted<F: Copy>(headers: &HeaderMap, formats: &[(&str, F)]) -> Result<F, Problem> {
    let wanted: Vec<&str> =
        headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok()).flat_map(|list| list.split(',')).collect();
    if wanted.is_empty() {
        return formats.first().map(|(_, format)| *format).ok_or_else(|| unacceptable(formats));
    }
    let mut best: Option<(u16, F)> = None;
    for range in wanted {
        let mut parts = range.split(';').map(str::trim);
        let media = parts.next().unwrap_or_default().to_ascii_lowercase();
        let quality = parts.find_map(|part| part.strip_prefix("q=")).map_or(Some(1_000), thousandths).unwrap_or_default();
        let fits = |name: &str| {
            media == "*/*" || media == name || media.strip_suffix("/*").is_some_and(|kind| name.split('/').next() == Some(kind))
        };
        let found = formats.iter().find(|(name, _)| fits(name));
        if let Some((_, format)) = found.filter(|_| quality > 0 && best.is_none_or(|(known, _)| quality > known)) {
            best = Some((quality, *format));
        }
    }
    best.map(|(_, format)| format).ok_or_else(|| unacceptable(formats))
}

/// `0.5` as 500; none when it is no weight.
fn thousandths(weight: &str) -> Option<u16> {
    let (whole, fraction) = weight.split_once('.').unwrap_or((weight, ""));
    let digits = format!("{fraction:0<3}");
    let value = whole.parse::<u16>().ok()?.checked_mul(1_000)?.checked_add(digits.get(..3)?.parse().ok()?)?;
    (value <= 1_000).then_some(value)
}

fn unacceptable<F>(formats: &[(&str, F)]) -> Problem {
    let names: Vec<&str> = formats.iter().map(|(name, _)| *name).collect();
    Problem::new(
        StatusCode::NOT_ACCEPTABLE,
        "HTTP-0007",
        "No format that is accepted is served.",
        format!("this route answers {}; name one of them in Accept", names.join(", ")),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_asker_gets_the_format_that_it_likes_best() {
        let answer = |accept: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, HeaderValue::from_str(accept).unwrap());
            accepted(&headers, &FORMATS).ok()
        };
        assert_eq!(accepted(&HeaderMap::new(), &FORMATS).ok(), Some(Format::Json));
        for (accept, format) in [
            ("*/*", Some(Format::Json)),
            ("text/csv", Some(Format::Csv)),
            ("text/*", Some(Format::Csv)),
            ("application/json;q=0.5, TEXT/CSV;q=0.501", Some(Format::Csv)),
            ("text/html, application/x-ndjson;q=0.1", Some(Format::Ndjson)),
            ("application/vnd.apache.arrow.stream", Some(Format::Arrow)),
            ("text/csv;q=0", None),
            ("text/csv;q=much", None),
            ("text/html", None),
        ] {
            assert_eq!(answer(accept), format, "{accept}");
        }
    }
}
