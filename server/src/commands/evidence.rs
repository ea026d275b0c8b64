//! `tally evidence bundle | export | key`: what others verify without us.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Subcommand;
use platform_evidence::Signer;
use serde_json::json;
use shared_types::Month;

use super::Refused;
use crate::home::{Home, Store};
use crate::lake::Lake;
use crate::{Common, Format, Outcome, bundles, exports};

/// What of the evidence.
#[derive(Subcommand)]
pub enum EvidenceCommand {
    /// Write an issued invoice with everything that proves it, as a signed folder for its customer.
    Bundle {
        /// The invoice: its id, or its number, for example TALLY-000042.
        #[arg(long)]
        invoice: String,
        /// An empty or new folder.
        #[arg(long)]
        out: PathBuf,
    },
    /// Write everything that was booked in a month, for the second opinion: `tally-verify --home-export`.
    Export {
        /// The accounting period, for example 2026-10.
        #[arg(long)]
        period: String,
        /// An empty or new folder.
        #[arg(long)]
        out: PathBuf,
    },
    /// Print the log's verifier key: what customers and auditors pin.
    Key,
}

/// Runs a command; each only reads the home.
pub async fn run(command: EvidenceCommand, common: &Common) -> anyhow::Result<Outcome> {
    let home = Home::open(&common.home)?;
    match command {
        EvidenceCommand::Bundle { invoice, out } => bundle(&home, &invoice, &out, common.format).await,
        EvidenceCommand::Export { period, out } => export(&home, &period, &out, common.format).await,
        EvidenceCommand::Key => key(&home, common.format),
    }
}

async fn bundle(home: &Home, name: &str, out: &Path, format: Format) -> anyhow::Result<Outcome> {
    let made = bundles::seal(home, name).await?;
    bundles::write(&made.sealed, out)?;
    match format {
        Format::Json => println!(
            "{}",
            json!({"number": made.issue.number, "digest": made.issue.digest, "readings": made.readings, "bytes": made.bytes(), "folder": out,
                "log_key": made.log_key})
        ),
        _ => println!(
            "{}: {} readings in {} files of {} bytes written to {}\nhow it is checked without us: {}\nor with: tally-verify {} --log-key '{}'",
            made.issue.number,
            made.readings,
            made.sealed.files().len(),
            made.bytes(),
            out.display(),
            out.join("VERIFY.md").display(),
            out.display(),
            made.log_key
        ),
    }
    Ok(Outcome::Done)
}

async fn export(home: &Home, period: &str, out: &Path, format: Format) -> anyhow::Result<Outcome> {
    let month = period.replace('-', "").parse::<i32>().ok().and_then(|number| Month::from_number(number).ok());
    let month = month.ok_or_else(|| Refused(format!("--period {period}: is no month, for example 2026-10")))?;
    let log = home.database_read_only(Store::Log).await?;
    let books = home.database_read_only(Store::Books).await?;
    let exported = exports::export(&log, &books, &Lake::open(home, &log).await?, month, out).await?;
    match format {
        Format::Json => println!(
            "{}",
            json!({"period": month, "keys": exported.keys, "readings": exported.readings, "export": exported.digest, "folder": out})
        ),
        _ => println!(
            "{month}: {} keys and {} readings written to {}\nre-rate them with: tally-verify --home-export {} {month}",
            exported.keys,
            exported.readings,
            out.display(),
            out.display()
        ),
    }
    Ok(Outcome::Done)
}

fn key(home: &Home, format: Format) -> anyhow::Result<Outcome> {
    let signer = Signer::new(&home.settings.evidence.origin, &home.secrets()?.log).context("the log's key cannot be used")?;
    match format {
        Format::Json => println!("{}", json!({"log_key": signer.key().to_string()})),
        _ => println!("{}", signer.key()),
    }
    Ok(Outcome::Done)
}
