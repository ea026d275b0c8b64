//! A SQLite file or a PostgreSQL schema with its connections. It does not know which tables it holds beyond running their migrations.

use std::path::Path;
use std::str::FromStr as _;
use std::sync::Arc;
use std::time::Duration;

use sqlx::AssertSqlSafe;
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous};

use crate::error::classify;
use crate::migration::migrate;
use crate::store::SNAPSHOT_PIN;
use crate::{DbError, Transaction};

/// How long a statement waits for another transaction before it is [`DbError::Busy`].
const LOCK_WAIT: Duration = Duration::from_secs(5);
/// How long a caller waits for a connection, that is, for the writer's turn.
const TURN_WAIT: Duration = Duration::from_secs(30);
const READERS: u32 = 4;
const POSTGRES_CONNECTIONS: u32 = 8;

/// The two engines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    /// A SQLite file in WAL mode.
    Sqlite,
    /// A schema of a PostgreSQL database.
    Postgres,
}

/// A database. Clones share its connections.
#[derive(Debug, Clone)]
pub struct Database {
    inner: Arc<Inner>,
}

#[derive(Debug)]
enum Inner {
    Sqlite { writer: Option<SqlitePool>, readers: SqlitePool },
    Postgres(PgPool),
}

impl Database {
    /// Opens or creates a SQLite file (its folder must exist) and brings the schema of the owners up to date.
    ///
    /// One connection writes, several read. WAL, synchronous=FULL, foreign keys and recursive triggers on.
    pub async fn open_sqlite(path: impl AsRef<Path>, owners: &[&str]) -> Result<Self, DbError> {
        let options =
            sqlite_options(path.as_ref()).create_if_missing(true).journal_mode(SqliteJournalMode::Wal).synchronous(SqliteSynchronous::Full);
        let writer = sqlite_pool(1, options).await?;
        let mut tx = begin_sqlite(&writer, "BEGIN IMMEDIATE").await?;
        migrate(&mut tx, owners).await?;
        tx.commit().await?;
        let readers = sqlite_pool(READERS, sqlite_options(path.as_ref()).read_only(true)).await?;
        Ok(Self { inner: Arc::new(Inner::Sqlite { writer: Some(writer), readers }) })
    }

    /// Opens a SQLite file that another process may own, for reading only. Nothing is migrated.
    pub async fn open_sqlite_read_only(path: impl AsRef<Path>) -> Result<Self, DbError> {
        let readers = sqlite_pool(READERS, sqlite_options(path.as_ref()).read_only(true)).await?;
        Ok(Self { inner: Arc::new(Inner::Sqlite { writer: None, readers }) })
    }

    /// Opens a schema of a PostgreSQL database, creates it where it is missing and brings the schema of the owners up to date.
    ///
    /// `url` is `postgres://user:password@host:port/database`; a password may also come from `PGPASSWORD` or `.pgpass`.
    /// No error shows the url.
    pub async fn open_postgres(url: &str, schema: &str, owners: &[&str]) -> Result<Self, DbError> {
        if !is_schema_name(schema) {
            return Err(DbError::SchemaName { schema: schema.chars().take(80).collect() });
        }
        let options = PgConnectOptions::from_str(url)
            .map_err(|_| DbError::Io { statement: "open", text: "the url of the database is malformed".to_owned() })?
            .application_name("tally")
            .options([
                ("search_path", format!("\"{schema}\"").as_str()),
                ("lock_timeout", "5s"),
                ("idle_in_transaction_session_timeout", "60s"),
                ("synchronous_commit", "on"),
                ("client_min_messages", "warning"),
            ]);
        let pool = PgPoolOptions::new()
            .max_connections(POSTGRES_CONNECTIONS)
            .acquire_timeout(TURN_WAIT)
            .connect_with(options)
            .await
            .map_err(|error| classify("open", error))?;
        let mut tx = Transaction::postgres(pool.begin().await.map_err(|error| classify("begin", error))?);
        let prelude = format!(
            "SELECT pg_advisory_xact_lock(hashtextextended('{schema}.shared_db_migrations', 0)); CREATE SCHEMA IF NOT EXISTS \"{schema}\";"
        );
        tx.execute_script("shared-db.schema", AssertSqlSafe(prelude)).await?;
        migrate(&mut tx, owners).await?;
        tx.commit().await?;
        Ok(Self { inner: Arc::new(Inner::Postgres(pool)) })
    }

    /// Which engine it is.
    pub fn engine(&self) -> Engine {
        match *self.inner {
            Inner::Sqlite { .. } => Engine::Sqlite,
            Inner::Postgres(_) => Engine::Postgres,
        }
    }

    /// Begins a writing transaction. On SQLite there is one at a time: others wait for their turn.
    pub async fn begin(&self) -> Result<Transaction, DbError> {
        match &*self.inner {
            Inner::Sqlite { writer: None, .. } => Err(DbError::ReadOnly),
            Inner::Sqlite { writer: Some(writer), .. } => begin_sqlite(writer, "BEGIN IMMEDIATE").await,
            Inner::Postgres(pool) => {
                let tx = pool.begin_with("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE").await;
                Ok(Transaction::postgres(tx.map_err(|error| classify("begin", error))?))
            }
        }
    }

    /// Begins a transaction that cannot write and sees one state: the one at this call.
    pub async fn read(&self) -> Result<Transaction, DbError> {
        let mut tx = match &*self.inner {
            Inner::Sqlite { readers, .. } => begin_sqlite(readers, "BEGIN DEFERRED").await?,
            Inner::Postgres(pool) => {
                let tx = pool.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await;
                Transaction::postgres(tx.map_err(|error| classify("begin", error))?)
            }
        };
        tx.query(&SNAPSHOT_PIN, &[]).await?;
        Ok(tx)
    }

    /// Closes all connections and waits for them. Later transactions fail.
    pub async fn close(&self) {
        match &*self.inner {
            Inner::Sqlite { writer, readers } => {
                readers.close().await;
                if let Some(writer) = writer {
                    writer.close().await;
                }
            }
            Inner::Postgres(pool) => pool.close().await,
        }
    }
}

fn sqlite_options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .busy_timeout(LOCK_WAIT)
        .foreign_keys(true)
        .pragma("recursive_triggers", "ON")
        .statement_cache_capacity(256)
}

async fn sqlite_pool(connections: u32, options: SqliteConnectOptions) -> Result<SqlitePool, DbError> {
    SqlitePoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(TURN_WAIT)
        .idle_timeout(None)
        .max_lifetime(None)
        .test_before_acquire(false)
        .connect_with(options)
        .await
        .map_err(|error| classify("open", error))
}

async fn begin_sqlite(pool: &SqlitePool, begin: &'static str) -> Result<Transaction, DbError> {
    // A full disk makes SQLite roll back by itself; the driver then believes for ever that the connection is inside a transaction.
    // Such a connection is given up for a new one, as often as the pool may hold one.
    for _ in 0..pool.options().get_max_connections() {
        match pool.begin_with(begin).await {
            Err(sqlx::Error::InvalidSavePointStatement) => {
                let stuck = pool.acquire().await.map_err(|error| classify("begin", error))?;
                stuck.close().await.map_err(|error| classify("begin", error))?;
            }
            outcome => return outcome.map(Transaction::sqlite).map_err(|error| classify("begin", error)),
        }
    }
    pool.begin_with(begin).await.map(Transaction::sqlite).map_err(|error| classify("begin", error))
}

fn is_schema_name(name: &str) -> bool {
    name.len() <= 63
        && name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
}
