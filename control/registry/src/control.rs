//! Control records: what enters the stream beside usage, numbered densely. Their payload is canonical JSON.
//! It knows neither the stream nor the table that numbers them.

use serde::Deserialize;
use serde_json::{Value, json};
use shared_types::{ControlNo, Digest, Instant, Month, canonical_json};

/// A numbered control record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Control {
    /// Dense number, from 1.
    pub control_no: ControlNo,
    /// What it says.
    pub body: ControlBody,
}

/// What a control record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ControlBody {
    /// From here on, this registry version is in force.
    Registry {
        /// Address of the version.
        version: Digest,
        /// Whether what was rated before and is reached by the version is rated again here.
        rerates: bool,
    },
    /// Time has come this far.
    Tick {
        /// The instant.
        at: Instant,
    },
    /// Behind this record nothing is booked in the month or an earlier one.
    Close {
        /// The accounting month.
        month: Month,
    },
}

/// Why bytes are not a control record.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// Not the JSON of one.
    #[error("not a control record")]
    Json(#[from] serde_json::Error),
    /// A kind that this program does not know.
    #[error("control record {control_no} has the unknown kind {kind:?}")]
    UnknownKind {
        /// Its number.
        control_no: String,
        /// Its kind.
        kind: String,
    },
    /// Says the same as the canonical text, but is spelled otherwise.
    #[error("the control record is not in canonical form")]
    NotCanonical,
}

/// The payload as it lies in the stream: every number is text.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    control_no: String,
    kind: String,
    #[serde(default)]
    rerates: Option<String>,
    #[serde(default)]
    version: Option<Digest>,
    #[serde(default)]
    at: Option<Instant>,
    #[serde(default)]
    month: Option<String>,
}

impl ControlBody {
    /// `registry`, `tick` or `close`.
    pub fn kind_code(&self) -> &'static str {
        match self {
            Self::Registry { .. } => "registry",
            Self::Tick { .. } => "tick",
            Self::Close { .. } => "close",
        }
    }

    /// The version that it puts in force.
    pub fn registry_version(&self) -> Option<Digest> {
        match self {
            Self::Registry { version, .. } => Some(*version),
            Self::Tick { .. } | Self::Close { .. } => None,
        }
    }

    /// Whether what the version reaches is rated again where the record stands.
    pub fn rerates(&self) -> bool {
        matches!(self, Self::Registry { rerates: true, .. })
    }

    /// The month that it closes.
    pub fn closes(&self) -> Option<Month> {
        match self {
            Self::Close { month } => Some(*month),
            Self::Registry { .. } | Self::Tick { .. } => None,
        }
    }
}

impl Control {
    /// The payload for the stream: canonical JSON, for example `{"control_no":"1","kind":"registry","version":"<64 hex digits>"}`.
    pub fn payload(&self) -> String {
        let (control_no, kind) = (self.control_no.to_string(), self.kind_code());
        let payload: Value = match self.body {
            ControlBody::Registry { version, rerates: false } => {
                json!({"control_no": control_no, "kind": kind, "version": version.to_string()})
            }
            ControlBody::Registry { version, rerates: true } => {
                json!({"control_no": control_no, "kind": kind, "rerates": "true", "version": version.to_string()})
            }
            ControlBody::Tick { at } => json!({"control_no": control_no, "kind": kind, "at": at.to_string()}),
            ControlBody::Close { month } => json!({"control_no": control_no, "kind": kind, "month": month.number().to_string()}),
        };
        // Texts alone always have a canonical form.
        canonical_json(&payload).unwrap_or_default()
    }

    /// SHA-256 of the payload.
    pub fn digest(&self) -> Digest {
        Digest::of(self.payload().as_bytes())
    }

    /// From a payload; anything but its canonical form is refused.
    pub fn parse(payload: &[u8]) -> Result<Self, ControlError> {
        let wire: Wire = serde_json::from_slice(payload)?;
        let body = match (wire.kind.as_str(), wire.version, wire.at, &wire.month, wire.rerates.as_deref()) {
            ("registry", Some(version), None, None, None) => ControlBody::Registry { version, rerates: false },
            ("registry", Some(version), None, None, Some("true")) => ControlBody::Registry { version, rerates: true },
            ("tick", None, Some(at), None, None) => ControlBody::Tick { at },
            ("close", None, None, Some(month), None) => {
                let month = month.parse().ok().and_then(|number| Month::from_number(number).ok()).ok_or(ControlError::NotCanonical)?;
                ControlBody::Close { month }
            }
            ("registry" | "tick" | "close", ..) => return Err(ControlError::NotCanonical),
            _ => return Err(ControlError::UnknownKind { control_no: wire.control_no, kind: wire.kind }),
        };
        let control_no = wire.control_no.parse().map(ControlNo).map_err(|_| ControlError::NotCanonical)?;
        let control = Self { control_no, body };
        if control.payload().as_bytes() == payload { Ok(control) } else { Err(ControlError::NotCanonical) }
    }

    /// `registry`, `tick` or `close`.
    pub fn kind_code(&self) -> &'static str {
        self.body.kind_code()
    }

    /// The version that it puts in force.
    pub fn registry_version(&self) -> Option<Digest> {
        self.body.registry_version()
    }

    /// Whether what the version reaches is rated again where the record stands.
    pub fn rerates(&self) -> bool {
        self.body.rerates()
    }

    /// The month that it closes.
    pub fn closes(&self) -> Option<Month> {
        self.body.closes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(body: ControlBody, payload: &str) {
        let control = Control { control_no: ControlNo(7), body };
        assert_eq!(control.payload(), payload);
        assert_eq!(Control::parse(payload.as_bytes()).unwrap(), control);
    }

    #[test]
    fn payloads_are_frozen_and_parse_back() {
        let version = Digest::of(b"");
        let hex = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        check(ControlBody::Registry { version, rerates: false }, &format!(r#"{{"control_no":"7","kind":"registry","version":"{hex}"}}"#));
        let rerates = format!(r#"{{"control_no":"7","kind":"registry","rerates":"true","version":"{hex}"}}"#);
        check(ControlBody::Registry { version, rerates: true }, &rerates);
        let at = Instant::parse("2026-10-01T00:00:00Z").unwrap();
        check(ControlBody::Tick { at }, r#"{"at":"2026-10-01T00:00:00Z","control_no":"7","kind":"tick"}"#);
        let month = Month::from_number(202_610).unwrap();
        check(ControlBody::Close { month }, r#"{"control_no":"7","kind":"close","month":"202610"}"#);
    }

    #[test]
    fn other_spellings_and_kinds_are_refused() {
        for payload in [
            r#"{"kind":"tick","at":"2026-10-01T00:00:00Z","control_no":"7"}"#,
            r#"{"at":"2026-10-01T02:00:00+02:00","control_no":"7","kind":"tick"}"#,
            r#"{"control_no":"07","kind":"close","month":"202610"}"#,
            r#"{"control_no":"7","kind":"close","month":"202613"}"#,
            r#"{"at":"2026-10-01T00:00:00Z","control_no":"7","kind":"close","month":"202610"}"#,
            r#"{"control_no":"7","kind":"registry"}"#,
            r#"{"control_no":"7","kind":"registry","rerates":"false","version":"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"}"#,
            r#"{"at":"2026-10-01T00:00:00Z","control_no":"7","kind":"tick","rerates":"true"}"#,
        ] {
            assert!(matches!(Control::parse(payload.as_bytes()), Err(ControlError::NotCanonical)), "{payload}");
        }
        let unknown = Control::parse(br#"{"control_no":"7","kind":"rerating"}"#).unwrap_err();
        assert_eq!(unknown.to_string(), "control record 7 has the unknown kind \"rerating\"");
        assert!(matches!(Control::parse(b"{"), Err(ControlError::Json(_))));
    }
}
