//! Runs a file of golden cases and ends with how many passed, failed and wait for the ledger: `cargo xtask golden FILE`.

#[path = "../tests/golden/runner.rs"]
mod runner;

use std::process::ExitCode;

use anyhow::Context as _;

fn main() -> anyhow::Result<ExitCode> {
    let file = std::env::args().nth(1).context("name the file of cases")?;
    let text = std::fs::read_to_string(&file).with_context(|| format!("could not read {file}"))?;
    let report = runner::run(&text, 1)?;
    for (id, model) in &report.deferred {
        println!("deferred {id}: {model}");
    }
    for (id, why) in &report.failed {
        println!("failed {id}: {why}");
    }
    println!("passed {}, failed {}, deferred {}", report.passed.len(), report.failed.len(), report.deferred.len());
    Ok(if report.failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
