//! The compaction role: files of many batches become one, and what nobody can read any more is removed. The order is what makes it safe:
//!
//! 1. the merged files are written and fsynced;
//! 2. they are read back and must reproduce the row digests of every batch;
//! 3. the log records the merge: from here on the rows of these batches are read from them;
//! 4. one snapshot of the catalog ends the old files and adds the new one;
//! 5. snapshots older than the time that is kept are given up, and files that only they named are scheduled;
//! 6. files that were scheduled that long ago are removed.
//!
//! A process that dies in between leaves the old files, the new ones, or both, and the next one goes on from what is recorded.

pub mod plan;
#[cfg(test)]
mod trickle;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use anyhow::{Context, bail};
use arrow::array::{RecordBatch, new_null_array};
use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;
use platform_ingest::header::{Range, TableFile};
use platform_ingest::merge::{FORMAT, Level, Merge};
use platform_ingest::store;
use shared_db::Database;
use shared_lake::ducklake::replace;
use shared_lake::{Orphan, RealFiles, RowDigest};
use shared_types::{BatchNo, Digest, Instant, WriterEpoch};
use tokio::sync::watch;

use crate::clock::now;
use crate::home::CompactSettings;
use crate::lake::{InOrder, Lake, TABLES, shape};
use crate::roles::folds::{LakeFold, page};
use plan::{Group, Limits, Piece};

/// Headers of one look into the log.
const PAGE: u32 = 1_000;
/// Snapshots given up, or files taken off the schedule, in one transaction.
const STEP: u32 = 500;
/// Bytes of memory that the rows of one table of a merge may take. Small files can hold large rows; readers open what becomes of them whole.
const ROWS_BYTES_MAX: usize = 512 << 20;

/// What compaction has come to: for health, and for whoever asked for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Compaction {
    /// Files of each table that the log names now.
    pub files: u64,
    /// Batches of hours that are over which wait to be merged.
    pub backlog: u64,
    /// Merges in this process's life.
    pub merges: u64,
    /// Snapshots given up in this process's life.
    pub expired: u64,
    /// Replaced files removed in this process's life.
    pub removed: u64,
}

/// Merges the files of a home's batches.
pub struct Compactor {
    log: Database,
    catalog: Database,
    fold: LakeFold,
    lake: Lake,
    epoch: WriterEpoch,
    limits: Limits,
    interval: Duration,
    keep_micros: i64,
    rows_bytes_max: usize,
    /// Files by first and last batch whose rows take too much memory to be merged with the next ones'.
    large: HashSet<(BatchNo, BatchNo)>,
    /// Everything up to here stays as it is, in so many pieces.
    settled: (BatchNo, u64),
    done: watch::Sender<Compaction>,
}

/// Rows of a merge take more memory than they may.
#[derive(Debug, thiserror::Error)]
#[error("the rows of {table} take more than {max} bytes of memory from {path} on")]
struct TooLarge {
    table: String,
    path: String,
    max: usize,
    /// So many leading pieces take less.
    fitting: usize,
}

/// The files with rows that a merge takes, by table, each with the number of its piece.
type Sources = BTreeMap<String, Vec<(usize, String)>>;

/// What of a batch a merge must reproduce.
struct Swallowed {
    batch_no: BatchNo,
    ranges: Vec<Range>,
    tables: Vec<TableFile>,
}

impl Compactor {
    /// For the reign of `epoch`. `fold` brings the catalog up to what is merged.
    pub fn new(log: Database, catalog: Database, fold: LakeFold, lake: Lake, epoch: WriterEpoch, settings: &CompactSettings) -> Self {
        Self {
            log,
            catalog,
            fold,
            lake,
            epoch,
            limits: Limits::new(settings.file_bytes_max),
            interval: Duration::from_secs(settings.interval_s.max(1)),
            keep_micros: i64::try_from(settings.keep_s).unwrap_or(i64::MAX / 1_000_000).saturating_mul(1_000_000),
            rows_bytes_max: ROWS_BYTES_MAX,
            large: HashSet::new(),
            settled: (BatchNo(0), 0),
            done: watch::channel(Compaction::default()).0,
        }
    }

    /// Follows what was done.
    pub fn done(&self) -> watch::Receiver<Compaction> {
        self.done.subscribe()
    }

    /// Works each interval until `stop` rises. Every fold named by `folded` must have passed a batch before it is merged.
    ///
    /// - Errors: only that another writer took over; everything else is told and tried again.
    pub async fn run(mut self, folded: Vec<watch::Receiver<BatchNo>>, mut stop: watch::Receiver<bool>) -> anyhow::Result<()> {
        loop {
            tokio::select! {
                () = tokio::time::sleep(self.interval) => {}
                _ = stop.changed() => return Ok(()),
            }
            let through = folded.iter().map(|at| *at.borrow()).min().unwrap_or_default();
            if let Err(error) = self.pass(through, now(), false, &stop).await {
                if super::billing::is_fenced(&error) {
                    return Err(error);
                }
                tracing::error!(error = format!("{error:#}"), "could not compact; trying again");
            }
        }
    }

    /// Merges what is to be merged of the batches up to `through`, and removes what is to be removed. It ends early when `stop` rises.
    ///
    /// - `whole`: also merges what its hour has not settled yet.
    /// - Errors: the first merge that failed, once everything else is done; at once when another writer took over.
    pub async fn pass(&mut self, through: BatchNo, now: Instant, whole: bool, stop: &watch::Receiver<bool>) -> anyhow::Result<Compaction> {
        // A process that died between the log and the catalog left this to do.
        let mut failed = self.fold.catch_up().await.err();
        let mut pieces = self.pieces(through).await?;
        // The pieces of merges that failed stay as they are, each with its size: nothing else waits for them.
        let mut left: HashMap<BatchNo, u64> = HashMap::new();
        while !*stop.borrow()
            && let Some(group) = plan::next(&pieces, now, &self.limits, whole)
        {
            let Err(error) = self.merge_fitting(&mut pieces, group).await else { continue };
            if super::billing::is_fenced(&error) {
                return Err(error);
            }
            tracing::warn!(error = format!("{error:#}"), "could not merge; going on with the next");
            failed = failed.or(Some(error));
            for piece in pieces.get_mut(group.from..group.to).context("a plan beyond its pieces")? {
                left.insert(piece.first, piece.bytes);
                piece.keep_alone();
            }
        }
        for piece in &mut pieces {
            piece.bytes = left.get(&piece.first).copied().unwrap_or(piece.bytes);
        }
        let backlog = plan::backlog(&pieces, now, &self.limits);
        let files = self.settled.1 + u64::try_from(pieces.len())?;
        let settled = plan::settled(&pieces);
        if failed.is_none()
            && let Some(last) = settled.checked_sub(1).and_then(|at| pieces.get(at))
        {
            self.settled = (last.last, self.settled.1 + u64::try_from(settled)?);
        }
        self.done.send_modify(|done| (done.files, done.backlog) = (files, backlog));
        self.expire(now, stop).await?;
        self.remove(now, stop).await?;
        failed.map_or_else(|| Ok(*self.done.borrow()), Err)
    }

    /// Merges a group, or as many of its leading pieces as fit into memory; where not even two do, the larger one stays alone.
    async fn merge_fitting(&mut self, pieces: &mut Vec<Piece>, group: Group) -> anyhow::Result<()> {
        let mut to = group.to;
        loop {
            let of = pieces.get(group.from..to).context("a plan beyond its pieces")?;
            let fitting = match self.merge(of, group.level).await {
                Ok(merged) => {
                    pieces.splice(group.from..to, [merged]);
                    self.done.send_modify(|done| done.merges += 1);
                    return Ok(());
                }
                Err(error) => error.downcast::<TooLarge>()?.fitting,
            };
            if fitting >= 2 {
                to = group.from + fitting;
                continue;
            }
            let two = pieces.get_mut(group.from..to).context("a plan beyond its pieces")?.iter_mut().take(fitting + 1);
            if let Some(larger) = two.max_by_key(|piece| piece.bytes) {
                self.large.insert((larger.first, larger.last));
                larger.keep_alone();
            }
            return Ok(());
        }
    }

    /// The files behind what is settled, in order of batch, up to `through`.
    async fn pieces(&self, through: BatchNo) -> anyhow::Result<Vec<Piece>> {
        let mut tx = self.log.read().await?;
        let lives: HashSet<BatchNo> = store::lives_begun(&mut tx, self.settled.0).await?.into_iter().collect();
        drop(tx);
        let largest = |tables: &[TableFile]| tables.iter().map(|file| file.bytes).max().unwrap_or(0);
        let mut pieces = Vec::new();
        let mut after = self.settled.0;
        let merges = self.lake.merges();
        for merge in merges.iter().filter(|merge| merge.first > self.settled.0).map(Some).chain([None]) {
            // No file of its own is behind the last merge that is not folded everywhere.
            let end = merge.map_or(through, |merge| BatchNo(merge.first.0.saturating_sub(1)));
            while after < end {
                let headers = page(&self.log, after, end, PAGE).await?;
                after = headers.last().map(|(header, _)| header.batch_no).context("the log does not hold what was folded")?;
                pieces.extend(headers.iter().map(|(header, _)| Piece {
                    first: header.batch_no,
                    last: header.batch_no,
                    level: None,
                    bytes: largest(&header.tables),
                    accepted_to: header.accepted_to,
                    begins_life: lives.contains(&header.batch_no),
                }));
            }
            if let Some(merge) = merge {
                after = merge.last;
                pieces.push(Piece {
                    first: merge.first,
                    last: merge.last,
                    level: Some(merge.level),
                    bytes: largest(&merge.tables),
                    accepted_to: merge.accepted_to,
                    begins_life: lives.contains(&merge.first),
                });
            }
        }
        for piece in pieces.iter_mut().filter(|piece| self.large.contains(&(piece.first, piece.last))) {
            piece.keep_alone();
        }
        Ok(pieces)
    }

    /// Merges neighbours: written, read back, recorded, published.
    async fn merge(&self, of: &[Piece], level: Level) -> anyhow::Result<Piece> {
        let (first, last) = (of.first().context("a merge of nothing")?, of.last().context("a merge of nothing")?);
        let mut batches: Vec<Swallowed> = Vec::new();
        let (mut after, mut last_digest, mut accepted_to) = (BatchNo(first.first.0.saturating_sub(1)), Digest::ZERO, Instant::EPOCH);
        while after < last.last {
            let headers = page(&self.log, after, last.last, PAGE).await?;
            after = headers.last().map(|(header, _)| header.batch_no).context("a merge of batches that the log does not hold")?;
            for (header, digest) in headers {
                (last_digest, accepted_to) = (digest, accepted_to.max(header.accepted_to));
                batches.push(Swallowed { batch_no: header.batch_no, ranges: header.ranges, tables: header.tables });
            }
        }
        let sources = self.sources(of, &batches)?;
        let empty = self.empty(of, &batches);
        let (lake, epoch, range, bytes_max) = (self.lake.clone(), self.epoch, (first.first, last.last), self.rows_bytes_max);
        let started = std::time::Instant::now();
        let (files, count) = tokio::task::spawn_blocking(move || {
            let files: anyhow::Result<Vec<TableFile>> =
                TABLES.iter().map(|table| rewrite(&lake, epoch, table, range, &sources, &batches, bytes_max)).collect();
            #[cfg(feature = "plant")]
            super::plant::delete_before_publish(lake.root(), sources.values().flatten().map(|(_, path)| path.as_str()));
            files.map(|files| (files, batches.len()))
        })
        .await??;
        #[cfg(feature = "plant")]
        super::plant::die("die-after-write");
        let mut tx = self.log.begin().await?;
        let (before, previous) = store::merge_head(&mut tx).await?;
        let merge = Merge {
            accepted_to,
            first: range.0,
            format: FORMAT,
            last: range.1,
            last_digest,
            level,
            merge_no: before + 1,
            previous,
            tables: files,
            writer_epoch: self.epoch,
        };
        store::append_merge(&mut tx, &merge, now()).await?;
        tx.commit().await?;
        #[cfg(feature = "plant")]
        super::plant::die("die-after-record");
        self.lake.take(merge.clone());
        self.fold.merge(&merge).await?;
        // Files without rows were never in the catalog, and nothing opens them.
        shared_lake::sweep::remove(&RealFiles, self.lake.root(), &empty)?;
        #[cfg(feature = "plant")]
        super::plant::die("die-after-catalog");
        let micros = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
        tracing::debug!(first = %range.0, last = %range.1, batches = count, pieces = of.len(), %level, micros, "merged");
        Ok(Piece {
            first: range.0,
            last: range.1,
            level: Some(level),
            bytes: merge.tables.iter().map(|file| file.bytes).max().unwrap_or(0),
            accepted_to,
            begins_life: first.begins_life,
        })
    }

    fn sources(&self, of: &[Piece], batches: &[Swallowed]) -> anyhow::Result<Sources> {
        let mut sources = Sources::new();
        for (number, piece) in of.iter().enumerate() {
            let merge = self.lake.merge_of(piece.first);
            let tables = match &merge {
                Some(merge) => &merge.tables,
                None => {
                    let at = batches.binary_search_by_key(&piece.first, |batch| batch.batch_no);
                    let batch = at.ok().and_then(|at| batches.get(at));
                    &batch.with_context(|| format!("the log does not hold batch {}", piece.first))?.tables
                }
            };
            for file in tables.iter().filter(|file| file.rows > 0) {
                sources.entry(file.table.clone()).or_default().push((number, file.path.clone()));
            }
        }
        Ok(sources)
    }

    /// The files without rows of what is merged. Batches of one reign share theirs, and the next batch may name it again: that of the reign
    /// that lasts is left for the next one's sweep.
    fn empty(&self, of: &[Piece], batches: &[Swallowed]) -> Vec<Orphan> {
        let merged = of.iter().filter(|piece| piece.level.is_some()).filter_map(|piece| self.lake.merge_of(piece.first));
        let single = of.iter().filter(|piece| piece.level.is_none()).filter_map(|piece| {
            let at = batches.binary_search_by_key(&piece.first, |batch| batch.batch_no).ok()?;
            batches.get(at)
        });
        let lasting = format!("/{}/", self.epoch);
        let own = |file: &TableFile| file.path.strip_prefix(file.table.as_str()).is_some_and(|path| path.starts_with(&lasting));
        let single = single.flat_map(|batch| batch.tables.clone()).filter(|file| !own(file));
        let files = merged.flat_map(|merge| merge.tables.clone()).chain(single);
        files.filter(|file| file.rows == 0).map(|file| Orphan { path: file.path, bytes: 0 }).collect()
    }

    /// Gives up snapshots that are older than what is kept.
    async fn expire(&self, now: Instant, stop: &watch::Receiver<bool>) -> anyhow::Result<()> {
        let Some(before) = self.kept_from(now) else { return Ok(()) };
        while !*stop.borrow() {
            let mut tx = self.catalog.begin().await?;
            let expired = replace::expire(&mut tx, before, now, STEP).await?;
            tx.commit().await?;
            self.done.send_modify(|done| done.expired += expired.snapshots);
            if expired.snapshots < u64::from(STEP) {
                break;
            }
        }
        #[cfg(feature = "plant")]
        super::plant::die("die-after-expire");
        Ok(())
    }

    /// Removes files that were scheduled long enough ago.
    ///
    /// - Errors: a scheduled file that the log still reads from: then nothing more is removed.
    async fn remove(&self, now: Instant, stop: &watch::Receiver<bool>) -> anyhow::Result<()> {
        let Some(through) = self.kept_from(now) else { return Ok(()) };
        let mut needed: Option<HashSet<String>> = None;
        while !*stop.borrow() {
            let scheduled = replace::scheduled(&mut self.catalog.read().await?, through, STEP).await?;
            if scheduled.is_empty() {
                return Ok(());
            }
            if needed.is_none() {
                needed = Some(paths_in_use(&self.log, &self.lake).await?);
            }
            if let Some(file) = scheduled.iter().find(|file| needed.as_ref().is_some_and(|needed| needed.contains(&file.path))) {
                bail!("{} is scheduled for deletion, but the log reads from it; run `tally rebuild lake`", file.path);
            }
            let files: Vec<Orphan> = scheduled.iter().map(|file| Orphan { path: file.path.clone(), bytes: 0 }).collect();
            #[cfg(feature = "plant")]
            super::plant::die_while_removing(self.lake.root(), &files);
            shared_lake::sweep::remove(&RealFiles, self.lake.root(), &files)?;
            let mut tx = self.catalog.begin().await?;
            replace::unschedule(&mut tx, &scheduled).await?;
            tx.commit().await?;
            self.done.send_modify(|done| done.removed += files.len() as u64);
        }
        Ok(())
    }

    /// What is older may go.
    fn kept_from(&self, now: Instant) -> Option<Instant> {
        Instant::from_micros(now.micros().saturating_sub(self.keep_micros)).ok()
    }
}

/// Writes one table of a merge and reads it back: it must hold the rows of every batch, each once, and no other.
///
/// - Errors: [`TooLarge`] before anything is written.
fn rewrite(
    lake: &Lake,
    epoch: WriterEpoch,
    table: &str,
    range: (BatchNo, BatchNo),
    sources: &Sources,
    batches: &[Swallowed],
    bytes_max: usize,
) -> anyhow::Result<TableFile> {
    let shape = shape(table);
    let rows = gather(lake, table, &shape.schema, sources, bytes_max)?;
    #[cfg(feature = "plant")]
    let rows = super::plant::lose_a_row(rows);
    let file = lake.write_merged(epoch, table, range, &rows)?;
    drop(rows);
    let written = {
        let parts = shared_lake::read_file(&lake.root().join(&file.path), None)?;
        let rows = concat_batches(&shape.schema, &parts)?;
        drop(parts);
        InOrder::new(&rows, shape.sequence)?
    };
    let mut found = 0;
    for batch in batches {
        let wanted = batch.tables.iter().find(|file| file.table == table);
        let wanted = wanted.with_context(|| format!("batch {} names no {table}", batch.batch_no))?;
        let mut digest = RowDigest::new(shape.order);
        for part in written.of(&batch.ranges)? {
            digest.add(&part)?;
        }
        let count = u64::try_from(digest.rows())?;
        found += count;
        let digest = digest.finish()?;
        if (count, digest) != (wanted.rows, wanted.row_digest) {
            bail!(
                "{} does not reproduce batch {}: it has {count} rows with digest {digest}, the header says {} with {}; it is not published",
                file.path,
                batch.batch_no,
                wanted.rows,
                wanted.row_digest
            );
        }
    }
    if found != file.rows {
        bail!("{} has {} rows, of which {found} belong to its batches; it is not published", file.path, file.rows);
    }
    Ok(file)
}

/// All rows of a table of a merge. The parts that were read are let go of here, before anything is written.
fn gather(lake: &Lake, table: &str, schema: &SchemaRef, sources: &Sources, bytes_max: usize) -> anyhow::Result<RecordBatch> {
    let (mut parts, mut bytes) = (Vec::new(), 0_usize);
    for (piece, path) in sources.get(table).into_iter().flatten() {
        for batch in shared_lake::read_file(&lake.root().join(path), None)? {
            bytes = bytes.saturating_add(batch.get_array_memory_size());
            if bytes > bytes_max {
                bail!(TooLarge { table: table.to_owned(), path: path.clone(), max: bytes_max, fitting: *piece });
            }
            parts.push(aligned(&batch, schema).with_context(|| format!("{path} is not a file of {table}"))?);
        }
    }
    Ok(concat_batches(schema, &parts)?)
}

/// The columns of a batch in the order of the table; one that the file does not have yet is empty.
fn aligned(batch: &RecordBatch, schema: &SchemaRef) -> anyhow::Result<RecordBatch> {
    let mut known = 0;
    let columns = schema.fields().iter().map(|field| match batch.column_by_name(field.name()) {
        Some(column) => {
            known += 1;
            column.clone()
        }
        None => new_null_array(field.data_type(), batch.num_rows()),
    });
    let aligned = RecordBatch::try_new(schema.clone(), columns.collect())?;
    if known != batch.num_columns() {
        bail!("it has columns that the table does not have");
    }
    Ok(aligned)
}

/// The files that the log reads the rows of some batches from.
pub struct InUse {
    /// First batch.
    pub first: BatchNo,
    /// Last batch.
    pub last: BatchNo,
    /// What they were merged to; none for a batch's own files.
    pub level: Option<Level>,
    /// Their latest acceptance.
    pub accepted_to: Instant,
    /// The files.
    pub tables: Vec<TableFile>,
}

/// Every file that the log reads rows from, in order of batch.
pub async fn in_use(log: &Database, lake: &Lake) -> anyhow::Result<Vec<InUse>> {
    let mut tx = log.read().await?;
    lake.refresh(&mut tx).await?;
    let (end, _) = store::head(&mut tx).await?;
    drop(tx);
    let mut all = Vec::new();
    let mut after = BatchNo(0);
    for merge in lake.merges().iter().map(Some).chain([None]) {
        let until = merge.map_or(end, |merge| BatchNo(merge.first.0.saturating_sub(1)));
        while after < until {
            let headers = page(log, after, until, PAGE).await?;
            after = headers.last().map(|(header, _)| header.batch_no).context("the log has a gap")?;
            all.extend(headers.into_iter().map(|(header, _)| InUse {
                first: header.batch_no,
                last: header.batch_no,
                level: None,
                accepted_to: header.accepted_to,
                tables: header.tables,
            }));
        }
        if let Some(merge) = merge {
            after = merge.last;
            all.push(InUse {
                first: merge.first,
                last: merge.last,
                level: Some(merge.level),
                accepted_to: merge.accepted_to,
                tables: merge.tables.clone(),
            });
        }
    }
    Ok(all)
}

async fn paths_in_use(log: &Database, lake: &Lake) -> anyhow::Result<HashSet<String>> {
    Ok(in_use(log, lake).await?.into_iter().flat_map(|files| files.tables).map(|file| file.path).collect())
}

/// Removes files of earlier reigns that neither the log reads from nor the catalog knows: what a crash left between writing and recording,
/// and replaced files of a catalog that was made anew.
pub async fn sweep(log: &Database, catalog: &Database, lake: &Lake, epoch: WriterEpoch) -> anyhow::Result<()> {
    let mut named = paths_in_use(log, lake).await?;
    named.extend(replace::paths(&mut catalog.read().await?).await?);
    let removed = lake.sweep(epoch, &named)?;
    if removed > 0 {
        tracing::info!(removed, "removed files of an earlier reign that nothing names");
    }
    Ok(())
}
