//! `tally quarantine list|show`: what could not be counted, why, and the money at stake where it is known.

mod stakes;

use std::io::Write as _;
use std::sync::Arc;

use arrow::array::{ArrayRef, StringArray};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, Schema};
use arrow::record_batch::RecordBatch;
use clap::Subcommand;
use platform_catalog::{AsOf, Scope};
use platform_query::{Limits, QueryResult, render};
use platform_usage::Reason;

use super::Refused;
use crate::answers::{Answers, Row, rows};
use crate::home::Home;
use crate::{Common, Outcome};

/// What of the quarantine.
#[derive(Subcommand)]
pub enum QuarantineCommand {
    /// One line for each quarantined event or reading, newest first; `at_stake` is what its total would cost, from its parts as they were stated
    /// to the most that it could be.
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
    let sql = match &command {
        QuarantineCommand::List { reason, limit } => {
            let condition = match reason {
                None => String::new(),
                Some(reason) => {
                    let known = platform_usage::Reason::from_code(reason).ok_or_else(|| {
                        let all: Vec<&str> = platform_usage::Reason::ALL.iter().map(|reason| reason.code()).collect();
                        Refused(format!("--reason {reason}: is none of {}", all.join(", ")))
                    })?;
                    format!("WHERE reason = '{}'", known.code())
                }
            };
            format!(
                // A reading is part of an event that was accepted, which has the id.
                "SELECT concat(listed.shard, '/', listed.incarnation, '/', listed.sequence) AS position, listed.ordinal, listed.reason, \
                 listed.organization, listed.source, coalesce(listed.event_id, events.event_id) AS event_id, listed.meter, listed.detail, \
                 listed.accepted_at FROM (SELECT * FROM usage.quarantine {condition} \
                 ORDER BY accepted_at DESC, shard, sequence, ordinal LIMIT {limit}) AS listed LEFT JOIN usage.events AS events \
                 ON events.shard = listed.shard AND events.incarnation = listed.incarnation AND events.sequence = listed.sequence \
                 ORDER BY listed.accepted_at DESC, listed.shard, listed.sequence, listed.ordinal"
            )
        }
        QuarantineCommand::Show { position } => {
            let parts: Option<Vec<u64>> = position.split('/').map(|part| part.parse().ok()).collect();
            let Some([shard, incarnation, sequence]) = parts.as_deref() else {
                return Err(Refused(format!("{position:?} is not shard/incarnation/sequence, for example 17/1/42")).into());
            };
            format!(
                // A reading is part of an event that was accepted: what the source sent stands there.
                "SELECT quarantined.*, events.attributes AS event FROM usage.quarantine AS quarantined LEFT JOIN usage.events AS events \
                 ON events.shard = quarantined.shard AND events.incarnation = quarantined.incarnation AND events.sequence = quarantined.sequence \
                 WHERE quarantined.shard = {shard} AND quarantined.incarnation = {incarnation} AND quarantined.sequence = {sequence} \
                 ORDER BY quarantined.ordinal"
            )
        }
    };
    let answers = Answers::open(&home).await?;
    let answer = answers.engine().query(&sql, &Scope::Operator, AsOf(None), Limits::default()).await?;
    if let QuarantineCommand::Show { position } = &command
        && answer.batches.iter().all(|rows| rows.num_rows() == 0)
    {
        return Err(Refused(format!(
            "nothing at {position} is in quarantine: it never was, or it was charged since: `tally explain --event ID` says what became of an event"
        ))
        .into());
    }
    let answer = with_stakes(&answers, answer).await?;
    std::io::stdout().write_all(&render(&answer, super::sql::output(common.format))?)?;
    Ok(Outcome::Done)
}

/// Adds the column `at_stake` to rows of the quarantine: the money that depends on how it is decided, where it is known.
async fn with_stakes(answers: &Answers, answer: QueryResult) -> anyhow::Result<QueryResult> {
    let rows = rows(&answer)?;
    let differing = rows.iter().filter(|row| row.text("reason") == Some(Reason::PartsDiffer.code()));
    let stakes = stakes::of(answers, &differing.filter_map(position).collect()).await?;
    let found = rows.iter().map(|row| position(row).and_then(|position| stakes.get(&position)).map(String::as_str));
    let column: ArrayRef = Arc::new(found.collect::<StringArray>());
    let all = concat_batches(&answer.schema, &answer.batches)?;
    let field = Arc::new(Field::new("at_stake", DataType::Utf8, true));
    let schema = Arc::new(Schema::new(all.schema().fields().iter().cloned().chain([field]).collect::<Vec<_>>()));
    let columns = all.columns().iter().cloned().chain([column]).collect();
    Ok(QueryResult { batches: vec![RecordBatch::try_new(Arc::clone(&schema), columns)?], schema, truncated: answer.truncated })
}

/// Where a row stands: `position` of a list, or its three parts.
fn position(row: &Row) -> Option<(i64, i64, i64)> {
    if let Some(text) = row.text("position") {
        let mut parts = text.split('/').map(|part| part.parse().ok());
        return Some((parts.next()??, parts.next()??, parts.next()??));
    }
    Some((row.integer("shard")?, row.integer("incarnation")?, row.integer("sequence")?))
}
