//! Our side of the comparison: the jobs of the peers' scripts over the same files, by the per-row kernels. It runs in a process of its own.
//!
//! Each pass shares the row groups of the input among threads; what it answers does not depend on how many. What is written is synced.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant as Timer};

use anyhow::{Context, anyhow};
use arrow::array::{ArrayRef, BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{Field, Schema};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use parquet::file::statistics::Statistics;
use platform_rating::per_row::{
    Arrivals, Event, EventOrder, Noted, OrderedEvents, PriceTable, RowTotals, Suspected, TierTable, TieredTotals, account_totals,
    rate_rows, repeats,
};
use serde_json::{Value, json};

use super::Job;
use super::rated_file::RatedFile;
use super::small_file;
use crate::figures::{milliseconds, seconds};
use crate::machine::{self, ThreadClock};

/// Rows that are decoded, rated and encoded at once.
const BATCH_ROWS: usize = 1 << 14;
/// The state that `rate` keeps and `totals` answers from.
const STATE: &str = "state.parquet";

/// Runs a job and says what it took: `wall_s`, `cpu_s`, `peak_mb`, `stages`.
pub fn run(job: Job, input: &Path, output: &Path, threads: usize) -> anyhow::Result<Value> {
    let (began, used) = (Timer::now(), machine::own_time()?);
    let stages = match job {
        Job::Rate => rate(input, output, threads)?,
        Job::Tiers => tiered(input, output, threads)?,
        Job::Totals => totals(output)?,
    };
    let (wall, processor) = match stages.answered {
        Some(answered) => answered,
        None => (began.elapsed(), machine::own_time()?.saturating_sub(used)),
    };
    Ok(json!({
        "wall_s": wall.as_secs_f64(), "cpu_s": seconds(processor), "peak_mb": machine::own_peak_mb()?,
        "stages": stages.spent.iter().map(|(name, time)| ((*name).to_owned(), json!(milliseconds(*time)))).collect::<serde_json::Map<_, _>>(),
    }))
}

/// Processor time of a thread by what it did; added up over threads, so it means the same on a busy machine.
#[derive(Default)]
struct Stages {
    clock: ThreadClock,
    spent: BTreeMap<&'static str, Duration>,
    /// Wall and processor time until the answer was there, where something untimed follows it.
    answered: Option<(Duration, Duration)>,
}

impl Stages {
    fn time<T>(&mut self, name: &'static str, work: impl FnOnce() -> T) -> T {
        let began = self.clock.now();
        let done = work();
        *self.spent.entry(name).or_default() += self.clock.now().saturating_sub(began);
        done
    }

    fn join(&mut self, other: Self) {
        for (name, time) in other.spent {
            *self.spent.entry(name).or_default() += time;
        }
    }
}

/// A row group of the input.
struct Part {
    path: PathBuf,
    metadata: ArrowReaderMetadata,
    row_group: usize,
    first_row: u64,
    rows: u64,
    /// The earliest event, where the file says it.
    event_at_min: Option<i64>,
}

impl Part {
    /// All of a folder, in the order of arrival.
    fn all(folder: &Path) -> anyhow::Result<Vec<Self>> {
        let mut paths: Vec<PathBuf> = std::fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>()?;
        paths.sort();
        let (mut parts, mut first_row) = (Vec::new(), 0);
        for path in paths {
            let metadata = ArrowReaderMetadata::load(&File::open(&path)?, ArrowReaderOptions::new())?;
            let event_at = metadata.schema().index_of("event_at")?;
            for (row_group, group) in metadata.metadata().row_groups().iter().enumerate() {
                let event_at_min = match group.column(event_at).statistics() {
                    Some(Statistics::Int64(values)) => values.min_opt().copied(),
                    _ => None,
                };
                let rows = u64::try_from(group.num_rows())?;
                parts.push(Self { path: path.clone(), metadata: metadata.clone(), row_group, first_row, rows, event_at_min });
                first_row += rows;
            }
        }
        Ok(parts)
    }

    fn read(&self, columns: &[&str]) -> anyhow::Result<ParquetRecordBatchReader> {
        let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(File::open(&self.path)?, self.metadata.clone());
        let mask = ProjectionMask::columns(builder.parquet_schema(), columns.iter().copied());
        Ok(builder.with_projection(mask).with_row_groups(vec![self.row_group]).with_batch_size(BATCH_ROWS).build()?)
    }

    /// Every batch of rows with the number of its first row.
    fn each(
        &self,
        columns: &[&str],
        decode: &'static str,
        stages: &mut Stages,
        mut visit: impl FnMut(&mut Stages, u64, RecordBatch) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let mut reader = self.read(columns)?;
        let mut row = self.first_row;
        while let Some(batch) = stages.time(decode, || reader.next()) {
            let batch = batch?;
            let rows = u64::try_from(batch.num_rows())?;
            visit(stages, row, batch)?;
            row += rows;
        }
        Ok(())
    }
}

/// Does something with every part on so many threads, each with something of its own that it adds to.
fn share<P: Sync, T: Send>(
    threads: usize,
    parts: &[P],
    own: impl Fn() -> T + Sync,
    work: impl Fn(&mut T, &P) -> anyhow::Result<()> + Sync,
) -> anyhow::Result<Vec<T>> {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let take = || {
            let mut own = own();
            while let Some(part) = parts.get(next.fetch_add(1, Ordering::Relaxed)) {
                work(&mut own, part)?;
            }
            Ok(own)
        };
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(take)).collect();
        workers.into_iter().map(|worker| worker.join().map_err(|_| anyhow!("a thread panicked")).flatten()).collect()
    })
}

/// The numbers of the rows that repeat an earlier arrival.
fn find_repeats(threads: usize, parts: &[Part], stages: &mut Stages) -> anyhow::Result<Vec<u64>> {
    let room = parts.iter().map(|part| part.rows).sum::<u64>().div_ceil(u64::try_from(threads)?.max(1));
    let own = || (Stages::default(), Noted::with_room(room));
    let noted = share(threads, parts, own, |(stages, noted), part| {
        part.each(&["identity"], "identity: decode", stages, |stages, _, rows| Ok(stages.time("identity: note", || noted.note(&rows))?))
    })?;
    let (taken, noted): (Vec<Stages>, Vec<Noted>) = noted.into_iter().unzip();
    taken.into_iter().for_each(|taken| stages.join(taken));
    let partitions: Vec<usize> = (0..repeats::PARTITIONS).collect();
    let found = share(threads, &partitions, <(Stages, Vec<_>)>::default, |(stages, found), partition| {
        found.push((*partition, stages.time("identity: suspect", || repeats::suspects(&noted, *partition))));
        Ok(())
    })?;
    drop(noted);
    let mut suspects = Vec::with_capacity(repeats::PARTITIONS);
    for (taken, found) in found {
        stages.join(taken);
        suspects.extend(found);
    }
    suspects.sort_unstable_by_key(|(partition, _)| *partition);
    let suspected = Suspected::of(&suspects.into_iter().map(|(_, bits)| bits).collect::<Vec<_>>());
    let gathered = share(threads, parts, <(Stages, Arrivals)>::default, |(stages, arrivals), part| {
        part.each(&["identity", "accepted_at"], "identity: decode", stages, |stages, first, rows| {
            Ok(stages.time("identity: gather", || arrivals.gather(first, &rows, &suspected))?)
        })
    })?;
    let mut arrivals = Arrivals::default();
    for (taken, part) in gathered {
        stages.join(taken);
        arrivals.join(part);
    }
    Ok(stages.time("identity: decide", || repeats::repeats(arrivals)))
}

/// The rows of a batch that are not among the repeats.
fn without(repeats: &[u64], first: u64, rows: RecordBatch) -> anyhow::Result<RecordBatch> {
    let until = first + u64::try_from(rows.num_rows())?;
    let from = repeats.partition_point(|row| *row < first);
    let mut here = repeats.get(from..).unwrap_or_default().iter().take_while(|row| **row < until).peekable();
    if here.peek().is_none() {
        return Ok(rows);
    }
    let kept: BooleanArray = (first..until).map(|row| Some(here.next_if_eq(&&row).is_none())).collect();
    Ok(filter_record_batch(&rows, &kept)?)
}

/// Job A: repeats dropped, price in force, amount, written; and the totals of it all.
fn rate(input: &Path, output: &Path, threads: usize) -> anyhow::Result<Stages> {
    let mut stages = Stages::default();
    let parts = Part::all(&input.join("events"))?;
    let prices = PriceTable::new(&small_file::rows(&input.join("prices.parquet"))?, &small_file::rows(&input.join("own_prices.parquet"))?)?;
    let repeats = find_repeats(threads, &parts, &mut stages)?;
    let folder = output.join("rated");
    std::fs::create_dir_all(&folder)?;
    let rated = share(threads, &parts, <(Stages, RowTotals)>::default, |(stages, totals), part| {
        let path = folder.join(part.path.with_extension(format!("{}.parquet", part.row_group)).file_name().context("a file has a name")?);
        let mut writer: Option<RatedFile> = None;
        let columns = ["identity", "account_id", "project_id", "meter_id", "sku_id", "event_at", "quantity"];
        part.each(&columns, "decode", stages, |stages, first, rows| {
            let rows = stages.time("filter", || without(&repeats, first, rows))?;
            let rated = stages.time("price and amount", || rate_rows(&rows, &prices))?;
            stages.time("totals", || totals.add(&rows, &rated))?;
            stages.time("encode", || {
                let rows = with_columns(&rows, rated.into_columns().into())?;
                let writer = match &mut writer {
                    Some(writer) => writer,
                    None => writer.insert(RatedFile::create(&path, &rows.schema(), usize::try_from(part.rows)?)?),
                };
                writer.write(&rows)
            })
        })?;
        if let Some(writer) = writer {
            let file = stages.time("encode", || writer.close())?;
            stages.time("sync", || file.sync_all())?;
        }
        Ok(())
    })?;
    let mut totals = RowTotals::default();
    for (taken, part) in rated {
        stages.join(taken);
        stages.time("totals", || totals.join(&part))?;
    }
    let columns = totals.into_columns()?;
    stages.time("state", || small_file::write(&output.join(STATE), columns))?;
    stages.time("sync", || File::open(&folder)?.sync_all())?;
    Ok(stages)
}

/// Job B2: graduated tiers, event by event in the order of events.
fn tiered(input: &Path, output: &Path, threads: usize) -> anyhow::Result<Stages> {
    let mut stages = Stages::default();
    let parts = Part::all(&input.join("events"))?;
    let tier_table = TierTable::new(&small_file::rows(&input.join("tiers.parquet"))?)?;
    let repeats = find_repeats(threads, &parts, &mut stages)?;
    let mut totals = TieredTotals::new(&tier_table);
    let mut order = EventOrder::default();
    std::thread::scope(|scope| {
        let (parts, repeats) = (&parts, &repeats);
        // Each worker has every so manieth part ready when its turn comes, and not the one after it.
        let workers: Vec<_> = (0..threads)
            .map(|worker| {
                let (ready, take) = sync_channel(0);
                scope.spawn(move || {
                    for part in parts.iter().skip(worker).step_by(threads) {
                        if ready.send(events_of(part, repeats)).is_err() {
                            return;
                        }
                    }
                });
                take
            })
            .collect();
        for (number, take) in (0..parts.len()).zip(workers.iter().cycle()) {
            let (taken, events) = stages.time("wait", || take.recv())??;
            stages.join(taken);
            let later = parts.get(number + 1..).unwrap_or_default();
            // A part that does not say when it begins may begin at any time.
            let horizon = later.iter().map(|part| part.event_at_min.unwrap_or(i64::MIN)).min();
            stages.time("tiers", || {
                order.hold(events);
                order.release(horizon, |due| totals.count(due))
            })?;
        }
        anyhow::Ok(())
    })?;
    let columns = totals.into_columns();
    stages.time("write", || small_file::write(&output.join("tiers.parquet"), columns))?;
    Ok(stages)
}

fn events_of(part: &Part, repeats: &[u64]) -> anyhow::Result<(Stages, Vec<Event>)> {
    let mut stages = Stages::default();
    let mut events = OrderedEvents::with_capacity(usize::try_from(part.rows)?);
    part.each(&["identity", "account_id", "meter_id", "event_at", "quantity"], "decode", &mut stages, |stages, first, rows| {
        Ok(stages.time("events in order", || events.take(&rows, first, repeats))?)
    })?;
    let events = stages.time("events in order", || events.into_events());
    Ok((stages, events))
}

/// Job C: the totals of accounts and meters as kept, and from them each account's to two digits. They are written after the answer.
fn totals(output: &Path) -> anyhow::Result<Stages> {
    let (began, mut stages) = (Timer::now(), Stages::default());
    let used = stages.clock.now();
    let state = stages.time("read and decode", || small_file::wide(&output.join(STATE)))?;
    let invoices = stages.time("accounts", || account_totals(&state))?;
    stages.answered = Some((began.elapsed(), stages.clock.now().saturating_sub(used)));
    let columns =
        state.schema_ref().fields().iter().zip(state.columns()).map(|(field, column)| (field.name().as_str(), Arc::clone(column)));
    small_file::write(&output.join("totals.parquet"), columns.collect())?;
    small_file::write(&output.join("invoices.parquet"), invoices)?;
    Ok(stages)
}

fn with_columns(rows: &RecordBatch, more: Vec<(&str, ArrayRef)>) -> anyhow::Result<RecordBatch> {
    let mut fields = rows.schema().fields().to_vec();
    let mut columns = rows.columns().to_vec();
    for (name, column) in more {
        fields.push(Arc::new(Field::new(name, column.data_type().clone(), true)));
        columns.push(column);
    }
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)
}
