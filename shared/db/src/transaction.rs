//! A transaction on either engine: statements in, rows out. Dropping it rolls back; after an error it can only be rolled back.
//! It does not retry and does not know what the statements mean.

use std::sync::Arc;

use sqlx::encode::IsNull;
use sqlx::error::BoxDynError;
use sqlx::postgres::{PgArguments, PgRow, PgTypeInfo, PgValueRef, Postgres};
use sqlx::sqlite::{Sqlite, SqliteArguments, SqliteRow, SqliteValueRef};
use sqlx::{Arguments as _, Column as _, Decode, Encode, Executor as _, Row as _, SqlSafeStr, TypeInfo as _, ValueRef as _};

use crate::error::classify;
use crate::statement::{is_cast, parameters};
use crate::{DbError, Engine, Row, Statement, Value};

/// An open transaction. It ends with [`Transaction::commit`]; dropping it rolls back.
#[derive(Debug)]
pub struct Transaction {
    inner: Inner,
    failed: bool,
}

#[derive(Debug)]
enum Inner {
    Sqlite(sqlx::Transaction<'static, Sqlite>),
    Postgres(sqlx::Transaction<'static, Postgres>),
}

impl Transaction {
    pub(crate) fn sqlite(inner: sqlx::Transaction<'static, Sqlite>) -> Self {
        Self { inner: Inner::Sqlite(inner), failed: false }
    }

    pub(crate) fn postgres(inner: sqlx::Transaction<'static, Postgres>) -> Self {
        Self { inner: Inner::Postgres(inner), failed: false }
    }

    /// Which engine it runs on.
    pub fn engine(&self) -> Engine {
        match self.inner {
            Inner::Sqlite(_) => Engine::Sqlite,
            Inner::Postgres(_) => Engine::Postgres,
        }
    }

    /// Runs a statement and answers how many rows it inserted, changed or removed.
    pub async fn execute(&mut self, statement: &Statement, values: &[Value]) -> Result<u64, DbError> {
        self.usable(statement.name)?;
        let outcome = match &mut self.inner {
            Inner::Sqlite(tx) => match bind_sqlite(statement, values) {
                Ok(arguments) => sqlx::query_with(statement.sqlite, arguments)
                    .execute(&mut **tx)
                    .await
                    .map(|done| done.rows_affected())
                    .map_err(|error| classify(statement.name, error)),
                Err(error) => Err(error),
            },
            Inner::Postgres(tx) => match bind_postgres(statement, values) {
                Ok(arguments) => sqlx::query_with(statement.postgres, arguments)
                    .execute(&mut **tx)
                    .await
                    .map(|done| done.rows_affected())
                    .map_err(|error| classify(statement.name, error)),
                Err(error) => Err(error),
            },
        };
        self.noted(outcome)
    }

    /// Runs a statement and answers its rows.
    pub async fn query(&mut self, statement: &Statement, values: &[Value]) -> Result<Vec<Row>, DbError> {
        self.usable(statement.name)?;
        let outcome = match &mut self.inner {
            Inner::Sqlite(tx) => match bind_sqlite(statement, values) {
                Ok(arguments) => sqlx::query_with(statement.sqlite, arguments)
                    .fetch_all(&mut **tx)
                    .await
                    .map_err(|error| classify(statement.name, error))
                    .and_then(|rows| read_rows(statement.name, &rows, read_sqlite)),
                Err(error) => Err(error),
            },
            Inner::Postgres(tx) => match bind_postgres(statement, values) {
                Ok(arguments) => sqlx::query_with(statement.postgres, arguments)
                    .fetch_all(&mut **tx)
                    .await
                    .map_err(|error| classify(statement.name, error))
                    .and_then(|rows| read_rows(statement.name, &rows, read_postgres)),
                Err(error) => Err(error),
            },
        };
        self.noted(outcome)
    }

    /// Runs a statement that answers no row or one; more are refused.
    pub async fn query_optional(&mut self, statement: &Statement, values: &[Value]) -> Result<Option<Row>, DbError> {
        let mut rows = self.query(statement, values).await?;
        if rows.len() > 1 {
            return Err(DbError::RowCount { statement: statement.name, expected: "at most one", found: rows.len() });
        }
        Ok(rows.pop())
    }

    /// Runs a statement that answers one row; none or more are refused.
    pub async fn query_one(&mut self, statement: &Statement, values: &[Value]) -> Result<Row, DbError> {
        let mut rows = self.query(statement, values).await?;
        match (rows.pop(), rows.len()) {
            (Some(row), 0) => Ok(row),
            (last, others) => {
                let found = others + usize::from(last.is_some());
                Err(DbError::RowCount { statement: statement.name, expected: "one", found })
            }
        }
    }

    /// Prepares a statement without running it: a test of its text against the schema.
    pub async fn prepare(&mut self, statement: &Statement) -> Result<(), DbError> {
        self.usable(statement.name)?;
        let outcome = match &mut self.inner {
            Inner::Sqlite(tx) => tx.prepare(statement.sqlite.into_sql_str()).await.map(drop),
            Inner::Postgres(tx) => tx.prepare(statement.postgres.into_sql_str()).await.map(drop),
        };
        self.noted(outcome.map_err(|error| classify(statement.name, error)))
    }

    /// Makes everything durable and visible.
    ///
    /// - Errors: [`DbError::Aborted`] after a failed statement (then nothing was committed); [`DbError::Refused`] when a deferred constraint
    ///   fails; after [`DbError::Io`] the commit may have happened.
    pub async fn commit(self) -> Result<(), DbError> {
        self.usable("commit")?;
        match self.inner {
            Inner::Sqlite(tx) => tx.commit().await,
            Inner::Postgres(tx) => tx.commit().await,
        }
        .map_err(|error| classify("commit", error))
    }

    /// Undoes everything. Dropping does the same without waiting.
    pub async fn rollback(self) -> Result<(), DbError> {
        match self.inner {
            Inner::Sqlite(tx) => tx.rollback().await,
            Inner::Postgres(tx) => tx.rollback().await,
        }
        .map_err(|error| classify("rollback", error))
    }

    /// Marks the transaction as one that must not be committed.
    pub(crate) fn fail(&mut self) {
        self.failed = true;
    }

    /// Runs a text of several statements without placeholders.
    pub(crate) async fn execute_script(&mut self, name: &'static str, text: impl SqlSafeStr) -> Result<(), DbError> {
        self.usable(name)?;
        let script = sqlx::raw_sql(text);
        let outcome = match &mut self.inner {
            Inner::Sqlite(tx) => tx.execute(script).await.map(drop),
            Inner::Postgres(tx) => tx.execute(script).await.map(drop),
        };
        self.noted(outcome.map_err(|error| classify(name, error)))
    }

    fn usable(&self, statement: &'static str) -> Result<(), DbError> {
        if self.failed { Err(DbError::Aborted { statement }) } else { Ok(()) }
    }

    fn noted<T>(&mut self, outcome: Result<T, DbError>) -> Result<T, DbError> {
        self.failed |= outcome.is_err();
        outcome
    }
}

fn expect_parameters(name: &'static str, text: &str, values: &[Value]) -> Result<(), DbError> {
    let wanted = parameters(text);
    if wanted == values.len() {
        return Ok(());
    }
    Err(DbError::Binding { statement: name, reason: format!("{} values for {wanted} placeholders", values.len()) })
}

fn bind_sqlite(statement: &Statement, values: &[Value]) -> Result<SqliteArguments, DbError> {
    expect_parameters(statement.name, statement.sqlite, values)?;
    let mut arguments = SqliteArguments::default();
    for value in values {
        match value {
            Value::Null => arguments.add(None::<i64>),
            Value::Integer(value) => arguments.add(*value),
            Value::Text(value) => arguments.add(value.clone()),
            Value::Bytes(value) => arguments.add(value.clone()),
        }
        .map_err(|error| DbError::Binding { statement: statement.name, reason: error.to_string() })?;
    }
    Ok(arguments)
}

/// NULL of no declared type: the cast in the statement says which.
struct Untyped;

impl sqlx::Type<Postgres> for Untyped {
    fn type_info() -> PgTypeInfo {
        PgTypeInfo::with_oid(sqlx::postgres::types::Oid(0))
    }
}

impl Encode<'_, Postgres> for Untyped {
    fn encode_by_ref(&self, _: &mut sqlx::postgres::PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        Ok(IsNull::Yes)
    }
}

fn bind_postgres(statement: &Statement, values: &[Value]) -> Result<PgArguments, DbError> {
    expect_parameters(statement.name, statement.postgres, values)?;
    let mut arguments = PgArguments::default();
    for (at, value) in values.iter().enumerate() {
        match value {
            Value::Null if !is_cast(statement.postgres, at + 1) => {
                let number = at + 1;
                let reason = format!("${number} is NULL but not cast: write ${number}::bigint, ::text or ::bytea");
                return Err(DbError::Binding { statement: statement.name, reason });
            }
            Value::Null => arguments.add(Untyped),
            Value::Integer(value) => arguments.add(*value),
            Value::Text(value) => arguments.add(value.as_str()),
            Value::Bytes(value) => arguments.add(value.as_slice()),
        }
        .map_err(|error| DbError::Binding { statement: statement.name, reason: error.to_string() })?;
    }
    Ok(arguments)
}

fn read_rows<R: sqlx::Row>(
    statement: &'static str,
    rows: &[R],
    read: impl Fn(&'static str, &R) -> Result<Vec<Value>, DbError>,
) -> Result<Vec<Row>, DbError> {
    let names: Arc<[String]> =
        rows.first().map(|row| row.columns().iter().map(|column| column.name().to_owned()).collect()).unwrap_or_default();
    rows.iter().map(|row| Ok(Row::new(statement, Arc::clone(&names), read(statement, row)?))).collect()
}

fn unreadable(statement: &'static str, column: usize, name: &str, found: String) -> DbError {
    DbError::Column { statement, column: format!("{column} ({name})"), expected: "an integer, text or bytes", found }
}

fn read_sqlite(statement: &'static str, row: &SqliteRow) -> Result<Vec<Value>, DbError> {
    let value_at = |(at, column): (usize, &sqlx::sqlite::SqliteColumn)| {
        let wrong = |found: String| unreadable(statement, at, column.name(), found);
        let raw: SqliteValueRef<'_> = row.try_get_raw(at).map_err(|error| wrong(error.to_string()))?;
        if raw.is_null() {
            return Ok(Value::Null);
        }
        let kind = raw.type_info().name().to_owned();
        match kind.as_str() {
            "INTEGER" => <i64 as Decode<Sqlite>>::decode(raw).map(Value::Integer),
            "TEXT" => <String as Decode<Sqlite>>::decode(raw).map(Value::Text),
            "BLOB" => <Vec<u8> as Decode<Sqlite>>::decode(raw).map(Value::Bytes),
            _ => return Err(wrong(kind)),
        }
        .map_err(|error| wrong(error.to_string()))
    };
    row.columns().iter().enumerate().map(value_at).collect()
}

fn read_postgres(statement: &'static str, row: &PgRow) -> Result<Vec<Value>, DbError> {
    let value_at = |(at, column): (usize, &sqlx::postgres::PgColumn)| {
        let wrong = |found: String| unreadable(statement, at, column.name(), found);
        let raw: PgValueRef<'_> = row.try_get_raw(at).map_err(|error| wrong(error.to_string()))?;
        if raw.is_null() {
            return Ok(Value::Null);
        }
        match column.type_info().name() {
            "INT8" => <i64 as Decode<Postgres>>::decode(raw).map(Value::Integer),
            "INT4" => <i32 as Decode<Postgres>>::decode(raw).map(|value| Value::Integer(value.into())),
            "INT2" => <i16 as Decode<Postgres>>::decode(raw).map(|value| Value::Integer(value.into())),
            "BOOL" => <bool as Decode<Postgres>>::decode(raw).map(|value| Value::Integer(value.into())),
            "TEXT" | "VARCHAR" | "NAME" => <String as Decode<Postgres>>::decode(raw).map(Value::Text),
            "BYTEA" => <Vec<u8> as Decode<Postgres>>::decode(raw).map(Value::Bytes),
            other => return Err(wrong(other.to_owned())),
        }
        .map_err(|error| wrong(error.to_string()))
    };
    row.columns().iter().enumerate().map(value_at).collect()
}
