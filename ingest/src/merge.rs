//! The record of a merge: which contiguous batches one file of each table holds instead of their own. Chained by digest like headers.
//! The fields stand in alphabetical order, so that the serialised form *is* canonical JSON. It knows no rows: whose a row is follows
//! from the ranges of the batches, and a merge never spans two lives of a shard's stream.

use std::fmt;

use serde::{Deserialize, Serialize};
use shared_types::{BatchNo, Digest, Instant, WriterEpoch};

use crate::header::TableFile;

/// Format of the record, raised with any change of its meaning.
pub const FORMAT: u32 = 1;

/// How far a merge went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Some batches of an hour.
    Part,
    /// A UTC hour, or as much of it as one file takes.
    Hour,
    /// A UTC day, or as much of it as one file takes.
    Day,
}

impl Level {
    /// Stable code.
    pub fn code(self) -> &'static str {
        match self {
            Self::Part => "part",
            Self::Hour => "hour",
            Self::Day => "day",
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

/// Contiguous batches whose rows lie in one file of each table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Merge {
    /// The latest acceptance of its batches.
    pub accepted_to: Instant,
    /// First batch.
    pub first: BatchNo,
    /// [`FORMAT`].
    pub format: u32,
    /// Last batch.
    pub last: BatchNo,
    /// Digest of the last batch's header, which commits to those before it.
    pub last_digest: Digest,
    /// How far it went.
    pub level: Level,
    /// Dense number of the merge, from 1.
    pub merge_no: u64,
    /// Digest of the merge before; zeros for the first.
    pub previous: Digest,
    /// Its files: always `events`, `charges`, `totals`. Row digests are over all its rows in stream order.
    pub tables: Vec<TableFile>,
    /// Whose reign merged.
    pub writer_epoch: WriterEpoch,
}

/// Why stored text is not the record of a merge.
#[derive(Debug, thiserror::Error)]
pub enum MergeError {
    /// Not the JSON of a record.
    #[error("could not read the record of a merge")]
    Malformed(#[source] serde_json::Error),
    /// Written by a later version of this program.
    #[error("the record has format {found}; this program reads format {FORMAT}")]
    Format {
        /// The format found.
        found: u32,
    },
}

impl Merge {
    /// Canonical JSON: the digest's preimage and the published object.
    pub fn canonical(&self) -> Result<String, MergeError> {
        serde_json::to_string(self).map_err(MergeError::Malformed)
    }

    /// Reads canonical JSON back.
    pub fn parse(text: &str) -> Result<Self, MergeError> {
        let merge: Self = serde_json::from_str(text).map_err(MergeError::Malformed)?;
        if merge.format == FORMAT { Ok(merge) } else { Err(MergeError::Format { found: merge.format }) }
    }

    /// A table's file.
    pub fn table(&self, name: &str) -> Option<&TableFile> {
        self.tables.iter().find(|file| file.table == name)
    }

    /// Whether it holds a batch.
    pub fn holds(&self, batch_no: BatchNo) -> bool {
        (self.first..=self.last).contains(&batch_no)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_its_own_canonical_json_and_the_frozen_one_still_loads() {
        let file = |table: &str| TableFile {
            bytes: 1000,
            path: format!("{table}/2/000000000010-000000000019-ab.parquet"),
            row_digest: Digest::of(table.as_bytes()),
            rows: 11,
            table: table.to_owned(),
        };
        let merge = Merge {
            accepted_to: Instant::parse("2026-11-24T09:30:00.5Z").unwrap(),
            first: BatchNo(10),
            format: FORMAT,
            last: BatchNo(19),
            last_digest: Digest::of(b"last"),
            level: Level::Hour,
            merge_no: 3,
            previous: Digest::of(b"previous"),
            tables: ["events", "charges", "totals"].map(file).to_vec(),
            writer_epoch: WriterEpoch(2),
        };
        let text = merge.canonical().unwrap();
        assert_eq!(Merge::parse(&text).unwrap(), merge);
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        let canonical = |value: &serde_json::Value| serde_json::to_string(value).unwrap();
        assert_eq!(text, canonical(&value), "the fields stand in order");
        // The golden file must load for ever: it is what recovery trusts.
        assert_eq!(text, include_str!("merge/golden.json").trim_end());
        assert!(merge.holds(BatchNo(10)) && merge.holds(BatchNo(19)) && !merge.holds(BatchNo(20)));
    }

    #[test]
    fn another_format_is_refused_by_number() {
        let text = include_str!("merge/golden.json").replace("\"format\":1", "\"format\":2");
        assert!(matches!(Merge::parse(&text), Err(MergeError::Format { found: 2 })));
    }
}
