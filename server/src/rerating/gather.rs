//! The rows of `charges` of some units, out of the files of the batches: several files at a time, each unit's rows in the order of the log.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::Context as _;
use arrow::array::{AsArray as _, BooleanArray};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{Int32Type, TimestampMicrosecondType};
use arrow::record_batch::RecordBatch;
use platform_ingest::header::Header;
use platform_rating::{Charge, charges_from_arrow, charges_schema};
use shared_types::{BatchNo, Instant, Month};

use super::{PAGE, UnitKey, Work};
use crate::lake::{CHARGES, Lake, TOTALS};

/// Files that each thread reads before others may have the processor, and before whoever waits no more is seen.
const TURN: usize = 4;

/// Rows unit by unit.
type Found = Vec<(UnitKey, Vec<Charge>)>;

/// What is wanted.
struct Wanted<'u> {
    /// Organizations with the months that are wanted of them.
    months: HashMap<&'u str, BTreeSet<Month>>,
    /// Batches that are looked at in any case.
    more: &'u BTreeSet<BatchNo>,
}

impl Work<'_> {
    /// The rows of some units in the batches behind one, in the order of their batches and, within one, of their places.
    ///
    /// - `more`: batches to be looked at although their totals name none of the units.
    pub(super) async fn rows(
        &self,
        units: &BTreeSet<UnitKey>,
        more: &BTreeSet<BatchNo>,
        after: BatchNo,
    ) -> anyhow::Result<BTreeMap<UnitKey, Vec<Charge>>> {
        let mut rows: BTreeMap<UnitKey, Vec<Charge>> = BTreeMap::new();
        if units.is_empty() {
            return Ok(rows);
        }
        let wanted = Wanted::of(units, more);
        let read = |lake: &Lake, headers: &[&Header]| {
            let mut found = Vec::new();
            for header in headers {
                wanted.read(lake, header, &mut found)?;
            }
            Ok(found)
        };
        let take = |found: Found| {
            for (unit, found) in found {
                match rows.get_mut(&unit) {
                    Some(rows) => rows.extend(found),
                    None => drop(rows.insert(unit, found)),
                }
            }
        };
        self.each_file(after, read, take).await?;
        Ok(rows)
    }

    /// Reads the files of the batches behind one, some at a time; what was found is taken in the order of the batches.
    pub(super) async fn each_file<T: Send>(
        &self,
        mut after: BatchNo,
        read: impl Fn(&Lake, &[&Header]) -> anyhow::Result<T> + Sync,
        mut take: impl FnMut(T),
    ) -> anyhow::Result<()> {
        while after < self.through {
            let headers = {
                let mut tx = self.log.read().await?;
                platform_ingest::store::batches_after(&mut tx, after, PAGE).await?
            };
            after = headers.last().map(|(header, _)| header.batch_no).context("the batch log ends before its head")?;
            let headers: Vec<&Header> = headers.iter().map(|(header, _)| header).filter(|header| header.batch_no <= self.through).collect();
            for some in files(self.lake, &headers).chunks(self.threads.max(1).saturating_mul(TURN)) {
                tokio::task::block_in_place(|| self.read(some, &read))?.into_iter().for_each(&mut take);
                tokio::task::yield_now().await;
            }
        }
        Ok(())
    }

    /// Reads files, some at a time; what was found in the order of the files.
    fn read<T: Send>(
        &self,
        files: &[Vec<&Header>],
        read: &(impl Fn(&Lake, &[&Header]) -> anyhow::Result<T> + Sync),
    ) -> anyhow::Result<Vec<T>> {
        let next = AtomicUsize::new(0);
        let work = || -> anyhow::Result<Vec<(usize, T)>> {
            // Of its own: a merged file that is read is remembered for its next batch.
            let lake = self.lake.clone();
            let mut done = Vec::new();
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                let Some(headers) = files.get(index) else { return Ok(done) };
                done.push((index, read(&lake, headers)?));
            }
        };
        let threads = self.threads.clamp(1, files.len().max(1));
        let mut done = Vec::with_capacity(files.len());
        if threads == 1 {
            done = work()?;
        } else {
            std::thread::scope(|scope| {
                let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
                for worker in workers {
                    done.extend(worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?);
                }
                anyhow::Ok(())
            })?;
        }
        done.sort_by_key(|(index, _)| *index);
        Ok(done.into_iter().map(|(_, found)| found).collect())
    }
}

/// Batches by the file that holds them: those of a merge are read by one thread.
fn files<'h>(lake: &Lake, headers: &[&'h Header]) -> Vec<Vec<&'h Header>> {
    let mut files: Vec<(Option<BatchNo>, Vec<&Header>)> = Vec::new();
    for &header in headers {
        let merge = lake.merge_of(header.batch_no).map(|merge| merge.first);
        match files.last_mut().filter(|(last, _)| merge.is_some() && *last == merge) {
            Some((_, file)) => file.push(header),
            None => files.push((merge, vec![header])),
        }
    }
    files.into_iter().map(|(_, file)| file).collect()
}

impl<'u> Wanted<'u> {
    fn of(units: &'u BTreeSet<UnitKey>, more: &'u BTreeSet<BatchNo>) -> Self {
        let mut months: HashMap<&str, BTreeSet<Month>> = HashMap::new();
        for (organization, month) in units {
            months.entry(organization.as_str()).or_default().insert(*month);
        }
        Self { months, more }
    }

    fn holds(&self, organization: &str, month: Month) -> bool {
        self.months.get(organization).is_some_and(|months| months.contains(&month))
    }

    /// Adds the rows of a batch.
    fn read(&self, lake: &Lake, header: &Header, found: &mut Found) -> anyhow::Result<()> {
        // Totals are few, and name every organization and month with a row that counts.
        let mut touched = self.more.contains(&header.batch_no);
        for rows in lake.read(header, TOTALS, Some(&["organization", "service_period"]))? {
            touched = touched || self.touched(&rows)?;
        }
        if !touched {
            return Ok(());
        }
        // Each reading is rated again from an empty state: what state it met then says nothing.
        let schema = charges_schema();
        let columns: Vec<&str> =
            schema.fields().iter().map(|field| field.name().as_str()).filter(|name| !platform_rating::STATES.contains(name)).collect();
        let mut places: HashMap<UnitKey, usize> = HashMap::new();
        let begin = found.len();
        for rows in lake.read(header, CHARGES, Some(&columns))? {
            for charge in charges_from_arrow(&self.among(&rows)?)? {
                let place = *places.entry((charge.organization.clone(), charge.start_at.month())).or_insert_with_key(|unit| {
                    found.push((unit.clone(), Vec::new()));
                    found.len() - 1
                });
                if let Some((_, rows)) = found.get_mut(place) {
                    rows.push(charge);
                }
            }
        }
        for (_, rows) in found.iter_mut().skip(begin) {
            // Files are in this order already, but for the rows of a re-rating, which all stand at one position.
            if !rows.is_sorted_by_key(Charge::place) {
                rows.sort_by_cached_key(Charge::place);
            }
        }
        Ok(())
    }

    /// Whether rows of `totals` name one of the units.
    fn touched(&self, rows: &RecordBatch) -> anyhow::Result<bool> {
        let names = rows.column_by_name("organization").context("totals have no organization")?.as_string::<i32>();
        let periods = rows.column_by_name("service_period").context("totals have no service period")?.as_primitive::<Int32Type>();
        for row in 0..rows.num_rows() {
            if self.holds(names.value(row), Month::from_number(periods.value(row))?) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The rows of `charges` that belong to the units.
    fn among(&self, rows: &RecordBatch) -> anyhow::Result<RecordBatch> {
        let names = rows.column_by_name("organization").context("charges have no organization")?.as_string::<i32>();
        let starts = rows.column_by_name("start_at").context("charges have no start")?.as_primitive::<TimestampMicrosecondType>();
        let mut wanted = Vec::with_capacity(rows.num_rows());
        for row in 0..rows.num_rows() {
            wanted.push(self.holds(names.value(row), Instant::from_micros(starts.value(row))?.month()));
        }
        Ok(filter_record_batch(rows, &BooleanArray::from(wanted))?)
    }
}
