//! Intake: events enter the stream, stream records become batches, batches are committed once. It knows no price and no ledger.

pub mod batch;
pub mod events;
pub mod header;
pub mod index;
pub mod map;
pub mod merge;
pub mod store;
pub mod wire;
