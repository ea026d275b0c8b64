//! The ledger: balanced postings in dense sequence, chained entries, exact balances, accounting periods. One database holds one book.
//! It knows nothing of usage, prices or invoices; what is posted where is decided by platform-billing.
//!
//! A fold posts a cut in one transaction:
//! ```ignore
//! let mut tx = db.begin().await?;
//! platform_ledger::open_for(&mut tx, &group).await?;  // assets, accounts and periods that the group names
//! let receipt = platform_ledger::append(&mut tx, &group).await?;  // None when the cut posts nothing: only the cursor moves
//! tx.commit().await?;
//! ```

pub mod book;
pub mod entry;
pub mod posting;
mod store;
pub mod verify;

pub use book::{AppendError, Balance, FOLD, Receipt, append, balances, close_period, entries, head, open_for, postings};
pub use entry::{BookedPosting, Entry};
pub use posting::{AccountId, EntryGroup, Kind, Posting, PostingError, PostingKey};
pub use verify::{Violation, verify};
