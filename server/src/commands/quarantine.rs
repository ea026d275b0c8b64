//! `tally quarantine list|show`: what could not be counted, and why.

use std::io::Write as _;

use clap::Subcommand;
use platform_catalog::{AsOf, Scope};
use platform_query::{Limits, render};

use super::Refused;
use crate::home::Home;
use crate::{Common, Outcome};

/// What of the quarantine.
#[derive(Subcommand)]
pub enum QuarantineCommand {
    /// One line for each quarantined event or reading, newest first.
    List {
        /// Only this reason, for example `unpriced`.
        #[arg(long)]
        reason: Option<String>,
        /// Lines at most.
        #[arg(long, default_value_t = 100)]
        limit: u32,
    },
    /// Everything about one position, with what the source sent.
    Show {
        /// `shard/incarnation/sequence`, as `list` prints it.
        position: String,
    },
}

/// Answers from `usage.quarantine`.
pub async fn run(command: QuarantineCommand, common: &Common) -> anyhow::Result<Outcome> {
    let home = Home::open(&common.home)?;
    let sql = match command {
        QuarantineCommand::List { reason, limit } => {
            let condition = match reason {
                None => String::new(),
                Some(reason) => {
                    let known = platform_usage::Reason::from_code(&reason).ok_or_else(|| {
                        let all: Vec<&str> = platform_usage::Reason::ALL.iter().map(|reason| reason.code()).collect();
                        Refused(format!("--reason {reason}: is none of {}", all.join(", ")))
                    })?;
                    format!("WHERE reason = '{}'", known.code())
                }
            };
            format!(
                "SELECT concat(shard, '/', incarnation, '/', sequence) AS position, ordinal, reason, organization, source, event_id, \
                 meter, detail, accepted_at FROM usage.quarantine {condition} \
                 ORDER BY accepted_at DESC, shard, sequence, ordinal LIMIT {limit}"
            )
        }
        QuarantineCommand::Show { position } => {
            let parts: Option<Vec<u64>> = position.split('/').map(|part| part.parse().ok()).collect();
            let Some([shard, incarnation, sequence]) = parts.as_deref() else {
                return Err(Refused(format!("{position:?} is not shard/incarnation/sequence, for example 17/1/42")).into());
            };
            format!(
                "SELECT * FROM usage.quarantine WHERE shard = {shard} AND incarnation = {incarnation} AND sequence = {sequence} \
                 ORDER BY ordinal"
            )
        }
    };
    let engine = super::sql::engine(&home).await?;
    let answer = engine.query(&sql, &Scope::Operator, AsOf(None), Limits::default()).await?;
    std::io::stdout().write_all(&render(&answer, super::sql::output(common.format))?)?;
    Ok(Outcome::Done)
}
