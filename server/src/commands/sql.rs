//! `tally sql "…"`: one question, one answer, exact.

use std::io::{Read, Write};

use anyhow::Context;
use clap::Args;
use platform_catalog::{AsOf, Scope};
use platform_query::{Limits, QueryEngine, render};

use super::Refused;
use super::registry::version_or_folder;
use crate::home::Home;
use crate::read_models::{self, Readers};
use crate::{Common, Format, Outcome, answers};

/// Arguments of `tally sql`.
#[derive(Args)]
pub struct SqlArguments {
    /// The question; `-` reads it from standard input. `SHOW TABLES` and `DESCRIBE usage.charges` list what there is.
    sql: String,
    /// A book, for the table `what_if.charges`: the usage that was rated, rated under it instead. A folder of documents, a draft such as draft-1,
    /// or a version by its address. Nothing is booked.
    #[arg(long)]
    book: Option<String>,
}

/// Answers on standard output; what was cut off by the row limit is said on standard error.
pub async fn run(arguments: SqlArguments, common: &Common) -> anyhow::Result<Outcome> {
    let home = Home::open(&common.home)?;
    let sql = if arguments.sql == "-" {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).context("could not read the question from standard input")?;
        text
    } else {
        arguments.sql
    };
    let readers = Readers::open(&home).await?;
    let engine = engine_over(&home, &readers)?;
    let more = match &arguments.book {
        None => Vec::new(),
        Some(book) => {
            let version = version_or_folder(&home, book).await?;
            vec![read_models::what_if::charges(&readers, version, home.settings.query.memory_bytes_max)?]
        }
    };
    let answer = engine.query_with(&sql, &Scope::Operator, AsOf(None), Limits::default(), &more).await;
    let answer = answer.map_err(|error| Refused(chain(&error)))?;
    let text = render(&answer, output(common.format)).map_err(|error| Refused(chain(&error)))?;
    match std::io::stdout().write_all(&text) {
        // Whoever read the answer has read enough of it.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => return Ok(Outcome::Done),
        written => written?,
    }
    if answer.truncated {
        eprintln!("tally: the answer was cut off after {} rows (query.rows_max)", home.settings.query.rows_max);
    }
    Ok(Outcome::Done)
}

/// The query engine over a home's read models.
pub async fn engine(home: &Home) -> anyhow::Result<QueryEngine> {
    engine_over(home, &Readers::open(home).await?)
}

fn engine_over(home: &Home, readers: &Readers) -> anyhow::Result<QueryEngine> {
    Ok(QueryEngine::new(read_models::catalog_over(readers)?, answers::options(&home.settings.query))?)
}

/// How answers are rendered for a format of the command line.
pub fn output(format: Format) -> platform_query::Format {
    match format {
        Format::Human | Format::Table => platform_query::Format::Table,
        Format::Json => platform_query::Format::Json,
        Format::Csv => platform_query::Format::Csv,
        Format::Arrow => platform_query::Format::Arrow,
    }
}

/// An error and its causes in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = error.source();
    }
    text
}
