//! Billing: what usage means in the books. So far the one rule for usage; it reads no table, no price and no clock.

pub mod usage;

pub use usage::{BillingError, KeyDelta, postings_of};
