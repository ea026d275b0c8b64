//! The lake's data folder as the roles use it: where the files of a batch lie and how they are read back.
//! What is in them is written where the tables are defined; how files are written, in shared-lake.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use arrow::array::{Array, AsArray};
use arrow::datatypes::{Int32Type, Int64Type};
use arrow::record_batch::RecordBatch;
use platform_ingest::header::{Header, TableFile};
use platform_ingest::index::{Entry, EntryOutcome};
use shared_lake::{Contents, RealFiles};
use shared_types::{Digest, IdentityHash, Incarnation, Position, Sequence, ShardId, WriterEpoch};

use crate::home::Home;

/// One row for each stream position.
pub const EVENTS: &str = "events";
/// One row for each reading.
pub const CHARGES: &str = "charges";
/// One row for each key and accounting period that a batch touched.
pub const TOTALS: &str = "totals";
/// The tables of a batch.
pub const TABLES: [&str; 3] = [EVENTS, CHARGES, TOTALS];

/// Columns by which readers skip files, for each table.
fn statistics(table: &str) -> &'static [&'static str] {
    match table {
        EVENTS => &["organization", "accepted_at", "outcome"],
        CHARGES => &["organization", "start_at", "accepted_at", "meter", "fate"],
        _ => &["organization", "service_period", "accounting_period"],
    }
}

/// The data folder of a home's lake.
#[derive(Clone, Debug)]
pub struct Lake {
    root: PathBuf,
}

impl Lake {
    /// Of a home.
    pub fn new(home: &Home) -> Self {
        Self { root: home.path("lake") }
    }

    /// The folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Writes a table of a batch, durably, under `<table>/<epoch>/<digest>.parquet`.
    ///
    /// - `order`: columns that tell all rows apart: the rows are digested in that order. `sort`: the file's order.
    pub fn write(&self, epoch: WriterEpoch, table: &str, rows: &RecordBatch, order: &[&str], sort: &[&str]) -> anyhow::Result<TableFile> {
        let row_digest = shared_lake::row_digest(rows, order)?;
        let sorted = shared_lake::sort(rows, sort)?;
        let path = format!("{table}/{epoch}/{row_digest}.parquet");
        let contents = Contents {
            schema: &rows.schema(),
            batches: &[sorted],
            metadata: &[("tallystick.table", table), ("tallystick.format", "1")],
            statistics: statistics(table),
        };
        let meta = shared_lake::write_file(&RealFiles, &self.root, &path, &contents)?;
        Ok(TableFile { bytes: meta.bytes, path, row_digest, rows: meta.rows, table: table.to_owned() })
    }

    /// Reads a table of a batch.
    pub fn read(&self, header: &Header, table: &str, projection: Option<&[&str]>) -> anyhow::Result<Vec<RecordBatch>> {
        let file = header.table(table).with_context(|| format!("the header of batch {} names no {table} file", header.batch_no))?;
        if file.rows == 0 {
            return Ok(Vec::new());
        }
        shared_lake::read_file(&self.root.join(&file.path), projection)
            .with_context(|| format!("could not read the {table} of batch {}", header.batch_no))
    }

    /// The identities that a batch accepted, as the index keeps them.
    pub fn accepted_identities(&self, header: &Header) -> anyhow::Result<Vec<(ShardId, IdentityHash, Entry)>> {
        let columns = ["shard", "incarnation", "sequence", "identity", "content_digest", "outcome"];
        let mut entries = Vec::new();
        for batch in self.read(header, EVENTS, Some(&columns))? {
            let column = |name: &str| batch.column_by_name(name).with_context(|| format!("events have no column {name}"));
            let shards = column("shard")?.as_primitive::<Int32Type>();
            let incarnations = column("incarnation")?.as_primitive::<Int64Type>();
            let sequences = column("sequence")?.as_primitive::<Int64Type>();
            let identities = column("identity")?.as_fixed_size_binary();
            let digests = column("content_digest")?.as_fixed_size_binary();
            let outcomes = column("outcome")?.as_string::<i32>();
            for row in 0..batch.num_rows() {
                if outcomes.value(row) != "accepted" {
                    continue;
                }
                let parsed = u8::try_from(shards.value(row))
                    .ok()
                    .and_then(ShardId::new)
                    .zip((!identities.is_null(row)).then(|| IdentityHash::from_slice(identities.value(row))).flatten());
                let (Some((shard, identity)), Some(digest)) = (parsed, Digest::from_slice(digests.value(row))) else {
                    bail!("row {row} of the events of batch {} is damaged", header.batch_no);
                };
                let position = Position {
                    shard,
                    incarnation: Incarnation(u32::try_from(incarnations.value(row))?),
                    sequence: Sequence(u64::try_from(sequences.value(row))?),
                };
                entries.push((shard, identity, Entry::new(position, EntryOutcome::Accepted, &digest)));
            }
        }
        Ok(entries)
    }

    /// Removes files of reigns before `epoch` that are not in `named`; how many.
    pub fn sweep(&self, epoch: WriterEpoch, named: &HashSet<String>) -> anyhow::Result<usize> {
        let orphans = shared_lake::orphans(&RealFiles, &self.root, &TABLES, named, epoch)?;
        shared_lake::sweep::remove(&RealFiles, &self.root, &orphans)?;
        Ok(orphans.len())
    }
}
