//! Bugs planted on purpose, chosen by `TALLY_PLANT`, so that campaigns can prove that they catch them, and a clock that stands where
//! `TALLY_CLOCK` says, so that two homes can hold the same bytes. Only with the feature `plant`; never in a shipped binary.

use std::path::Path;

use arrow::record_batch::RecordBatch;
use platform_catalog::Scope;
use platform_ingest::batch::Built;
use platform_ingest::events::Outcome;
use platform_ingest::store;
use shared_bus::Stream;
use shared_db::{Database, Statement, Value};
use shared_lake::Orphan;
use shared_types::{Instant, Sequence};

fn asked_for(plant: &str) -> bool {
    std::env::var("TALLY_PLANT").is_ok_and(|asked| asked == plant)
}

/// `drop-quarantine-row`: one quarantined event of each batch leaves no row.
pub fn drop_quarantine_row(built: &mut Built) {
    if asked_for("drop-quarantine-row")
        && let Some(at) = built.rows.iter().position(|row| row.outcome == Outcome::Quarantined)
    {
        built.rows.remove(at);
    }
}

/// `skip-fence`: a writer takes over with the positions that it remembers, one record behind, and nothing refuses it.
pub async fn skip_fence(log: &Database, stream: &dyn Stream) -> anyhow::Result<()> {
    if !asked_for("skip-fence") {
        return Ok(());
    }
    let mut tx = log.begin().await?;
    for sql in ["DROP TRIGGER IF EXISTS platform_ingest_positions_forward", "DROP TRIGGER IF EXISTS platform_ingest_ranges_contiguous"] {
        tx.execute(&Statement { name: "plant", sqlite: sql, postgres: sql }, &[]).await?;
    }
    for state in store::shard_states(&mut tx).await? {
        let at = state.position;
        let Some(two_before) = at.sequence.0.checked_sub(2) else { continue };
        // What was trimmed cannot be remembered.
        let Ok(records) = stream.read(at.shard, Sequence(two_before), 1, usize::MAX).await else { continue };
        if let Some(record) = records.first().filter(|record| record.position.incarnation == at.incarnation) {
            let sql = "UPDATE platform_ingest_positions SET sequence = $1, digest = $2 WHERE shard = $3";
            let values = [
                Value::try_from(record.position.sequence.0)?,
                Value::Text(record.digest.to_string()),
                Value::Integer(i64::from(at.shard.number())),
            ];
            tx.execute(&Statement { name: "plant", sqlite: sql, postgres: sql }, &values).await?;
        }
    }
    tx.commit().await?;
    Ok(())
}

/// The instant of `TALLY_CLOCK`, if it names one.
pub fn stopped_clock() -> Option<Instant> {
    Instant::parse(&std::env::var("TALLY_CLOCK").ok()?).ok()
}

/// `forget-scope`: whoever asks is answered as the operator is.
pub fn forget_scope(scope: Scope) -> Scope {
    if asked_for("forget-scope") { Scope::Operator } else { scope }
}

/// `show-positions`: columns that count over several organizations are kept from none of them.
pub fn show_positions(columns: &'static [&'static str]) -> &'static [&'static str] {
    if asked_for("show-positions") { &[] } else { columns }
}

/// `die-…`: the process ends as if killed at a named moment of compaction.
pub fn die(moment: &str) {
    if asked_for(moment) {
        std::process::abort();
    }
}

/// `delete-before-publish`: the files that a merge replaces are removed before it is recorded, and the process dies.
pub fn delete_before_publish<'a>(lake: &Path, sources: impl Iterator<Item = &'a str>) {
    if asked_for("delete-before-publish") {
        for path in sources {
            let _ = std::fs::remove_file(lake.join(path));
        }
        std::process::abort();
    }
}

/// `die-while-removing`: half of the replaced files are gone when the process dies.
pub fn die_while_removing(lake: &Path, files: &[Orphan]) {
    if asked_for("die-while-removing") {
        for file in files.iter().take(files.len().div_ceil(2)) {
            let _ = std::fs::remove_file(lake.join(&file.path));
        }
        std::process::abort();
    }
}

/// `merge-loses-a-row`: the last row of a merged table is not written.
pub fn lose_a_row(rows: RecordBatch) -> RecordBatch {
    if asked_for("merge-loses-a-row") && rows.num_rows() > 0 { rows.slice(0, rows.num_rows() - 1) } else { rows }
}
