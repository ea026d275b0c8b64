//! What a bundle is made of, as the server gathers it. Plain data; it knows no storage.

use std::collections::{BTreeMap, HashSet};

use serde_json::{Value, json};
use shared_types::{
    ContractId, Digest, IdentityHash, Instant, MeterId, Month, OrganizationId, PriceId, ProjectId, Quantity, SkuId, SourceId, UnitId,
};

use crate::checkpoint::Checkpoint;
use crate::salt::Salt;
use crate::state::OrganizationLeaf;

/// Everything that goes into the bundle of one issued invoice.
#[derive(Clone, Debug)]
pub struct BundleInput {
    /// Whose invoice.
    pub organization: OrganizationId,
    /// Opens the organization's place in the checkpoint.
    pub salt: Salt,
    /// The invoice's content, canonical JSON.
    pub invoice: String,
    /// Its issue.
    pub issue: Issue,
    /// The logs that the invoice covers, by month: leaves `0..to` of each.
    pub logs: Vec<CoveredLog>,
    /// The events of these readings, in the order of their first reading.
    pub events: Vec<BundleEvent>,
    /// Every registry version that a reading, the invoice or an earlier invoice of the same months names.
    pub registry: Vec<RegistryIndex>,
    /// Documents of these versions that the organization's contracts lead to.
    pub documents: RegistryDocuments,
    /// From the logs to the signed root.
    pub proof: Proof,
    /// Program and version that packs, for example `tally/0.1.0`.
    pub builder: String,
}

/// How the invoice was issued.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issue {
    /// SHA-256 of the content.
    pub digest: Digest,
    /// Gapless number of the issuer.
    pub number: String,
    /// Who issued it.
    pub issuer: String,
    /// Ledger entry that posted it, and the entry's digest; none when nothing moved.
    pub entry: Option<(u64, Digest)>,
    /// When.
    pub issued_at: Instant,
}

impl Issue {
    pub(super) fn json(&self) -> Value {
        let mut issue = json!({"digest": self.digest, "issued_at": self.issued_at, "issuer": self.issuer, "number": self.number});
        if let (Some((entry, digest)), Some(members)) = (self.entry, issue.as_object_mut()) {
            members.insert("entry".to_owned(), json!(entry));
            members.insert("entry_digest".to_owned(), json!(digest));
        }
        issue
    }
}

/// A month's log as far as the invoice covers it.
#[derive(Clone, Debug)]
pub struct CoveredLog {
    /// UTC month of the readings' start.
    pub month: Month,
    /// Leaves 0 to `to` − 1, in order.
    pub readings: Vec<BundleReading>,
    /// Hashes of the leaves from `to` on that the checkpoint has already: later usage, shown only by these.
    pub later: Vec<Digest>,
}

/// One leaf with what it was priced by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BundleReading {
    /// Index into [`BundleInput::events`].
    pub event: usize,
    /// The meter.
    pub meter: MeterId,
    /// What the quantity counts.
    pub unit: UnitId,
    /// How much.
    pub quantity: Quantity,
    /// When it begins and ends, where that is not when its event does: a piece of it.
    pub piece: Option<(Instant, Option<Instant>)>,
    /// The registry version in force.
    pub registry_version: Digest,
    /// The agreement.
    pub contract: ContractId,
    /// What is sold.
    pub sku: SkuId,
    /// The price row.
    pub price: PriceId,
}

impl BundleReading {
    /// When it begins, and ends.
    pub(super) fn times(&self, event: &BundleEvent) -> (Instant, Option<Instant>) {
        self.piece.unwrap_or((event.start_at, event.end_at))
    }
}

/// One event as its source sent it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BundleEvent {
    /// The source's own name for it.
    pub id: String,
    /// What happened.
    pub event_type: String,
    /// Who sent it.
    pub source: SourceId,
    /// Sub-account.
    pub project: Option<ProjectId>,
    /// What it happened to.
    pub subject: Option<String>,
    /// Canonical JSON of `data`.
    pub data: Option<String>,
    /// When the usage began.
    pub start_at: Instant,
    /// When it ended.
    pub end_at: Option<Instant>,
    /// What it is counted once by: decides between events that start at one instant. Never shown, only the order that it makes.
    pub identity: IdentityHash,
    /// Opens the commitment of its readings.
    pub salt: Salt,
}

/// A registry version: digests of its documents, shown or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegistryIndex {
    /// The text of which the version's address is the digest.
    pub index: String,
}

impl RegistryIndex {
    /// The version.
    pub fn address(&self) -> Digest {
        Digest::of(self.index.as_bytes())
    }

    /// The digests that it lists; none where it is no index.
    pub(super) fn digests(&self) -> Vec<Digest> {
        let index: Value = serde_json::from_str(&self.index).unwrap_or_default();
        let documents = index.get("documents").and_then(Value::as_array).into_iter().flatten();
        documents.filter_map(|entry| Digest::parse(entry.get("digest")?.as_str()?)).collect()
    }
}

/// Registry documents of any versions, each distinct one once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RegistryDocuments(BTreeMap<Digest, String>);

impl RegistryDocuments {
    /// Takes in a document: canonical JSON, and its digest.
    pub fn insert(&mut self, digest: Digest, canonical: &str) {
        self.0.entry(digest).or_insert_with(|| canonical.to_owned());
    }

    /// The documents, by digest.
    pub fn texts(&self) -> impl ExactSizeIterator<Item = &str> {
        self.0.values().map(String::as_str)
    }

    /// The content of [`DOCUMENTS`](super::DOCUMENTS): a document a line, by digest. Canonical JSON has no line end of its own.
    pub fn lines(&self) -> String {
        self.texts().flat_map(|document| [document, "\n"]).collect()
    }

    /// A document that is not one line, or another one than its digest says.
    pub(super) fn torn(&self) -> Option<Digest> {
        let torn = |(digest, document): &(&Digest, &String)| **digest != Digest::of(document.as_bytes()) || document.contains('\n');
        self.0.iter().find(torn).map(|(digest, _)| *digest)
    }

    /// A document of none of these digests.
    pub(super) fn stray(&self, listed: &HashSet<Digest>) -> Option<Digest> {
        self.0.keys().find(|digest| !listed.contains(digest)).copied()
    }
}

/// From an organization's logs to the signed root.
#[derive(Clone, Debug)]
pub struct Proof {
    /// The latest checkpoint.
    pub checkpoint: Checkpoint,
    /// Inclusion of its entry, the last one, in the tiled log.
    pub entry_path: Vec<Digest>,
    /// The organization's leaf in the tree of organizations.
    pub leaf: OrganizationLeaf,
    /// Its place there.
    pub index: u64,
    /// Inclusion of the leaf.
    pub path: Vec<Digest>,
}
