//! Proves that append-only tables refuse what they must, whoever asks. Which tables there are is read from the triggers' names.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail, ensure};
use shared_db::{Database, DbError, Engine, Statement};

use crate::Postgres;

const SQLITE_TRIGGERS: &str = "SELECT tbl_name, substr(name, length(tbl_name) + 2) FROM sqlite_schema
WHERE type = 'trigger' AND substr(name, 1, length(tbl_name) + 13) = tbl_name || '_append_only_' ORDER BY 1, 2";
const POSTGRES_TRIGGERS: &str = "SELECT c.relname::text, substr(t.tgname, length(c.relname) + 2)::text
FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
WHERE c.relnamespace = current_schema()::regnamespace AND t.tgenabled = 'A' AND starts_with(t.tgname, c.relname || '_append_only_')
ORDER BY 1, 2";
const SQLITE_COLUMNS: &str = "SELECT name, pk > 0 FROM pragma_table_info($1) ORDER BY cid";
const POSTGRES_COLUMNS: &str = "SELECT a.attname::text, coalesce(a.attnum = ANY (i.indkey), false)
FROM pg_attribute a LEFT JOIN pg_index i ON i.indrelid = a.attrelid AND i.indisprimary
WHERE a.attrelid = $1::regclass AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum";

const GRANTS: &str = "DO $do$ BEGIN
EXECUTE format('GRANT USAGE ON SCHEMA %I TO tally_writer', current_schema());
EXECUTE format('GRANT ALL ON ALL TABLES IN SCHEMA %I TO tally_writer', current_schema());
END $do$";

/// Tries to change every append-only table of the database on a row that exists, and answers the tables it found.
///
/// A table is append-only when it carries `<table>_append_only_update`, `_delete` and, on SQLite `_replace`, on PostgreSQL `_truncate`
/// (all `ENABLE ALWAYS`). Each of UPDATE, DELETE, upsert, INSERT OR REPLACE (SQLite), TRUNCATE (PostgreSQL) is tried in a transaction of its
/// own: on PostgreSQL as `tally_writer` (with every privilege granted), as the owner, as superuser and as superuser in replica mode.
///
/// - Errors: a refusal that did not come, a trigger that is missing, a table without rows (the caller fills them first), no such table at all.
pub async fn append_only_refusals(db: &Database) -> Result<Vec<String>> {
    let mut tables: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (table, kind) in pairs(db, statement(SQLITE_TRIGGERS, POSTGRES_TRIGGERS), None).await? {
        tables.entry(table).or_default().push(kind);
    }
    ensure!(!tables.is_empty(), "no append-only table found");
    let wanted = match db.engine() {
        Engine::Sqlite => ["append_only_delete", "append_only_replace", "append_only_update"],
        Engine::Postgres => ["append_only_delete", "append_only_truncate", "append_only_update"],
    };
    let superuser = superuser(db).await?;
    for (table, kinds) in &tables {
        ensure!(
            wanted.iter().all(|kind| kinds.iter().any(|found| found == kind)),
            "{table} has only the (always enabled) triggers {kinds:?}"
        );
        let columns = pairs(db, statement(SQLITE_COLUMNS, POSTGRES_COLUMNS), Some(table)).await?;
        let attempts = attempts(db.engine(), table, &columns)?;
        let filled = leak(format!("SELECT 1 FROM {table} LIMIT 1"));
        let mut tx = db.read().await?;
        ensure!(tx.query_optional(&filled, &[]).await?.is_some(), "{table} is empty: fill it before asking whether it refuses changes");
        tx.rollback().await?;
        for attempt in &attempts {
            refused(db, &[], table, attempt).await?;
            if let Some(superuser) = &superuser {
                // TRUNCATE … CASCADE reaches other tables, so privileges are granted on all
                let before = [leak(GRANTS.to_owned()), leak("SET LOCAL ROLE tally_writer".to_owned())];
                refused(db, &before, table, attempt).await?;
                refused(superuser, &[], table, attempt).await?;
                refused(superuser, &[leak("SET LOCAL session_replication_role = replica".to_owned())], table, attempt).await?;
            }
        }
    }
    if let Some(superuser) = superuser {
        superuser.close().await;
    }
    Ok(tables.into_keys().collect())
}

/// One thing that must not succeed.
struct Attempt {
    text: String,
    /// Whether the refusal must be the append-only trigger's own; an insert may be refused by another check before.
    by_trigger: bool,
}

fn attempts(engine: Engine, table: &str, columns: &[(String, String)]) -> Result<Vec<Attempt>> {
    let keys: Vec<&str> = columns.iter().filter(|(_, key)| key == "1").map(|(name, _)| name.as_str()).collect();
    ensure!(!keys.is_empty(), "{table} has no primary key");
    let (column, _) = columns.last().with_context(|| format!("{table} has no columns"))?;
    let keys = keys.join(", ");
    let mut attempts = vec![
        Attempt { text: format!("UPDATE {table} SET {column} = {column}"), by_trigger: true },
        Attempt { text: format!("DELETE FROM {table}"), by_trigger: true },
        Attempt {
            text: format!(
                "INSERT INTO {table} SELECT * FROM {table} WHERE true ON CONFLICT ({keys}) DO UPDATE SET {column} = excluded.{column}"
            ),
            by_trigger: false,
        },
    ];
    match engine {
        Engine::Sqlite => {
            attempts.push(Attempt { text: format!("UPDATE OR REPLACE {table} SET {column} = {column}"), by_trigger: true });
            attempts.push(Attempt { text: format!("REPLACE INTO {table} SELECT * FROM {table} WHERE true"), by_trigger: false });
        }
        Engine::Postgres => attempts.push(Attempt { text: format!("TRUNCATE {table} CASCADE"), by_trigger: true }),
    }
    Ok(attempts)
}

async fn refused(db: &Database, before: &[Statement], table: &str, attempt: &Attempt) -> Result<()> {
    let mut tx = db.begin().await?;
    for statement in before {
        tx.execute(statement, &[]).await?;
    }
    let who = || before.iter().map(|statement| statement.postgres).collect::<Vec<_>>().join("; ");
    match tx.execute(&leak(attempt.text.clone()), &[]).await {
        Err(DbError::Refused { text, .. }) if !attempt.by_trigger || text.contains("append-only: ") => Ok(()),
        Ok(rows) => bail!("{} was allowed on {rows} rows of {table} ({})", attempt.text, who()),
        Err(other) => bail!("{} failed on {table} for another reason ({}): {other}", attempt.text, who()),
    }
}

/// The same schema seen by the superuser; none on SQLite.
async fn superuser(db: &Database) -> Result<Option<Database>> {
    if db.engine() == Engine::Sqlite {
        return Ok(None);
    }
    let server = Postgres::start().context("the server is gone")?;
    let mut tx = db.read().await?;
    let row = tx.query_one(&leak("SELECT current_schema()::text".to_owned()), &[]).await?;
    let schema = server.fresh_schema();
    Ok(Some(Database::open_postgres(&schema.superuser_url, row.text(0)?, &[]).await?))
}

/// Rows of two columns as text.
async fn pairs(db: &Database, statement: Statement, argument: Option<&str>) -> Result<Vec<(String, String)>> {
    let mut tx = db.read().await?;
    let values: Vec<_> = argument.into_iter().map(Into::into).collect();
    let rows = tx.query(&statement, &values).await?;
    rows.iter()
        .map(|row| {
            let second = match row.integer(1) {
                Ok(number) => number.to_string(),
                Err(_) => row.text(1)?.to_owned(),
            };
            Ok((row.text(0)?.to_owned(), second))
        })
        .collect()
}

fn statement(sqlite: &'static str, postgres: &'static str) -> Statement {
    Statement { name: "shared-testkit.append_only", sqlite, postgres }
}

/// A statement with a text made at run time. Leaked: a test process is short-lived.
fn leak(text: String) -> Statement {
    let text: &'static str = text.leak();
    statement(text, text)
}
