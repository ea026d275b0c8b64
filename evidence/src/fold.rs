//! The evidence fold: takes a cut of committed batches into the logs and signs a checkpoint, all in the caller's transaction.
//! It reads no files and no clock: leaves, sums, heads and the time come in. Files of the tiled log are [`crate::publish`]'s.

use std::collections::BTreeSet;

use shared_db::{DbError, Transaction};
use shared_types::{AssetId, BatchNo, Digest, Instant, Month, OrganizationId, Sum};

use crate::bundle::Proof;
use crate::checkpoint::{AuditHead, Checkpoint, Entry, LedgerHead, Signer, SignerError};
use crate::leaf::LeafInput;
use crate::salt::SaltKey;
use crate::state::StateError;
use crate::store::{self, StoreError};
use crate::tree::{Frontier, Head, TreeError, inclusion_path, root};

/// The fold's name in `shared_db_cursors`.
pub const FOLD: &str = "evidence";

/// What one fold takes: batches `first..=last` and the heads of everything else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CutInput {
    /// The batch after the cursor.
    pub first: BatchNo,
    /// The last batch of the cut. `first − 1` when there is no new batch: then only heads can have changed.
    pub last: BatchNo,
    /// Digest of batch `last`; zeros when `last` is 0.
    pub last_digest: Digest,
    /// Leaves of these batches per log, in sealed order.
    pub leaves: Vec<(OrganizationId, Month, Vec<LeafInput>)>,
    /// Charged by these batches per organization and currency (not the running sum).
    pub sums: Vec<(OrganizationId, AssetId, Sum)>,
    /// Organizations to be known from now on, even without usage. Those of `leaves` and `sums` need not be repeated.
    pub organizations: Vec<OrganizationId>,
    /// The ledger's head, which must cover `last`.
    pub ledger: LedgerHead,
    /// The registry version in force at the cut.
    pub registry_version: Digest,
    /// The audit chains, if there are any; once a checkpoint has named them, every later one must.
    pub audit: Option<AuditHead>,
    /// Now.
    pub recorded_at: Instant,
}

impl CutInput {
    /// Every organization that the cut names.
    pub fn touched(&self) -> BTreeSet<&OrganizationId> {
        let leaves = self.leaves.iter().map(|(organization, _, _)| organization);
        let sums = self.sums.iter().map(|(organization, _, _)| organization);
        leaves.chain(sums).chain(&self.organizations).collect()
    }
}

/// Why a cut was not folded. The transaction must be rolled back.
#[derive(Debug, thiserror::Error)]
pub enum FoldError {
    /// The range does not continue at the cursor.
    #[error("batches {first} to {last} do not continue at batch {cursor}, where the evidence fold stands")]
    Range {
        /// First batch of the cut.
        first: BatchNo,
        /// Last batch of the cut.
        last: BatchNo,
        /// Where the fold stands.
        cursor: BatchNo,
    },
    /// The evidence would say more than the ledger.
    #[error("the cut ends at batch {last}, but the ledger has folded only up to batch {ledger}")]
    BeyondLedger {
        /// Last batch of the cut.
        last: BatchNo,
        /// Where the ledger stands.
        ledger: BatchNo,
    },
    /// A head contradicts the last checkpoint: history was changed or lost.
    #[error("the {head} head contradicts the checkpoint of {tree_size} entries")]
    Fork {
        /// `batch`, `ledger` or `audit`.
        head: &'static str,
        /// Size of the tree at the last checkpoint.
        tree_size: u64,
    },
    /// A cut without batches brought leaves or sums.
    #[error("a cut without a new batch has leaves or sums")]
    Unbatched,
    /// The leaves or sums cannot be added.
    #[error(transparent)]
    State(#[from] StateError),
    /// The tables cannot be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The cursor cannot be moved.
    #[error(transparent)]
    Db(#[from] DbError),
    /// The tiled log cannot take another entry.
    #[error("could not append a checkpoint")]
    Tree(#[from] TreeError),
    /// The checkpoint cannot be signed.
    #[error(transparent)]
    Signer(#[from] SignerError),
}

/// Folds one cut and signs a checkpoint; `None` when nothing has changed since the last one.
///
/// - Writes the touched logs, sums and organizations, the cursor and its cut, and one checkpoint.
/// - Errors: see [`FoldError`]; nothing may be committed after one.
/// - Source: blueprint §8.
#[tracing::instrument(skip_all, err, fields(first = %cut.first, last = %cut.last))]
pub async fn fold(tx: &mut Transaction, cut: &CutInput, salts: &SaltKey, signer: &Signer) -> Result<Option<Checkpoint>, FoldError> {
    let cursor = shared_db::cursor(tx, FOLD).await?;
    let last_row = store::last_checkpoint(tx).await?;
    let previous = last_row.map(store::CheckpointRow::checkpoint).transpose()?;
    check(cut, cursor, previous.as_ref())?;

    let touched = cut.touched();
    let mut state = store::load_state(tx, Some(&touched)).await?;
    state.apply(cut)?;
    let logs: BTreeSet<_> =
        cut.leaves.iter().filter(|(_, _, leaves)| !leaves.is_empty()).map(|(organization, month, _)| (organization, *month)).collect();
    let sums: BTreeSet<_> = cut.sums.iter().map(|(organization, currency, _)| (organization, currency)).collect();
    store::save_state(tx, &state, &logs, &sums, salts).await?;
    if cut.last > cursor {
        shared_db::advance(tx, FOLD, cursor, cut.last).await?;
    }

    let hashes = store::leaf_hashes(tx).await?;
    let entry = Entry {
        batch_no: cut.last,
        batch_digest: cut.last_digest,
        ledger: cut.ledger,
        registry_version: cut.registry_version,
        organizations: Head { size: u64::try_from(hashes.len()).unwrap_or(u64::MAX), root: root(&hashes) },
        audit: cut.audit,
        recorded_at: cut.recorded_at,
    };
    if previous.as_ref().is_some_and(|previous| previous.entry.same_state(&entry)) {
        return Ok(None);
    }
    let size = previous.map_or(0, |previous| previous.head.size);
    let mut frontier = store::tiled_frontier(tx, size).await?;
    let (checkpoint, nodes) = seal(&mut frontier, entry, signer)?;
    store::insert_checkpoint(tx, &checkpoint, &nodes).await?;
    tracing::debug!(size = checkpoint.head.size, organizations = checkpoint.entry.organizations.size, "checkpoint");
    Ok(Some(checkpoint))
}

/// The latest checkpoint.
pub async fn latest(tx: &mut Transaction) -> Result<Option<Checkpoint>, StoreError> {
    store::last_checkpoint(tx).await?.map(store::CheckpointRow::checkpoint).transpose()
}

/// The way from an organization's logs to the signed root of the latest checkpoint; none where the organization is in no checkpoint yet.
pub async fn proof_of(tx: &mut Transaction, organization: &OrganizationId, salts: &SaltKey) -> Result<Option<Proof>, StoreError> {
    let Some(row) = store::last_checkpoint(tx).await? else { return Ok(None) };
    let checkpoint = row.checkpoint()?;
    let rows = store::organizations(tx).await?;
    let Some(at) = rows.iter().position(|row| row.organization == *organization) else { return Ok(None) };
    let hashes: Vec<Digest> = rows.iter().map(|row| row.leaf_hash).collect();
    let Some(path) = inclusion_path(&hashes, at) else { return Ok(None) };
    let state = store::load_state(tx, Some(&BTreeSet::from([organization]))).await?;
    let before = store::tiled_frontier(tx, checkpoint.head.size.saturating_sub(1)).await?;
    Ok(Some(Proof {
        leaf: state.leaf(organization, salts),
        index: u64::try_from(at).unwrap_or(u64::MAX),
        path,
        entry_path: before.path_of_next(),
        checkpoint,
    }))
}

/// At most `limit` checkpoints after a tree size, in order.
pub async fn checkpoints(tx: &mut Transaction, after: u64, limit: u32) -> Result<Vec<Checkpoint>, StoreError> {
    let rows = store::checkpoints_after(tx, after, limit).await?;
    rows.into_iter().map(store::CheckpointRow::checkpoint).collect()
}

/// Nodes of a tree: level, index in its level, hash.
pub(crate) type Nodes = Vec<(u32, u64, Digest)>;

/// Appends an entry to the tiled log and signs the head; answers the nodes that the entry completes.
pub(crate) fn seal(frontier: &mut Frontier, entry: Entry, signer: &Signer) -> Result<(Checkpoint, Nodes), FoldError> {
    let mut nodes = Nodes::new();
    frontier.append_nodes(entry.hash(), |level, number, hash| nodes.push((level, number, hash)))?;
    let head = Head { size: frontier.size(), root: frontier.root() };
    let note = signer.sign(head)?;
    Ok((Checkpoint { entry, head, note }, nodes))
}

fn check(cut: &CutInput, cursor: BatchNo, previous: Option<&Checkpoint>) -> Result<(), FoldError> {
    if cursor.next() != Some(cut.first) || cut.last < cursor {
        return Err(FoldError::Range { first: cut.first, last: cut.last, cursor });
    }
    if cut.last == cursor && !(cut.leaves.is_empty() && cut.sums.is_empty()) {
        return Err(FoldError::Unbatched);
    }
    if cut.ledger.batch_no < cut.last {
        return Err(FoldError::BeyondLedger { last: cut.last, ledger: cut.ledger.batch_no });
    }
    let Some(Checkpoint { entry, head, .. }) = previous else { return Ok(()) };
    let fork = |head_name| FoldError::Fork { head: head_name, tree_size: head.size };
    if entry.batch_no == cut.last && entry.batch_digest != cut.last_digest {
        return Err(fork("batch"));
    }
    let (before, now) = (&entry.ledger, &cut.ledger);
    if now.seq < before.seq || now.batch_no < before.batch_no || (now.seq == before.seq && now.digest != before.digest) {
        return Err(fork("ledger"));
    }
    if entry.audit.is_some_and(|before| cut.audit.is_none_or(|now| !now.follows(&before))) {
        return Err(fork("audit"));
    }
    Ok(())
}
