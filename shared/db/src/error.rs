//! What can go wrong with a database, sorted by what the caller does next. The database's own words are kept.

use shared_types::{BatchNo, Digest};

/// Why a database operation failed.
#[derive(Debug, thiserror::Error)]
pub enum DbError {
    /// A constraint, a trigger or a privilege refused the statement: the data is wrong, trying again does not help.
    #[error("{statement} was refused: {text} ({code})")]
    Refused {
        /// The statement, as `crate.name`.
        statement: &'static str,
        /// SQLite's extended result code or PostgreSQL's SQLSTATE.
        code: String,
        /// What the constraint or trigger said.
        text: String,
    },
    /// Another transaction is in the way: the same transaction may succeed later.
    #[error("{statement} did not get its turn: {text}")]
    Busy {
        /// The statement, as `crate.name`.
        statement: &'static str,
        /// What the database said.
        text: String,
    },
    /// The disk, the connection or the server failed. A commit that ends so may have happened: read the cursor again.
    #[error("{statement} failed: {text}")]
    Io {
        /// The statement, as `crate.name`.
        statement: &'static str,
        /// What the database or the system said.
        text: String,
    },
    /// The text of a statement does not fit the schema: a defect of the program.
    #[error("{statement} is wrong: {text} ({code})")]
    Statement {
        /// The statement, as `crate.name`.
        statement: &'static str,
        /// SQLite's extended result code or PostgreSQL's SQLSTATE.
        code: String,
        /// What the database said.
        text: String,
    },
    /// The values do not fit the placeholders of a statement: a defect of the program.
    #[error("{statement} cannot take its values: {reason}")]
    Binding {
        /// The statement, as `crate.name`.
        statement: &'static str,
        /// What does not fit.
        reason: String,
    },
    /// A column holds another type than the one asked for.
    #[error("column {column} of {statement} is {found}, not {expected}")]
    Column {
        /// The statement, as `crate.name`.
        statement: &'static str,
        /// The column's index, from 0, and its name where it has one.
        column: String,
        /// The type asked for.
        expected: &'static str,
        /// What is there.
        found: String,
    },
    /// A statement that answers one row answered another number of rows.
    #[error("{statement} answered {found} rows instead of {expected}")]
    RowCount {
        /// The statement, as `crate.name`.
        statement: &'static str,
        /// `one` or `at most one`.
        expected: &'static str,
        /// How many rows came.
        found: usize,
    },
    /// An earlier statement of the transaction failed, so nothing of it may be committed.
    #[error("{statement} was not run: the transaction had failed before")]
    Aborted {
        /// The statement, as `crate.name`.
        statement: &'static str,
    },
    /// The database was opened read-only.
    #[error("cannot begin a writing transaction: the database was opened read-only")]
    ReadOnly,
    /// Someone else moved the fold on, or the caller repeats a range.
    #[error("fold {fold} does not stand at batch {expected} but at batch {found}")]
    CursorMoved {
        /// The fold.
        fold: String,
        /// Where the caller believed the cursor to be.
        expected: BatchNo,
        /// Where it is.
        found: BatchNo,
    },
    /// A number has no place in a 64-bit signed column.
    #[error("{value} does not fit a column")]
    Range {
        /// The number.
        value: String,
    },
    /// No migration names this owner.
    #[error("no migration belongs to {owner}")]
    UnknownOwner {
        /// The package name asked for.
        owner: String,
    },
    /// A PostgreSQL schema is named by lower-case letters, digits and `_`, at most 63, not digits first.
    #[error("{schema:?} is not a schema name of a-z, 0-9 and _")]
    SchemaName {
        /// The refused name.
        schema: String,
    },
    /// The text of a migration changed after it had been applied.
    #[error("migration {number} of {owner} was applied with digest {applied}, but its text now has digest {text}")]
    MigrationChanged {
        /// The migration's number.
        number: u32,
        /// Its owner.
        owner: String,
        /// Digest of the text that was applied.
        applied: Digest,
        /// Digest of the text in this program.
        text: Digest,
    },
    /// The database was migrated by a newer program.
    #[error("the database holds migration {number} of {owner}, which this program does not know")]
    MigrationUnknown {
        /// The migration's number.
        number: i64,
        /// Its owner.
        owner: String,
    },
}

/// Sorts an error of the driver by its code.
pub(crate) fn classify(statement: &'static str, error: sqlx::Error) -> DbError {
    let error = match error {
        sqlx::Error::Database(error) => error,
        sqlx::Error::PoolTimedOut => {
            return DbError::Busy { statement, text: "no connection became free in time".to_owned() };
        }
        other => return DbError::Io { statement, text: other.to_string() },
    };
    let code = error.code().map(|code| code.into_owned()).unwrap_or_default();
    let text = error.message().to_owned();
    let kind = match error.try_downcast_ref::<sqlx::postgres::PgDatabaseError>() {
        Some(_) => postgres_kind(&code),
        None => sqlite_kind(&code, &text),
    };
    match kind {
        Kind::Refused => DbError::Refused { statement, code, text },
        Kind::Busy => DbError::Busy { statement, text },
        Kind::Io => DbError::Io { statement, text },
        Kind::Statement => DbError::Statement { statement, code, text },
    }
}

enum Kind {
    Refused,
    Busy,
    Io,
    Statement,
}

/// The primary result code is the low byte of the extended one: <https://sqlite.org/rescode.html>.
fn sqlite_kind(code: &str, text: &str) -> Kind {
    match code.parse::<u32>().map(|code| code & 0xff) {
        // READONLY, TOOBIG, CONSTRAINT, MISMATCH
        Ok(8 | 18 | 19 | 20) => Kind::Refused,
        // BUSY, LOCKED
        Ok(5 | 6) => Kind::Busy,
        // `sum()` beyond 64 bits has no code of its own
        Ok(1) if text == "integer overflow" => Kind::Refused,
        // ERROR, MISUSE, RANGE
        Ok(1 | 21 | 25) => Kind::Statement,
        _ => Kind::Io,
    }
}

/// By class of SQLSTATE: <https://www.postgresql.org/docs/current/errcodes-appendix.html>.
fn postgres_kind(code: &str) -> Kind {
    match code {
        // lock not available, serialization failure, deadlock
        "55P03" | "40001" | "40P01" => Kind::Busy,
        // insufficient privilege, write in a read-only transaction
        "42501" | "25006" => Kind::Refused,
        _ => match code.get(..2) {
            // data out of range, integrity, an exception raised by a trigger
            Some("22" | "23" | "P0") => Kind::Refused,
            // connection, resources, operator intervention, system, internal, and what has no code
            Some("08" | "53" | "57" | "58" | "XX") | None => Kind::Io,
            Some(_) => Kind::Statement,
        },
    }
}
