//! What tests of several crates need: a real PostgreSQL, a body run on both engines, the proof that tables are append-only.
//! It is a dev-dependency only and knows no domain.

pub mod append_only;
pub mod engines;
pub mod postgres;

pub use append_only::append_only_refusals;
pub use engines::on_both_engines;
pub use postgres::{Postgres, Schema};
