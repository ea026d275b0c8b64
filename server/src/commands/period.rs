//! `tally period list|opinion`: closed months, and what the second engine said of them.

use std::path::PathBuf;

use anyhow::Context;
use clap::Subcommand;
use platform_billing::Close;
use platform_iam::{Action, Permit};
use serde::Deserialize;
use serde_json::{Value, json};
use shared_db::Database;
use shared_types::Month;

use super::Refused;
use super::owner::{Method, OwnerClient};
use crate::clock::now;
use crate::home::{Home, Store};
use crate::roles::{OnFailure, Running};
use crate::{Common, Format, Outcome, access};

/// What of closed months.
#[derive(Subcommand)]
pub enum PeriodCommand {
    /// List closed months and where each stands.
    List,
    /// Record what a second engine said of a month: until it agrees, the month is provisional. `tally-verify --home-export` gives one.
    Opinion {
        /// The month, for example 2026-10.
        #[arg(value_parser = Month::parse)]
        month: Month,
        /// Its verdict, a JSON object with at least `"period":"2026-10"` and `"agrees":true` or `false`; all of it is kept.
        report: PathBuf,
    },
}

/// The part of a verdict that is read; all of it is kept.
#[derive(Deserialize)]
struct Verdict {
    period: String,
    agrees: bool,
}

/// Longest verdict that is kept.
const REPORT_BYTES: usize = 1 << 20;

/// Runs a period command.
pub async fn run(command: PeriodCommand, common: &Common) -> anyhow::Result<Outcome> {
    let home = Home::open(&common.home)?;
    match command {
        PeriodCommand::List => {}
        PeriodCommand::Opinion { month, report } => {
            let text = std::fs::read_to_string(&report).with_context(|| format!("could not read {}", report.display()))?;
            agreement(month, &text).map_err(Refused)?;
            match OwnerClient::of(&home)? {
                Some(owner) => {
                    let body = serde_json::from_str::<Value>(&text)?;
                    owner.ask(Method::Post(body), &format!("/v1/periods/{month}/opinion")).await?;
                }
                None => {
                    // The roles run, so that what waits for the opinion is issued.
                    let running = Running::start(&home, OnFailure::End).await?;
                    let books = home.database(Store::Books).await?;
                    record(&books, &access::local(Action::OpinionRecord)?, month, &text).await?;
                    running.closer().look_again();
                    running.drain().await?;
                }
            }
        }
    }
    let closes = platform_billing::closes(&mut home.database_read_only(Store::Books).await?.read().await?).await?;
    match common.format {
        Format::Json => println!("{}", json!(closes.iter().map(view).collect::<Vec<_>>())),
        _ if closes.is_empty() => println!("no month is closed yet; `tally close MONTH` closes one"),
        _ => closes.iter().for_each(|close| println!("{}  {}", close.period, sentence(close))),
    }
    Ok(Outcome::Done)
}

/// Whether a verdict on the month agrees.
pub fn agreement(month: Month, report: &str) -> Result<bool, String> {
    if report.len() > REPORT_BYTES {
        return Err(format!("the verdict has {} bytes, more than {REPORT_BYTES}", report.len()));
    }
    let verdict: Verdict = serde_json::from_str(report).map_err(|error| format!("the verdict does not read: {error}"))?;
    if Month::parse(&verdict.period) != Ok(month) {
        return Err(format!("the verdict is about {:?}, not about {month}", verdict.period));
    }
    Ok(verdict.agrees)
}

/// Records a verdict with its audit record.
pub async fn record(books: &Database, permit: &Permit, month: Month, report: &str) -> anyhow::Result<()> {
    anyhow::ensure!(permit.covers(Action::OpinionRecord, None), "a permit to {} does not cover recording an opinion", permit.action());
    let agrees = agreement(month, report).map_err(Refused)?;
    let at = now();
    let mut tx = books.begin().await?;
    platform_billing::record_opinion(&mut tx, month, agrees, report, at).await?;
    let detail = std::collections::BTreeMap::from([("agrees".to_owned(), agrees.to_string())]);
    platform_audit::record(&mut tx, &permit.record(None, &month.to_string(), detail, at)).await?;
    tx.commit().await?;
    Ok(())
}

/// A closed month for scripts.
pub fn view(close: &Close) -> Value {
    json!({
        "period": close.period.to_string(),
        "stage": close.stage(),
        "provisional": close.provisional(),
        "invoices": close.drafted,
        "issued": close.issued,
        "registry_version": close.registry_version,
    })
}

/// A closed month for people.
pub fn sentence(close: &Close) -> String {
    let invoices = match close.drafted {
        None => "invoices are being drafted".to_owned(),
        Some(drafted) => format!("{drafted} invoices, {} of them issued", close.issued),
    };
    let opinion = match close.opinion {
        None => "provisional: the second engine was not asked yet",
        Some(false) => "provisional: the second engine disagrees",
        Some(true) => "the second engine agrees",
    };
    format!("{invoices}; {opinion}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_is_about_its_month_and_says_whether_it_agrees() {
        let october = Month::parse("2026-10").unwrap();
        assert_eq!(agreement(october, r#"{"period":"202610","agrees":true,"keys":"7"}"#), Ok(true));
        assert_eq!(agreement(october, r#"{"period":"2026-10","agrees":false}"#), Ok(false));
        for (report, why) in
            [(r#"{"period":"202609","agrees":true}"#, "202609"), (r#"{"period":"202610"}"#, "agrees"), ("yes", "does not read")]
        {
            assert!(agreement(october, report).unwrap_err().contains(why), "{report}");
        }
    }
}
