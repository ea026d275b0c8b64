//! The checkpoint: one entry with the heads of everything, in a C2SP tiled log whose root is signed.
//! Formats: c2sp.org/signed-note, c2sp.org/tlog-checkpoint. It knows neither storage nor the clock.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use ed25519_dalek::{SigningKey, VerifyingKey};
use serde_json::json;
use shared_types::{BatchNo, Digest, Instant, canonical_json};
use signed_note::{Note, StandardSigner, StandardVerifier, Verifier as _, VerifierList};

use crate::tree::{Head, leaf_hash};

/// Version of an entry without the head of the audit chains. It stays readable for ever.
const WITHOUT_AUDIT: &str = "1";
/// Version of an entry with it.
const WITH_AUDIT: &str = "2";

/// Where the audit chains stand: how many there are, and the digest over their heads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuditHead {
    /// How many chains; never fewer than before.
    pub chains: u64,
    /// How many records they have in all; never fewer than before.
    pub records: u64,
    /// Over all heads.
    pub digest: Digest,
}

/// How far the ledger stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LedgerHead {
    /// The last batch that the ledger has folded.
    pub batch_no: BatchNo,
    /// Number of its last entry; 0 before the first.
    pub seq: u64,
    /// Digest of its last entry; zeros before the first.
    pub digest: Digest,
}

/// The heads of everything at one cut: what a checkpoint says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The last batch that the logs contain; 0 before the first.
    pub batch_no: BatchNo,
    /// Its digest; zeros before the first.
    pub batch_digest: Digest,
    /// The ledger, never behind `batch_no`.
    pub ledger: LedgerHead,
    /// The registry version in force.
    pub registry_version: Digest,
    /// How many organizations, and the root over their leaves.
    pub organizations: Head,
    /// The audit chains; none in entries of version 1.
    pub audit: Option<AuditHead>,
    /// When the checkpoint was made.
    pub recorded_at: Instant,
}

/// Why a text is not an entry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EntryError {
    /// A member is missing, has another form, or the version is not ours.
    #[error("the entry has no readable {member}")]
    Member {
        /// The member's name.
        member: &'static str,
    },
    /// The text is not canonical, or says more than an entry does.
    #[error("the entry is not in canonical form")]
    NotCanonical,
}

impl AuditHead {
    /// Whether the chains can have come from there: chains and records are only ever added.
    pub(crate) fn follows(&self, before: &Self) -> bool {
        self.chains >= before.chains && self.records >= before.records && (self.records > before.records || self == before)
    }
}

impl Entry {
    /// Canonical JSON; this text is the entry of the tiled log.
    pub fn canonical(&self) -> String {
        let mut members = json!({
            "batch_digest": self.batch_digest,
            "batch_no": self.batch_no,
            "ledger_batch_no": self.ledger.batch_no,
            "ledger_digest": self.ledger.digest,
            "ledger_seq": self.ledger.seq,
            "organizations": self.organizations.size,
            "organizations_root": self.organizations.root,
            "recorded_at": self.recorded_at,
            "registry_version": self.registry_version,
            "v": WITHOUT_AUDIT,
        });
        if let (Some(audit), Some(members)) = (self.audit, members.as_object_mut()) {
            members.insert("audit_chains".to_owned(), json!(audit.chains));
            members.insert("audit_digest".to_owned(), json!(audit.digest));
            members.insert("audit_records".to_owned(), json!(audit.records));
            members.insert("v".to_owned(), json!(WITH_AUDIT));
        }
        // Texts and integers always have a canonical form.
        canonical_json(&members).unwrap_or_default()
    }

    /// The RFC 6962 hash of the canonical text.
    pub fn hash(&self) -> Digest {
        leaf_hash(self.canonical().as_bytes())
    }

    /// Reads what [`Entry::canonical`] wrote, and nothing else.
    pub fn parse(text: &str) -> Result<Self, EntryError> {
        let members: std::collections::BTreeMap<String, String> =
            serde_json::from_str(text).map_err(|_| EntryError::Member { member: "members" })?;
        let member = |member| members.get(member).map(String::as_str).ok_or(EntryError::Member { member });
        let number = |name| member(name)?.parse::<u64>().map_err(|_| EntryError::Member { member: name });
        let digest = |name| Digest::parse(member(name)?).ok_or(EntryError::Member { member: name });
        let entry = Self {
            batch_no: BatchNo(number("batch_no")?),
            batch_digest: digest("batch_digest")?,
            ledger: LedgerHead {
                batch_no: BatchNo(number("ledger_batch_no")?),
                seq: number("ledger_seq")?,
                digest: digest("ledger_digest")?,
            },
            registry_version: digest("registry_version")?,
            organizations: Head { size: number("organizations")?, root: digest("organizations_root")? },
            audit: match member("v")? {
                WITHOUT_AUDIT => None,
                WITH_AUDIT => {
                    Some(AuditHead { chains: number("audit_chains")?, records: number("audit_records")?, digest: digest("audit_digest")? })
                }
                _ => return Err(EntryError::Member { member: "v" }),
            },
            recorded_at: Instant::parse(member("recorded_at")?).map_err(|_| EntryError::Member { member: "recorded_at" })?,
        };
        if entry.canonical() == text { Ok(entry) } else { Err(EntryError::NotCanonical) }
    }

    /// Whether both say the same apart from the time.
    pub fn same_state(&self, other: &Self) -> bool {
        Self { recorded_at: other.recorded_at, ..self.clone() } == *other
    }
}

/// One checkpoint: an entry, the log's head after it, and the signed note over that head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The last entry of the tree.
    pub entry: Entry,
    /// Size and root of the tiled log with this entry.
    pub head: Head,
    /// Signed note: origin, size, root, signatures.
    pub note: String,
}

/// Why there is no signer or no signature.
#[derive(Debug, thiserror::Error)]
pub enum SignerError {
    /// C2SP: not empty, no white space, no plus sign.
    #[error("{origin:?} is no origin of a log: it must be a name without white space and +, such as example.com/evidence")]
    Origin {
        /// The refused text.
        origin: String,
    },
    /// The note could not be made.
    #[error("could not sign the checkpoint of {size} entries")]
    Sign {
        /// Size of the tree.
        size: u64,
        /// Why.
        #[source]
        source: signed_note::NoteError,
    },
    /// The note over a text could not be made.
    #[error("could not sign a note with the log's key")]
    Vouch {
        /// Why.
        #[source]
        source: signed_note::NoteError,
    },
}

/// The log's key. The name of the key is the log's origin. `Debug` shows no secret.
#[derive(Clone)]
pub struct Signer {
    origin: String,
    signer: StandardSigner,
    key: LogKey,
}

impl Signer {
    /// From the origin (settings) and the 32 secret bytes of an Ed25519 key.
    pub fn new(origin: &str, secret: &[u8; 32]) -> Result<Self, SignerError> {
        let refused = || SignerError::Origin { origin: origin.chars().take(80).collect() };
        if !signed_note::is_key_name_valid(origin) {
            return Err(refused());
        }
        let public = SigningKey::from_bytes(secret).verifying_key();
        let id = signed_note::key_id(origin, &[&[1], public.as_bytes().as_slice()].concat());
        let secret = BASE64_STANDARD.encode([&[1], secret.as_slice()].concat());
        let signer = StandardSigner::new(&format!("PRIVATE+KEY+{origin}+{id:08x}+{secret}")).map_err(|_| refused())?;
        let key = LogKey::parse(&signed_note::new_ed25519_verifier_key(origin, &public)).map_err(|_| refused())?;
        Ok(Self { origin: origin.to_owned(), signer, key })
    }

    /// The public half, for those who verify.
    pub fn key(&self) -> &LogKey {
        &self.key
    }

    /// The signed note over a head. Ed25519 is deterministic: the same head gives the same note.
    pub fn sign(&self, head: Head) -> Result<String, SignerError> {
        let failed = |source| SignerError::Sign { size: head.size, source };
        let text = format!("{}\n{}\n{}\n", self.origin, head.size, BASE64_STANDARD.encode(head.root.0));
        self.note(&text).map_err(failed)
    }

    /// A signed note over a text that is no checkpoint: by it the log's key vouches for something. The text ends with a line end.
    pub fn sign_text(&self, text: &str) -> Result<String, SignerError> {
        self.note(text).map_err(|source| SignerError::Vouch { source })
    }

    fn note(&self, text: &str) -> Result<String, signed_note::NoteError> {
        let mut note = Note::new(text.as_bytes(), &[])?;
        note.add_sigs(&[&self.signer])?;
        String::from_utf8(note.to_bytes()).map_err(|_| signed_note::NoteError::MalformedNote)
    }
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Signer({})", self.key)
    }
}

/// Why a note does not hold.
#[derive(Debug, thiserror::Error)]
pub enum NoteError {
    /// Not a verifier key `origin+id+key`.
    #[error("{text:?} is no verifier key")]
    Key {
        /// The refused text.
        text: String,
    },
    /// Not a signed note, or not signed by this key.
    #[error("the note is not signed by {key}")]
    Unsigned {
        /// The pinned key.
        key: String,
        /// Why.
        #[source]
        source: signed_note::NoteError,
    },
    /// Signed, but not the checkpoint of this log.
    #[error("the note is no checkpoint of {origin}")]
    NoCheckpoint {
        /// The pinned origin.
        origin: String,
    },
}

/// The public key of a log: what someone outside pins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogKey {
    origin: String,
    text: String,
}

impl LogKey {
    /// From `origin+id+key` (c2sp.org/signed-note, verifier keys).
    pub fn parse(text: &str) -> Result<Self, NoteError> {
        let verifier = StandardVerifier::new(text).map_err(|_| NoteError::Key { text: text.chars().take(160).collect() })?;
        Ok(Self { origin: verifier.name().to_owned(), text: text.to_owned() })
    }

    /// The verifier key of a public key under a name.
    pub(crate) fn of(name: &str, public: &VerifyingKey) -> Result<Self, SignerError> {
        let refused = || SignerError::Origin { origin: name.chars().take(80).collect() };
        if !signed_note::is_key_name_valid(name) {
            return Err(refused());
        }
        Self::parse(&signed_note::new_ed25519_verifier_key(name, public)).map_err(|_| refused())
    }

    /// Key id: 8 hex digits.
    pub fn id(&self) -> &str {
        self.text.split('+').nth(1).unwrap_or_default()
    }

    /// The public key as SubjectPublicKeyInfo in PEM, for OpenSSL.
    pub fn pem(&self) -> String {
        // RFC 8410: everything before the 32 bytes of the key. The verifier key carries them behind one byte, the algorithm.
        const PREFIX: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
        let encoded = self.text.splitn(3, '+').nth(2).unwrap_or_default();
        let bytes = BASE64_STANDARD.decode(encoded).unwrap_or_default();
        let info = [&PREFIX[..], bytes.get(1..).unwrap_or_default()].concat();
        format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", BASE64_STANDARD.encode(info))
    }

    /// The log's origin.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// Verifies a note and answers the head that it signs.
    pub fn open(&self, note: &str) -> Result<Head, NoteError> {
        let unsigned = |source| NoteError::Unsigned { key: self.text.clone(), source };
        let verifier = StandardVerifier::new(&self.text).map_err(|_| NoteError::Key { text: self.text.clone() })?;
        let note = Note::from_bytes(note.as_bytes()).map_err(unsigned)?;
        note.verify(&VerifierList::new(vec![Box::new(verifier)])).map_err(unsigned)?;
        let checkpoint = tlog_tiles::Checkpoint::from_bytes(note.text())
            .ok()
            .filter(|checkpoint| checkpoint.origin() == self.origin && checkpoint.extension().is_empty())
            .ok_or_else(|| NoteError::NoCheckpoint { origin: self.origin.clone() })?;
        Ok(Head { size: checkpoint.size(), root: Digest(checkpoint.hash().0) })
    }
}

impl std::fmt::Display for LogKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry() -> Entry {
        Entry {
            batch_no: BatchNo(7),
            batch_digest: Digest::of(b"batch"),
            ledger: LedgerHead { batch_no: BatchNo(9), seq: 3, digest: Digest::of(b"ledger") },
            registry_version: Digest::of(b"registry"),
            organizations: Head { size: 2, root: Digest::of(b"organizations") },
            audit: None,
            recorded_at: Instant::parse("2026-11-24T09:30:00.25Z").unwrap(),
        }
    }

    #[test]
    fn entries_round_trip_and_refuse_everything_else() {
        let text = entry().canonical();
        assert_eq!(Entry::parse(&text), Ok(entry()));
        for (from, to) in [
            ("\"v\":\"1\"", "\"v\":\"2\""),
            ("\"batch_no\":\"7\"", "\"batch_no\":\"07\""),
            ("\"batch_no\":\"7\"", "\"batch_no\":7"),
            ("\"batch_no\":\"7\",", ""),
            ("\"v\":\"1\"", "\"v\":\"1\",\"w\":\"1\""),
            ("{", "{ "),
            ("09:30:00.250000Z", "10:30:00.25+01:00"),
        ] {
            assert!(text.contains(from), "{from}");
            assert!(Entry::parse(&text.replacen(from, to, 1)).is_err(), "{to}");
        }
        let audited = Entry { audit: Some(AuditHead { chains: 3, records: 9, digest: Digest::of(b"audit") }), ..entry() };
        let text = audited.canonical();
        assert!(text.starts_with("{\"audit_chains\":\"3\",\"audit_digest\":\"") && text.ends_with("\"v\":\"2\"}"), "{text}");
        assert_eq!(Entry::parse(&text), Ok(audited.clone()));
        assert!(!audited.same_state(&entry()));
        for (from, to) in [("\"v\":\"2\"", "\"v\":\"1\""), ("\"v\":\"2\"", "\"v\":\"3\""), ("\"audit_chains\":\"3\",", "")] {
            assert!(Entry::parse(&text.replacen(from, to, 1)).is_err(), "{to}");
        }
    }

    #[test]
    fn a_note_is_opened_only_by_its_own_key_and_unchanged() {
        let signer = Signer::new("example.com/evidence", &[1; 32]).unwrap();
        let head = Head { size: 5, root: Digest::of(b"root") };
        let note = signer.sign(head).unwrap();
        assert_eq!(signer.key().open(&note).unwrap(), head);
        assert_eq!(LogKey::parse(&signer.key().to_string()).unwrap(), *signer.key());
        for (origin, secret) in [("example.com/evidence", [2; 32]), ("example.com/other", [1; 32])] {
            let other = Signer::new(origin, &secret).unwrap();
            assert!(matches!(other.key().open(&note), Err(NoteError::Unsigned { .. })), "{origin}");
        }
        assert!(signer.key().open(&note.replacen("\n5\n", "\n6\n", 1)).is_err());
        assert!(!format!("{signer:?}").contains(&BASE64_STANDARD.encode([1_u8; 32])));
        for origin in ["", "two words", "a+b", "line\nbreak"] {
            assert!(matches!(Signer::new(origin, &[1; 32]), Err(SignerError::Origin { .. })), "{origin}");
        }
    }
}
