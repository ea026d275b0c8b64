//! `sys.batches`, `sys.positions`, `sys.folds`, `sys.files`, `sys.conservation`: how far everything is, and what does not add up.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::DataType;
use platform_catalog::{Audience, ReadModel};
use platform_ingest::batch::ShardState;
use platform_ingest::merge::Level;
use platform_ingest::store;
use shared_bus::{Embedded, ShardEnd, Stream};
use shared_lake::ducklake::replace;
use shared_types::{BatchNo, Incarnation, Instant, Sequence};

use super::Readers;
use super::rows::{Cell, instant, model};
use crate::check;
use crate::home::{Home, Store};
use crate::lake::{CHARGES, EVENTS, TOTALS};
use crate::roles::compact;

/// The folds: name and database.
pub const FOLDS: [(&str, Store); 4] =
    [("ledger", Store::Books), ("lake", Store::Lake), ("usage", Store::Usage), ("evidence", Store::Evidence)];

/// How far a home is.
pub struct Progress {
    /// Where the shards are committed.
    pub shards: Vec<ShardState>,
    /// The last batch.
    pub committed: BatchNo,
    /// Each fold's last batch.
    pub folds: BTreeMap<&'static str, BatchNo>,
}

impl Progress {
    /// Whether everything up to these ends is committed.
    pub fn covers(&self, ends: &[ShardEnd]) -> bool {
        // Both stand in order of shard.
        ends.iter().zip(&self.shards).all(|(end, shard)| {
            let at = shard.position;
            end.sequence == Sequence(0) || (at.incarnation, at.sequence) >= (end.incarnation, end.sequence)
        })
    }
}

/// How far the log and the folds of a home are, read beside its owner.
pub async fn progress(home: &Home) -> anyhow::Result<Progress> {
    let mut tx = home.database_read_only(Store::Log).await?.read().await?;
    let shards = store::shard_states(&mut tx).await?;
    let (committed, _) = store::head(&mut tx).await?;
    let mut folds = BTreeMap::new();
    for (name, at) in FOLDS {
        let mut tx = home.database_read_only(at).await?.read().await?;
        folds.insert(name, shared_db::cursor(&mut tx, name).await?);
    }
    Ok(Progress { shards, committed, folds })
}

/// Where the stream's shards end, read beside its owner.
pub async fn stream_ends(home: &Home) -> anyhow::Result<Vec<ShardEnd>> {
    let stream = Embedded::open_read_only(&home.path("stream"), Arc::new(shared_bus::RealDisk))?;
    Ok(stream.ends().await?)
}

/// All of them.
pub fn models(readers: &Readers) -> anyhow::Result<Vec<Arc<dyn ReadModel>>> {
    Ok(vec![batches(readers)?, positions(readers)?, folds(readers)?, files(readers)?, conservation(readers)?])
}

fn batches(readers: &Readers) -> anyhow::Result<Arc<dyn ReadModel>> {
    let log = readers.log.clone();
    model(
        "sys.batches",
        "platform-ingest",
        "One row for each committed batch.",
        Audience::Operator,
        &[
            ("batch_no", DataType::Int64, false, "Dense number."),
            ("digest", DataType::Utf8, false, "SHA-256 of the header."),
            ("previous", DataType::Utf8, false, "Digest of the batch before."),
            ("writer_epoch", DataType::Int64, false, "Whose reign committed it."),
            ("shards", DataType::Int32, false, "How many shards it covers."),
            ("events", DataType::Int64, false, "Stream positions covered."),
            ("charges", DataType::Int64, false, "Readings."),
            ("totals", DataType::Int64, false, "Keys and accounting periods touched."),
            ("bytes", DataType::Int64, false, "Size of its files."),
            ("accepted_to", instant(), false, "The latest acceptance of its records."),
        ],
        move || {
            let log = log.clone();
            Box::pin(async move {
                let mut rows = Vec::new();
                let mut after = BatchNo(0);
                loop {
                    let mut tx = log.read().await?;
                    let headers = store::batches_after(&mut tx, after, 1_000).await?;
                    let Some((last, _)) = headers.last() else { return Ok(rows) };
                    after = last.batch_no;
                    for (header, digest) in headers {
                        let count = |table: &str| header.table(table).map_or(0, |file| file.rows);
                        rows.push(vec![
                            header.batch_no.0.into(),
                            digest.into(),
                            header.previous.into(),
                            header.writer_epoch.0.into(),
                            Cell::Integer(i64::try_from(header.ranges.len())?),
                            count(EVENTS).into(),
                            count(CHARGES).into(),
                            count(TOTALS).into(),
                            header.tables.iter().map(|file| file.bytes).sum::<u64>().into(),
                            header.accepted_to.into(),
                        ]);
                    }
                }
            })
        },
    )
}

fn positions(readers: &Readers) -> anyhow::Result<Arc<dyn ReadModel>> {
    let readers = readers.clone();
    model(
        "sys.positions",
        "platform-ingest",
        "One row for each shard: how far it is committed and how far its stream goes.",
        Audience::Operator,
        &[
            ("shard", DataType::Int32, false, "0 to 63."),
            ("incarnation", DataType::Int64, false, "Life of the stream that is committed."),
            ("committed", DataType::Int64, false, "Last committed record."),
            ("stream_incarnation", DataType::Int64, false, "Life of the stream now."),
            ("stream_end", DataType::Int64, false, "Last durable record."),
            ("waiting", DataType::Int64, false, "Durable records that are not committed."),
            ("control_no", DataType::Int64, false, "Last control record applied."),
            ("registry_version", DataType::Utf8, true, "The registry version in force."),
        ],
        move || {
            let readers = readers.clone();
            Box::pin(async move {
                // The stream is read after the log, so that what is committed never seems to lie beyond its end.
                let states = store::shard_states(&mut readers.log.read().await?).await?;
                let ends = stream_ends(&readers.home).await?;
                let mut rows = Vec::new();
                for (state, end) in states.iter().zip(ends) {
                    let waiting = if end.incarnation == state.position.incarnation || state.position.incarnation == Incarnation(0) {
                        end.sequence.0.saturating_sub(state.position.sequence.0)
                    } else {
                        end.sequence.0
                    };
                    let version = (state.registry_version != shared_types::Digest::ZERO).then_some(state.registry_version);
                    rows.push(vec![
                        Cell::Integer(i64::from(state.position.shard.number())),
                        Cell::Integer(i64::from(state.position.incarnation.0)),
                        state.position.sequence.0.into(),
                        Cell::Integer(i64::from(end.incarnation.0)),
                        end.sequence.0.into(),
                        waiting.into(),
                        state.control_no.0.into(),
                        version.into(),
                    ]);
                }
                Ok(rows)
            })
        },
    )
}

fn folds(readers: &Readers) -> anyhow::Result<Arc<dyn ReadModel>> {
    let home = readers.home.clone();
    model(
        "sys.folds",
        "shared-db",
        "One row for each fold: how far it is behind the batch log.",
        Audience::Operator,
        &[
            ("fold", DataType::Utf8, false, "Its name."),
            ("cursor", DataType::Int64, false, "Last batch folded."),
            ("committed", DataType::Int64, false, "Last batch committed."),
        ],
        move || {
            let home = home.clone();
            Box::pin(async move {
                let progress = progress(&home).await?;
                let committed = progress.committed.0;
                Ok(progress.folds.into_iter().map(|(name, at)| vec![name.into(), at.0.into(), committed.into()]).collect())
            })
        },
    )
}

fn files(readers: &Readers) -> anyhow::Result<Arc<dyn ReadModel>> {
    let readers = readers.clone();
    model(
        "sys.files",
        "platform-ingest",
        "One row for each table of the lake and level of its files: how many there are, and how many are not merged yet.",
        Audience::Operator,
        &[
            ("table_name", DataType::Utf8, false, "events, charges or totals."),
            (
                "level",
                DataType::Utf8,
                false,
                "batch: not merged; part, hour, day: merged; replaced: for time travel only; scheduled: about to be removed.",
            ),
            ("files", DataType::Int64, false, "How many."),
            ("rows", DataType::Int64, true, "Their rows; null for replaced and scheduled files."),
            ("bytes", DataType::Int64, true, "Their size; null for replaced and scheduled files."),
            ("first_batch", DataType::Int64, true, "The first batch that they hold."),
            ("last_batch", DataType::Int64, true, "The last batch that they hold."),
            ("accepted_to", instant(), true, "Their latest acceptance."),
        ],
        move || {
            let readers = readers.clone();
            Box::pin(async move {
                // Files, rows, bytes, first and last batch, latest acceptance.
                type Sum = (u64, u64, u64, BatchNo, BatchNo, Instant);
                let waiting = replace::waiting(&mut readers.catalog.read().await?).await?;
                let in_use = compact::in_use(&readers.log, &readers.lake).await?;
                let mut levels: BTreeMap<(&str, Option<Level>), Sum> = BTreeMap::new();
                for files in &in_use {
                    for file in files.tables.iter().filter(|file| file.rows > 0) {
                        let empty = (0, 0, 0, files.first, files.last, files.accepted_to);
                        let sum = levels.entry((file.table.as_str(), files.level)).or_insert(empty);
                        let accepted_to = sum.5.max(files.accepted_to);
                        *sum = (sum.0 + 1, sum.1 + file.rows, sum.2 + file.bytes, sum.3, files.last, accepted_to);
                    }
                }
                let mut rows = Vec::new();
                for ((table, level), (files, count, bytes, first, last, accepted_to)) in levels {
                    rows.push(vec![
                        table.into(),
                        level.map_or("batch", Level::code).into(),
                        files.into(),
                        count.into(),
                        bytes.into(),
                        first.0.into(),
                        last.0.into(),
                        accepted_to.into(),
                    ]);
                }
                for waiting in waiting {
                    for (level, files) in [("replaced", waiting.ended), ("scheduled", waiting.scheduled)] {
                        if files > 0 {
                            let mut row: Vec<Cell> = vec![waiting.table.as_str().into(), level.into(), files.into()];
                            row.resize(8, Cell::Null);
                            rows.push(row);
                        }
                    }
                }
                Ok(rows)
            })
        },
    )
}

fn conservation(readers: &Readers) -> anyhow::Result<Arc<dyn ReadModel>> {
    let readers = readers.clone();
    model(
        "sys.conservation",
        "platform-ingest",
        "Must be empty: positions without exactly one outcome, readings without exactly one fate, sums that differ.",
        Audience::Operator,
        &[
            ("check", DataType::Utf8, false, "The rule that is broken."),
            ("subject", DataType::Utf8, false, "Where: a position, key, batch, file or entry."),
            ("detail", DataType::Utf8, false, "What was found and what belongs there."),
        ],
        move || {
            let readers = readers.clone();
            Box::pin(async move {
                let violations = check::conservation(&readers).await?;
                Ok(violations
                    .into_iter()
                    .map(|violation| vec![violation.check.into(), violation.subject.into(), violation.detail.into()])
                    .collect())
            })
        },
    )
}
