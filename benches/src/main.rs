//! `benches bundle`, `benches commit`, `benches path`, `benches rate`, `benches registry`, `benches rerate`: run by `cargo xtask bench`, which builds or installs first what they measure.

use std::path::PathBuf;
use std::time::Duration;

use benches::machine::Profile;
use benches::rate::{Job, Peers};
use benches::result::Reported;
use benches::{bundle, commit, path, rate, registry, rerate};
use clap::{Args, Parser, Subcommand};

/// Benchmarks of the Tallystick workspace.
#[derive(Parser)]
#[command(arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    bench: Bench,
}

#[derive(Args)]
struct Output {
    /// Print the result as one JSON document.
    #[arg(long)]
    json: bool,
    /// How this program and `tally` were built.
    #[arg(long, value_enum)]
    profile: Profile,
    /// Seconds to wait, before each measurement, for other programs to leave the processors alone.
    #[arg(long, default_value_t = 0)]
    patience: u64,
    /// Where result files lie.
    #[arg(long)]
    results: PathBuf,
    /// Where the bench works; its disk is what is measured.
    #[arg(long)]
    scratch: PathBuf,
}

#[derive(Subcommand)]
enum Bench {
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
        /// The binary.
        #[arg(long)]
        tally: PathBuf,
        /// The verifier's binary.
        #[arg(long)]
        verify: PathBuf,
        /// A Python that has stock DuckDB.
        #[arg(long)]
        python: PathBuf,
        #[command(flatten)]
        output: Output,
    },
    /// The commit of a batch of 1,000 events beside bare files and a bare transaction with equal syncs.
    Commit {
        /// Commit numbers at which it is measured, ascending.
        #[arg(long, value_delimiter = ',', default_values_t = [100, 100_000])]
        at: Vec<u64>,
        /// Measured rounds at each of them.
        #[arg(long, default_value_t = 100)]
        rounds: u32,
        #[command(flatten)]
        output: Output,
    },
    /// `tally serve` from the wire to SQL.
    Path {
        /// Distinct events of the flood.
        #[arg(long, default_value_t = 100_000)]
        events: u64,
        /// The binary.
        #[arg(long)]
        tally: PathBuf,
        #[command(flatten)]
        output: Output,
    },
    /// The per-row kernels beside other engines: the same files, jobs and answers.
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
        /// A Python that has the engines of `benches/peers/requirements.txt`.
        #[arg(long)]
        python: PathBuf,
        /// The folder of PostgreSQL's programs; without it PostgreSQL takes no part.
        #[arg(long)]
        postgres: Option<PathBuf>,
        /// The engines beside ours; all of them by default.
        #[arg(long, value_delimiter = ',')]
        engines: Option<Vec<String>>,
        #[command(flatten)]
        output: Output,
    },
    /// One job of `rate` by our kernels, in this process: what `rate` starts and measures.
    RateJob {
        /// The job.
        #[arg(value_enum)]
        job: Job,
        /// Where the usage lies.
        input: PathBuf,
        /// Where to write.
        output: PathBuf,
        /// Threads.
        threads: usize,
    },
    /// A large registry: checking, comparing, compiling.
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
        output: Output,
    },
    /// Rating again beside rating once.
    Rerate {
        /// Readings of each book, in each round.
        #[arg(long, default_value_t = 300_000)]
        readings: u64,
        /// Measured rounds.
        #[arg(long, default_value_t = 1)]
        rounds: u32,
        /// The binary.
        #[arg(long)]
        tally: PathBuf,
        #[command(flatten)]
        output: Output,
    },
}

fn main() -> anyhow::Result<()> {
    let (output, reported) = match Cli::parse().bench {
        Bench::Bundle { readings, models, rounds, tally, verify, python, output } => {
            let scratch = output.scratch()?;
            let programs = bundle::Programs { tally, verify, python };
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let measured = bundle::run(scratch.path(), output.profile, output.patience(), &programs, readings, models, rounds);
            let reported = runtime.block_on(measured)?;
            (output, reported)
        }
        Bench::Commit { at, rounds, output } => {
            let scratch = output.scratch()?;
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let reported = runtime.block_on(commit::run(scratch.path(), output.profile, output.patience(), &at, rounds))?;
            (output, reported)
        }
        Bench::Path { events, tally, output } => {
            let scratch = output.scratch()?;
            let reported = path::run(scratch.path(), output.profile, output.patience(), &tally, events)?;
            (output, reported)
        }
        Bench::Rate { events, rounds, threads, python, postgres, engines, output } => {
            let scratch = output.scratch()?;
            let threads = threads.map_or_else(|| std::thread::available_parallelism().map(std::num::NonZero::get), Ok)?;
            let peers = Peers::new(python, postgres, engines)?;
            let reported = rate::run(scratch.path(), output.profile, output.patience(), &peers, events, rounds, threads)?;
            (output, reported)
        }
        Bench::Registry { skus, contracts, rounds, output } => {
            let scratch = output.scratch()?;
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let measured = registry::run(scratch.path(), output.profile, output.patience(), skus, contracts, rounds);
            let reported = runtime.block_on(measured)?;
            (output, reported)
        }
        Bench::Rerate { readings, rounds, tally, output } => {
            let scratch = output.scratch()?;
            let reported = rerate::run(scratch.path(), output.profile, output.patience(), &tally, readings, rounds)?;
            (output, reported)
        }
        Bench::RateJob { job, input, output, threads } => {
            println!("{}", rate::job::run(job, &input, &output, threads)?);
            return Ok(());
        }
    };
    output.keep(&reported)?;
    anyhow::ensure!(reported.json.get("agree") != Some(&serde_json::Value::Bool(false)), "the engines do not agree");
    Ok(())
}

impl Output {
    fn scratch(&self) -> anyhow::Result<tempfile::TempDir> {
        std::fs::create_dir_all(&self.scratch)?;
        Ok(tempfile::tempdir_in(&self.scratch)?)
    }

    fn patience(&self) -> Duration {
        Duration::from_secs(self.patience)
    }

    fn keep(&self, reported: &Reported) -> anyhow::Result<()> {
        let file = reported.keep(&self.results)?;
        if self.json {
            println!("{}", reported.json_text()?);
        } else {
            println!("{}", reported.table);
            println!("kept in {}", file.display());
        }
        Ok(())
    }
}
