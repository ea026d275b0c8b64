//! `cargo xtask campaign`: long runs.

use clap::{Subcommand, ValueEnum};

use crate::shell;

/// A long run.
#[derive(Subcommand)]
pub enum Campaign {
    /// Kill the real process again and again while it ingests; nothing acknowledged may be lost, nothing counted twice.
    Crash {
        /// The database engine that the process runs on.
        #[arg(long, value_enum, default_value_t = Engine::Sqlite)]
        engine: Engine,
        /// How many kills.
        #[arg(long, default_value_t = 10_000)]
        kills: u32,
        /// Seed of the schedule; another one each time by default.
        #[arg(long)]
        seed: Option<u64>,
    },
}

/// A database engine that `tally serve` can run on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Engine {
    /// SQLite files in the home. Serving on PostgreSQL comes later.
    Sqlite,
}

/// Runs a campaign and closes with its counts.
pub fn run(campaign: &Campaign) -> anyhow::Result<()> {
    let Campaign::Crash { engine: Engine::Sqlite, kills, seed } = campaign;
    let tally = shell::build_tally(false)?;
    let mut test = shell::cargo()?;
    test.args(["test", "--package", "tests", "--", "--nocapture", "--exact", "crash::the_killed_process_counts_everything_once"]);
    test.env("TALLY_BIN", tally).env("TALLY_CRASH_KILLS", kills.to_string());
    if let Some(seed) = seed {
        test.env("TALLY_CRASH_SEED", seed.to_string());
    }
    shell::run(&mut test)
}
