//! A DuckLake 1.0 catalog in our own database: tables are created once, files are appended, stock DuckDB reads.
//! It writes and deletes no file and knows no table of its own. The migrations belong to the owner `shared-lake`. Files that take the place
//! of others, and states that nobody needs any more: [`replace`](mod@replace).
//!
//! Every call runs in the caller's transaction, so that an append is one with whatever else that transaction does.

pub mod replace;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;

use arrow::datatypes::SchemaRef;
use serde_json::json;
use shared_db::{DbError, Row, Transaction, Value};
use shared_types::{Digest, Instant, TimeError};

use crate::column::{ColumnError, ColumnType, field_id, timestamp_text};
use crate::parquet::{ColumnStatistics, FileMeta, check_columns};
use crate::store::{
    CHANGES_INSERT, COLUMNS, COLUMNS_INSERT, DELETES, FILES, FILES_INSERT, FIRST, HEAD, INLINED, LOCK, METADATA_DELETE, METADATA_INSERT,
    SCHEMA_INSERT, SCHEMA_VERSION_INSERT, SNAPSHOT_INSERT, SNAPSHOTS, STATISTICS_INSERT, TABLE_INSERT, TABLES, TOTALS_RAISE,
};

/// The version of the specification.
const VERSION: &str = "1.0";

/// A state of the whole lake, numbered densely from 0 (empty).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct SnapshotId(pub i64);

impl fmt::Display for SnapshotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A table to be created.
#[derive(Clone, Debug)]
pub struct TableSpec {
    /// Lower-case letters, digits and `_`, from a letter. Its files lie in the folder of that name below the data path.
    pub name: String,
    /// Its columns, each with a field id.
    pub schema: SchemaRef,
}

/// What one snapshot adds.
#[derive(Clone, Debug)]
pub struct LakeCommit {
    /// Who wrote it.
    pub author: String,
    /// What it is, for people.
    pub message: String,
    /// What it is, for programs.
    pub extra_info: Option<String>,
    /// When. A time before the previous snapshot's is raised to that, so that time travel by time has one answer.
    pub at: Instant,
    /// The files with their tables; a table may get several. Files without rows are left out of the catalog.
    pub files: Vec<(String, FileMeta)>,
}

/// A file of a table as a snapshot sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LakeFile {
    /// The path below the data path, with `/`; an absolute one when a foreign writer registered it so.
    pub path: String,
    /// Rows.
    pub rows: u64,
    /// The length of the file in bytes.
    pub bytes: u64,
    /// The snapshot that added it.
    pub begin_snapshot: SnapshotId,
    /// Of the pruning columns.
    pub statistics: Vec<ColumnStatistics>,
}

/// A snapshot as the catalog tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Its number.
    pub id: SnapshotId,
    /// When it was made.
    pub at: Instant,
    /// What it changed, in DuckLake's words, such as `inserted_into_table:1`.
    pub changes: String,
    /// Who made it.
    pub author: Option<String>,
    /// What it is, for people.
    pub message: Option<String>,
    /// What it is, for programs.
    pub extra_info: Option<String>,
}

/// Why the catalog could not be read or written. A transaction that saw one must be rolled back.
#[derive(Debug, thiserror::Error)]
pub enum LakeError {
    /// The database refused or failed.
    #[error("the lake's catalog could not be reached")]
    Store(#[from] DbError),
    /// [`create_tables`] was never called.
    #[error("the lake has no catalog yet")]
    Missing,
    /// No table of that name.
    #[error("the lake has no table {table:?}")]
    NoTable {
        /// The unknown name.
        table: String,
    },
    /// Not lower-case letters, digits and `_` from a letter.
    #[error("{table:?} is not a name of a lake table")]
    Name {
        /// The refused name.
        table: String,
    },
    /// A column that the lake does not hold.
    #[error("table {table:?} cannot be created")]
    Column {
        /// The table.
        table: String,
        /// The column at fault.
        #[source]
        source: ColumnError,
    },
    /// The table exists with other columns.
    #[error("table {table:?} has the columns {found}, not {expected}")]
    Schema {
        /// The table.
        table: String,
        /// The columns asked for.
        expected: String,
        /// The columns of the catalog.
        found: String,
    },
    /// A file outside the folder of its table.
    #[error("{path:?} does not lie in the folder of table {table:?}")]
    Path {
        /// The table.
        table: String,
        /// The refused path.
        path: String,
    },
    /// A count beyond 63 bits.
    #[error("the size of {path:?} is out of range")]
    Range {
        /// The file.
        path: String,
    },
    /// Another writer left rows that are not plain files: delete files, rows inside the catalog, or a merged file whose early states need a filter.
    #[error("table {table:?} at snapshot {snapshot} holds {what}, which only DuckDB can read")]
    Foreign {
        /// The table.
        table: String,
        /// The snapshot asked for.
        snapshot: SnapshotId,
        /// What is in the way.
        what: &'static str,
    },
    /// A snapshot that the lake has not reached.
    #[error("the lake has no snapshot {snapshot}: the last is {last}")]
    NoSnapshot {
        /// The snapshot asked for.
        snapshot: SnapshotId,
        /// The last there is.
        last: SnapshotId,
    },
    /// A snapshot that was given up: the files that only it named may be gone.
    #[error("snapshot {snapshot} has expired: the first that the lake still keeps is {first}")]
    Expired {
        /// The snapshot asked for.
        snapshot: SnapshotId,
        /// The first that is kept.
        first: SnapshotId,
    },
    /// Files that do not take the place of exactly the rows of the others.
    #[error(
        "table {table:?}: {files} files with {rows} rows cannot take the place of {listed} listed files with {listed_rows} rows and {gained} new rows"
    )]
    Replacement {
        /// The table.
        table: String,
        /// Files to be ended.
        files: usize,
        /// Rows of the file in their place.
        rows: u64,
        /// How many of the files the last snapshot shows.
        listed: i64,
        /// Their rows.
        listed_rows: i64,
        /// Rows that the table is to gain.
        gained: u64,
    },
    /// A time in the catalog that is none.
    #[error("a snapshot has no readable time")]
    Time(#[source] TimeError),
    /// A data path that is not UTF-8, empty, or holds a zero byte.
    #[error("{path:?} cannot be written down as a path of the lake")]
    DataPath {
        /// The refused path.
        path: String,
    },
}

/// The last snapshot and the counters in it.
struct Head {
    snapshot: i64,
    at: Instant,
    schema_version: i64,
    next_catalog_id: i64,
    next_file_id: i64,
}

/// A table of the catalog.
struct Table {
    id: i64,
    folder: String,
    next_row_id: i64,
}

/// Creates the catalog where it is missing and the tables that are missing, all in one snapshot; none when nothing is missing.
///
/// - `data_path`: the folder under which the files lie; readers are told it. A changed one is written down.
/// - Errors: [`LakeError::Schema`] when a table exists with other columns: a catalog's columns are not changed here.
pub async fn create_tables(tx: &mut Transaction, data_path: &Path, tables: &[TableSpec], at: Instant) -> Result<(), LakeError> {
    let data_path = folder_text(data_path)?;
    tx.query(&LOCK, &[]).await?;
    let mut head = match head(tx).await? {
        Some(head) => head,
        None => create_catalog(tx, at).await?,
    };
    tx.execute(&METADATA_DELETE, &["data_path".into()]).await?;
    tx.execute(&METADATA_INSERT, &["data_path".into(), data_path.into()]).await?;

    let known = known_tables(tx).await?;
    let mut missing: Vec<(&TableSpec, Vec<Column>)> = Vec::new();
    for spec in tables {
        let wanted = columns_of(spec)?;
        match known.get(&spec.name) {
            Some(table) => {
                let found = columns_in(tx, table.id).await?;
                if found != wanted {
                    return Err(LakeError::Schema { table: spec.name.clone(), expected: listed(&wanted), found: listed(&found) });
                }
            }
            None if missing.iter().any(|(other, _)| other.name == spec.name) => return Err(LakeError::Name { table: spec.name.clone() }),
            None => missing.push((spec, wanted)),
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    let snapshot = head.snapshot + 1;
    head.schema_version += 1;
    let mut changes = Vec::new();
    for (spec, columns) in missing {
        let id = head.next_catalog_id;
        head.next_catalog_id += 1;
        let folder = format!("{}/", spec.name);
        tx.execute(&TABLE_INSERT, &[id.into(), uuid_of("table", &spec.name).into(), snapshot.into(), (&spec.name).into(), folder.into()])
            .await?;
        let rows: Vec<serde_json::Value> = columns
            .iter()
            .zip(1_i64..)
            .map(|(column, order)| {
                let nullable = i64::from(column.nullable);
                json!({"id": column.id, "order": order, "name": column.name, "type": column.type_name, "nullable": nullable})
            })
            .collect();
        tx.execute(&COLUMNS_INSERT, &[serde_json::Value::from(rows).to_string().into(), snapshot.into(), id.into()]).await?;
        tx.execute(&SCHEMA_VERSION_INSERT, &[snapshot.into(), head.schema_version.into(), id.into()]).await?;
        changes.push(format!("created_table:\"main\".\"{}\"", spec.name));
    }
    head.at = head.at.max(at);
    write_snapshot(tx, snapshot, &head, &changes.join(","), [Value::Null, Value::Null, Value::Null]).await
}

/// Adds one snapshot with all files of the commit. Eight statements, however many files and tables.
///
/// - The files must be durable before: the catalog names them as soon as the transaction commits.
/// - Errors: an unknown table; a file outside its table's folder; a file that is in the catalog already ([`LakeError::Store`], refused by
///   `shared_lake_data_file_once`).
pub async fn append(tx: &mut Transaction, commit: &LakeCommit) -> Result<SnapshotId, LakeError> {
    tx.query(&LOCK, &[]).await?;
    let mut head = head(tx).await?.ok_or(LakeError::Missing)?;
    let mut tables = known_tables(tx).await?;
    let snapshot = head.snapshot + 1;
    let (mut files, mut statistics) = (Vec::new(), Vec::new());
    let mut totals: BTreeMap<i64, (i64, i64)> = BTreeMap::new();
    for (name, meta) in &commit.files {
        let table = tables.get_mut(name).ok_or_else(|| LakeError::NoTable { table: name.clone() })?;
        let path = meta.path.strip_prefix(&table.folder).filter(|path| !path.is_empty() && !path.starts_with('/'));
        let path = path.ok_or_else(|| LakeError::Path { table: name.clone(), path: meta.path.clone() })?;
        let out_of_range = || LakeError::Range { path: meta.path.clone() };
        let (rows, bytes) = (signed(meta.rows).ok_or_else(out_of_range)?, signed(meta.bytes).ok_or_else(out_of_range)?);
        if rows == 0 {
            continue;
        }
        let file = head.next_file_id;
        files.push(json!({
            "id": file, "table": table.id, "path": path, "rows": rows, "bytes": bytes, "footer": meta.footer_size, "row_id": table.next_row_id,
        }));
        for column in &meta.statistics {
            statistics.push(json!({
                "file": file, "table": table.id, "column": column.field_id, "bytes": column.bytes, "values": column.values, "nulls": column.nulls,
                "min": column.min, "max": column.max,
            }));
        }
        head.next_file_id += 1;
        table.next_row_id = table.next_row_id.checked_add(rows).ok_or_else(out_of_range)?;
        let total = totals.entry(table.id).or_default();
        total.0 = total.0.checked_add(rows).ok_or_else(out_of_range)?;
        total.1 = total.1.checked_add(bytes).ok_or_else(out_of_range)?;
    }
    let changes: BTreeSet<String> = totals.keys().map(|table| format!("inserted_into_table:{table}")).collect();
    let totals: Vec<serde_json::Value> =
        totals.into_iter().map(|(table, (rows, bytes))| json!({"table": table, "rows": rows, "bytes": bytes})).collect();
    for (statement, rows) in [(&STATISTICS_INSERT, statistics), (&TOTALS_RAISE, totals)] {
        if !rows.is_empty() {
            tx.execute(statement, &[serde_json::Value::from(rows).to_string().into()]).await?;
        }
    }
    if !files.is_empty() {
        tx.execute(&FILES_INSERT, &[serde_json::Value::from(files).to_string().into(), snapshot.into()]).await?;
    }
    head.at = head.at.max(commit.at);
    let changes = changes.into_iter().collect::<Vec<_>>().join(",");
    let about = [(&commit.author).into(), (&commit.message).into(), commit.extra_info.clone().into()];
    write_snapshot(tx, snapshot, &head, &changes, about).await?;
    Ok(SnapshotId(snapshot))
}

/// The last snapshot.
pub async fn latest(tx: &mut Transaction) -> Result<SnapshotId, LakeError> {
    Ok(SnapshotId(head(tx).await?.ok_or(LakeError::Missing)?.snapshot))
}

/// The files of a table at a snapshot (the last when `None`), in the order in which they were added.
///
/// - Errors: [`LakeError::Foreign`] when plain reading of the files would give other rows than DuckDB gives.
pub async fn files(tx: &mut Transaction, table: &str, snapshot: Option<SnapshotId>) -> Result<Vec<LakeFile>, LakeError> {
    let last = latest(tx).await?;
    let snapshot = snapshot.unwrap_or(last);
    if !(0..=last.0).contains(&snapshot.0) {
        return Err(LakeError::NoSnapshot { snapshot, last });
    }
    let first = SnapshotId(tx.query_one(&FIRST, &[]).await?.integer(0)?);
    if snapshot < first {
        return Err(LakeError::Expired { snapshot, first });
    }
    let about = plain_table(tx, table, snapshot).await?;
    let foreign = |what| LakeError::Foreign { table: table.to_owned(), snapshot, what };
    let mut files: Vec<(i64, LakeFile)> = Vec::new();
    for row in tx.query(&FILES, &[about.id.into(), snapshot.0.into()]).await? {
        let id = row.integer(0)?;
        if row.optional_integer(7)?.is_some_and(|partial_max| partial_max > snapshot.0) {
            return Err(foreign("a merged file of later rows"));
        }
        if files.last().is_none_or(|(last, _)| *last != id) {
            let path = row.text(1)?;
            let path = if row.integer(2)? == 0 { path.to_owned() } else { format!("{}{path}", about.folder) };
            let begin_snapshot = SnapshotId(row.integer(6)?);
            files.push((id, LakeFile { path, rows: row.unsigned(3)?, bytes: row.unsigned(4)?, begin_snapshot, statistics: Vec::new() }));
        }
        if let (Some((_, file)), Some(_)) = (files.last_mut(), row.optional_integer(8)?) {
            file.statistics.push(statistics_of(&row)?);
        }
    }
    Ok(files.into_iter().map(|(_, file)| file).collect())
}

/// At most `limit` snapshots after the given one (from the first when `None`), in order.
pub async fn snapshots(tx: &mut Transaction, after: Option<SnapshotId>, limit: u32) -> Result<Vec<Snapshot>, LakeError> {
    let after = after.map_or(-1, |after| after.0);
    let mut found = Vec::new();
    for row in tx.query(&SNAPSHOTS, &[after.into(), limit.into()]).await? {
        let owned = |at| row.optional_text(at).map(|text| text.map(str::to_owned));
        found.push(Snapshot {
            id: SnapshotId(row.integer(0)?),
            at: read_time(row.text(1)?)?,
            changes: owned(2)?.unwrap_or_default(),
            author: owned(3)?,
            message: owned(4)?,
            extra_info: owned(5)?,
        });
    }
    Ok(found)
}

/// Where a catalog lies, for readers.
#[derive(Clone, Copy, Debug)]
pub enum Catalog<'a> {
    /// A SQLite file.
    Sqlite(&'a Path),
    /// A schema of a PostgreSQL database.
    Postgres {
        /// libpq's keywords and values, for example `host=db user=reader dbname=tally`. It is shown as it is: leave passwords to `PGPASSWORD`.
        connection: &'a str,
        /// The schema.
        schema: &'a str,
    },
}

/// The SQL after which stock DuckDB 1.5.5 reads the lake as `tally.<table>`, while we go on writing.
///
/// A SQLite catalog is in WAL mode: beside a running writer the reader needs no more than read rights. After the writer closed it cleanly (no
/// `-wal` and `-shm` left) a reader must be able to create these two in the catalog's folder, and leaves them there.
pub fn attach_statements(catalog: Catalog<'_>, data_path: &Path) -> Result<String, LakeError> {
    let data_path = folder_text(data_path)?;
    let (scanner, package, source, options) = match catalog {
        Catalog::Sqlite(path) => ("sqlite_scanner", "sqlite", format!("ducklake:sqlite:{}", path_text(path)?), String::new()),
        Catalog::Postgres { connection, schema } => {
            ("postgres_scanner", "postgres", format!("ducklake:postgres:{connection}"), format!(", METADATA_SCHEMA {}", quoted(schema)))
        }
    };
    Ok(format!(
        "-- once, with network access: INSTALL ducklake; INSTALL {package};\n\
         LOAD {scanner};\n\
         LOAD ducklake;\n\
         ATTACH {} AS tally (READ_ONLY, DATA_PATH {}, OVERRIDE_DATA_PATH true{options});\n",
        quoted(&source),
        quoted(&data_path),
    ))
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

fn path_text(path: &Path) -> Result<&str, LakeError> {
    path.to_str()
        .filter(|text| !text.is_empty() && !text.contains('\0'))
        .ok_or_else(|| LakeError::DataPath { path: path.to_string_lossy().into_owned() })
}

/// A folder's path with a `/` at its end.
fn folder_text(path: &Path) -> Result<String, LakeError> {
    Ok(format!("{}/", path_text(path)?.trim_end_matches('/')))
}

async fn head(tx: &mut Transaction) -> Result<Option<Head>, LakeError> {
    let Some(row) = tx.query_optional(&HEAD, &[]).await? else { return Ok(None) };
    Ok(Some(Head {
        snapshot: row.integer(0)?,
        at: read_time(row.text(1)?)?,
        schema_version: row.integer(2)?,
        next_catalog_id: row.integer(3)?,
        next_file_id: row.integer(4)?,
    }))
}

/// The instant of `2026-11-24 09:52:31.069084+00`, the form in which DuckDB and we write it.
fn read_time(text: &str) -> Result<Instant, LakeError> {
    let zone = if text.ends_with("+00") { ":00" } else { "" };
    Instant::parse(&format!("{text}{zone}")).map_err(LakeError::Time)
}

async fn create_catalog(tx: &mut Transaction, at: Instant) -> Result<Head, LakeError> {
    for (key, value) in [("version", VERSION), ("created_by", "shared-lake"), ("encrypted", "false")] {
        tx.execute(&METADATA_INSERT, &[key.into(), value.into()]).await?;
    }
    tx.execute(&SCHEMA_INSERT, &[uuid_of("schema", "main").into()]).await?;
    let head = Head { snapshot: 0, at, schema_version: 0, next_catalog_id: 1, next_file_id: 0 };
    write_snapshot(tx, 0, &head, "created_schema:\"main\"", [Value::Null, Value::Null, Value::Null]).await?;
    Ok(head)
}

/// Writes the snapshot with the head's counters. `about`: author, message, extra info.
async fn write_snapshot(tx: &mut Transaction, snapshot: i64, head: &Head, changes: &str, about: [Value; 3]) -> Result<(), LakeError> {
    let counters = [head.schema_version.into(), head.next_catalog_id.into(), head.next_file_id.into()];
    let [schema_version, next_catalog_id, next_file_id] = counters;
    let at = timestamp_text(head.at, true);
    tx.execute(&SNAPSHOT_INSERT, &[snapshot.into(), at.into(), schema_version, next_catalog_id, next_file_id]).await?;
    let [author, message, extra_info] = about;
    tx.execute(&CHANGES_INSERT, &[snapshot.into(), changes.into(), author, message, extra_info]).await?;
    Ok(())
}

/// A table whose rows at a snapshot are those of its files.
async fn plain_table(tx: &mut Transaction, table: &str, snapshot: SnapshotId) -> Result<Table, LakeError> {
    let about = known_tables(tx).await?.remove(table).ok_or_else(|| LakeError::NoTable { table: table.to_owned() })?;
    let foreign = |what| LakeError::Foreign { table: table.to_owned(), snapshot, what };
    if tx.query_one(&DELETES, &[about.id.into(), snapshot.0.into()]).await?.integer(0)? > 0 {
        return Err(foreign("deleted rows"));
    }
    if tx.query_one(&INLINED, &[about.id.into()]).await?.integer(0)? > 0 {
        return Err(foreign("rows inside the catalog"));
    }
    Ok(about)
}

async fn known_tables(tx: &mut Transaction) -> Result<BTreeMap<String, Table>, LakeError> {
    let mut tables = BTreeMap::new();
    for row in tx.query(&TABLES, &[]).await? {
        let table = Table { id: row.integer(0)?, folder: row.text(2)?.to_owned(), next_row_id: row.integer(3)? };
        tables.insert(row.text(1)?.to_owned(), table);
    }
    Ok(tables)
}

/// A column as the catalog knows it.
#[derive(Debug, PartialEq, Eq)]
struct Column {
    id: i64,
    name: String,
    type_name: String,
    nullable: bool,
}

fn columns_of(spec: &TableSpec) -> Result<Vec<Column>, LakeError> {
    let name = &spec.name;
    let plain = name.len() <= 63
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
    if !plain {
        return Err(LakeError::Name { table: name.clone() });
    }
    let failed = |source| LakeError::Column { table: name.clone(), source };
    check_columns(&spec.schema).map_err(failed)?;
    let mut columns = Vec::new();
    for field in spec.schema.fields() {
        columns.push(Column {
            id: field_id(field).map_err(failed)?.into(),
            name: field.name().clone(),
            type_name: ColumnType::of(field).map_err(failed)?.to_string(),
            nullable: field.is_nullable(),
        });
    }
    Ok(columns)
}

async fn columns_in(tx: &mut Transaction, table: i64) -> Result<Vec<Column>, LakeError> {
    let mut columns = Vec::new();
    for row in tx.query(&COLUMNS, &[table.into()]).await? {
        columns.push(Column {
            id: row.integer(0)?,
            name: row.text(1)?.to_owned(),
            type_name: row.text(2)?.to_owned(),
            nullable: row.integer(3)? != 0,
        });
    }
    Ok(columns)
}

fn listed(columns: &[Column]) -> String {
    let column = |column: &Column| format!("{} {} {}{}", column.id, column.name, column.type_name, if column.nullable { "?" } else { "" });
    columns.iter().map(column).collect::<Vec<_>>().join(", ")
}

fn statistics_of(row: &Row) -> Result<ColumnStatistics, LakeError> {
    let owned = |at| row.optional_text(at).map(|text| text.map(str::to_owned));
    let count = |at| row.optional_integer(at).map(|count| count.and_then(|count| u64::try_from(count).ok()).unwrap_or(0));
    Ok(ColumnStatistics {
        field_id: i32::try_from(row.integer(8)?).unwrap_or(0),
        bytes: count(9)?,
        values: count(10)?,
        nulls: count(11)?,
        min: owned(12)?,
        max: owned(13)?,
    })
}

fn signed(count: u64) -> Option<i64> {
    i64::try_from(count).ok()
}

/// A version 8 uuid that is always the same for the same thing, so that a rebuilt catalog equals the first.
fn uuid_of(kind: &str, name: &str) -> String {
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, ..] =
        Digest::of_parts(&[b"shared-lake ", kind.as_bytes(), b" ", name.as_bytes()]).0;
    let (g, i) = (g & 0x0f | 0x80, i & 0x3f | 0x80);
    let hex = hex::encode([a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p]);
    let part = |from, to| hex.get(from..to).unwrap_or_default();
    [part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32)].join("-")
}
