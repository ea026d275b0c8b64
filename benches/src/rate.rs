//! The per-row kernels beside other engines: the same Parquet files, the same jobs, each run in a process of its own that measures itself
//! alike, and answers compared row by row. An engine that answers something else fails the bench.

pub mod job;
mod rated_file;
pub mod rows;
mod small_file;
pub mod usage;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use serde_json::{Value, json};

use crate::figures::table;
use crate::machine::{self, Profile};
use crate::result::{Begun, Reported};
use rows::{Kind, RowsDigest};

/// Rows for PostgreSQL, and for ours beside it.
const POSTGRES_EVENTS: u64 = 1_000_000;
const OURS: &str = "tally";

/// A job that every engine does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Job {
    /// Repeats dropped, price in force, amount of each row, written.
    Rate,
    /// Graduated tiers event by event.
    Tiers,
    /// Totals of accounts and meters, and of accounts, from what `rate` left.
    Totals,
}

impl Job {
    const ALL: [Self; 3] = [Self::Rate, Self::Tiers, Self::Totals];

    fn name(self) -> &'static str {
        match self {
            Self::Rate => "rate",
            Self::Tiers => "tiers",
            Self::Totals => "totals",
        }
    }

    /// What is compared: files with their columns.
    fn answers(self) -> &'static [(&'static str, &'static [(&'static str, Kind)])] {
        match self {
            Self::Rate => &[(
                "rated",
                &[
                    ("identity", Kind::Bytes),
                    ("account_id", Kind::Number),
                    ("project_id", Kind::Number),
                    ("meter_id", Kind::Number),
                    ("sku_id", Kind::Number),
                    ("event_at", Kind::Time),
                    ("quantity", Kind::Decimal(6)),
                    ("unit_price", Kind::Decimal(10)),
                    ("price_id", Kind::Number),
                    ("amount", Kind::Decimal(12)),
                ],
            )],
            Self::Tiers => &[(
                "tiers.parquet",
                &[("account_id", Kind::Number), ("meter_id", Kind::Number), ("month", Kind::Number), ("amount", Kind::Decimal(12))],
            )],
            Self::Totals => &[
                (
                    "totals.parquet",
                    &[
                        ("account_id", Kind::Number),
                        ("meter_id", Kind::Number),
                        ("rows", Kind::Number),
                        ("quantity", Kind::Decimal(6)),
                        ("amount", Kind::Decimal(12)),
                    ],
                ),
                ("invoices.parquet", &[("account_id", Kind::Number), ("total", Kind::Decimal(2))]),
            ],
        }
    }
}

/// The other engines: scripts of `benches/peers` in a Python that has them.
pub struct Peers {
    python: PathBuf,
    postgres: Option<PathBuf>,
    engines: Vec<String>,
}

impl Peers {
    /// Those of the names, or all of them.
    pub fn new(python: PathBuf, postgres: Option<PathBuf>, engines: Option<Vec<String>>) -> anyhow::Result<Self> {
        const KNOWN: [&str; 3] = ["polars", "duckdb", "datafusion"];
        let engines = engines.unwrap_or_else(|| KNOWN.map(ToOwned::to_owned).to_vec());
        for engine in &engines {
            ensure!(KNOWN.contains(&engine.as_str()), "engine {engine:?} is not known: choose among {}", KNOWN.join(", "));
        }
        Ok(Self { python, postgres, engines })
    }

    fn script(&self, name: &str) -> Command {
        let mut command = Command::new(&self.python);
        command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("peers").join(name));
        command
    }
}

/// Runs everything: rounds of all jobs at `events` rows, ours at 1, 2 and 4 threads, PostgreSQL at 1,000,000 rows.
pub fn run(
    scratch: &Path,
    profile: Profile,
    patience: Duration,
    peers: &Peers,
    events: u64,
    rounds: u32,
    threads: usize,
) -> anyhow::Result<Reported> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let begun = runtime.block_on(Begun::now("rate", profile, scratch))?;
    let input = scratch.join("usage");
    eprintln!("writing {events} rows of usage");
    usage::write(&input, events)?;
    let engines: Vec<&str> = std::iter::once(OURS).chain(peers.engines.iter().map(String::as_str)).collect();
    let mut field = Field { peers, scratch, input: &input, runs: BTreeMap::new(), wanted: BTreeMap::new(), apart: Vec::new() };
    for round in 0..rounds {
        for job in Job::ALL {
            for engine in &engines {
                machine::wait_for_quiet(patience)?;
                field.measure(engine, job, threads, round)?;
            }
        }
    }
    let by_threads = field.by_threads()?;
    let postgres = match &peers.postgres {
        Some(programs) => Some(postgres(scratch, peers, programs, threads)?),
        None => None,
    };
    let agree = field.apart.is_empty() && postgres.as_ref().is_none_or(|postgres| postgres.get("agree") == Some(&json!(true)));
    let (jobs, ratios, text) = field.figures();
    let versions: Value = serde_json::from_str(&said(&mut peers.script("versions.py"))?)?;
    let figures = json!({
        "events": events, "rounds": rounds, "threads": threads, "jobs": jobs, "ratios_to_best": ratios, "apart": field.apart,
        "tally_by_threads": by_threads, "postgres_at_1m": postgres, "peers": versions,
    });
    let verdict =
        if agree { "all answers are equal, row by row".to_owned() } else { format!("ANSWERS DIFFER\n{}", field.apart.join("\n")) };
    let mut reported = begun.end(figures, &format!("{text}\n{verdict}\n"))?;
    if let Some(json) = reported.json.as_object_mut() {
        json.insert("engines".to_owned(), jobs.get(Job::Rate.name()).cloned().unwrap_or_default());
        json.insert("agree".to_owned(), agree.into());
    }
    Ok(reported)
}

/// What the engines did so far.
struct Field<'a> {
    peers: &'a Peers,
    scratch: &'a Path,
    input: &'a Path,
    runs: BTreeMap<(Job, String), Vec<Run>>,
    /// The first answer to each file of a job; all others must equal it.
    wanted: BTreeMap<&'static str, (String, RowsDigest)>,
    apart: Vec<String>,
}

/// What a run said of itself.
#[derive(Clone, Debug)]
struct Run {
    wall_s: f64,
    cpu_s: f64,
    peak_mb: u64,
    rows: u64,
    /// Bytes of the answers' files.
    bytes: u64,
    others: f64,
    stages: Value,
}

impl Field<'_> {
    /// One run with cold files, and its answers compared.
    fn measure(&mut self, engine: &str, job: Job, threads: usize, round: u32) -> anyhow::Result<()> {
        let output = self.scratch.join(engine);
        let mut run = self.run(engine, job, threads, &output)?;
        for (file, columns) in job.answers() {
            let digest = rows::digest(&output.join(file), columns)?;
            run.rows = digest.rows;
            run.bytes += rows::bytes(&output.join(file))?;
            let (first, wanted) = self.wanted.entry(file).or_insert_with(|| (engine.to_owned(), digest));
            if digest != *wanted {
                self.apart.push(format!("{}: {engine} says {}, {first} says {}", job.name(), digest.text(), wanted.text()));
            }
        }
        eprintln!("{} {engine} {round}: {:.3} s, {:.2} s of processors, {} MB", job.name(), run.wall_s, run.cpu_s, run.peak_mb);
        self.runs.entry((job, engine.to_owned())).or_default().push(run);
        Ok(())
    }

    fn run(&self, engine: &str, job: Job, threads: usize, output: &Path) -> anyhow::Result<Run> {
        std::fs::create_dir_all(output)?;
        let mut command = if engine == OURS {
            let mut command = Command::new(std::env::current_exe()?);
            command.arg("rate-job");
            command
        } else {
            self.peers.script(&format!("{engine}_rate.py"))
        };
        command.arg(job.name()).arg(self.input).arg(output).arg(threads.to_string());
        said(self.peers.script("cold.py").arg(self.input).arg(output))?;
        let (used, ours) = (machine::Used::now()?, machine::ended_children_time()?);
        let text = said(&mut command).with_context(|| format!("{engine} could not {}", job.name()))?;
        let (_, others) = used.since(machine::ended_children_time()?.saturating_sub(ours))?;
        Run::read(&text, others)
    }

    /// Ours again at 1, 2 and 4 threads: the same rows.
    fn by_threads(&mut self) -> anyhow::Result<Value> {
        let mut figures = serde_json::Map::new();
        for job in [Job::Rate, Job::Tiers] {
            for threads in [1, 2, 4] {
                let output = self.scratch.join("threads");
                let run = self.run(OURS, job, threads, &output)?;
                for (file, columns) in job.answers() {
                    let digest = rows::digest(&output.join(file), columns)?;
                    if self.wanted.get(file).is_none_or(|(_, wanted)| *wanted != digest) {
                        self.apart.push(format!("{}: {OURS} with {threads} threads says {}", job.name(), digest.text()));
                    }
                }
                figures
                    .insert(format!("{} {threads}", job.name()), json!({"wall_s": run.wall_s, "cpu_s": run.cpu_s, "peak_mb": run.peak_mb}));
                std::fs::remove_dir_all(&output)?;
            }
        }
        Ok(figures.into())
    }

    /// Medians by job and engine, with how ours compare with the best of the others; and their table.
    fn figures(&self) -> (Value, Value, String) {
        let (mut jobs, mut ratios) = (serde_json::Map::new(), serde_json::Map::new());
        let mut lines =
            vec![["job", "engine", "wall s", "CPU s", "peak MB", "rows", "output MB", "others %"].map(ToOwned::to_owned).to_vec()];
        let mut verdicts = String::new();
        for job in Job::ALL {
            let mut engines = serde_json::Map::new();
            for ((of, engine), runs) in &self.runs {
                if *of != job {
                    continue;
                }
                let Some(median) = Run::median(runs) else { continue };
                let mut line = vec![job.name().to_owned(), engine.clone()];
                line.extend([format!("{:.3}", median.wall_s), format!("{:.2}", median.cpu_s)]);
                line.extend([median.peak_mb, median.rows, median.bytes / 1_000_000].map(|count| count.to_string()));
                line.push(median.others.to_string());
                lines.push(line);
                engines.insert(engine.clone(), median.json());
            }
            let best = |key: &str| {
                let others = engines.iter().filter(|(engine, _)| *engine != OURS);
                others.filter_map(|(_, run)| run.get(key)?.as_f64()).min_by(f64::total_cmp)
            };
            let ratio = |key: &str| share(engines.get(OURS)?.get(key)?.as_f64()?, best(key)?);
            let (wall, cpu) = (ratio("wall_s"), ratio("cpu_s"));
            let shown = |ratio: Option<f64>| ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.3}"));
            verdicts.push_str(&format!("{}: {} × the best wall time, {} × the best CPU time\n", job.name(), shown(wall), shown(cpu)));
            ratios.insert(job.name().to_owned(), json!({"wall": wall, "cpu": cpu}));
            jobs.insert(job.name().to_owned(), engines.into());
        }
        (jobs.into(), ratios.into(), format!("{}\n{verdicts}", table(&lines)))
    }
}

impl Run {
    fn read(text: &str, others: f64) -> anyhow::Result<Self> {
        let said: Value =
            serde_json::from_str(text.trim().lines().last().unwrap_or_default()).with_context(|| format!("no figures in {text:?}"))?;
        let number = |key: &str| said.get(key).and_then(Value::as_f64).with_context(|| format!("{text:?} has no {key}"));
        let peak_mb = said.get("peak_mb").and_then(Value::as_u64).with_context(|| format!("{text:?} has no peak_mb"))?;
        let stages = said.get("stages").cloned().unwrap_or_default();
        Ok(Self { wall_s: number("wall_s")?, cpu_s: number("cpu_s")?, peak_mb, rows: 0, bytes: 0, others, stages })
    }

    /// The median of each figure alone, the largest of the peaks, the stages of the fastest run.
    fn median(runs: &[Self]) -> Option<Self> {
        let of = |figure: fn(&Self) -> f64| {
            let mut all: Vec<f64> = runs.iter().map(figure).collect();
            all.sort_by(f64::total_cmp);
            all.get(all.len() / 2).copied()
        };
        let fastest = runs.iter().min_by(|one, other| one.wall_s.total_cmp(&other.wall_s))?;
        let peak_mb = runs.iter().map(|run| run.peak_mb).max()?;
        let (wall_s, cpu_s, others) = (of(|run| run.wall_s)?, of(|run| run.cpu_s)?, of(|run| run.others)?);
        Some(Self { wall_s, cpu_s, peak_mb, others, ..fastest.clone() })
    }

    fn json(&self) -> Value {
        json!({
            "wall_s": self.wall_s, "cpu_s": self.cpu_s, "peak_mb": self.peak_mb, "rows": self.rows,
            "output_mb": self.bytes / 1_000_000, "processors_busy_with_others_percent": self.others, "stage_milliseconds": self.stages,
        })
    }
}

#[expect(clippy::float_arithmetic, reason = "a ratio of measured times")]
fn share(of: f64, to: f64) -> Option<f64> {
    (to > 0.0).then(|| (of / to * 1_000.0).round() / 1_000.0)
}

/// Rates 1,000,000 rows by PostgreSQL and by ours.
fn postgres(scratch: &Path, peers: &Peers, programs: &Path, threads: usize) -> anyhow::Result<Value> {
    let input = scratch.join("usage-1m");
    usage::write(&input, POSTGRES_EVENTS)?;
    let mut field = Field { peers, scratch, input: &input, runs: BTreeMap::new(), wanted: BTreeMap::new(), apart: Vec::new() };
    field.measure(OURS, Job::Rate, threads, 0)?;
    let output = scratch.join("postgres");
    std::fs::create_dir_all(&output)?;
    let text = said(peers.script("postgres_rate.py").arg(programs).arg(&input).arg(&output).arg(threads.to_string()))?;
    let mut run = Run::read(&text, 0.0)?;
    let mut agree = true;
    for (file, columns) in Job::Rate.answers() {
        let digest = rows::digest(&output.join(file), columns)?;
        run.rows = digest.rows;
        agree &= field.wanted.get(file).is_some_and(|(_, wanted)| *wanted == digest);
    }
    eprintln!("rate postgres at {POSTGRES_EVENTS}: {:.3} s, {}", run.wall_s, if agree { "equal" } else { "DIFFERS" });
    let ours = field.runs.into_values().flatten().next().context("ours was measured")?;
    Ok(json!({"agree": agree, "engines": {OURS: ours.json(), "postgres": run.json()}}))
}

/// The standard output of a program that must succeed.
fn said(command: &mut Command) -> anyhow::Result<String> {
    let output = command.output().with_context(|| format!("could not start {}", command.get_program().display()))?;
    if !output.status.success() {
        bail!("{:?} ended with {}:\n{}", command, output.status, String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8(output.stdout)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_two_and_four_threads_give_the_same_rows() {
        let scratch = tempfile::tempdir().unwrap();
        let input = scratch.path().join("usage");
        usage::write(&input, 20_000).unwrap();
        let mut wanted: BTreeMap<&str, RowsDigest> = BTreeMap::new();
        for threads in [1, 2, 4] {
            let output = scratch.path().join(threads.to_string());
            for job in Job::ALL {
                std::fs::create_dir_all(&output).unwrap();
                job::run(job, &input, &output, threads).unwrap();
                for (file, columns) in job.answers() {
                    let digest = rows::digest(&output.join(file), columns).unwrap();
                    assert_eq!(digest, *wanted.entry(file).or_insert(digest), "{file} with {threads} threads");
                }
            }
        }
        // One row in a hundred repeats another.
        assert_eq!(wanted["rated"].rows, 19_800);
    }
}
