//! `tally evidence bundle | export | key`: what others verify without us.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Subcommand;
use platform_billing::StoredInvoice;
use platform_evidence::bundle::{Bundle, BundleKey, Issue, Sealed};
use platform_evidence::{SaltKey, Signer};
use serde_json::json;
use shared_db::Database;
use shared_types::{Digest, Month};

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

/// A bundle that was written.
pub(super) struct Made {
    /// The number on the invoice.
    pub number: String,
    /// Digest of the invoice's content.
    pub digest: Digest,
    /// Readings that it is re-rated from.
    pub readings: usize,
    /// Files in the folder.
    pub files: usize,
    /// Their size together.
    pub bytes: usize,
    /// What its customer pins.
    pub log_key: String,
}

/// Writes the bundle of an issued invoice.
pub(super) async fn make(home: &Home, name: &str, out: &Path) -> anyhow::Result<Made> {
    let SealedBundle { sealed, issue, readings, log_key } = seal(home, name).await?;
    bundles::write(&sealed, out)?;
    let bytes = sealed.files().map(|(_, file)| file.bytes.len()).sum();
    Ok(Made { number: issue.number, digest: issue.digest, readings, files: sealed.files().len(), bytes, log_key })
}

/// A bundle in memory.
pub struct SealedBundle {
    /// Its files.
    pub sealed: Bundle<Sealed>,
    /// The issue of its invoice.
    pub issue: Issue,
    /// Readings that it is re-rated from.
    pub readings: usize,
    /// What its customer pins.
    pub log_key: String,
}

/// Makes the bundle of an issued invoice.
pub async fn seal(home: &Home, name: &str) -> anyhow::Result<SealedBundle> {
    let secrets = home.secrets()?;
    let signer = Signer::new(&home.settings.evidence.origin, &secrets.log)?;
    let key = BundleKey::new(&home.settings.evidence.origin, &secrets.bundle)?;
    let salts = SaltKey::from_bytes(&secrets.salt);
    let log = home.database_read_only(Store::Log).await?;
    let books = home.database_read_only(Store::Books).await?;
    let evidence = home.database_read_only(Store::Evidence).await?;
    let issued = issued(&books, name).await?;
    let issue = issued.issue.clone();
    let lake = Lake::open(home, &log).await?;
    let sources = bundles::Sources { log: &log, books: &books, evidence: &evidence, lake: &lake, salts: &salts };
    let input = bundles::gather(&sources, issued).await?;
    let readings = input.logs.iter().map(|log| log.readings.len()).sum();
    let sealed = Bundle::of(&input)?.seal(&key, &signer)?;
    Ok(SealedBundle { sealed, issue, readings, log_key: signer.key().to_string() })
}

async fn bundle(home: &Home, name: &str, out: &Path, format: Format) -> anyhow::Result<Outcome> {
    let made = make(home, name, out).await?;
    match format {
        Format::Json => println!(
            "{}",
            json!({"number": made.number, "digest": made.digest, "readings": made.readings, "bytes": made.bytes, "folder": out,
                "log_key": made.log_key})
        ),
        _ => println!(
            "{}: {} readings in {} files of {} bytes written to {}\nhow it is checked without us: {}\nor with: tally-verify {} --log-key '{}'",
            made.number,
            made.readings,
            made.files,
            made.bytes,
            out.display(),
            out.join("VERIFY.md").display(),
            out.display(),
            made.log_key
        ),
    }
    Ok(Outcome::Done)
}

/// An issued invoice with its ledger entry, and the versions by which the organization's earlier invoices were rounded.
async fn issued(books: &Database, name: &str) -> anyhow::Result<bundles::Issued> {
    let mut tx = books.read().await?;
    let StoredInvoice { invoice, issue } = super::invoice::find(&mut tx, name).await?;
    let id = &invoice.invoice_id;
    let issue = issue.ok_or_else(|| Refused(format!("invoice {id} is a draft: a bundle proves an issued invoice")))?;
    let entry = match issue.entry_no {
        None => None,
        Some(number) => {
            let entry = platform_ledger::entry_numbered(&mut tx, number).await?;
            Some((number, entry.with_context(|| format!("ledger entry {number} of invoice {id} is not there"))?.digest))
        }
    };
    let mut earlier_versions = Vec::new();
    for close in platform_billing::closes(&mut tx).await?.iter().filter(|close| close.period < invoice.period) {
        let earlier = platform_billing::invoices_in(&mut tx, &invoice.organization, close.period).await?;
        earlier_versions.extend(earlier.into_iter().map(|stored| stored.invoice.registry_version));
    }
    let content = invoice.canonical();
    Ok(bundles::Issued {
        issue: Issue {
            digest: Digest::of(content.as_bytes()),
            number: issue.shown(),
            issuer: issue.issuer.clone(),
            entry,
            issued_at: issue.issued_at,
        },
        earlier_versions,
        content,
    })
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
