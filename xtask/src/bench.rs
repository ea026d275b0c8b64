//! `cargo xtask bench`: benchmarks, with their results in `benches/results`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::{shell, tools};

/// A benchmark.
#[derive(Subcommand)]
pub enum Bench {
    /// Bundles of an invoice of many readings: made, and verified by stock DuckDB and by `tally-verify`.
    Bundle {
        /// Readings of each invoice.
        #[arg(long, default_value_t = 100_000)]
        readings: u64,
        /// Models of the long price list, with four prices each.
        #[arg(long, default_value_t = 2_500)]
        models: u64,
        /// Measured rounds.
        #[arg(long, default_value_t = 3)]
        rounds: u32,
        #[command(flatten)]
        how: How,
    },
    /// The commit of a batch of 1,000 events beside bare files and a bare SQLite transaction with equal syncs.
    Commit {
        /// Commit numbers at which it is measured, ascending.
        #[arg(long, value_delimiter = ',', default_values_t = [100, 100_000])]
        at: Vec<u64>,
        /// Measured rounds at each of them.
        #[arg(long, default_value_t = 100)]
        rounds: u32,
        #[command(flatten)]
        how: How,
    },
    /// A large registry: checking its TOML, comparing it, compiling it for intake and rating.
    Registry {
        /// SKUs of the list, with three prices each.
        #[arg(long, default_value_t = 3_000)]
        skus: usize,
        /// Contracts with a price book of their own.
        #[arg(long, default_value_t = 500)]
        contracts: usize,
        /// Measured rounds.
        #[arg(long, default_value_t = 30)]
        rounds: u32,
        #[command(flatten)]
        how: How,
    },
    /// `tally serve` from the wire to SQL: events per second, processor time, latency, profile.
    Path {
        /// Distinct events of the flood.
        #[arg(long, default_value_t = 100_000)]
        events: u64,
        #[command(flatten)]
        how: How,
    },
    /// The per-row kernels beside Polars, DuckDB and DataFusion, and PostgreSQL at 1,000,000 rows: the same files, jobs and answers.
    Rate {
        /// Rows of usage.
        #[arg(long, default_value_t = 10_000_000)]
        events: u64,
        /// Measured rounds, in which the engines take turns.
        #[arg(long, default_value_t = 3)]
        rounds: u32,
        /// Threads of each engine; as many as there are processors by default.
        #[arg(long)]
        threads: Option<usize>,
        #[command(flatten)]
        how: How,
    },
    /// Rating again at the record of a version beside the first rating: charges per second, memory, how long other usage waits.
    Rerate {
        /// Readings of each book, in each round.
        #[arg(long, default_value_t = 300_000)]
        readings: u64,
        /// Measured rounds.
        #[arg(long, default_value_t = 1)]
        rounds: u32,
        #[command(flatten)]
        how: How,
    },
}

/// What all share.
#[derive(Args)]
pub struct How {
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
    /// Seconds to wait, before each measurement, for other programs to leave the processors alone.
    #[arg(long, default_value_t = 0)]
    patience: u64,
    /// Build and measure in the release profile, whose result is kept beside the other.
    #[arg(long)]
    release: bool,
}

/// Builds what is measured and runs the benchmark.
pub fn run(bench: &Bench) -> anyhow::Result<()> {
    let (how, arguments) = match bench {
        Bench::Bundle { readings, models, rounds, how } => {
            let programs = [("--tally", tally(how)?), ("--verify", shell::build_verify()?), ("--python", tools::duckdb()?)];
            let figures = [("--readings", readings.to_string()), ("--models", models.to_string()), ("--rounds", rounds.to_string())];
            let programs = programs.into_iter().flat_map(|(name, path)| [name.to_owned(), path.display().to_string()]);
            let figures = figures.into_iter().flat_map(|(name, value)| [name.to_owned(), value]);
            (how, std::iter::once("bundle".to_owned()).chain(programs).chain(figures).collect())
        }
        Bench::Commit { at, rounds, how } => {
            let at: Vec<String> = at.iter().map(ToString::to_string).collect();
            (how, vec!["commit".to_owned(), "--at".to_owned(), at.join(","), "--rounds".to_owned(), rounds.to_string()])
        }
        Bench::Registry { skus, contracts, rounds, how } => {
            let figures = [("--skus", skus.to_string()), ("--contracts", contracts.to_string()), ("--rounds", rounds.to_string())];
            let figures = figures.into_iter().flat_map(|(name, value)| [name.to_owned(), value]);
            (how, std::iter::once("registry".to_owned()).chain(figures).collect())
        }
        Bench::Path { events, how } => {
            let tally = tally(how)?.display().to_string();
            (how, vec!["path".to_owned(), "--events".to_owned(), events.to_string(), "--tally".to_owned(), tally])
        }
        Bench::Rate { events, rounds, threads, how } => {
            let python = tools::engines()?;
            let postgres = tools::postgres(&python)?;
            let mut arguments =
                vec!["rate".to_owned(), "--events".to_owned(), events.to_string(), "--rounds".to_owned(), rounds.to_string()];
            arguments.extend(threads.iter().flat_map(|threads| ["--threads".to_owned(), threads.to_string()]));
            arguments.extend([
                "--python".to_owned(),
                python.display().to_string(),
                "--postgres".to_owned(),
                postgres.display().to_string(),
            ]);
            (how, arguments)
        }
        Bench::Rerate { readings, rounds, how } => {
            let figures =
                [("--readings", readings.to_string()), ("--rounds", rounds.to_string()), ("--tally", tally(how)?.display().to_string())];
            let figures = figures.into_iter().flat_map(|(name, value)| [name.to_owned(), value]);
            (how, std::iter::once("rerate".to_owned()).chain(figures).collect())
        }
    };
    let mut run = shell::cargo()?;
    run.args(["run", "--quiet", "--package", "benches"]);
    if how.release {
        run.arg("--release");
    }
    run.arg("--").args(arguments).args(["--profile", if how.release { "release" } else { "dev" }]);
    run.arg("--results").arg(shell::root()?.join("benches/results")).arg("--scratch").arg(shell::target_folder()?.join("bench"));
    run.arg("--patience").arg(how.patience.to_string());
    if how.json {
        run.arg("--json");
    }
    shell::run(&mut run)
}

/// The `tally` that is measured.
fn tally(how: &How) -> anyhow::Result<PathBuf> {
    if let Some(binary) = std::env::var_os("TALLY_BIN") {
        return Ok(PathBuf::from(binary));
    }
    if !how.release {
        return shell::build_tally(false);
    }
    shell::run(shell::cargo()?.args(["build", "--package", "server", "--release"]))?;
    Ok(shell::target_folder()?.join("release/tally"))
}
