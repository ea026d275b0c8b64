//! The commands of `tally`, one module each.

pub mod check;
pub mod close;
pub mod compact;
pub mod demo;
pub mod drain;
pub mod evidence;
pub mod explain;
pub mod forecast;
pub mod iam;
pub mod ingest;
pub mod init;
pub mod invoice;
pub mod lake;
pub mod owner;
pub mod period;
pub mod quarantine;
pub mod rebuild;
pub mod registry;
pub mod rerate;
pub mod serve;
pub mod sql;

/// The input was refused; the text says why and what to do. Exit code 1.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Refused(pub String);
