//! The bundle: everything about one invoice of one organization as a closed folder that someone else can verify without us.
//! Format: `docs/architecture/bundle-format.md`. It rates nothing and reads no storage: what it packs comes in, and trees that do not
//! lead to the checkpoint are refused, because nobody could verify them.

mod data;
mod input;
mod key;

use std::collections::{BTreeMap, HashMap, HashSet};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use shared_types::{Digest, Month, Quantity, canonical_json};

use crate::checkpoint::{Signer, SignerError};
use crate::salt::commitment;
use crate::tree::{self, Head};

pub use data::EncodeError;
pub use input::{BundleEvent, BundleInput, BundleReading, CoveredLog, Issue, Proof, RegistryDocuments, RegistryIndex};
pub use key::BundleKey;

/// Version of the bundle's format; the manifest says it.
pub const BUNDLE_FORMAT: &str = "1";
/// The manifest, and the envelope with its signature: the two files that the manifest does not list.
pub const MANIFEST: &str = "manifest.json";
/// See [`MANIFEST`].
pub const ENVELOPE: &str = "manifest.dsse.json";
/// The registry documents of all versions, in bundles and exports.
pub const DOCUMENTS: &str = "registry/documents.jsonl";
/// What the envelope holds (in-toto).
const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";
const STATEMENT: &str = "https://in-toto.io/Statement/v1";
const PREDICATE: &str = "urn:tallystick:bundle:v1";
const PROVENANCE: &str = "https://slsa.dev/provenance/v1";
const BUILD: &str = "urn:tallystick:rating:v1";

/// Why there is no bundle.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// The invoice is not the canonical JSON that the issue names.
    #[error("the invoice's content has digest {found}, it was issued as {issued}")]
    Invoice {
        /// Of the content that came in.
        found: Digest,
        /// Of the issue.
        issued: Digest,
    },
    /// A member of the invoice that the bundle needs is not there.
    #[error("the invoice has no readable {member}")]
    Member {
        /// The member.
        member: &'static str,
    },
    /// The readings are not those that the invoice covers.
    #[error("the invoice covers {wanted} leaves of {month}, {found} readings came in")]
    Leaves {
        /// The log's month.
        month: Month,
        /// `to` of the invoice; 0 when it does not cover the month.
        wanted: u64,
        /// How many came in.
        found: u64,
    },
    /// A reading names an event that is not there, or of another month.
    #[error("reading {log_seq} of {month} names event {event}, which is not there or not of that month")]
    Event {
        /// The log's month.
        month: Month,
        /// The reading.
        log_seq: u64,
        /// The event it names.
        event: usize,
    },
    /// A reading with several leaves that is not taken back and stated anew in turn.
    #[error(
        "leaf {log_seq} of {month} {problem}: a reading that was rated again is taken back as it stood, and the next leaf stands in its place"
    )]
    Again {
        /// The log's month.
        month: Month,
        /// The leaf.
        log_seq: u64,
        /// What is wrong.
        problem: &'static str,
    },
    /// The readings do not lead to the checkpoint.
    #[error("the log of {month} has root {found}, the checkpoint says {stated}")]
    Log {
        /// The log's month.
        month: Month,
        /// Of the readings.
        found: Digest,
        /// Of the checkpoint's leaf.
        stated: Digest,
    },
    /// A path does not lead to the checkpoint.
    #[error("the {what} does not lead to the checkpoint of {tree_size} entries")]
    Path {
        /// `leaf of the organization`, `entry` or `salted organization`.
        what: &'static str,
        /// Size of the checkpoint's tree.
        tree_size: u64,
    },
    /// A version that readings or the invoice name is missing.
    #[error("registry version {version} is not there")]
    Registry {
        /// The address.
        version: Digest,
    },
    /// A document that could not be found by its digest.
    #[error("registry document {document} is in the index of no version, or is not one line")]
    Document {
        /// The digest of what came in.
        document: Digest,
    },
    /// The invoice was posted behind the checkpoint.
    #[error("the invoice is ledger entry {entry}, the checkpoint reaches only entry {reached}: wait for the next checkpoint")]
    Behind {
        /// The invoice's entry.
        entry: u64,
        /// The ledger's last entry in the checkpoint.
        reached: u64,
    },
    /// Parquet could not be written.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// A text has no canonical form.
    #[error("the bundle's {what} has no canonical form")]
    Canonical {
        /// The file.
        what: &'static str,
    },
    /// The signing key cannot be used.
    #[error(transparent)]
    Signer(#[from] SignerError),
}

/// One file of a bundle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BundleFile {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// How many rows, for Parquet.
    pub rows: Option<u64>,
}

/// Files can still be added; nothing is signed.
#[derive(Clone, Debug)]
pub struct Open {
    about: About,
}

/// The manifest and its envelope are among the files: nothing can be added.
#[derive(Clone, Debug)]
pub struct Sealed {}

/// What the manifest says about the invoice.
#[derive(Clone, Debug)]
struct About {
    invoice_id: String,
    organization: String,
    period: String,
    builder: String,
}

/// A bundle on its way to the customer: see [`Open`] and [`Sealed`].
#[derive(Clone, Debug)]
pub struct Bundle<State> {
    files: BTreeMap<String, BundleFile>,
    state: State,
}

impl<State> Bundle<State> {
    /// Path, with `/`, and content of every file so far, by path.
    pub fn files(&self) -> impl ExactSizeIterator<Item = (&str, &BundleFile)> {
        self.files.iter().map(|(path, file)| (path.as_str(), file))
    }
}

impl Bundle<Open> {
    /// Packs an invoice.
    ///
    /// - Errors: an input that would not verify, by name; see [`BundleError`].
    /// - Source: blueprint §8.
    pub fn of(input: &BundleInput) -> Result<Self, BundleError> {
        let found = Digest::of(input.invoice.as_bytes());
        if found != input.issue.digest {
            return Err(BundleError::Invoice { found, issued: input.issue.digest });
        }
        let invoice: Value = serde_json::from_str(&input.invoice).map_err(|_| BundleError::Member { member: "JSON" })?;
        let entry = &input.proof.checkpoint.entry;
        let ledger = entry.ledger;
        if let Some((entry, _)) =
            input.issue.entry.filter(|(no, digest)| *no > ledger.seq || (*no == ledger.seq && *digest != ledger.digest))
        {
            return Err(BundleError::Behind { entry, reached: ledger.seq });
        }
        check_coverage(input, &invoice)?;
        let billed = billed(input);
        input.logs.iter().try_for_each(|log| check_again(input, &billed, log))?;
        check_registry(input, &invoice)?;
        let data = data::encode(input)?;
        check_proof(input, &data.logs)?;

        let text =
            |member: &'static str| invoice.get(member).and_then(Value::as_str).map(str::to_owned).ok_or(BundleError::Member { member });
        let about = About {
            invoice_id: text("invoice_id")?,
            organization: text("organization")?,
            period: text("period")?,
            builder: input.builder.clone(),
        };
        let mut bundle = Self { files: BTreeMap::new(), state: Open { about } };
        bundle.add("invoice.json", input.invoice.clone());
        bundle.add("issue.json", canonical("issue", &input.issue.json())?);
        bundle.add_rows("data/readings.parquet", data.readings, input.logs.iter().map(|log| log.readings.len()).sum());
        bundle.add_rows("data/events.parquet", data.events, input.events.len());
        for version in &input.registry {
            bundle.add(&format!("registry/{}.json", version.address()), version.index.clone());
        }
        bundle.add(DOCUMENTS, input.documents.lines());
        bundle.add("log/checkpoint", input.proof.checkpoint.note.clone());
        bundle.add("log/proof.json", canonical("proof", &proof_json(input, &data.logs))?);
        bundle.add("verify.sql", include_str!("bundle/verify.sql").to_owned());
        bundle.add("VERIFY.md", include_str!("bundle/VERIFY.md").to_owned());
        let provenance = bundle.provenance(input)?;
        bundle.add("provenance.json", provenance);
        Ok(bundle)
    }

    /// Closes the world: manifest and envelope are made, nothing can be added afterwards.
    ///
    /// - `log` vouches for the bundle's key, so that who pins the log's key has pinned both.
    pub fn seal(mut self, key: &BundleKey, log: &Signer) -> Result<Bundle<Sealed>, BundleError> {
        self.add("keys/bundle.note", log.sign_text(&key.vouched_text())?);
        self.add("keys/bundle.pem", key.key().pem());
        self.add("keys/log.pem", log.key().pem());
        let about = &self.state.about;
        let (mut subject, mut files) = (Vec::new(), Vec::new());
        for (path, file) in &self.files {
            let digest = Digest::of(&file.bytes);
            subject.push(json!({"digest": {"sha256": digest}, "name": path}));
            let mut described = json!({"path": path, "sha256": digest, "size": file.bytes.len()});
            if let (Some(rows), Some(members)) = (file.rows, described.as_object_mut()) {
                members.insert("rows".to_owned(), json!(rows));
            }
            files.push(described);
        }
        let manifest = canonical(
            "manifest",
            &json!({
                "_type": STATEMENT,
                "predicate": {
                    "builder": about.builder, "bundle_key": key.key().to_string(), "files": files, "format": BUNDLE_FORMAT,
                    "invoice_id": about.invoice_id, "log_key": log.key().to_string(), "organization": about.organization,
                    "period": about.period,
                },
                "predicateType": PREDICATE,
                "subject": subject,
            }),
        )?;
        let signature = key.sign(&pre_authentication(manifest.as_bytes()));
        let envelope = canonical(
            "envelope",
            &json!({
                "payload": BASE64_STANDARD.encode(&manifest),
                "payloadType": PAYLOAD_TYPE,
                "signatures": [{"keyid": key.key().id(), "sig": BASE64_STANDARD.encode(signature)}],
            }),
        )?;
        self.add(MANIFEST, manifest);
        self.add(ENVELOPE, envelope);
        Ok(Bundle { files: self.files, state: Sealed {} })
    }

    fn add(&mut self, path: &str, text: String) {
        self.files.insert(path.to_owned(), BundleFile { bytes: text.into_bytes(), rows: None });
    }

    fn add_rows(&mut self, path: &str, bytes: Vec<u8>, rows: usize) {
        self.files.insert(path.to_owned(), BundleFile { bytes, rows: u64::try_from(rows).ok() });
    }

    /// The rating as a build (SLSA): from events, registry and logs to readings and invoice.
    fn provenance(&self, input: &BundleInput) -> Result<String, BundleError> {
        let described = |path: &str, name: &'static str| {
            let digest = self.files.get(path).map(|file| Digest::of(&file.bytes)).unwrap_or(Digest::ZERO);
            json!({"digest": {"sha256": digest}, name: path})
        };
        let registry = self.files.keys().filter(|path| path.starts_with("registry/")).map(|path| described(path, "uri"));
        let dependencies: Vec<Value> = std::iter::once(described("data/events.parquet", "uri")).chain(registry).collect();
        let about = &self.state.about;
        let entry = &input.proof.checkpoint.entry;
        canonical(
            "provenance",
            &json!({
                "_type": STATEMENT,
                "predicateType": PROVENANCE,
                "subject": [described("data/readings.parquet", "name"), described("invoice.json", "name")],
                "predicate": {
                    "buildDefinition": {
                        "buildType": BUILD,
                        "externalParameters": {
                            "invoice_id": about.invoice_id, "organization": about.organization, "period": about.period,
                        },
                        "internalParameters": {"batch_digest": entry.batch_digest, "batch_no": entry.batch_no.0.to_string()},
                        "resolvedDependencies": dependencies,
                    },
                    "runDetails": {
                        "builder": {"id": format!("urn:tallystick:{}", about.builder)},
                        "metadata": {"finishedOn": input.issue.issued_at, "invocationId": input.issue.digest},
                    },
                },
            }),
        )
    }
}

/// What DSSE signs: `DSSEv1 <length of the type> <type> <length of the body> <body>`.
fn pre_authentication(body: &[u8]) -> Vec<u8> {
    let mut bytes = format!("DSSEv1 {} {PAYLOAD_TYPE} {} ", PAYLOAD_TYPE.len(), body.len()).into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

fn canonical(what: &'static str, value: &Value) -> Result<String, BundleError> {
    canonical_json(value).map_err(|_| BundleError::Canonical { what })
}

/// The readings are exactly the leaves that the invoice covers.
fn check_coverage(input: &BundleInput, invoice: &Value) -> Result<(), BundleError> {
    let logs = invoice.get("logs").and_then(Value::as_array).ok_or(BundleError::Member { member: "logs" })?;
    let mut wanted: BTreeMap<Month, u64> = BTreeMap::new();
    for log in logs {
        let number = |name: &str| log.get(name).and_then(Value::as_str).and_then(|text| text.parse::<u64>().ok());
        let month = number("month").and_then(|number| Month::from_number(i32::try_from(number).ok()?).ok());
        let (Some(month), Some(to)) = (month, number("to")) else { return Err(BundleError::Member { member: "logs" }) };
        wanted.insert(month, to);
    }
    for log in &input.logs {
        let found = u64::try_from(log.readings.len()).unwrap_or(u64::MAX);
        let wanted = wanted.remove(&log.month).unwrap_or(0);
        if wanted != found {
            return Err(BundleError::Leaves { month: log.month, wanted, found });
        }
        for (log_seq, reading) in (0..).zip(&log.readings) {
            if input.events.get(reading.event).is_none_or(|event| reading.times(event).0.month() != log.month) {
                return Err(BundleError::Event { month: log.month, log_seq, event: reading.event });
            }
        }
    }
    match wanted.into_iter().find(|(_, to)| *to > 0) {
        Some((month, wanted)) => Err(BundleError::Leaves { month, wanted, found: 0 }),
        None => Ok(()),
    }
}

/// Meters whose time is billed by states, in any version.
fn billed(input: &BundleInput) -> HashSet<String> {
    let meters = input.documents.texts().filter(|document| document.contains("\"kind\":\"meter\""));
    let meters = meters.filter_map(|document| serde_json::from_str::<Value>(document).ok());
    let billed = meters.filter(|meter| meter.get("billable").is_some());
    billed.filter_map(|meter| meter.get("id")?.as_str().map(str::to_owned)).collect()
}

/// Of the leaves of a reading every other one takes back the one before, and the next leaf of the log stands in its place; of billed time another
/// version may read nothing there.
fn check_again(input: &BundleInput, billed: &HashSet<String>, log: &CoveredLog) -> Result<(), BundleError> {
    let mut last: HashMap<_, (u64, &BundleReading, bool)> = HashMap::new();
    for (log_seq, reading) in (0..).zip(&log.readings) {
        let wrong = |problem| Err(BundleError::Again { month: log.month, log_seq, problem });
        // The caller has checked that the event is there.
        let Some(event) = input.events.get(reading.event) else { continue };
        let name = (reading.event, &reading.meter, reading.times(event).0);
        let back = match last.get(&name) {
            None => false,
            Some((_, before, false)) => {
                let negative = Quantity::ZERO.checked_sub(before.quantity).ok();
                if negative != Some(reading.quantity) || (BundleReading { quantity: before.quantity, ..reading.clone() }) != **before {
                    return wrong("does not take back what its reading stands for");
                }
                true
            }
            Some((taken, before, true)) => {
                let follows = match taken.checked_add(1) == Some(log_seq) {
                    true => before.registry_version != reading.registry_version,
                    false => billed.contains(reading.meter.as_str()),
                };
                if !follows {
                    return wrong("does not follow what takes its reading back, or has the same version");
                }
                false
            }
        };
        last.insert(name, (log_seq, reading, back));
    }
    match last.into_values().find(|(_, reading, back)| *back && !billed.contains(reading.meter.as_str())) {
        Some((log_seq, _, _)) => {
            Err(BundleError::Again { month: log.month, log_seq, problem: "takes a reading back, and nothing stands in its place" })
        }
        None => Ok(()),
    }
}

/// Every version that is named is there, and every document is in the index of one.
fn check_registry(input: &BundleInput, invoice: &Value) -> Result<(), BundleError> {
    if let Some(document) = input.documents.torn() {
        return Err(BundleError::Document { document });
    }
    let known: HashSet<Digest> = input.registry.iter().map(RegistryIndex::address).collect();
    let stated = invoice.get("registry_version").and_then(Value::as_str).and_then(Digest::parse);
    let stated = stated.ok_or(BundleError::Member { member: "registry_version" })?;
    let named = input.logs.iter().flat_map(|log| &log.readings).map(|reading| reading.registry_version);
    if let Some(version) = named.chain([stated]).find(|version| !known.contains(version)) {
        return Err(BundleError::Registry { version });
    }
    let listed: HashSet<Digest> = input.registry.iter().flat_map(RegistryIndex::digests).collect();
    match input.documents.stray(&listed) {
        Some(document) => Err(BundleError::Document { document }),
        None => Ok(()),
    }
}

/// Readings lead to the organization's leaf, that to the entry, that to the signed root.
fn check_proof(input: &BundleInput, logs: &[(Month, Vec<Digest>)]) -> Result<(), BundleError> {
    let proof = &input.proof;
    let (entry, head) = (&proof.checkpoint.entry, proof.checkpoint.head);
    let fails = |what| BundleError::Path { what, tree_size: head.size };
    for ((month, leaves), log) in logs.iter().zip(&input.logs) {
        let whole: Vec<Digest> = leaves.iter().chain(&log.later).copied().collect();
        let found = Head { size: u64::try_from(whole.len()).unwrap_or(u64::MAX), root: tree::root(&whole) };
        let stated = proof.leaf.logs.iter().find(|(stated, _)| stated == month).map(|(_, head)| *head);
        if stated != Some(found) {
            return Err(BundleError::Log { month: *month, found: found.root, stated: stated.map_or(Digest::ZERO, |head| head.root) });
        }
    }
    if proof.leaf.organization != commitment(&input.salt, input.organization.as_str()) {
        return Err(fails("salted organization"));
    }
    let organizations = entry.organizations;
    if tree::root_of_inclusion(proof.leaf.hash(), proof.index, organizations.size, &proof.path) != Some(organizations.root) {
        return Err(fails("leaf of the organization"));
    }
    let last = head.size.saturating_sub(1);
    if tree::root_of_inclusion(entry.hash(), last, head.size, &proof.entry_path) != Some(head.root) {
        return Err(fails("entry"));
    }
    Ok(())
}

fn proof_json(input: &BundleInput, logs: &[(Month, Vec<Digest>)]) -> Value {
    let proof = &input.proof;
    let logs = logs.iter().zip(&input.logs).map(|((month, leaves), log)| {
        let whole: Vec<Digest> = leaves.iter().chain(&log.later).copied().collect();
        let path = tree::consistency_path(&whole, leaves.len()).unwrap_or_default();
        json!({"month": month, "path": path, "root": tree::root(leaves), "size": leaves.len()})
    });
    json!({
        "entry": {"path": proof.entry_path, "text": proof.checkpoint.entry.canonical()},
        "logs": logs.collect::<Vec<_>>(),
        "organization": {
            "id": input.organization, "index": proof.index, "leaf": proof.leaf.canonical(), "path": proof.path,
            "salt": hex::encode(input.salt.0),
        },
        "v": BUNDLE_FORMAT,
    })
}
