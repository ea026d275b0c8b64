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
//! Everything else that posts is a command, in the same sequence: `platform_ledger::execute(&mut tx, &command)`.

pub mod book;
pub mod command;
pub mod entry;
pub mod posting;
mod store;
pub mod verify;

pub use book::{
    AppendError, Balance, BookedCommand, FOLD, Receipt, append, balances, close_period, close_through, commands, entries, entry_numbered,
    execute, head, open_for, postings,
};
pub use command::{Command, CommandError};
pub use entry::{BookedPosting, Cause, Entry};
pub use posting::{AccountId, EntryGroup, Kind, Posting, PostingError, PostingKey};
pub use verify::{Violation, verify};
