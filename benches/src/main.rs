//! `benches commit`, `benches path`, `benches registry`: run by `cargo xtask bench`, which builds `tally` first.

use std::path::PathBuf;
use std::time::Duration;

use benches::machine::Profile;
use benches::result::Reported;
use benches::{commit, path, registry};
use clap::{Args, Parser, Subcommand};

/// Benchmarks of the Tallystick workspace.
#[derive(Parser)]
#[command(arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    bench: Bench,
    #[command(flatten)]
    output: Output,
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
    /// The commit of a batch of 1,000 events beside bare files and a bare transaction with equal syncs.
    Commit {
        /// Commit numbers at which it is measured, ascending.
        #[arg(long, value_delimiter = ',', default_values_t = [100, 100_000])]
        at: Vec<u64>,
        /// Measured rounds at each of them.
        #[arg(long, default_value_t = 100)]
        rounds: u32,
    },
    /// `tally serve` from the wire to SQL.
    Path {
        /// Distinct events of the flood.
        #[arg(long, default_value_t = 100_000)]
        events: u64,
        /// The binary.
        #[arg(long)]
        tally: PathBuf,
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
    },
}

fn main() -> anyhow::Result<()> {
    let Cli { bench, output } = Cli::parse();
    std::fs::create_dir_all(&output.scratch)?;
    let scratch = tempfile::tempdir_in(&output.scratch)?;
    let patience = Duration::from_secs(output.patience);
    let reported: Reported = match bench {
        Bench::Registry { skus, contracts, rounds } => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(registry::run(scratch.path(), output.profile, patience, skus, contracts, rounds))?
        }
        Bench::Commit { at, rounds } => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(commit::run(scratch.path(), output.profile, patience, &at, rounds))?
        }
        Bench::Path { events, tally } => path::run(scratch.path(), output.profile, patience, &tally, events)?,
    };
    let file = reported.keep(&output.results)?;
    if output.json {
        println!("{}", reported.json_text()?);
    } else {
        println!("{}", reported.table);
        println!("kept in {}", file.display());
    }
    Ok(())
}
