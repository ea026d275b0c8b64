//! Files that take the place of others with the same rows, snapshots that are given up, and files that nothing names any more: DuckLake's own
//! protocol, so that stock DuckDB reads on before, during and after. It deletes no file: the caller does, and says so.
//!
//! What a replaced file held stays readable at every snapshot before the replacement, from the old file. Once those snapshots are given up
//! ([`expire`]) the file is scheduled for deletion; whoever began to read before that is given time until it is removed.

use serde_json::json;
use shared_db::{Transaction, Value};
use shared_types::Instant;

use super::{
    LakeError, SnapshotId, columns_in, files, head, known_tables, latest, listed, plain_table, signed, timestamp_text, write_snapshot,
};
use crate::parquet::FileMeta;
use crate::store::{
    CHANGES_EXPIRE, FILES_END, FILES_FORGET, FILES_INSERT, FILES_LISTED, FILES_SCHEDULE, FILES_SHOWN, LOCK, PATHS, SCHEDULED,
    SNAPSHOTS_EXPIRE, STATISTICS_FORGET, STATISTICS_INSERT, TOTALS_CHANGE, TOTALS_SEED, UNSCHEDULE, WAITING,
};

/// One snapshot in which files take the place of others.
#[derive(Clone, Debug)]
pub struct Replacement {
    /// Who wrote it.
    pub author: String,
    /// What it is, for people.
    pub message: String,
    /// What it is, for programs.
    pub extra_info: Option<String>,
    /// When: from then on it is kept as long as any other snapshot. A time before the previous snapshot's is raised to that.
    pub at: Instant,
    /// Table by table.
    pub tables: Vec<TableReplacement>,
}

/// The replacement in one table.
#[derive(Clone, Debug)]
pub struct TableReplacement {
    /// The table.
    pub table: String,
    /// The paths that end, as [`super::LakeFile::path`] has them. Each must be listed by the last snapshot.
    pub ended: Vec<String>,
    /// The file in their place. One without rows is left out of the catalog.
    pub added: FileMeta,
    /// Rows of the added file that were in none of the others: 0 when the table keeps its rows.
    pub gained: u64,
}

/// What [`expire`] gave up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Expired {
    /// Snapshots that can no longer be asked for.
    pub snapshots: u64,
    /// Files that only these named, now scheduled for deletion.
    pub files: u64,
}

/// A file that is scheduled for deletion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scheduled {
    id: i64,
    /// The path below the data path.
    pub path: String,
}

/// Files of a table that no reader of the last snapshot needs and that are there all the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// The table.
    pub table: String,
    /// Named by earlier snapshots that are kept.
    pub ended: u64,
    /// Scheduled for deletion.
    pub scheduled: u64,
}

/// Which of these paths of a table the last snapshot shows, as [`super::LakeFile::path`] has them, sorted. It looks at no other file.
///
/// - Errors: [`LakeError::Foreign`] when rows of the table are not those of its files.
pub async fn shown(tx: &mut Transaction, table: &str, paths: &[String]) -> Result<Vec<String>, LakeError> {
    let last = latest(tx).await?;
    let about = plain_table(tx, table, last).await?;
    // What lies elsewhere is no file of the table.
    let below: Vec<&str> = paths.iter().filter_map(|path| path.strip_prefix(about.folder.as_str())).collect();
    let rows = tx.query(&FILES_SHOWN, &[json!(below).to_string().into(), about.id.into()]).await?;
    let shown: Result<Vec<String>, LakeError> = rows.iter().map(|row| Ok(format!("{}{}", about.folder, row.text(0)?))).collect();
    let mut shown = shown?;
    // Engines sort text differently.
    shown.sort_unstable();
    Ok(shown)
}

/// Ends files and adds those in their place, in one snapshot: it shows the same rows as the one before.
///
/// - The added files must be durable before.
/// - Errors: [`LakeError::Replacement`] when a path is not listed or the rows do not come out even: then nothing may be committed.
pub async fn replace(tx: &mut Transaction, replacement: &Replacement) -> Result<SnapshotId, LakeError> {
    tx.query(&LOCK, &[]).await?;
    let mut head = head(tx).await?.ok_or(LakeError::Missing)?;
    let tables = known_tables(tx).await?;
    let snapshot = head.snapshot + 1;
    let mut changes = Vec::new();
    for change in &replacement.tables {
        let table = tables.get(&change.table).ok_or_else(|| LakeError::NoTable { table: change.table.clone() })?;
        let wrong = |path: &str| LakeError::Path { table: change.table.clone(), path: path.to_owned() };
        let below = |path: &str| path.strip_prefix(&table.folder).map(str::to_owned).ok_or_else(|| wrong(path));
        let ended: Vec<String> = change.ended.iter().map(|path| below(path)).collect::<Result<_, _>>()?;
        let paths: Value = json!(ended).to_string().into();
        let found = tx.query_one(&FILES_LISTED, &[paths.clone(), table.id.into()]).await?;
        let (count, rows_before, bytes_before) = (found.integer(0)?, found.integer(1)?, found.integer(2)?);
        let out_of_range = || LakeError::Range { path: change.added.path.clone() };
        let rows = signed(change.added.rows).ok_or_else(out_of_range)?;
        let gained = signed(change.gained).ok_or_else(out_of_range)?;
        if usize::try_from(count) != Ok(ended.len()) || rows_before.checked_add(gained) != Some(rows) {
            return Err(LakeError::Replacement {
                table: change.table.clone(),
                files: ended.len(),
                rows: change.added.rows,
                listed: count,
                listed_rows: rows_before,
                gained: change.gained,
            });
        }
        if rows == 0 && ended.is_empty() {
            continue;
        }
        if !ended.is_empty() {
            tx.execute(&FILES_END, &[paths, table.id.into(), snapshot.into()]).await?;
            changes.push(format!("compacted_table:{}", table.id));
        }
        if gained > 0 {
            changes.push(format!("inserted_into_table:{}", table.id));
        }
        let bytes = signed(change.added.bytes).ok_or_else(out_of_range)?;
        let file = head.next_file_id;
        head.next_file_id += 1;
        let added = json!([{
            "id": file, "table": table.id, "path": below(&change.added.path)?, "rows": rows, "bytes": bytes,
            "footer": change.added.footer_size, "row_id": table.next_row_id,
        }]);
        let statistics: Vec<serde_json::Value> = change
            .added
            .statistics
            .iter()
            .map(|column| {
                json!({
                    "file": file, "table": table.id, "column": column.field_id, "bytes": column.bytes, "values": column.values,
                    "nulls": column.nulls, "min": column.min, "max": column.max,
                })
            })
            .collect();
        tx.execute(&FILES_INSERT, &[added.to_string().into(), snapshot.into()]).await?;
        if !statistics.is_empty() {
            tx.execute(&STATISTICS_INSERT, &[serde_json::Value::from(statistics).to_string().into()]).await?;
        }
        tx.execute(&TOTALS_SEED, &[table.id.into()]).await?;
        tx.execute(&TOTALS_CHANGE, &[table.id.into(), gained.into(), rows.into(), (bytes - bytes_before).into()]).await?;
    }
    changes.sort();
    head.at = head.at.max(replacement.at);
    let about = [(&replacement.author).into(), (&replacement.message).into(), replacement.extra_info.clone().into()];
    write_snapshot(tx, snapshot, &head, &changes.join(","), about).await?;
    Ok(SnapshotId(snapshot))
}

/// Gives up at most `limit` snapshots that are older than `before`, never the last, and schedules the files that only they named.
///
/// - `at`: when the files are scheduled, from which readers that began before have time.
pub async fn expire(tx: &mut Transaction, before: Instant, at: Instant, limit: u32) -> Result<Expired, LakeError> {
    tx.query(&LOCK, &[]).await?;
    let snapshots = tx.execute(&SNAPSHOTS_EXPIRE, &[timestamp_text(before, true).into(), limit.into()]).await?;
    if snapshots == 0 {
        return Ok(Expired::default());
    }
    tx.execute(&CHANGES_EXPIRE, &[]).await?;
    let files = tx.execute(&FILES_SCHEDULE, &[timestamp_text(at, true).into()]).await?;
    if files > 0 {
        tx.execute(&STATISTICS_FORGET, &[]).await?;
        tx.execute(&FILES_FORGET, &[]).await?;
    }
    Ok(Expired { snapshots, files })
}

/// At most `limit` files that were scheduled for deletion at `through` or before. Files outside the data path are never among them.
pub async fn scheduled(tx: &mut Transaction, through: Instant, limit: u32) -> Result<Vec<Scheduled>, LakeError> {
    let rows = tx.query(&SCHEDULED, &[timestamp_text(through, true).into(), limit.into()]).await?;
    rows.iter().map(|row| Ok(Scheduled { id: row.integer(0)?, path: row.text(1)?.to_owned() })).collect()
}

/// Takes removed files off the schedule.
pub async fn unschedule(tx: &mut Transaction, files: &[Scheduled]) -> Result<(), LakeError> {
    let ids: Vec<i64> = files.iter().map(|file| file.id).collect();
    tx.execute(&UNSCHEDULE, &[json!(ids).to_string().into()]).await?;
    Ok(())
}

/// Every path below the data path that the catalog knows: of files that some kept snapshot shows, and of those scheduled for deletion.
pub async fn paths(tx: &mut Transaction) -> Result<Vec<String>, LakeError> {
    tx.query(&PATHS, &[]).await?.iter().map(|row| Ok(row.text(0)?.to_owned())).collect()
}

/// How many files of each table wait for their end.
pub async fn waiting(tx: &mut Transaction) -> Result<Vec<Waiting>, LakeError> {
    let rows = tx.query(&WAITING, &[]).await?;
    rows.iter().map(|row| Ok(Waiting { table: row.text(0)?.to_owned(), ended: row.unsigned(1)?, scheduled: row.unsigned(2)? })).collect()
}

/// What the last snapshot shows, as sorted text: tables with their columns, files with what the catalog says of them. Numbers of
/// snapshots, files and rows are left out: two catalogs that show the same rows from the same files are equal.
pub async fn content(tx: &mut Transaction) -> Result<Vec<String>, LakeError> {
    let mut lines = Vec::new();
    for (name, table) in known_tables(tx).await? {
        lines.push(format!("table {name}: {}", listed(&columns_in(tx, table.id).await?)));
        for mut file in files(tx, &name, None).await? {
            file.statistics.sort_by_key(|column| column.field_id);
            lines.push(format!("file {} of {name}: {} rows, {} bytes, statistics {:?}", file.path, file.rows, file.bytes, file.statistics));
        }
    }
    lines.sort_unstable();
    Ok(lines)
}
