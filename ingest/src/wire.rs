//! The body of an HTTP request becomes stream records: one for each event, its bytes exactly as they were sent.
//! It judges the body, not the events: a well-formed element that is no event is accepted, and quarantined when it is read.
//! It knows no HTTP beyond media types and statuses, and no stream.

use platform_usage::glimpse;
use platform_usage::json::{Elements, elements};
use shared_types::ShardId;

/// How much one body may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WireLimits {
    /// Bytes of a body, after any content encoding. Default 64 MiB.
    pub body_bytes_max: usize,
    /// Events of a body. Default 10,000.
    pub events_max: usize,
    /// Bytes of an event. Default 1 MiB less 1 KiB, so that a framed record fits into 1 MiB.
    pub event_bytes_max: usize,
}

impl Default for WireLimits {
    fn default() -> Self {
        Self { body_bytes_max: 64 << 20, events_max: 10_000, event_bytes_max: (1 << 20) - 1024 }
    }
}

/// One event as it was sent, with the shard of its organization.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawEvent {
    /// Where it goes: the shard of its `organization` as far as that can be read, else of the empty text.
    pub shard: ShardId,
    /// Its exact bytes.
    pub payload: Vec<u8>,
    /// Member `organization` as far as it can be read.
    pub organization: Option<String>,
    /// Member `source` as far as it can be read.
    pub source: Option<String>,
}

impl RawEvent {
    /// A record of these bytes, whatever they are.
    pub fn new(payload: Vec<u8>) -> Self {
        let seen = glimpse(&payload);
        let shard = ShardId::of_organization(seen.organization_text.as_deref().unwrap_or_default());
        Self { shard, payload, organization: seen.organization_text, source: seen.source }
    }
}

/// Why a body is refused as a whole: nothing of it was stored.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// Not a media type of events.
    #[error(
        "content type {found:?} is not read: send application/cloudevents+json, application/cloudevents-batch+json or application/json in UTF-8"
    )]
    MediaType {
        /// What was sent, cut to 80 characters.
        found: String,
    },
    /// Not JSON.
    #[error("the body is not JSON: {what} at line {line}, column {column} (byte {at})")]
    Unparseable {
        /// What is wrong.
        what: String,
        /// Byte offset in the body.
        at: usize,
        /// Line, from 1.
        line: usize,
        /// Column in characters, from 1.
        column: usize,
    },
    /// JSON of another shape than the media type says.
    #[error("the body is not {wanted}, as its content type says")]
    Shape {
        /// What the media type wants.
        wanted: &'static str,
    },
    /// Too large as a whole.
    #[error("the body has {bytes} bytes; at most {limit} are taken: send fewer events at a time")]
    BodyTooLarge {
        /// Its bytes.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// Too many events.
    #[error("the body has {events} events; at most {limit} are taken at a time")]
    TooManyEvents {
        /// Its events.
        events: usize,
        /// The limit.
        limit: usize,
    },
    /// One event is too large.
    #[error("event {index} of the body (from 0) has {bytes} bytes; at most {limit} are taken")]
    EventTooLarge {
        /// Which one, from 0.
        index: usize,
        /// Its bytes.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
}

impl WireError {
    /// The HTTP status that says so: 400, 413 or 415.
    pub fn status(&self) -> u16 {
        match self {
            Self::MediaType { .. } => 415,
            Self::Unparseable { .. } | Self::Shape { .. } => 400,
            Self::BodyTooLarge { .. } | Self::TooManyEvents { .. } | Self::EventTooLarge { .. } => 413,
        }
    }
}

enum Wanted {
    One,
    Many,
    Either,
}

/// Splits a body into events.
///
/// - `content_type`: parameters are allowed, a charset other than UTF-8 is not.
/// - Events come in the order of the body; an empty array holds none.
/// - Errors: see [`WireError`]; an error in one place refuses the whole body.
pub fn split_body(content_type: &str, body: &[u8], limits: &WireLimits) -> Result<Vec<RawEvent>, WireError> {
    let wanted = media_type(content_type)?;
    if body.len() > limits.body_bytes_max {
        return Err(WireError::BodyTooLarge { bytes: body.len(), limit: limits.body_bytes_max });
    }
    let text = std::str::from_utf8(body).map_err(|error| unparseable(body, error.valid_up_to(), "not UTF-8".to_owned()))?;
    let found = elements(text).map_err(|error| unparseable(body, error.at, error.what))?;
    let texts = match (wanted, found) {
        (Wanted::One | Wanted::Either, Elements::One(text)) if text.starts_with('{') => vec![text],
        (Wanted::Many | Wanted::Either, Elements::Many(texts)) => texts,
        (Wanted::One, _) => return Err(WireError::Shape { wanted: "one JSON object" }),
        (Wanted::Many, _) => return Err(WireError::Shape { wanted: "a JSON array" }),
        (Wanted::Either, _) => return Err(WireError::Shape { wanted: "a JSON object or array" }),
    };
    if texts.len() > limits.events_max {
        return Err(WireError::TooManyEvents { events: texts.len(), limit: limits.events_max });
    }
    let mut events = Vec::with_capacity(texts.len());
    for (index, text) in texts.into_iter().enumerate() {
        if text.len() > limits.event_bytes_max {
            return Err(WireError::EventTooLarge { index, bytes: text.len(), limit: limits.event_bytes_max });
        }
        events.push(RawEvent::new(text.as_bytes().to_owned()));
    }
    Ok(events)
}

fn media_type(content_type: &str) -> Result<Wanted, WireError> {
    let refused = || WireError::MediaType { found: content_type.chars().take(80).collect() };
    let mut parts = content_type.split(';');
    let media = parts.next().unwrap_or_default().trim().to_ascii_lowercase();
    for parameter in parts {
        let Some((name, value)) = parameter.split_once('=') else { continue };
        let utf8 = value.trim().trim_matches('"').eq_ignore_ascii_case("utf-8");
        if name.trim().eq_ignore_ascii_case("charset") && !utf8 {
            return Err(refused());
        }
    }
    match media.as_str() {
        "application/cloudevents+json" => Ok(Wanted::One),
        "application/cloudevents-batch+json" => Ok(Wanted::Many),
        "application/json" => Ok(Wanted::Either),
        _ => Err(refused()),
    }
}

fn unparseable(body: &[u8], at: usize, what: String) -> WireError {
    let before = body.get(..at).unwrap_or(body);
    let line = before.iter().filter(|byte| **byte == b'\n').count().saturating_add(1);
    let start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at.saturating_add(1));
    let column = String::from_utf8_lossy(before.get(start..).unwrap_or_default()).chars().count().saturating_add(1);
    WireError::Unparseable { what, at, line, column }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "application/cloudevents+json";
    const MANY: &str = "application/cloudevents-batch+json";
    const EITHER: &str = "application/json";

    fn check(content_type: &str, body: &str, expected: &[&str]) {
        let events = split_body(content_type, body.as_bytes(), &WireLimits::default()).unwrap();
        let payloads: Vec<&str> = events.iter().map(|event| std::str::from_utf8(&event.payload).unwrap()).collect();
        assert_eq!(payloads, expected);
    }

    fn refused(content_type: &str, body: &[u8], limits: WireLimits, status: u16, text: &str) {
        let error = split_body(content_type, body, &limits).unwrap_err();
        assert_eq!((error.status(), error.to_string().as_str()), (status, text));
    }

    #[test]
    fn bytes_are_kept_as_they_were_sent() {
        check(ONE, " {\"id\" : 1.50}\n", &["{\"id\" : 1.50}"]);
        check(MANY, "[{\"a\":1 },\n {\"a\":1,\"a\":2}, 7, null]", &["{\"a\":1 }", "{\"a\":1,\"a\":2}", "7", "null"]);
        check(EITHER, "{}", &["{}"]);
        check(EITHER, "[{}]", &["{}"]);
        check(MANY, "[]", &[]);
        check("Application/CloudEvents+JSON; charset=\"UTF-8\"; x=y", "{}", &["{}"]);
    }

    #[test]
    fn an_event_goes_to_the_shard_of_its_organization_even_when_it_is_wrong() {
        let body = r#"[{"organization":"acme","time":7},{"organization":7},7]"#;
        let events = split_body(MANY, body.as_bytes(), &WireLimits::default()).unwrap();
        let shards: Vec<ShardId> = events.iter().map(|event| event.shard).collect();
        let nobody = ShardId::of_organization("");
        assert_eq!(shards, [ShardId::of_organization("acme"), nobody, nobody]);
        assert_eq!(RawEvent::new(b"\xff not json".to_vec()).shard, nobody);
    }

    #[test]
    fn a_body_is_refused_whole() {
        let limits = WireLimits::default();
        refused(EITHER, b"[{},\n {\"a\":}]", limits, 400, "the body is not JSON: no JSON value at line 2, column 7 (byte 11)");
        refused(EITHER, b"", limits, 400, "the body is not JSON: no JSON value at line 1, column 1 (byte 0)");
        refused(EITHER, b"{\"a\":\"\xff\"}", limits, 400, "the body is not JSON: not UTF-8 at line 1, column 7 (byte 6)");
        refused(EITHER, b"[{}] x", limits, 400, "the body is not JSON: text after the end of the value at line 1, column 6 (byte 5)");
        refused(EITHER, b"7", limits, 400, "the body is not a JSON object or array, as its content type says");
        refused(ONE, b"[{}]", limits, 400, "the body is not one JSON object, as its content type says");
        refused(MANY, b"{}", limits, 400, "the body is not a JSON array, as its content type says");
        assert_eq!(split_body("text/plain", b"{}", &limits).unwrap_err().status(), 415);
        assert_eq!(split_body("application/json; charset=latin1", b"{}", &limits).unwrap_err().status(), 415);
    }

    #[test]
    fn sizes_are_limited() {
        let limits = WireLimits { body_bytes_max: 20, events_max: 3, event_bytes_max: 8 };
        refused(MANY, &[b' '; 21], limits, 413, "the body has 21 bytes; at most 20 are taken: send fewer events at a time");
        refused(MANY, b"[1,2,3,4]", limits, 413, "the body has 4 events; at most 3 are taken at a time");
        refused(MANY, b"[1,\"1234567\"]", limits, 413, "event 1 of the body (from 0) has 9 bytes; at most 8 are taken");
        assert_eq!(split_body(MANY, b"[1,2,\"123456\"]", &limits).unwrap().len(), 3);
    }
}
