//! `evidence.checkpoints`.

use std::sync::Arc;

use arrow::datatypes::DataType;
use platform_catalog::{Audience, ReadModel};

use super::Readers;
use super::rows::{instant, model};

/// All of them.
pub fn models(readers: &Readers) -> anyhow::Result<Vec<Arc<dyn ReadModel>>> {
    Ok(vec![checkpoints(readers)?])
}

fn checkpoints(readers: &Readers) -> anyhow::Result<Arc<dyn ReadModel>> {
    let evidence = readers.evidence.clone();
    model(
        "evidence.checkpoints",
        "platform-evidence",
        "One row for each signed checkpoint.",
        Audience::Operator,
        &[
            ("tree_size", DataType::Int64, false, "Entries of the tiled log with this one."),
            ("root", DataType::Utf8, false, "Root of the tiled log."),
            ("batch_no", DataType::Int64, false, "The last batch that the organization logs contain."),
            ("batch_digest", DataType::Utf8, false, "Its digest."),
            ("ledger_entry", DataType::Int64, false, "The ledger's last entry."),
            ("ledger_digest", DataType::Utf8, false, "Its digest."),
            ("registry_version", DataType::Utf8, false, "The registry version in force."),
            ("organizations", DataType::Int64, false, "How many organizations are committed to."),
            ("organizations_root", DataType::Utf8, false, "Root over their leaves."),
            ("note", DataType::Utf8, false, "The signed note (c2sp.org/tlog-checkpoint)."),
            ("recorded_at", instant(), false, "When it was signed."),
        ],
        move || {
            let evidence = evidence.clone();
            Box::pin(async move {
                let mut tx = evidence.read().await?;
                let mut rows = Vec::new();
                let mut after = 0;
                loop {
                    let page = platform_evidence::checkpoints(&mut tx, after, 1_000).await?;
                    let Some(last) = page.last() else { return Ok(rows) };
                    after = last.head.size;
                    for checkpoint in page {
                        let entry = checkpoint.entry;
                        rows.push(vec![
                            checkpoint.head.size.into(),
                            checkpoint.head.root.into(),
                            entry.batch_no.0.into(),
                            entry.batch_digest.into(),
                            entry.ledger.seq.into(),
                            entry.ledger.digest.into(),
                            entry.registry_version.into(),
                            entry.organizations.size.into(),
                            entry.organizations.root.into(),
                            checkpoint.note.into(),
                            entry.recorded_at.into(),
                        ]);
                    }
                }
            })
        },
    )
}
