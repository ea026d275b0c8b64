//! What committing a batch of 1,000 events costs, beside what its bytes cost bare: the same files written with the same number of syncs,
//! and one SQLite transaction of one row with the same settings.
//!
//! Three lanes take turns in one run, in an order that changes from round to round, so that the load of the machine meets all of them:
//! - `ours`: rows → Arrow → row digest, sort, Parquet → three files → the transaction of the batch log, as the server does it.
//! - `bare`: the bytes that `ours` writes, ready, into three files with as many syncs as `ours` needs, and one row of the header's text.
//! - `least`: the same with the fewest syncs that make file and name durable: two for each file.
//!
//! Building and rating the batch is not part of a commit and not timed. The logs reach a high commit number by headers without files,
//! many in a transaction, each with ranges and an outbox row like those of a measured batch; the folders get as many empty files, up
//! to a limit.

pub(crate) mod lanes;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant as Timer};

use anyhow::{Context, ensure};
use platform_ingest::header::{FORMAT, Header, Range, TableFile};
use platform_ingest::store;
use serde_json::{Value, json};
use shared_db::{Database, OutboxEvent};
use shared_lake::Files;
use shared_lake::files::simulated::SimulatedFiles;
use shared_types::{BatchNo, Digest, Instant, WriterEpoch};

use crate::figures::{Samples, milliseconds, ratio, table};
use crate::machine::{Profile, Used, own_time, wait_for_quiet};
use crate::result::{Begun, Reported};
use crate::world::{Batch, World};
use lanes::{Plain, TimedFiles, write_tables};

/// Events of a measured batch.
const EVENTS: usize = 1_000;
/// Rounds before the measured ones at each level.
const WARM: u32 = 5;
/// Headers in one transaction while the log is filled.
const FILL: u64 = 500;
/// Names that each folder is filled up to at most.
const NAMES_MAX: u64 = 100_000;

/// Runs the bench at ascending commit numbers.
pub async fn run(scratch: &Path, profile: Profile, patience: Duration, at: &[u64], rounds: u32) -> anyhow::Result<Reported> {
    ensure!(at.is_sorted() && rounds > 0, "commit numbers ascend, and there is at least one round");
    let begun = Begun::now("commit", profile, scratch).await?;
    let mut bench = Bench::open(scratch).await?;
    let mut levels = Vec::new();
    for number in at {
        let filling = Timer::now();
        bench.fill(*number).await?;
        eprintln!("the log is at commit {} after {} ms of filling", bench.head.0, filling.elapsed().as_millis());
        wait_for_quiet(patience)?;
        for _ in 0..WARM {
            bench.round(&mut Level::default()).await?;
        }
        let (used, own) = (Used::now()?, own_time()?);
        let mut level = Level { from: bench.head.0.0 + 1, ..Level::default() };
        for _ in 0..rounds {
            bench.round(&mut level).await?;
        }
        level.to = bench.head.0.0;
        (level.busy, level.others) = used.since(own_time()?.saturating_sub(own))?;
        levels.push(level);
    }
    begun.end(figures(&levels), &text(&levels))
}

/// What was measured around one commit number.
#[derive(Default)]
struct Level {
    from: u64,
    to: u64,
    ours: Samples,
    arrow: Samples,
    digest: Samples,
    sort: Samples,
    parquet: Samples,
    files: Samples,
    transaction: Samples,
    /// Files and transaction together: what `bare` does too.
    durable: Samples,
    bare: Samples,
    least: Samples,
    /// The last batch: its files, its ranges, its syncs of files and folders, and those of `bare` and `least`.
    tables: Vec<TableFile>,
    ranges: usize,
    syncs: [u64; 3],
    /// Percent of the processors: with everything, and without this process.
    busy: f64,
    others: f64,
}

/// Who takes a turn.
#[derive(Clone, Copy)]
enum Lane {
    Ours,
    Bare,
    Least,
}

const TURNS: [[Lane; 3]; 3] =
    [[Lane::Ours, Lane::Bare, Lane::Least], [Lane::Bare, Lane::Least, Lane::Ours], [Lane::Least, Lane::Ours, Lane::Bare]];

struct Bench {
    log: Database,
    lake: PathBuf,
    files: TimedFiles,
    bare: Plain,
    least: Plain,
    world: World,
    head: (BatchNo, Digest),
    epoch: WriterEpoch,
    names: u64,
}

impl Bench {
    async fn open(scratch: &Path) -> anyhow::Result<Self> {
        let log = Database::open_sqlite(scratch.join("log.db"), &["platform-ingest"]).await?;
        let mut tx = log.begin().await?;
        let epoch = store::open_epoch(&mut tx, "bench", at()?).await?;
        let states = store::shard_states(&mut tx).await?;
        tx.commit().await?;
        let bench = Self {
            log,
            lake: scratch.join("ours"),
            files: TimedFiles::default(),
            bare: Plain::open(scratch, "bare", 3).await?,
            least: Plain::open(scratch, "least", 2).await?,
            world: World::new(states)?,
            head: (BatchNo(0), Digest::ZERO),
            epoch,
            names: 0,
        };
        for lake in [&bench.lake, bench.bare.folder(), bench.least.folder()] {
            for folder in lanes::folders(epoch) {
                fs::create_dir_all(lake.join(folder))?;
            }
        }
        Ok(bench)
    }

    /// Commits headers without files until the next commit has this number, and puts as many empty files into the folders.
    async fn fill(&mut self, number: u64) -> anyhow::Result<()> {
        // The model of what is filled in; it is not committed itself, so only its events are lost.
        let records = self.world.records(EVENTS)?;
        let like = self.world.batch(records)?;
        let tables = write_tables(&SimulatedFiles::new(), &self.lake, self.epoch, &like)?.tables;
        self.fill_folders(number.min(NAMES_MAX))?;
        while self.head.0.0 + 1 < number {
            let first = self.head.0.0 + 1;
            let last = number.min(first + FILL);
            let mut text = String::new();
            let mut tx = self.log.begin().await?;
            for _ in first..last {
                let (ranges, before) = self.world.pass(&like.built.ranges);
                let header = self.header(ranges, tables.clone(), like.built.accepted_to)?;
                let digest = store::append(&mut tx, &header, &before, at()?).await?;
                shared_db::enqueue(&mut tx, committed_event(&header, digest)).await?;
                self.head = (header.batch_no, digest);
                text = header.canonical()?;
            }
            tx.commit().await?;
            for plain in [&self.bare, &self.least] {
                plain.fill(first..last, &text).await?;
            }
        }
        Ok(())
    }

    fn fill_folders(&mut self, names: u64) -> anyhow::Result<()> {
        for lake in [&self.lake, self.bare.folder(), self.least.folder()] {
            for folder in lanes::folders(self.epoch) {
                for name in self.names..names {
                    File::create_new(lake.join(&folder).join(format!("{}.parquet", Digest::of(&name.to_be_bytes()))))?;
                }
            }
        }
        self.names = self.names.max(names);
        Ok(())
    }

    /// One commit in each lane, of the same bytes.
    async fn round(&mut self, level: &mut Level) -> anyhow::Result<()> {
        let records = self.world.records(EVENTS)?;
        let batch = self.world.batch(records)?;
        let memory = SimulatedFiles::new();
        let tables = write_tables(&memory, &self.lake, self.epoch, &batch)?.tables;
        let files: Vec<(String, Vec<u8>)> = tables
            .iter()
            .map(|table| Ok((table.path.clone(), memory.read(&self.lake.join(&table.path))?)))
            .collect::<anyhow::Result<_>>()?;
        let header = self.header(batch.built.ranges.clone(), tables.clone(), batch.built.accepted_to)?;
        let (number, text) = (header.batch_no, header.canonical()?);
        let turns = TURNS.iter().cycle().nth(usize::try_from(number.0 % 3)?).context("there are turns")?;
        for lane in turns {
            match lane {
                Lane::Ours => self.commit(&batch, level).await?,
                Lane::Bare => level.bare.push(self.bare.commit(number.0, &files, &text).await?),
                Lane::Least => level.least.push(self.least.commit(number.0, &files, &text).await?),
            }
        }
        level.ranges = header.ranges.len();
        level.tables = tables;
        self.world.commit(batch);
        Ok(())
    }

    /// The product's lane.
    async fn commit(&mut self, batch: &Batch, level: &mut Level) -> anyhow::Result<()> {
        let (files, syncs) = (self.files.spent(), self.files.syncs());
        let started = Timer::now();
        let made = write_tables(&self.files, &self.lake, self.epoch, batch)?;
        let written = started.elapsed();
        let header = self.header(batch.built.ranges.clone(), made.tables, batch.built.accepted_to)?;
        let mut tx = self.log.begin().await?;
        let digest = store::append(&mut tx, &header, &batch.before, at()?).await?;
        shared_db::enqueue(&mut tx, committed_event(&header, digest)).await?;
        tx.commit().await?;
        let committed = started.elapsed();
        self.head = (header.batch_no, digest);
        let files = self.files.spent().saturating_sub(files);
        level.ours.push(committed);
        level.arrow.push(made.arrow);
        level.digest.push(made.digest);
        level.sort.push(made.sort);
        level.parquet.push(made.parquet_and_files.saturating_sub(files));
        level.files.push(files);
        level.transaction.push(committed.saturating_sub(written));
        level.durable.push(committed.saturating_sub(written) + files);
        level.syncs = [self.files.syncs() - syncs, self.bare.syncs(), self.least.syncs()];
        let [ours, bare, _] = level.syncs;
        ensure!(ours == bare, "ours needs {ours} syncs of files and folders, bare was given {bare}: the comparison is not of equals");
        Ok(())
    }

    fn header(&self, ranges: Vec<Range>, tables: Vec<TableFile>, accepted_to: Instant) -> anyhow::Result<Header> {
        Ok(Header {
            accepted_to,
            batch_no: self.head.0.next().context("batch numbers are used up")?,
            format: FORMAT,
            previous: self.head.1,
            ranges,
            tables,
            writer_epoch: self.epoch,
        })
    }
}

/// What the server puts into the outbox with each batch.
pub(crate) fn committed_event(header: &Header, digest: Digest) -> OutboxEvent {
    OutboxEvent {
        subject: "platform.ingest.batch-committed".to_owned(),
        event_type: "platform.ingest.batch-committed".to_owned(),
        version: 1,
        correlation_id: digest.to_string(),
        payload: json!({"batch_no": header.batch_no, "digest": digest}).to_string(),
    }
}

/// When everything here is recorded: the same instant, for it costs the same as any other.
fn at() -> anyhow::Result<Instant> {
    Ok(Instant::parse("2026-11-24T00:00:00Z")?)
}

/// How much slower the last level is than the first.
fn growth(levels: &[Level]) -> Option<f64> {
    let (first, last) = (levels.first()?, levels.last()?);
    ratio(last.ours.median(), first.ours.median())
}

fn figures(levels: &[Level]) -> Value {
    let described: Vec<Value> = levels
        .iter()
        .map(|level| {
            json!({
                "commits": [level.from, level.to],
                "ours": level.ours.json(),
                "ours_stages": {
                    "arrow": level.arrow.json(), "digest": level.digest.json(), "sort": level.sort.json(), "parquet": level.parquet.json(),
                    "files": level.files.json(), "transaction": level.transaction.json(),
                },
                "bare": level.bare.json(),
                "least": level.least.json(),
                "ratio_to_bare": ratio(level.ours.median(), level.bare.median()),
                "ratio_of_files_and_transaction_to_bare": ratio(level.durable.median(), level.bare.median()),
                "ratio_to_least": ratio(level.ours.median(), level.least.median()),
                "syncs_of_files_and_folders": {"ours": level.syncs[0], "bare": level.syncs[1], "least": level.syncs[2]},
                "rows": level.tables.iter().map(|file| (file.table.clone(), json!(file.rows))).collect::<serde_json::Map<_, _>>(),
                "bytes": level.tables.iter().map(|file| file.bytes).sum::<u64>(),
                "ranges": level.ranges,
                "processors_busy_percent": level.busy,
                "processors_busy_with_others_percent": level.others,
            })
        })
        .collect();
    json!({
        "what": "p50 and p99 of committing a batch of 1,000 events; ratios are of medians; each lane in turn, rounds interleaved",
        "target": "ratio_to_bare at most 1.5, and the same at every level",
        "filled": format!("below each level: headers without files, {FILL} in a transaction; up to {NAMES_MAX} empty files in each folder"),
        "levels": described,
        "last_level_to_first": growth(levels),
    })
}

fn text(levels: &[Level]) -> String {
    let cell = |samples: &Samples| format!("{:.2} / {:.2}", milliseconds(samples.median()), milliseconds(samples.percentile(99)));
    let times = |of: &Samples, to: &Samples| ratio(of.median(), to.median()).map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}"));
    let mut rows = vec![
        ["p50 / p99 in ms", "least", "bare", "ours", "arrow", "digest", "sort", "parquet", "files", "transaction"]
            .map(ToOwned::to_owned)
            .to_vec(),
    ];
    for level in levels {
        let lanes = [&level.least, &level.bare, &level.ours];
        let stages = [&level.arrow, &level.digest, &level.sort, &level.parquet, &level.files, &level.transaction];
        let cells = lanes.into_iter().chain(stages).map(cell);
        rows.push(std::iter::once(format!("commits {} to {}", level.from, level.to)).chain(cells).collect());
    }
    let mut text = table(&rows);
    for level in levels {
        let line = format!(
            "commits {} to {}: ours {} x bare and {} x least; files and transaction alone {} x bare; others took {} % of the processors\n",
            level.from,
            level.to,
            times(&level.ours, &level.bare),
            times(&level.ours, &level.least),
            times(&level.durable, &level.bare),
            level.others,
        );
        text.push_str(&line);
    }
    let growth = growth(levels).map_or_else(|| "-".to_owned(), |growth| format!("{growth:.2}"));
    text + &format!("last level {growth} x the first; target: ours at most 1.5 x bare, and as much at every level\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_run_commits_in_every_lane_at_every_level() {
        let scratch = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let reported = runtime.block_on(run(scratch.path(), Profile::Dev, Duration::ZERO, &[3, 20], 3)).unwrap();
        let levels = reported.json["figures"]["levels"].as_array().unwrap();
        assert_eq!(levels[1]["commits"], json!([25, 27]));
        for level in levels {
            assert_eq!(level["rows"]["events"], json!(1_000));
            for lane in ["ours", "bare", "least"] {
                assert_eq!(level[lane]["samples"], json!(3), "{lane}");
            }
        }
    }
}
