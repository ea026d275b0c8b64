//! Databases: one API over a SQLite file and a PostgreSQL schema, with migrations, folds' cursors and the outbox.
//! It knows no domain: tables, triggers and statements belong to their owners.
//!
//! ```ignore
//! // src/store.rs of a domain; the texts are src/store/{sqlite,postgres}/entry_insert.sql
//! const ENTRY_INSERT: Statement = statement!("entry_insert");
//!
//! let db = Database::open_sqlite(&path, &["platform-ledger"]).await?;
//! let mut tx = db.begin().await?;
//! tx.execute(&ENTRY_INSERT, &[1_i64.into(), "org/acme/unbilled".into(), Value::Null]).await?;
//! shared_db::advance(&mut tx, "ledger", BatchNo(7), BatchNo(9)).await?;
//! tx.commit().await?;
//! ```
//!
//! Placeholders are `$1…` in both texts. On PostgreSQL a parameter has the type of its value (`bigint`, `text`, `bytea`); one that can be
//! NULL is written `$3::bigint`, `$3::text` or `$3::bytea`, for a prepared statement keeps its types (a missing cast is refused by name).
//! Columns are read as `bigint`, `text`, `bytea` or NULL: numeric and jsonb are cast to text in the statement.

pub mod database;
pub mod error;
pub mod fold;
pub mod migration;
pub mod outbox;
pub mod statement;
mod store;
pub mod transaction;
pub mod value;

pub use database::{Database, Engine};
pub use error::DbError;
pub use fold::{Cut, advance, cursor, cuts};
pub use migration::{Migration, migrations};
pub use outbox::{OutboxEvent, enqueue, outbox_after};
pub use statement::Statement;
pub use transaction::Transaction;
pub use value::{Row, Value};
