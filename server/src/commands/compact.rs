//! `tally compact`: drain, then merge small files and remove replaced ones. A server does the same by itself.

use platform_iam::Action;
use serde_json::json;

use super::Refused;
use crate::home::Home;
use crate::roles::{OnFailure, Running};
use crate::{Common, Format, Outcome, access};

/// Compacts the home.
pub async fn run(common: &Common) -> anyhow::Result<Outcome> {
    let home = Home::open(&common.home)?;
    if home.owner().is_some_and(|owner| owner.listen.is_some()) {
        let every = home.settings.compact.interval_s;
        return Err(Refused(format!(
            "a server owns this home and compacts it every {every} seconds; `GET /v1/progress` and `sys.files` say how far it is"
        ))
        .into());
    }
    let permit = access::local(Action::LakeCompact)?;
    let running = Running::start(&home, OnFailure::End).await?;
    let bar = super::ingest::spinner("compacting");
    let done = running.compact(permit).await?;
    bar.finish_and_clear();
    match common.format {
        Format::Json => println!(
            "{}",
            json!({"files_per_table": done.files, "merges": done.merges, "snapshots_expired": done.expired, "files_removed": done.removed})
        ),
        _ => println!(
            "{} merges: each table has {} files; {} snapshots given up, {} replaced files removed",
            done.merges, done.files, done.expired, done.removed
        ),
    }
    Ok(Outcome::Done)
}
