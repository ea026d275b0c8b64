//! Billing: what usage means in the books, how a month closes, and what is invoiced for it. It reads no batch file, no registry and no clock:
//! whoever folds brings the deltas, whoever closes the policies. The ledger keeps what comes out.
//!
//! The path of a month: [`fold`] takes totals and passes in beside the ledger's entries and answers the months that closed;
//! [`draft_organization`] makes each organization's invoices once, [`finish_drafts`] says that all are there, [`issue`] gives numbers and books.
//! Each step is a short transaction of its own and does nothing when it was done before, so a kill anywhere goes on where it stopped.

pub mod changes;
pub mod close;
pub mod invoice;
pub mod rerated;
mod store;
pub mod terms;
pub mod usage;

pub use changes::{Billed, Cause, Change, Changes, ChangesError, Measured, Side, changes};
pub use close::{
    Close, CloseError, Held, Issue, ShardEnd, StoredInvoice, close_of, closes, draft_organization, finish_drafts, fold, held, hold,
    invoice, invoices, invoices_after, invoices_in, invoices_of, issue, last_close, lines_hold, numbered_invoice, organizations,
    record_opinion, totals, unissued,
};
pub use invoice::{Invoice, InvoiceError, InvoiceId, Line, LineKind, LogRange, Policies, PriceSum, Rounding, RoundingMode, SkuText};
pub use rerated::{Rerated, Rerating, reratings, reratings_of};
pub use store::{KeyTotal, STATEMENTS};
pub use terms::{TermLine, Terms};
pub use usage::{BillingError, KeyDelta, postings_of};
