//! All tasks of the workspace: `cargo xtask demo`, `test`, `golden`, `generate`, `campaign`, `bench`. Two of them, demo and test, are all that a fresh
//! machine with Rust and Python needs.

mod bench;
mod campaign;
mod demo;
mod shell;
mod test;
mod tools;

use clap::{Parser, Subcommand};

/// Tasks of the Tallystick workspace.
#[derive(Parser)]
#[command(name = "cargo xtask", arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Build `tally`, run the whole path on generated usage in a fresh home, and let other programs verify what it made.
    Demo {
        /// Arguments of `tally demo`, for example `--events 100000`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Everything that must hold before a change lands: formatting, lints, tests on both engines, crashes, foreign programs, licences.
    Test {
        /// Only these parts; all of them by default.
        #[arg(value_enum)]
        parts: Vec<test::Part>,
    },
    /// Rate a file of golden cases (the schema of `rating/tests/golden/rating-cases.json`): passed, failed, deferred.
    Golden {
        /// The file.
        file: std::path::PathBuf,
    },
    /// Write what is generated from the code: `contracts/openapi/`.
    Generate,
    /// Long runs of what `test` runs in short form.
    #[command(subcommand)]
    Campaign(campaign::Campaign),
    /// Measure, and keep the result with its machine, load and versions.
    #[command(subcommand)]
    Bench(bench::Bench),
}

fn main() -> anyhow::Result<()> {
    match Cli::parse().task {
        Task::Demo { arguments } => demo::run(&arguments),
        Task::Test { parts } => test::run(&parts),
        Task::Golden { file } => golden(&file),
        Task::Generate => generate(),
        Task::Campaign(campaign) => campaign::run(&campaign),
        Task::Bench(bench) => bench::run(&bench),
    }
}

/// Runs the cases in a program of the rating package: xtask itself needs nothing of what they need.
fn golden(file: &std::path::Path) -> anyhow::Result<()> {
    // Cargo runs in the checkout, wherever the file was named.
    let file = std::path::absolute(file)?;
    shell::run(shell::cargo()?.args(["run", "--quiet", "--package", "platform-rating", "--example", "golden", "--"]).arg(file))
}

/// Writes the OpenAPI documents anew: a fragment that no domain has any more goes.
fn generate() -> anyhow::Result<()> {
    let tally = shell::build_tally(false)?;
    let contracts = shell::root()?.join("contracts/openapi");
    if contracts.exists() {
        std::fs::remove_dir_all(&contracts)?;
    }
    shell::run(std::process::Command::new(tally).arg("openapi").arg("--out").arg(contracts))
}
