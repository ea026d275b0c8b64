//! The event: a CloudEvents 1.0 record in structured JSON, its identity and its canonical form.
//! It knows no meter, no stream and no clock: the time of acceptance comes in.

use std::ops::Range;

use hmac::{Hmac, Mac as _};
use sha2::Sha256;
use shared_types::{Digest, IdentityHash, Instant, OrganizationId, ProjectId, SourceId, write_canonical_string};

use crate::json::{Cursor, Json};
use crate::{Defect, Reason};

/// Longest event id, in bytes.
pub const ID_BYTES_MAX: usize = 256;
/// Longest event type, in bytes.
pub const TYPE_BYTES_MAX: usize = 256;
/// Longest subject, in bytes.
pub const SUBJECT_BYTES_MAX: usize = 1024;

/// The source of what the deployment itself states, such as recurring fees. No other sender may name it.
pub const OWN_SOURCE: &str = "tallystick";

/// What a plausible event is. Fixed for a deployment: a changed limit changes what a replay of the stream gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventLimits {
    /// How far after its acceptance usage may begin or end, in microseconds. Default: one day.
    pub far_future_micros: i64,
}

impl Default for EventLimits {
    fn default() -> Self {
        Self { far_future_micros: 86_400_000_000 }
    }
}

/// The deployment's secret by which identities are hashed. Never shown.
#[derive(Clone)]
pub struct IdentityKey(Hmac<Sha256>);

impl IdentityKey {
    /// From 32 secret bytes.
    pub fn new(secret: &[u8; 32]) -> Self {
        // HMAC pads a key of 32 bytes with zeros to the block of SHA-256: this is `new_from_slice`, which cannot fail here.
        let mut block = [0_u8; 64];
        for (slot, byte) in block.iter_mut().zip(secret) {
            *slot = *byte;
        }
        Self(Hmac::new(&block.into()))
    }

    /// HMAC-SHA256 over (organization, source, id), each after its length as 32 bits big-endian; its first 16 bytes.
    pub fn hash(&self, organization: &str, source: &str, id: &str) -> IdentityHash {
        let mut mac = self.0.clone();
        for part in [organization, source, id] {
            // No part of an event exceeds 256 bytes.
            mac.update(&u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes());
            mac.update(part.as_bytes());
        }
        let full: [u8; 32] = mac.finalize().into_bytes().into();
        let mut hash = [0_u8; 16];
        for (slot, byte) in hash.iter_mut().zip(full) {
            *slot = byte;
        }
        IdentityHash(hash)
    }
}

impl std::fmt::Debug for IdentityKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("IdentityKey(…)")
    }
}

/// A well-formed event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    organization: OrganizationId,
    project: Option<ProjectId>,
    source: SourceId,
    id: String,
    event_type: String,
    subject: Option<String>,
    start_at: Instant,
    end_at: Option<Instant>,
    lane_epoch: Option<i64>,
    lane_sequence: Option<i64>,
    canonical: String,
    /// Where the value of `data` lies in `canonical`.
    data: Option<Range<usize>>,
}

type Members<'a> = Vec<(std::borrow::Cow<'a, str>, Json<'a>)>;

impl Event {
    /// Reads a record: CloudEvents 1.0 structured JSON.
    ///
    /// - Required: `specversion` "1.0", `id`, `source`, `type`, `time`, `organization`. Optional: `subject`, `project`, `endtime`,
    ///   `data` (an object), `datacontenttype` (JSON), `laneepoch` with `lanesequence`. Other extensions are kept.
    /// - Nulls: a member that is `null` is absent, as CloudEvents says.
    /// - Units: `time` and `endtime` are RFC 3339 with an offset, no finer than a microsecond.
    /// - Errors: the first defect found, in the order of the fields above.
    pub fn parse(bytes: &[u8], accepted_at: Instant, limits: &EventLimits) -> Result<Self, Defect> {
        let unparseable = |value: &str, remedy: String| Defect::new(Reason::Unparseable, "", value, remedy);
        let text = std::str::from_utf8(bytes)
            .map_err(|error| unparseable("", format!("not UTF-8 from byte {}; send JSON in UTF-8", error.valid_up_to())))?;
        let json = Json::parse(text).map_err(|error| unparseable(text, format!("{error}; send one JSON object for each event")))?;
        let Json::Object(members) = json else {
            return Err(unparseable(text, "not a JSON object; send one CloudEvents object for each event".to_owned()));
        };
        let version = required(&members, "specversion")?;
        if version != "1.0" {
            return Err(invalid("specversion", version, "only \"1.0\" is read"));
        }
        let id = bounded("id", required(&members, "id")?, ID_BYTES_MAX)?;
        let source = required(&members, "source")?;
        let source = SourceId::parse(source).map_err(|error| invalid("source", source, &error.to_string()))?;
        let event_type = bounded("type", required(&members, "type")?, TYPE_BYTES_MAX)?;
        let organization = required(&members, "organization")?;
        let organization =
            OrganizationId::parse(organization).map_err(|error| invalid("organization", organization, &error.to_string()))?;
        let start_at = instant("time", required(&members, "time")?)?;
        let subject = optional(&members, "subject")?.map(|text| bounded("subject", text, SUBJECT_BYTES_MAX)).transpose()?;
        let project = optional(&members, "project")?
            .map(|text| ProjectId::parse(text).map_err(|error| invalid("project", text, &error.to_string())))
            .transpose()?;
        let end_at = optional(&members, "endtime")?.map(|text| instant("endtime", text)).transpose()?;
        check_data(&members)?;
        let (lane_epoch, lane_sequence) = lane(&members)?;
        check_times(start_at, end_at, accepted_at, limits)?;

        let (canonical, data) = canonical(&members, start_at, end_at, text.len())?;
        Ok(Self { organization, project, source, id, event_type, subject, start_at, end_at, lane_epoch, lane_sequence, canonical, data })
    }

    /// Who owes.
    pub fn organization(&self) -> &OrganizationId {
        &self.organization
    }

    /// Sub-account.
    pub fn project(&self) -> Option<&ProjectId> {
        self.project.as_ref()
    }

    /// Who sent it.
    pub fn source(&self) -> &SourceId {
        &self.source
    }

    /// The source's own name for it: free text of 1 to 256 bytes.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// What happened: meters are chosen by it.
    pub fn event_type(&self) -> &str {
        &self.event_type
    }

    /// What it happened to.
    pub fn subject(&self) -> Option<&str> {
        self.subject.as_deref()
    }

    /// When the usage began (or happened).
    pub fn start_at(&self) -> Instant {
        self.start_at
    }

    /// When it ended, for intervals; never before the start.
    pub fn end_at(&self) -> Option<Instant> {
        self.end_at
    }

    /// Sequenced sources: which run of the source counts. Present together with [`Self::lane_sequence`].
    pub fn lane_epoch(&self) -> Option<i64> {
        self.lane_epoch
    }

    /// Sequenced sources: the number in the lane.
    pub fn lane_sequence(&self) -> Option<i64> {
        self.lane_sequence
    }

    /// Canonical JSON of the event: absent and null members and the lane numbers left out, both times in UTC, numbers as quoted
    /// exact decimals. It parses to an equal event; readings are taken from it, so that stored attributes give the same ones again.
    pub fn canonical(&self) -> &str {
        &self.canonical
    }

    /// Canonical JSON of `data`, an object.
    pub fn data(&self) -> Option<&str> {
        self.canonical.get(self.data.clone()?)
    }

    /// SHA-256 of [`Self::canonical`]: equal content, whatever its spelling.
    pub fn content_digest(&self) -> Digest {
        Digest::of(self.canonical.as_bytes())
    }

    /// What it is counted once by: [`IdentityKey::hash`] of (organization, source, id).
    pub fn identity_hash(&self, key: &IdentityKey) -> IdentityHash {
        key.hash(self.organization.as_str(), self.source.as_str(), &self.id)
    }

    /// Canonical JSON of everything that the source supplied and a leaf of evidence does not show in clear:
    /// `data`, `id`, `project`, `source`, `subject`, `type`; absent ones are left out.
    pub fn source_strings(&self) -> String {
        let data = self.data().unwrap_or_default();
        let mut out = String::with_capacity(data.len() + self.id.len() + self.event_type.len() + 128);
        out.push('{');
        if !data.is_empty() {
            out.push_str("\"data\":");
            out.push_str(data);
            out.push(',');
        }
        let members = [
            ("id", Some(self.id.as_str())),
            ("project", self.project.as_ref().map(ProjectId::as_str)),
            ("source", Some(self.source.as_str())),
            ("subject", self.subject.as_deref()),
            ("type", Some(self.event_type.as_str())),
        ];
        let mut between = "";
        for (name, text) in members.into_iter().filter_map(|(name, text)| text.map(|text| (name, text))) {
            out.push_str(between);
            between = ",";
            write_canonical_string(name, &mut out);
            out.push(':');
            write_canonical_string(text, &mut out);
        }
        out.push('}');
        out
    }
}

fn invalid(field: &str, value: &str, remedy: &str) -> Defect {
    Defect::new(Reason::InvalidField, field, value, remedy)
}

/// A member that is there and not null.
fn member<'m, 'a>(members: &'m Members<'a>, name: &str) -> Option<&'m Json<'a>> {
    members.iter().find(|(key, _)| key == name).map(|(_, value)| value).filter(|value| **value != Json::Null)
}

fn shown(value: &Json<'_>) -> String {
    let mut text = String::new();
    // A number that has no canonical form leaves the text as far as it was written: it is only shown.
    let _ = value.write_canonical(&mut text);
    text
}

fn optional<'m>(members: &'m Members<'_>, name: &str) -> Result<Option<&'m str>, Defect> {
    match member(members, name) {
        None => Ok(None),
        Some(Json::Text(text)) => Ok(Some(text)),
        Some(other) => Err(invalid(name, &shown(other), "must be a string")),
    }
}

fn required<'m>(members: &'m Members<'_>, name: &str) -> Result<&'m str, Defect> {
    optional(members, name)?.ok_or_else(|| Defect::new(Reason::MissingField, name, "", "required; add it to the event"))
}

/// Free text of 1 to `bytes_max` bytes without control characters.
fn bounded(field: &str, text: &str, bytes_max: usize) -> Result<String, Defect> {
    if text.is_empty() || text.len() > bytes_max || text.chars().any(char::is_control) {
        return Err(invalid(field, text, &format!("must be 1 to {bytes_max} bytes without control characters")));
    }
    Ok(text.to_owned())
}

fn instant(field: &str, text: &str) -> Result<Instant, Defect> {
    Instant::parse(text).map_err(|error| invalid(field, text, &error.to_string()))
}

fn check_data(members: &Members<'_>) -> Result<(), Defect> {
    if let Some(kind) = optional(members, "datacontenttype")? {
        let media = kind.split(';').next().unwrap_or_default().trim();
        if !media.eq_ignore_ascii_case("application/json") {
            return Err(invalid("datacontenttype", kind, "leave it out or write \"application/json\""));
        }
    }
    if let Some(encoded) = member(members, "data_base64") {
        return Err(invalid("data_base64", &shown(encoded), "send data as a JSON object in \"data\""));
    }
    match member(members, "data") {
        None | Some(Json::Object(_)) => Ok(()),
        Some(other) => Err(invalid("data", &shown(other), "must be a JSON object")),
    }
}

/// Both lane numbers or none: integers of 0 to 2^63 − 1, as numbers or quoted.
fn lane(members: &Members<'_>) -> Result<(Option<i64>, Option<i64>), Defect> {
    let number = |name: &str| match member(members, name) {
        None => Ok(None),
        Some(value) => {
            let text = match value {
                Json::Number(text) => text,
                Json::Text(text) => text.as_ref(),
                _ => "",
            };
            let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            let parsed = text.parse::<i64>().ok().filter(|_| plain);
            parsed.map(Some).ok_or_else(|| invalid(name, &shown(value), "must be an integer of 0 to 9223372036854775807"))
        }
    };
    let missing = |name: &str| Err(Defect::new(Reason::MissingField, name, "", "laneepoch and lanesequence come together"));
    match (number("laneepoch")?, number("lanesequence")?) {
        (Some(_), None) => missing("lanesequence"),
        (None, Some(_)) => missing("laneepoch"),
        both => Ok(both),
    }
}

fn check_times(start_at: Instant, end_at: Option<Instant>, accepted_at: Instant, limits: &EventLimits) -> Result<(), Defect> {
    if let Some(end_at) = end_at.filter(|end_at| *end_at < start_at) {
        return Err(Defect::new(
            Reason::InvalidInterval,
            "endtime",
            &end_at.to_string(),
            format!("lies before time, {start_at}; an interval ends no earlier than it starts"),
        ));
    }
    let latest = accepted_at.micros().saturating_add(limits.far_future_micros);
    for (field, at) in [("time", Some(start_at)), ("endtime", end_at)] {
        if let Some(at) = at.filter(|at| at.micros() > latest) {
            return Err(Defect::new(
                Reason::FarFuture,
                field,
                &at.to_string(),
                format!("was accepted at {accepted_at}, too long before; check the clock of the source"),
            ));
        }
    }
    Ok(())
}

/// Canonical text and where `data` lies in it. Members come sorted.
fn canonical(
    members: &Members<'_>,
    start_at: Instant,
    end_at: Option<Instant>,
    bytes: usize,
) -> Result<(String, Option<Range<usize>>), Defect> {
    let mut out = String::with_capacity(bytes + 16);
    let mut data = None;
    out.push('{');
    for (name, value) in members {
        if *value == Json::Null || name == "laneepoch" || name == "lanesequence" {
            continue;
        }
        if out.len() > 1 {
            out.push(',');
        }
        write_canonical_string(name, &mut out);
        out.push(':');
        let start = out.len();
        match (name.as_ref(), end_at) {
            ("time", _) => write_canonical_string(&start_at.to_string(), &mut out),
            ("endtime", Some(end_at)) => write_canonical_string(&end_at.to_string(), &mut out),
            _ => value.write_canonical(&mut out).map_err(|error| invalid(name, "", &error.to_string()))?,
        }
        if name == "data" {
            data = Some(start..out.len());
        }
    }
    out.push('}');
    Ok((out, data))
}

/// What of a record's envelope could be read, whether or not it is an event; each text cut to 256 characters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Glimpse {
    /// Member `organization`: the record's shard is the shard of this text, or of the empty text.
    pub organization_text: Option<String>,
    /// Member `source`.
    pub source: Option<String>,
    /// Member `id`.
    pub id: Option<String>,
    /// Member `type`.
    pub event_type: Option<String>,
}

/// Looks at a record without judging it: reads up to the first fault, of repeated members the first.
/// For every record that [`Event::parse`] takes, what it sees is what the event says.
pub fn glimpse(bytes: &[u8]) -> Glimpse {
    let mut seen = Glimpse::default();
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => bytes.get(..error.valid_up_to()).and_then(|valid| std::str::from_utf8(valid).ok()).unwrap_or_default(),
    };
    let mut cursor = Cursor::new(text);
    cursor.space();
    // The fault itself is of no interest: a record that has one is quarantined when it is parsed.
    let _ = cursor.members(|cursor, name| {
        let slot = match name.as_ref() {
            "organization" => &mut seen.organization_text,
            "source" => &mut seen.source,
            "id" => &mut seen.id,
            "type" => &mut seen.event_type,
            _ => return cursor.skip(1),
        };
        if cursor.peek() != Some(b'"') {
            return cursor.skip(1);
        }
        let text = cursor.string()?;
        slot.get_or_insert_with(|| text.chars().take(256).collect());
        Ok(())
    });
    seen
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVENT: &str = r#"{"specversion":"1.0","id":"e-1","source":"gateway/1","type":"llm.request","organization":"acme",
        "time":"2026-11-24T10:30:00.5+01:00","subject":"key \"7\"","project":"chat","endtime":"2026-11-24T09:31:00Z",
        "laneepoch":3,"lanesequence":"41","region":"eu","extra":null,
        "data":{"model":"m1","input_tokens":1.50e2,"deep":{"x":[1,"é\n"]}}}"#;

    fn accepted_at() -> Instant {
        Instant::parse("2026-11-24T09:35:00Z").unwrap()
    }

    fn parse(text: &str) -> Result<Event, Defect> {
        Event::parse(text.as_bytes(), accepted_at(), &EventLimits::default())
    }

    fn with(from: &str, to: &str) -> Result<Event, Defect> {
        assert!(EVENT.contains(from), "{from}");
        parse(&EVENT.replace(from, to))
    }

    #[test]
    fn an_event_is_read_whole() {
        let event = parse(EVENT).unwrap();
        assert_eq!(event.organization().as_str(), "acme");
        assert_eq!(event.project().unwrap().as_str(), "chat");
        assert_eq!(event.source().as_str(), "gateway/1");
        assert_eq!((event.id(), event.event_type(), event.subject()), ("e-1", "llm.request", Some("key \"7\"")));
        assert_eq!(event.start_at().to_string(), "2026-11-24T09:30:00.500000Z");
        assert_eq!(event.end_at().unwrap().to_string(), "2026-11-24T09:31:00Z");
        assert_eq!((event.lane_epoch(), event.lane_sequence()), (Some(3), Some(41)));
        assert_eq!(event.data(), Some(r#"{"deep":{"x":["1","é\n"]},"input_tokens":"150","model":"m1"}"#));
        assert_eq!(
            event.canonical(),
            concat!(
                r#"{"data":{"deep":{"x":["1","é\n"]},"input_tokens":"150","model":"m1"},"endtime":"2026-11-24T09:31:00Z","id":"e-1","#,
                r#""organization":"acme","project":"chat","region":"eu","source":"gateway/1","specversion":"1.0","subject":"key \"7\"","#,
                r#""time":"2026-11-24T09:30:00.500000Z","type":"llm.request"}"#
            )
        );
        assert_eq!(
            event.source_strings(),
            concat!(
                r#"{"data":{"deep":{"x":["1","é\n"]},"input_tokens":"150","model":"m1"},"id":"e-1","project":"chat","#,
                r#""source":"gateway/1","subject":"key \"7\"","type":"llm.request"}"#
            )
        );
    }

    #[test]
    fn the_canonical_form_is_the_shared_one_and_parses_to_the_same_content() {
        let event = parse(EVENT).unwrap();
        let again = parse(event.canonical()).unwrap();
        assert_eq!((again.canonical(), again.data()), (event.canonical(), event.data()));
        assert_eq!(again.content_digest(), event.content_digest());
        for text in [event.canonical(), &event.source_strings()] {
            let value: serde_json::Value = serde_json::from_str(text).unwrap();
            assert_eq!(shared_types::canonical_json(&value).unwrap(), text);
        }
    }

    #[test]
    fn spelling_and_lanes_do_not_change_the_content_but_values_do() {
        let digest = |event: Result<Event, Defect>| event.unwrap().content_digest();
        let base = digest(parse(EVENT));
        assert_eq!(digest(with("1.50e2", "150.0")), base);
        assert_eq!(digest(with("1.50e2", "\"150\"")), base);
        assert_eq!(digest(with("2026-11-24T10:30:00.5+01:00", "2026-11-24T09:30:00.500Z")), base);
        assert_eq!(digest(with("\"lanesequence\":\"41\"", "\"lanesequence\":42")), base);
        assert_eq!(digest(with("\"extra\":null,", "")), base);
        assert_ne!(digest(with("1.50e2", "151")), base);
        assert_ne!(digest(with("\"region\":\"eu\"", "\"region\":\"us\"")), base);
    }

    #[test]
    fn the_identity_is_frozen_and_keyed() {
        let event = parse(EVENT).unwrap();
        let key = IdentityKey::new(&[7; 32]);
        // python3: hmac.new(bytes([7])*32, b"\0\0\0\4acme\0\0\0\tgateway/1\0\0\0\3e-1", "sha256").hexdigest()[:32]
        assert_eq!(event.identity_hash(&key).to_string(), "76a4c0c1e6fe5281bee01e8e31693e79");
        assert_ne!(event.identity_hash(&IdentityKey::new(&[8; 32])), event.identity_hash(&key));
        // Neither project nor time nor data belongs to the identity; the borders between its parts do.
        assert_eq!(with("\"project\":\"chat\",", "").unwrap().identity_hash(&key), event.identity_hash(&key));
        let moved = EVENT.replace("\"e-1\"", "\"1e-1\"").replace("gateway/1", "gateway/");
        assert_ne!(parse(&moved).unwrap().identity_hash(&key), event.identity_hash(&key));
        assert_eq!(format!("{key:?}"), "IdentityKey(…)");
    }

    #[test]
    fn each_defect_is_named() {
        let defect = |from: &str, to: &str| with(from, to).unwrap_err().to_string();
        let reason = |from: &str, to: &str| with(from, to).unwrap_err().reason;
        assert_eq!(defect("\"1.0\"", "\"0.3\""), "specversion \"0.3\": only \"1.0\" is read");
        assert_eq!(defect("\"id\":\"e-1\",", ""), "id: required; add it to the event");
        assert_eq!(defect("\"e-1\"", "null"), "id: required; add it to the event");
        assert_eq!(defect("\"e-1\"", "7"), "id \"\\\"7\\\"\": must be a string");
        assert_eq!(defect("\"e-1\"", "\"\""), "id: must be 1 to 256 bytes without control characters");
        assert_eq!(reason("\"e-1\"", &format!("\"{}\"", "x".repeat(257))), Reason::InvalidField);
        assert!(with("\"e-1\"", &format!("\"{}\"", "x".repeat(256))).is_ok());
        assert_eq!(reason("\"acme\"", "\"a b\""), Reason::InvalidField);
        assert_eq!(reason("\"organization\":\"acme\",", ""), Reason::MissingField);
        assert_eq!(
            defect("2026-11-24T10:30:00.5+01:00", "2026-11-24T10:30:00.1234567Z"),
            "time \"2026-11-24T10:30:00.1234567Z\": \"2026-11-24T10:30:00.1234567Z\" is finer than a microsecond"
        );
        assert_eq!(reason("2026-11-24T10:30:00.5+01:00", "yesterday"), Reason::InvalidField);
        assert_eq!(reason("2026-11-24T09:31:00Z", "2026-11-24T09:29:00Z"), Reason::InvalidInterval);
        assert_eq!(reason("2026-11-24T09:31:00Z", "2026-11-25T09:35:00.000001Z"), Reason::FarFuture);
        assert!(with("2026-11-24T09:31:00Z", "2026-11-25T09:35:00Z").is_ok());
        assert_eq!(reason("\"laneepoch\":3,", ""), Reason::MissingField);
        assert_eq!(reason("\"laneepoch\":3", "\"laneepoch\":-3"), Reason::InvalidField);
        assert_eq!(reason("\"laneepoch\":3", "\"laneepoch\":3.0"), Reason::InvalidField);
        assert_eq!(reason("\"data\":{", "\"data\":7,\"was\":{"), Reason::InvalidField);
        assert_eq!(reason("1.50e2", "1e999"), Reason::InvalidField);
        assert_eq!(reason("\"region\":\"eu\"", "\"datacontenttype\":\"text/plain\""), Reason::InvalidField);
        assert_eq!(reason("\"region\":\"eu\"", "\"data_base64\":\"AA==\""), Reason::InvalidField);
        assert!(with("\"region\":\"eu\"", "\"datacontenttype\":\"application/json; charset=utf-8\"").is_ok());
        assert_eq!(reason("\"region\":\"eu\"", "\"region\":\"eu\",\"region\":\"eu\""), Reason::Unparseable);
        for bytes in [&b"\xff"[..], b"", b"[]", b"7", &EVENT.as_bytes()[1..]] {
            assert_eq!(Event::parse(bytes, accepted_at(), &EventLimits::default()).unwrap_err().reason, Reason::Unparseable);
        }
    }

    #[test]
    fn data_may_be_absent() {
        let text = r#"{"specversion":"1.0","id":"1","source":"s","type":"t","organization":"o","time":"2026-01-01T00:00:00Z","data":null}"#;
        let event = parse(text).unwrap();
        assert_eq!(event.data(), None);
        assert_eq!(event.source_strings(), r#"{"id":"1","source":"s","type":"t"}"#);
    }

    #[test]
    fn a_glimpse_shows_what_can_be_seen() {
        let event = glimpse(EVENT.as_bytes());
        let all = |a: &str, b: &str, c: &str, d: &str| Glimpse {
            organization_text: Some(a.to_owned()),
            source: Some(b.to_owned()),
            id: Some(c.to_owned()),
            event_type: Some(d.to_owned()),
        };
        assert_eq!(event, all("acme", "gateway/1", "e-1", "llm.request"));
        let cut = &EVENT.as_bytes()[..EVENT.find("organization").unwrap()];
        assert_eq!(glimpse(cut), Glimpse { organization_text: None, ..event.clone() });
        let broken = [EVENT.as_bytes(), b"\xff"].concat();
        assert_eq!(glimpse(&broken), event);
        let escaped = r#" {"organiz\u0061tion":"\u0061cme","source":7,"id":"e-1","id":"e-2"}"#;
        assert_eq!(
            glimpse(escaped.as_bytes()),
            Glimpse { organization_text: Some("acme".to_owned()), id: Some("e-1".to_owned()), ..Glimpse::default() }
        );
        for bytes in [&b""[..], b"[]", b"\"organization\"", b"{", b"\xff\xfe"] {
            assert_eq!(glimpse(bytes), Glimpse::default());
        }
    }
}
