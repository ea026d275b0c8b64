//! Benchmarks: what a commit costs beside its bare equivalent, and what the whole path does from the wire to SQL.
//! They measure what the crates and the binary do; they know no shortcut that the product does not have.

pub mod bundle;
pub mod commit;
pub mod figures;
pub mod machine;
pub mod native;
pub mod path;
pub mod profile;
pub mod rate;
pub mod registry;
pub mod rerate;
pub mod result;
pub mod server;
pub mod world;
