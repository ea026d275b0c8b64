//! `tally lake attach`: the statements with which stock DuckDB opens the lake, read-only.

use clap::Subcommand;
use serde_json::json;
use shared_lake::ducklake::{self, Catalog};

use crate::home::{Home, Store};
use crate::lake::Lake;
use crate::{Common, Format, Outcome};

/// What of the lake.
#[derive(Subcommand)]
pub enum LakeCommand {
    /// Print the statements with which stock DuckDB opens the lake, read-only, also while `tally serve` writes.
    Attach,
}

/// Prints the statements.
pub async fn run(command: LakeCommand, common: &Common) -> anyhow::Result<Outcome> {
    let LakeCommand::Attach = command;
    let home = Home::open(&common.home)?;
    let catalog = home.database_file(Store::Lake).canonicalize()?;
    let data = Lake::folder(&home).canonicalize()?;
    let statements = ducklake::attach_statements(Catalog::Sqlite(&catalog), &data)?;
    match common.format {
        Format::Json => println!("{}", json!({"sql": statements})),
        _ => println!("{statements}"),
    }
    Ok(Outcome::Done)
}
