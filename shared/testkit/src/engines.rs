//! Runs one test body on a fresh SQLite file and on a fresh PostgreSQL schema. It does not know what the body tests.

use shared_db::Database;

use crate::Postgres;

/// Runs the body on a fresh SQLite database, then on a fresh PostgreSQL schema, each with the owners' tables.
///
/// PostgreSQL is skipped loudly where it is missing (see [`Postgres::start`]). Panics when a database cannot be opened.
#[expect(clippy::panic, reason = "a test without its database has failed")]
pub async fn on_both_engines<F: Future<Output = ()>>(owners: &[&str], body: impl Fn(Database) -> F) {
    eprintln!("on SQLite");
    let folder = tempfile::tempdir().unwrap_or_else(|error| panic!("cannot make a folder: {error}"));
    let db = Database::open_sqlite(folder.path().join("test.db"), owners).await;
    let db = db.unwrap_or_else(|error| panic!("cannot open the SQLite database: {error}"));
    body(db.clone()).await;
    db.close().await;

    let Some(server) = Postgres::start() else { return };
    eprintln!("on PostgreSQL");
    let schema = server.fresh_schema();
    let db = Database::open_postgres(&schema.url, &schema.name, owners).await;
    let db = db.unwrap_or_else(|error| panic!("cannot open the PostgreSQL database: {error}"));
    body(db.clone()).await;
    db.close().await;
}
