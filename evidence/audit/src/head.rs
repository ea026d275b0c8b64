//! Where the chains end, and one digest over all of them. It knows no tables.

use serde_json::json;
use shared_types::{Digest, canonical_json};

/// The end of one chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainHead {
    /// `deployment` or `organization/<id>`.
    pub chain: String,
    /// The number of its last record: how many it has.
    pub seq: u64,
    /// The digest of its last record.
    pub digest: Digest,
}

/// All chains at once, in the size of one digest: what a checkpoint names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuditHead {
    /// How many chains there are.
    pub chains: u64,
    /// How many records they have in all: [`heads_at`](crate::heads_at) answers this head again later.
    pub records: u64,
    /// Root of an RFC 6962 tree (SHA-256) over the chains by name; a leaf is the canonical JSON of chain, digest and seq.
    pub digest: Digest,
}

/// Where every chain ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heads {
    /// By name.
    pub chains: Vec<ChainHead>,
    /// All of them.
    pub head: AuditHead,
}

impl Heads {
    /// Of the ends of all chains.
    pub fn of(mut chains: Vec<ChainHead>) -> Self {
        chains.sort_by(|left, right| left.chain.cmp(&right.chain));
        let leaves: Vec<Digest> = chains.iter().map(ChainHead::leaf).collect();
        let records = chains.iter().map(|chain| chain.seq).sum();
        let head = AuditHead { chains: u64::try_from(chains.len()).unwrap_or(u64::MAX), records, digest: root(&leaves) };
        Self { chains, head }
    }
}

impl ChainHead {
    /// Hash of its leaf: H(00 ‖ `{"chain":…,"digest":…,"seq":…}`).
    pub fn leaf(&self) -> Digest {
        let text = json!({"chain": self.chain, "digest": self.digest.to_string(), "seq": self.seq.to_string()});
        Digest::of_parts(&[&[0], canonical_json(&text).unwrap_or_default().as_bytes()])
    }
}

/// RFC 6962 §2.1 over leaf hashes; of none, SHA-256 of nothing.
fn root(leaves: &[Digest]) -> Digest {
    match leaves {
        [] => Digest::of(b""),
        [leaf] => *leaf,
        _ => {
            let (left, right) = leaves.split_at(leaves.len().next_power_of_two() / 2);
            Digest::of_parts(&[&[1], &root(left).0, &root(right).0])
        }
    }
}
