//! The schema of a database: which texts it is made of, and that they do not change once applied.
//! It does not know what the tables mean; the texts lie in `sql/migrations/{sqlite,postgres}/NNNN_owner_subject.sql`.

use shared_types::Digest;
use sqlx::AssertSqlSafe;

use crate::store::{MIGRATION_INSERT, MIGRATIONS_APPLIED, MIGRATIONS_TABLE};
use crate::{DbError, Engine, Transaction};

/// One step of a schema, in both engines' words.
#[derive(Debug, Clone, Copy)]
pub struct Migration {
    /// Its number: the order in which steps are applied. Unique over all owners.
    pub number: u32,
    /// The package that owns its tables, for example `platform-ledger`.
    pub owner: &'static str,
    /// What it is about.
    pub subject: &'static str,
    /// The text for SQLite.
    pub sqlite: &'static str,
    /// The text for PostgreSQL.
    pub postgres: &'static str,
}

impl Migration {
    /// SHA-256 of the text for an engine.
    pub fn digest(&self, engine: Engine) -> Digest {
        Digest::of(self.text(engine).as_bytes())
    }

    fn text(&self, engine: Engine) -> &'static str {
        match engine {
            Engine::Sqlite => self.sqlite,
            Engine::Postgres => self.postgres,
        }
    }
}

static ALL: &[Migration] = include!(concat!(env!("OUT_DIR"), "/migrations.rs"));

/// The migrations of the owners, in order. Those of `shared-db` always belong to it.
pub fn migrations(owners: &[&str]) -> Vec<Migration> {
    ALL.iter().filter(|migration| migration.owner == "shared-db" || owners.contains(&migration.owner)).copied().collect()
}

/// Brings the schema up to date in the given transaction.
pub(crate) async fn migrate(tx: &mut Transaction, owners: &[&str]) -> Result<(), DbError> {
    if let Some(owner) = owners.iter().find(|owner| !ALL.iter().any(|migration| migration.owner == **owner)) {
        return Err(DbError::UnknownOwner { owner: (*owner).to_owned() });
    }
    apply(tx, &migrations(owners), ALL).await
}

async fn apply(tx: &mut Transaction, wanted: &[Migration], known: &[Migration]) -> Result<(), DbError> {
    let engine = tx.engine();
    tx.execute(&MIGRATIONS_TABLE, &[]).await?;
    let mut applied = Vec::new();
    for row in tx.query(&MIGRATIONS_APPLIED, &[]).await? {
        let (number, owner, digest) = (row.integer(0)?, row.text(1)?, row.digest(3)?);
        let unknown = || DbError::MigrationUnknown { number, owner: owner.to_owned() };
        let migration =
            known.iter().find(|migration| i64::from(migration.number) == number && migration.owner == owner).ok_or_else(unknown)?;
        if migration.digest(engine) != digest {
            return Err(DbError::MigrationChanged {
                number: migration.number,
                owner: owner.to_owned(),
                applied: digest,
                text: migration.digest(engine),
            });
        }
        applied.push(migration.number);
    }
    for migration in wanted.iter().filter(|migration| !applied.contains(&migration.number)) {
        tx.execute_script("shared-db.migration", AssertSqlSafe(migration.text(engine))).await.map_err(|error| named(error, migration))?;
        let values = [migration.number.into(), migration.owner.into(), migration.subject.into(), migration.digest(engine).into()];
        tx.execute(&MIGRATION_INSERT, &values).await?;
        tracing::info!(number = migration.number, owner = migration.owner, subject = migration.subject, "migrated");
    }
    Ok(())
}

/// Puts the migration's number and subject before the database's words.
fn named(error: DbError, migration: &Migration) -> DbError {
    match error {
        DbError::Statement { statement, code, text } | DbError::Refused { statement, code, text } => DbError::Statement {
            statement,
            code,
            text: format!("{:04} {} {}: {text}", migration.number, migration.owner, migration.subject),
        },
        other => other,
    }
}
