//! The lake's data folder as the roles use it: where the rows of a batch lie and how they are read back, whether in files of its own or
//! merged with those of other batches. What is in them is written where the tables are defined; how files are written, in shared-lake.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail};
use arrow::array::{Array, AsArray, BooleanArray};
use arrow::compute::{concat_batches, filter_record_batch};
use arrow::datatypes::{Int32Type, Int64Type, SchemaRef};
use arrow::record_batch::RecordBatch;
use parking_lot::{Mutex, RwLock};
use platform_ingest::events::{EVENTS_ORDER, EVENTS_SORT, events_schema};
use platform_ingest::header::{Header, Range, TableFile};
use platform_ingest::index::{Entry, EntryOutcome};
use platform_ingest::merge::Merge;
use platform_ingest::store;
use platform_rating::{CHARGES_ORDER, CHARGES_SORT, TOTALS_ORDER, TOTALS_SORT, charges_schema, totals_schema};
use shared_db::{Database, Transaction};
use shared_lake::{Contents, RealFiles};
use shared_types::{BatchNo, Digest, IdentityHash, Incarnation, OrganizationId, Position, Sequence, ShardId, WriterEpoch};

use crate::home::Home;

/// One row for each stream position.
pub const EVENTS: &str = "events";
/// One row for each reading.
pub const CHARGES: &str = "charges";
/// One row for each key and accounting period that a batch touched.
pub const TOTALS: &str = "totals";
/// The tables of a batch.
pub const TABLES: [&str; 3] = [EVENTS, CHARGES, TOTALS];

/// From so many rows on a batch's file is digested and sorted at the same time.
const PARALLEL_ROWS: usize = 4_096;

/// An organization's rows; none when there are none. In a file of one batch they lie together, in a merged one they do not.
pub fn rows_of(rows: &RecordBatch, organization: &OrganizationId) -> anyhow::Result<Option<RecordBatch>> {
    let column = rows.column_by_name("organization").context("a batch file has no column organization")?;
    let names = column.as_string_opt::<i32>().context("the column organization holds no texts")?;
    let wanted: BooleanArray = names.iter().map(|name| Some(name == Some(organization.as_str()))).collect();
    let rows = filter_record_batch(rows, &wanted)?;
    Ok((rows.num_rows() > 0).then_some(rows))
}

/// Columns by which readers skip files, for each table.
fn statistics(table: &str) -> &'static [&'static str] {
    match table {
        EVENTS => &["organization", "accepted_at", "outcome"],
        CHARGES => &["organization", "start_at", "accepted_at", "meter", "fate"],
        _ => &["organization", "service_period", "accounting_period"],
    }
}

/// What a table is: its columns and orders, and by which number of the stream its rows belong to a batch.
pub struct Shape {
    /// Its columns.
    pub schema: SchemaRef,
    /// Columns that tell all rows apart, of one batch and of a merge: rows are digested in that order.
    pub order: &'static [&'static str],
    /// The file's order.
    pub sort: &'static [&'static str],
    /// The column with the stream's sequence: with `shard` it says whose batch a row is.
    pub sequence: &'static str,
}

/// The shape of a table.
pub fn shape(table: &str) -> Shape {
    match table {
        EVENTS => Shape { schema: events_schema(), order: EVENTS_ORDER, sort: EVENTS_SORT, sequence: "sequence" },
        CHARGES => Shape { schema: charges_schema(), order: CHARGES_ORDER, sort: CHARGES_SORT, sequence: "sequence" },
        _ => Shape { schema: totals_schema(), order: TOTALS_ORDER, sort: TOTALS_SORT, sequence: "last_sequence" },
    }
}

/// Rows of many batches in the order of the stream, so that those of one batch are found by its ranges.
pub struct InOrder {
    rows: RecordBatch,
    /// The stream position of each row, without the life of the stream: a merge has one life of each shard.
    at: Vec<(i32, i64)>,
}

impl InOrder {
    /// Of rows that have the columns `shard` and `sequence`.
    pub fn new(rows: &RecordBatch, sequence: &str) -> anyhow::Result<Self> {
        let rows = shared_lake::sort(rows, &["shard", sequence])?;
        let column = |name: &str| rows.column_by_name(name).with_context(|| format!("the file has no column {name}"));
        let shards = column("shard")?.as_primitive_opt::<Int32Type>().context("shard is no 32-bit integer")?;
        let sequences = column(sequence)?.as_primitive_opt::<Int64Type>().context("the sequence is no 64-bit integer")?;
        let at = shards.values().iter().copied().zip(sequences.values().iter().copied()).collect();
        Ok(Self { rows, at })
    }

    /// All of them.
    pub fn rows(&self) -> &RecordBatch {
        &self.rows
    }

    /// The rows of a batch that covers these ranges.
    pub fn of(&self, ranges: &[Range]) -> anyhow::Result<Vec<RecordBatch>> {
        let mut parts: Vec<RecordBatch> = Vec::new();
        for range in ranges {
            let shard = i32::from(range.shard.number());
            let (first, last) = (i64::try_from(range.first.0)?, i64::try_from(range.last.0)?);
            let from = self.at.partition_point(|at| *at < (shard, first));
            let to = self.at.partition_point(|at| *at <= (shard, last));
            if to > from {
                parts.push(self.rows.slice(from, to - from));
            }
        }
        Ok(parts)
    }
}

/// A merged file that was read: whoever walks the log asks for its batches one after the other.
struct Opened {
    path: String,
    projection: Option<Vec<String>>,
    rows: Arc<InOrder>,
}

/// The data folder of a home's lake. Clones share what is merged; each remembers the merged files that it read last, one of each table.
pub struct Lake {
    root: PathBuf,
    merges: Arc<RwLock<BTreeMap<BatchNo, Arc<Merge>>>>,
    opened: Mutex<HashMap<String, Opened>>,
    /// Records that do not read are left out, for `tally check` to name; otherwise one is an error.
    lenient: bool,
}

impl Clone for Lake {
    fn clone(&self) -> Self {
        Self { root: self.root.clone(), merges: Arc::clone(&self.merges), opened: Mutex::default(), lenient: self.lenient }
    }
}

impl Lake {
    /// Of a home, with what its log says is merged.
    pub async fn open(home: &Home, log: &Database) -> anyhow::Result<Self> {
        Self::with(home, log, false).await
    }

    /// Of a home whose log may be damaged: for readers, which must come as far as `tally check` does.
    pub async fn open_lenient(home: &Home, log: &Database) -> anyhow::Result<Self> {
        Self::with(home, log, true).await
    }

    async fn with(home: &Home, log: &Database, lenient: bool) -> anyhow::Result<Self> {
        let lake = Self { root: Self::folder(home), merges: Arc::default(), opened: Mutex::default(), lenient };
        lake.refresh(&mut log.read().await?).await?;
        Ok(lake)
    }

    /// Where the lake of a home lies.
    pub fn folder(home: &Home) -> PathBuf {
        home.path("lake")
    }

    /// The folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Learns what was merged meanwhile. For readers beside an owner, before they walk the log.
    pub async fn refresh(&self, tx: &mut Transaction) -> anyhow::Result<()> {
        let mut merges = Vec::new();
        for merge in store::merges_live(tx).await? {
            match merge {
                Ok(merge) => merges.push(merge),
                Err(_) if self.lenient => {}
                Err(error) => return Err(error.into()),
            }
        }
        *self.merges.write() = merges.into_iter().map(|merge| (merge.first, Arc::new(merge))).collect();
        Ok(())
    }

    /// The same folder after exactly these merges, in the order in which they were made, whatever is merged meanwhile.
    pub fn with_merges(&self, merges: Vec<Merge>) -> Self {
        let lake = Self { root: self.root.clone(), merges: Arc::default(), opened: Mutex::default(), lenient: self.lenient };
        for merge in merges {
            lake.take(merge);
        }
        lake
    }

    /// Reads a merge's batches from its files from now on. It is recorded.
    pub fn take(&self, merge: Merge) {
        let mut merges = self.merges.write();
        merges.retain(|_, other| !(merge.holds(other.first) && merge.holds(other.last)));
        merges.insert(merge.first, Arc::new(merge));
    }

    /// The merge that holds a batch.
    pub fn merge_of(&self, batch_no: BatchNo) -> Option<Arc<Merge>> {
        let merges = self.merges.read();
        merges.range(..=batch_no).next_back().map(|(_, merge)| merge).filter(|merge| merge.holds(batch_no)).cloned()
    }

    /// The merges that say where rows are, in order of batch.
    pub fn merges(&self) -> Vec<Arc<Merge>> {
        self.merges.read().values().cloned().collect()
    }

    /// The path of the file that holds the rows of a batch.
    pub fn path_of(&self, header: &Header, table: &str) -> Option<String> {
        let merged = self.merge_of(header.batch_no);
        let file = merged.as_ref().map_or_else(|| header.table(table), |merge| merge.table(table));
        file.map(|file| file.path.clone())
    }

    /// Writes a table of a batch, durably, under `<table>/<epoch>/<digest>.parquet`.
    ///
    /// - `order`: columns that tell all rows apart: the rows are digested in that order. `sort`: the file's order.
    pub fn write(&self, epoch: WriterEpoch, table: &str, rows: &RecordBatch, order: &[&str], sort: &[&str]) -> anyhow::Result<TableFile> {
        // The digest and the file's order are made of the same rows and wait for nothing of each other.
        let (row_digest, sorted) = std::thread::scope(|scope| {
            let digest = (rows.num_rows() >= PARALLEL_ROWS).then(|| scope.spawn(|| shared_lake::row_digest(rows, order)));
            let sorted = shared_lake::sort(rows, sort);
            let digest = match digest {
                Some(digest) => digest.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
                None => shared_lake::row_digest(rows, order),
            };
            (digest, sorted)
        });
        let row_digest = row_digest?;
        self.write_sorted(format!("{table}/{epoch}/{row_digest}.parquet"), row_digest, table, sorted?)
    }

    /// Writes a table of a merge, durably, under `<table>/<epoch>/<first>-<last>-<digest>.parquet`.
    pub fn write_merged(
        &self,
        epoch: WriterEpoch,
        table: &str,
        (first, last): (BatchNo, BatchNo),
        rows: &RecordBatch,
    ) -> anyhow::Result<TableFile> {
        let shape = shape(table);
        let row_digest = shared_lake::row_digest(rows, shape.order)?;
        let path = format!("{table}/{epoch}/{:012}-{:012}-{row_digest}.parquet", first.0, last.0);
        self.write_sorted(path, row_digest, table, shared_lake::sort(rows, shape.sort)?)
    }

    fn write_sorted(&self, path: String, row_digest: Digest, table: &str, sorted: RecordBatch) -> anyhow::Result<TableFile> {
        let contents = Contents {
            schema: &sorted.schema(),
            batches: &[sorted],
            metadata: &[("tallystick.table", table), ("tallystick.format", "1")],
            statistics: statistics(table),
        };
        let meta = shared_lake::write_file(&RealFiles, &self.root, &path, &contents)?;
        Ok(TableFile { bytes: meta.bytes, path, row_digest, rows: meta.rows, table: table.to_owned() })
    }

    /// Reads a table of a batch, in the order of its file: that of the stream where the batch is merged.
    pub fn read(&self, header: &Header, table: &str, projection: Option<&[&str]>) -> anyhow::Result<Vec<RecordBatch>> {
        let file = header.table(table).with_context(|| format!("the header of batch {} names no {table} file", header.batch_no))?;
        if file.rows == 0 {
            return Ok(Vec::new());
        }
        let context = || format!("could not read the {table} of batch {}", header.batch_no);
        let Some(merge) = self.merge_of(header.batch_no) else {
            return shared_lake::read_file(&self.root.join(&file.path), projection).with_context(context);
        };
        let parts = self.read_merged(&merge, table, projection).and_then(|rows| rows.of(&header.ranges)).with_context(context)?;
        let Some(names) = projection else { return Ok(parts) };
        // The columns that told whose row is whose were read too.
        let mut asked = Vec::with_capacity(parts.len());
        for part in parts {
            let schema = part.schema();
            let columns: Vec<usize> = (0..schema.fields().len()).filter(|at| names.contains(&schema.field(*at).name().as_str())).collect();
            asked.push(part.project(&columns)?);
        }
        Ok(asked)
    }

    /// All rows of a table of a merge.
    pub fn read_merged(&self, merge: &Merge, table: &str, projection: Option<&[&str]>) -> anyhow::Result<Arc<InOrder>> {
        let file = merge.table(table).with_context(|| format!("merge {} names no {table} file", merge.merge_no))?;
        let wanted: Option<Vec<String>> = projection.map(|names| names.iter().map(|name| (*name).to_owned()).collect());
        {
            let mut opened = self.opened.lock();
            if let Some(found) = opened.get(table).filter(|found| found.path == file.path && found.projection == wanted) {
                return Ok(Arc::clone(&found.rows));
            }
            // The file before is let go first: there is never room for two. Nobody waits for this one's reading.
            opened.remove(table);
        }
        let shape = shape(table);
        let columns: Option<Vec<&str>> = projection.map(|names| {
            let mut names = names.to_vec();
            names.extend(["shard", shape.sequence].into_iter().filter(|key| !projection.is_some_and(|names| names.contains(key))));
            names
        });
        let batches = shared_lake::read_file(&self.root.join(&file.path), columns.as_deref())?;
        let schema = batches.first().map_or(shape.schema, RecordBatch::schema);
        let rows = concat_batches(&schema, &batches)?;
        drop(batches);
        let rows = Arc::new(InOrder::new(&rows, shape.sequence)?);
        self.opened.lock().insert(table.to_owned(), Opened { path: file.path.clone(), projection: wanted, rows: Arc::clone(&rows) });
        Ok(rows)
    }

    /// Whether a batch is one of usage that was rated again: its shards stand at the record that asks for it, each alone.
    pub fn rerates(&self, header: &Header) -> anyhow::Result<bool> {
        let alone = header.ranges.iter().all(|range| range.first == range.last);
        if !alone || header.table(TOTALS).is_none_or(|file| file.rows == 0) {
            return Ok(false);
        }
        let rows = self.read(header, CHARGES, Some(&["supersedes"]))?;
        Ok(rows.iter().filter_map(|rows| rows.column_by_name("supersedes")).any(|column| column.null_count() < column.len()))
    }

    /// Lets go of the merged files that were read.
    pub fn forget(&self) {
        self.opened.lock().clear();
    }

    /// The identities that a batch accepted, as the index keeps them.
    pub fn accepted_identities(&self, header: &Header) -> anyhow::Result<Vec<(ShardId, IdentityHash, Entry)>> {
        let columns = ["shard", "incarnation", "sequence", "identity", "content_digest", "outcome"];
        let mut entries = Vec::new();
        for batch in self.read(header, EVENTS, Some(&columns))? {
            let column = |name: &str| batch.column_by_name(name).with_context(|| format!("events have no column {name}"));
            let shards = column("shard")?.as_primitive::<Int32Type>();
            let incarnations = column("incarnation")?.as_primitive::<Int64Type>();
            let sequences = column("sequence")?.as_primitive::<Int64Type>();
            let identities = column("identity")?.as_fixed_size_binary();
            let digests = column("content_digest")?.as_fixed_size_binary();
            let outcomes = column("outcome")?.as_string::<i32>();
            for row in 0..batch.num_rows() {
                if outcomes.value(row) != "accepted" {
                    continue;
                }
                let parsed = u8::try_from(shards.value(row))
                    .ok()
                    .and_then(ShardId::new)
                    .zip((!identities.is_null(row)).then(|| IdentityHash::from_slice(identities.value(row))).flatten());
                let (Some((shard, identity)), Some(digest)) = (parsed, Digest::from_slice(digests.value(row))) else {
                    bail!("row {row} of the events of batch {} is damaged", header.batch_no);
                };
                let position = Position {
                    shard,
                    incarnation: Incarnation(u32::try_from(incarnations.value(row))?),
                    sequence: Sequence(u64::try_from(sequences.value(row))?),
                };
                entries.push((shard, identity, Entry::new(position, EntryOutcome::Accepted, &digest)));
            }
        }
        Ok(entries)
    }

    /// Removes files of reigns before `epoch` that are not in `named`; how many.
    pub fn sweep(&self, epoch: WriterEpoch, named: &HashSet<String>) -> anyhow::Result<usize> {
        let orphans = shared_lake::orphans(&RealFiles, &self.root, &TABLES, named, epoch)?;
        shared_lake::sweep::remove(&RealFiles, &self.root, &orphans)?;
        Ok(orphans.len())
    }
}
