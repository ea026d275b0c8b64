//! The audit: who did or tried what, as gapless hash chains, one for each organization and one for the deployment.
//! A record is written in the transaction of its effect. It decides nothing: who may do what is `platform-iam`'s.
//!
//! ```ignore
//! let mut tx = books.begin().await?;
//! // … the effect …
//! platform_audit::record(&mut tx, &record).await?;
//! tx.commit().await?;
//! ```

pub mod action;
pub mod head;
pub mod record;
pub mod store;

pub use action::{Action, Class, Severity, TargetType};
pub use head::{AuditHead, ChainHead, Heads};
pub use record::{Chain, Outcome, Record};
pub use store::{AuditError, Flaw, Stored, heads, heads_at, record, records_after, records_of, verify};
