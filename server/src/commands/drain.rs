//! `tally drain`: work until everything accepted is committed and folded. Beside an owner it only waits.

use std::time::Duration;

use anyhow::Context;
use serde_json::json;

use crate::home::Home;
use crate::roles::{OnFailure, Running};
use crate::{Common, Format, Outcome, read_models};

/// Drains the home.
pub async fn run(common: &Common) -> anyhow::Result<Outcome> {
    let home = Home::open(&common.home)?;
    if home.owner().is_some() {
        wait_for_owner(&home).await?;
    } else {
        let running = Running::start(&home, OnFailure::End).await?;
        let bar = super::ingest::spinner("committing and folding");
        running.drain().await?;
        bar.finish_and_clear();
    }
    let positions = read_models::sys::progress(&home).await?;
    match common.format {
        Format::Json => println!("{}", json!({"committed": positions.committed, "folds": positions.folds})),
        _ => println!("everything accepted is committed and folded: batch {}", positions.committed),
    }
    Ok(Outcome::Done)
}

/// Another process owns the home: wait until it has worked off what the stream holds now.
async fn wait_for_owner(home: &Home) -> anyhow::Result<()> {
    let wanted = read_models::sys::stream_ends(home).await?;
    let bar = super::ingest::spinner("waiting for the owner of the home to commit and fold");
    // What is accepted later is not waited for: the batch that covers the wanted positions is the goal of the folds.
    let mut goal = None;
    loop {
        let progress = read_models::sys::progress(home).await?;
        if goal.is_none() && progress.covers(&wanted) {
            goal = Some(progress.committed);
        }
        if goal.is_some_and(|goal| progress.folds.values().all(|at| *at >= goal)) {
            bar.finish_and_clear();
            return Ok(());
        }
        home.owner().context("the owner of the home ended before everything was committed; run `tally drain` again")?;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
