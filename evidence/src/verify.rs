//! Recomputes everything that the tables say and compares: the tiled log entry by entry with its notes, the state with the last entry.
//! It does not know the batches: that the logs hold the right leaves is shown by replaying the recorded cuts into a [`State`].

use shared_db::{DbError, Transaction};
use shared_types::{BatchNo, Digest, OrganizationId};

use crate::checkpoint::{Entry, EntryError, LogKey, NoteError};
use crate::fold::FOLD;
use crate::salt::SaltKey;
use crate::state::State;
use crate::store::{self, StoreError};
use crate::tree::{Frontier, Head, TreeError, leaf_hash, root};

/// Checkpoints and nodes read at once.
const PAGE: u32 = 1_024;

/// What was found to hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// Head of the tiled log.
    pub head: Head,
    /// Organizations known, with their root.
    pub organizations: Head,
    /// The last batch that the logs contain.
    pub batch_no: BatchNo,
    /// Logs and sums as stored, for comparison with a replay.
    pub state: State,
}

/// The first thing that does not hold.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The tables cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The cursor cannot be read.
    #[error(transparent)]
    Db(#[from] DbError),
    /// A checkpoint is missing.
    #[error("checkpoint {expected} is missing: {found} follows")]
    Missing {
        /// The size that should follow.
        expected: u64,
        /// The size that does.
        found: u64,
    },
    /// An entry is no entry.
    #[error("checkpoint {tree_size} has no readable entry")]
    Entry {
        /// Size of the tree.
        tree_size: u64,
        /// Why.
        #[source]
        source: EntryError,
    },
    /// A note is not signed by the pinned key.
    #[error("the note of checkpoint {tree_size} does not verify")]
    Note {
        /// Size of the tree.
        tree_size: u64,
        /// Why.
        #[source]
        source: NoteError,
    },
    /// Something stored is not what the rest implies.
    #[error("the {what} of checkpoint {tree_size} is not what follows from the entries before it")]
    Checkpoint {
        /// `root`, `signed head`, `batch number`, `time`, `ledger` or `audit`.
        what: &'static str,
        /// Size of the tree.
        tree_size: u64,
    },
    /// A stored node of the tiled log is wrong.
    #[error("node {number} of level {level} of the tiled log is wrong")]
    Node {
        /// Level, 0 for entries.
        level: u32,
        /// Index in its level.
        number: u64,
    },
    /// More nodes are stored than the tree has.
    #[error("level {level} of the tiled log has more nodes than its tree")]
    ExtraNode {
        /// Level.
        level: u32,
    },
    /// What is stored for an organization does not follow from its logs and sums.
    #[error("the {what} of {organization} does not follow from its id, logs and sums")]
    Organization {
        /// `salted organization` or `leaf hash`.
        what: &'static str,
        /// Whose.
        organization: OrganizationId,
    },
    /// A log or sum belongs to an organization that is not in the tree.
    #[error("{organization} has logs or sums but is not in the tree")]
    Unknown {
        /// Whose.
        organization: OrganizationId,
    },
    /// The last entry does not describe the state.
    #[error("the {what} of the last checkpoint is not that of the tables")]
    State {
        /// `organizations root` or `batch number`.
        what: &'static str,
    },
    /// The tiled log is too large.
    #[error("could not rebuild the tiled log")]
    Tree(#[from] TreeError),
}

/// Recomputes and compares everything. Reads all tables; the time grows with the number of checkpoints and organizations.
///
/// - Each note is signed by `key` over the size and root that follow from all entries so far: so each tree continues the one before.
/// - Nodes are exactly those of that tree.
/// - Each organization's leaf follows from its logs and sums; their root and number are those of the last entry; the fold's cursor too.
pub async fn verify(tx: &mut Transaction, salts: &SaltKey, key: &LogKey) -> Result<Verified, VerifyError> {
    let (last, hashes, head) = verify_checkpoints(tx, key).await?;
    verify_nodes(tx, hashes).await?;
    let (state, organizations) = verify_state(tx, salts).await?;
    let cursor = shared_db::cursor(tx, FOLD).await?;
    let (stated, batch_no) = match last {
        Some(entry) => (entry.organizations, entry.batch_no),
        None => (Head { size: 0, root: root(&[]) }, BatchNo(0)),
    };
    if stated != organizations {
        return Err(VerifyError::State { what: "organizations root" });
    }
    if batch_no != cursor {
        return Err(VerifyError::State { what: "batch number" });
    }
    Ok(Verified { head, organizations, batch_no, state })
}

/// The last entry, the hashes of all entries, and the head.
async fn verify_checkpoints(tx: &mut Transaction, key: &LogKey) -> Result<(Option<Entry>, Vec<Digest>, Head), VerifyError> {
    let mut frontier = Frontier::default();
    let mut hashes = Vec::new();
    let mut last: Option<Entry> = None;
    loop {
        let page = store::checkpoints_after(tx, frontier.size(), PAGE).await?;
        if page.is_empty() {
            return Ok((last, hashes, Head { size: frontier.size(), root: frontier.root() }));
        }
        for row in page {
            let tree_size = row.tree_size;
            if tree_size != frontier.size() + 1 {
                return Err(VerifyError::Missing { expected: frontier.size() + 1, found: tree_size });
            }
            let entry = Entry::parse(&row.entry).map_err(|source| VerifyError::Entry { tree_size, source })?;
            let hash = leaf_hash(row.entry.as_bytes());
            frontier.append(hash)?;
            hashes.push(hash);
            let wrong = |what| Err(VerifyError::Checkpoint { what, tree_size });
            if row.root != frontier.root() {
                return wrong("root");
            }
            let signed = key.open(&row.note).map_err(|source| VerifyError::Note { tree_size, source })?;
            if signed != row.head() {
                return wrong("signed head");
            }
            if entry.batch_no != row.batch_no || last.as_ref().is_some_and(|last| entry.batch_no < last.batch_no) {
                return wrong("batch number");
            }
            if entry.recorded_at != row.recorded_at {
                return wrong("time");
            }
            let before = last.as_ref().map_or(0, |last| last.ledger.seq);
            if entry.ledger.batch_no < entry.batch_no || entry.ledger.seq < before {
                return wrong("ledger");
            }
            let audited = last.as_ref().and_then(|last| last.audit);
            if audited.is_some_and(|before| entry.audit.is_none_or(|now| !now.follows(&before))) {
                return wrong("audit");
            }
            last = Some(entry);
        }
    }
}

/// Compares all nodes, level by level.
async fn verify_nodes(tx: &mut Transaction, entries: Vec<Digest>) -> Result<(), VerifyError> {
    let mut expected = entries;
    for level in 0..=62_u32 {
        let mut first = 0;
        for chunk in expected.chunks(usize::try_from(PAGE).unwrap_or(1)) {
            let count = u64::try_from(chunk.len()).unwrap_or(0);
            let found = store::nodes(tx, level, first, count).await?;
            for ((number, expected), found) in (first..).zip(chunk).zip(&found) {
                if expected != found {
                    return Err(VerifyError::Node { level, number });
                }
            }
            first += count;
        }
        if store::has_node(tx, level, first).await? {
            return Err(VerifyError::ExtraNode { level });
        }
        expected = expected.as_chunks::<2>().0.iter().map(|[left, right]| crate::tree::node_hash(left, right)).collect();
    }
    Ok(())
}

async fn verify_state(tx: &mut Transaction, salts: &SaltKey) -> Result<(State, Head), VerifyError> {
    let state = store::load_state(tx, None).await?;
    let rows = store::organizations(tx).await?;
    if let Some(organization) = state.logs.organizations().chain(state.sums.keys()).find(|name| !state.organizations.contains(*name)) {
        return Err(VerifyError::Unknown { organization: organization.clone() });
    }
    let mut hashes = Vec::with_capacity(rows.len());
    for row in rows {
        let leaf = state.leaf(&row.organization, salts);
        let wrong = |what| Err(VerifyError::Organization { what, organization: row.organization.clone() });
        if leaf.organization != row.salted {
            return wrong("salted organization");
        }
        if leaf.hash() != row.leaf_hash {
            return wrong("leaf hash");
        }
        hashes.push(row.leaf_hash);
    }
    let organizations = Head { size: u64::try_from(hashes.len()).unwrap_or(u64::MAX), root: root(&hashes) };
    Ok((state, organizations))
}
