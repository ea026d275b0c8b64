//! Evidence: the logs of the organizations, the checkpoint over all of them, and its signed log.
//! It knows no prices, no events and no ledger: readings arrive as leaves, sums as amounts, heads as digests. A bundle packs events,
//! registry documents and an invoice as the texts that they are.
//! The formats are frozen in `tests/golden/vectors.json` and described in `docs/architecture/evidence-format.md`.

pub mod bundle;
pub mod checkpoint;
pub mod fold;
pub mod leaf;
pub mod log;
pub mod publish;
pub mod salt;
pub mod state;
mod store;
pub mod tree;
pub mod verify;

pub use bundle::{Bundle, BundleError, BundleInput, BundleKey, Open, Sealed};
pub use checkpoint::{AuditHead, Checkpoint, Entry, EntryError, LedgerHead, LogKey, NoteError, Signer, SignerError};
pub use fold::{CutInput, FOLD, FoldError, checkpoints, fold, latest, proof_of};
pub use leaf::LeafInput;
pub use log::{LogError, OrganizationLogs};
pub use publish::{PublishError, Published, publish};
pub use salt::{Salt, SaltKey, commitment};
pub use state::{OrganizationLeaf, State, StateError};
pub use store::StoreError;
pub use tree::{Frontier, Head, TreeError, leaf_hash, node_hash};
pub use verify::{Verified, VerifyError, verify};
