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
    /// One event a second for a day, each a batch of its own, as fast as the machine goes: how many files are left, and how long a start takes.
    Trickle {
        /// Seconds of the trickle.
        #[arg(long, default_value_t = 86_400)]
        seconds: u64,
        /// Batches of the home whose start is measured before and after compaction.
        #[arg(long, default_value_t = 5_000)]
        batches: u64,
        /// A folder for the homes, for example on a memory disk.
        #[arg(long)]
        folder: Option<std::path::PathBuf>,
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
    match campaign {
        Campaign::Crash { engine: Engine::Sqlite, kills, seed } => {
            let tally = shell::build_tally(false)?;
            let mut test = shell::cargo()?;
            test.args(["test", "--package", "tests", "--", "--nocapture", "--exact", "crash::the_killed_process_counts_everything_once"]);
            test.env("TALLY_BIN", tally).env("TALLY_CRASH_KILLS", kills.to_string());
            if let Some(seed) = seed {
                test.env("TALLY_CRASH_SEED", seed.to_string());
            }
            shell::run(&mut test)
        }
        Campaign::Trickle { seconds, batches, folder } => {
            for name in ["a_trickle_of_an_event_a_second_leaves_few_files", "a_start_over_merged_files_comes_to_the_same_state"] {
                let mut test = shell::cargo()?;
                let name = format!("roles::compact::trickle::{name}");
                test.args(["test", "--workspace", "--bin", "tally", "--", "--nocapture", "--exact", &name]);
                test.env("TALLY_TRICKLE_SECONDS", seconds.to_string()).env("TALLY_TRICKLE_BATCHES", batches.to_string());
                if let Some(folder) = folder {
                    test.env("TALLY_TRICKLE_FOLDER", folder);
                }
                shell::run(&mut test)?;
            }
            Ok(())
        }
    }
}
