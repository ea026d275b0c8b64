//! `tally check`: conservation, chains, and that every fold equals the log. Exit 1 and the offending rows otherwise.

use serde_json::json;

use crate::check;
use crate::home::Home;
use crate::read_models::Readers;
use crate::{Common, Format, Outcome};

/// Checks everything.
pub async fn run(common: &Common) -> anyhow::Result<Outcome> {
    let home = Home::open(&common.home)?;
    let bar = super::ingest::spinner("checking");
    let report = check::everything(&Readers::open(&home).await?).await?;
    bar.finish_and_clear();
    match common.format {
        Format::Json => {
            let rows: Vec<_> = report
                .violations
                .iter()
                .map(|violation| json!({"check": violation.check, "subject": violation.subject, "detail": violation.detail}))
                .collect();
            let unread: Vec<u64> = report.unread.iter().map(|batch_no| batch_no.0).collect();
            println!(
                "{}",
                json!({"batches": report.batches, "events": report.events, "charges": report.charges, "violations": rows, "unread": unread})
            );
        }
        _ => {
            for violation in &report.violations {
                println!("{}: {}: {}", violation.check, violation.subject, violation.detail);
            }
            for batch_no in &report.unread {
                println!("batch {batch_no} does not read: what follows from it was not compared");
            }
            println!(
                "{} batches, {} stream positions, {} readings checked: {}",
                report.batches,
                report.events,
                report.charges,
                match report.violations.len() {
                    0 => "everything adds up".to_owned(),
                    1 => "1 violation".to_owned(),
                    many => format!("{many} violations"),
                }
            );
        }
    }
    Ok(if report.violations.is_empty() { Outcome::Done } else { Outcome::Found })
}
