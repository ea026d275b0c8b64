//! `audit.events`: who did or tried what.

use std::sync::Arc;

use arrow::datatypes::DataType;
use platform_audit::{Chain, Stored};
use platform_catalog::{Audience, ReadModel};
use shared_types::Instant;

use super::Readers;
use super::rows::{Cell, instant, model};

/// Records read at a time.
const PAGE: u64 = 10_000;

/// All of them.
pub fn models(readers: &Readers) -> anyhow::Result<Vec<Arc<dyn ReadModel>>> {
    Ok(vec![events(readers)?])
}

fn events(readers: &Readers) -> anyhow::Result<Arc<dyn ReadModel>> {
    let books = readers.books.clone();
    model(
        "audit.events",
        "platform-audit",
        "One row for each record of the audit: who did or tried what. An organization sees its own chain.",
        Audience::Organizations { column: "organization" },
        &[
            ("organization", DataType::Utf8, true, "Whose chain; null for what belongs to no organization."),
            ("seq", DataType::Int64, false, "Gapless number in its chain, from 1."),
            ("at", instant(), true, "When; of a summary, the first time."),
            ("action", DataType::Utf8, true, "What was done or tried."),
            ("class", DataType::Utf8, true, "change, read, input or access."),
            ("severity", DataType::Utf8, true, "info, notice or warning."),
            ("outcome", DataType::Utf8, true, "done or denied."),
            ("count", DataType::Int64, true, "How many attempts it stands for."),
            ("principal", DataType::Utf8, true, "Who: a principal, local (the OS user), or unknown."),
            ("role", DataType::Utf8, true, "The principal's role."),
            ("key", DataType::Utf8, true, "The key that was used."),
            ("target_type", DataType::Utf8, true, "What kind of thing it was done to."),
            ("target", DataType::Utf8, true, "To which."),
            ("content", DataType::Utf8, false, "The canonical text that is hashed."),
            ("previous", DataType::Utf8, false, "Digest of the record before it in its chain."),
            ("digest", DataType::Utf8, false, "SHA-256 of the text."),
        ],
        move || {
            let books = books.clone();
            Box::pin(async move {
                let mut tx = books.read().await?;
                let (mut rows, mut after) = (Vec::new(), 0);
                loop {
                    let page = platform_audit::records_after(&mut tx, after, PAGE).await?;
                    let Some(last) = page.last() else { return Ok(rows) };
                    after = last.record_no;
                    rows.extend(page.iter().map(row));
                }
            })
        },
    )
}

/// What does not read is null: the text stands beside it, and `tally check` names it.
fn row(record: &Stored) -> Vec<Cell> {
    let content: serde_json::Value = serde_json::from_str(&record.content).unwrap_or_default();
    let text = |name: &str| content.get(name).and_then(serde_json::Value::as_str);
    let chain = Chain::parse(&record.chain);
    vec![
        chain.as_ref().and_then(Chain::organization).map(|organization| organization.as_str()).into(),
        record.seq.into(),
        text("at").and_then(|at| Instant::parse(at).ok()).into(),
        text("action").into(),
        text("class").into(),
        text("severity").into(),
        text("outcome").into(),
        text("count").and_then(|count| count.parse::<u64>().ok()).into(),
        text("principal").into(),
        text("role").into(),
        text("key").into(),
        text("target_type").into(),
        text("target").into(),
        record.content.as_str().into(),
        record.previous.into(),
        record.digest.into(),
    ]
}
