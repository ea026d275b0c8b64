//! `tally-verify`: re-rates an invoice from its bundle and compares. It shares no code with the program that made it: other engine
//! (Polars), other arithmetic (big rationals), formats read as their pages say.
//!
//! Exit status: 0 everything holds, 1 something does not, 2 it could not be judged.

mod billable;
mod bundle;
mod documents;
mod export;
mod finding;
mod measure;
mod model;
mod money;
mod note;
mod price;
mod registry;
mod table;
mod terms;
mod time;
mod tree;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Parser, ValueEnum};
use serde_json::json;

use crate::bundle::{Cover, Outside, Verdict};
use crate::finding::Finding;
use crate::note::Key;

/// Checks a bundle: files, signatures, trees, prices, every line. Or re-rates a whole month.
#[derive(Debug, Parser)]
#[command(name = "tally-verify", version)]
struct Cli {
    /// The bundle's folder.
    #[arg(required_unless_present = "home_export")]
    folder: Option<PathBuf>,
    /// Instead of a bundle: an export of a whole month (`tally evidence export`), and the month, 2026-10. Prints the verdict as JSON.
    #[arg(long, num_args = 2, value_names = ["DIR", "MONTH"], conflicts_with_all = ["folder", "log_key", "checkpoint", "log", "previous"])]
    home_export: Option<Vec<String>>,
    /// The log's verifier key, from elsewhere: `name+id+key`. Without it the key that the bundle states is taken.
    #[arg(long)]
    log_key: Option<String>,
    /// A checkpoint of the same log that was kept: shows whether the log was rewritten or an old state is shown.
    #[arg(long)]
    checkpoint: Option<PathBuf>,
    /// A copy of the log's files (c2sp.org/tlog-tiles); needed when the kept checkpoint is older than the bundle's.
    #[arg(long)]
    log: Option<PathBuf>,
    /// A folder with an earlier invoice of the same organization (its bundle); repeat it for all of them, of every currency: shows whether
    /// something is charged again.
    #[arg(long, value_name = "DIR")]
    previous: Vec<PathBuf>,
    /// How to answer.
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    /// For people: the first difference.
    Text,
    /// For programs: all differences.
    Json,
}

fn main() -> ExitCode {
    // Decoders panic on damaged pages; that is told as a finding, without a trace.
    std::panic::set_hook(Box::new(|_| {}));
    let cli = Cli::parse();
    match run(&cli) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("tally-verify: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn run(cli: &Cli) -> anyhow::Result<bool> {
    if let Some([folder, month]) = cli.home_export.as_deref() {
        let verdict = export::verify(std::path::Path::new(folder), month)?;
        println!("{}", verdict.json());
        return Ok(verdict.findings.is_empty());
    }
    let folder = cli.folder.as_deref().context("the bundle's folder is missing")?;
    let checkpoint =
        cli.checkpoint.as_ref().map(|path| std::fs::read_to_string(path).with_context(|| format!("could not read {}", path.display())));
    let outside = Outside {
        log_key: cli.log_key.as_deref().map(Key::parse).transpose()?,
        checkpoint: checkpoint.transpose()?,
        log: cli.log.clone(),
        previous: cli.previous.clone(),
    };
    let verdict = bundle::verify(folder, &outside)?;
    match cli.format {
        Format::Text => text(&verdict),
        Format::Json => println!(
            "{}",
            json!({
                "holds": verdict.findings.is_empty(), "invoice": verdict.invoice, "readings": verdict.readings, "lines": verdict.lines,
                "logs": verdict.covers.iter().map(Cover::json).collect::<Vec<_>>(), "unjudged": verdict.unjudged, "differences": verdict.findings.iter().map(Finding::json).collect::<Vec<_>>(),
            })
        ),
    }
    Ok(verdict.findings.is_empty())
}

fn text(verdict: &Verdict) {
    match verdict.findings.split_first() {
        None => println!("holds: invoice {}, {} lines re-rated from {} readings", verdict.invoice, verdict.lines, verdict.readings),
        Some((first, others)) => {
            println!("does not hold\n{first}");
            if !others.is_empty() {
                println!("and {} more; --format json shows them", others.len());
            }
        }
    }
    for cover in verdict.covers.iter().filter(|cover| cover.range.is_none_or(|(_, to)| to < cover.size)) {
        println!("{cover}");
    }
    for what in &verdict.unjudged {
        println!("not judged: {what}");
    }
}
