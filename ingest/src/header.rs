//! The header of a batch: what one transaction commits. Self-describing, chained by digest; it names the files and the ranges.
//! The fields of each struct stand in alphabetical order and hold only integers below 2^53 and ASCII text, so that the
//! serialised form *is* RFC 8785 canonical JSON.

use serde::{Deserialize, Serialize};
use shared_types::{BatchNo, ControlNo, Digest, Incarnation, Instant, Month, Sequence, ShardId, WriterEpoch};

/// Format of the header, raised with any change of its meaning.
pub const FORMAT: u32 = 1;

/// The contiguous records of one shard that a batch covers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Range {
    /// The last control record applied, this range's own included.
    pub control_no: ControlNo,
    /// First record.
    pub first: Sequence,
    /// The life of the stream.
    pub incarnation: Incarnation,
    /// Last record.
    pub last: Sequence,
    /// The last record's digest: the stream is attached by it.
    pub last_digest: Digest,
    /// The shard's oldest unclosed month; none before the first close.
    pub oldest_open: Option<Month>,
    /// The registry version under which the shard's *next* record is read and rated; zeros before the first publication.
    pub registry_version: Digest,
    /// The shard.
    pub shard: ShardId,
}

/// One immutable Parquet file of a batch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TableFile {
    /// File size.
    pub bytes: u64,
    /// Path under the lake's data folder.
    pub path: String,
    /// SHA-256 over the rows in stream order, independent of the file's layout.
    pub row_digest: Digest,
    /// Rows.
    pub rows: u64,
    /// `events`, `charges` or `totals`.
    pub table: String,
}

/// A committed batch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Header {
    /// The latest `accepted_at` of its records: the time by which folds date their effects.
    pub accepted_to: Instant,
    /// Dense number.
    pub batch_no: BatchNo,
    /// [`FORMAT`].
    pub format: u32,
    /// Digest of the batch before; zeros for the first.
    pub previous: Digest,
    /// What it covers, in order of shard.
    pub ranges: Vec<Range>,
    /// Its files: always `events`, `charges`, `totals`.
    pub tables: Vec<TableFile>,
    /// Whose reign committed it.
    pub writer_epoch: WriterEpoch,
}

/// Why stored text is not a header.
#[derive(Debug, thiserror::Error)]
pub enum HeaderError {
    /// Not the JSON of a header.
    #[error("could not read the header of a batch")]
    Malformed(#[source] serde_json::Error),
    /// Written by a later version of this program.
    #[error("the header has format {found}; this program reads format {FORMAT}")]
    Format {
        /// The format found.
        found: u32,
    },
}

impl Header {
    /// Canonical JSON: the digest's preimage and the published object.
    pub fn canonical(&self) -> Result<String, HeaderError> {
        serde_json::to_string(self).map_err(HeaderError::Malformed)
    }

    /// Reads canonical JSON back.
    pub fn parse(text: &str) -> Result<Self, HeaderError> {
        let header: Self = serde_json::from_str(text).map_err(HeaderError::Malformed)?;
        if header.format == FORMAT { Ok(header) } else { Err(HeaderError::Format { found: header.format }) }
    }

    /// A table's file.
    pub fn table(&self, name: &str) -> Option<&TableFile> {
        self.tables.iter().find(|file| file.table == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_its_own_canonical_json_and_the_frozen_one_still_loads() {
        let header = Header {
            accepted_to: Instant::parse("2026-11-24T09:30:00.5Z").unwrap(),
            batch_no: BatchNo(7),
            format: FORMAT,
            previous: Digest::of(b"previous"),
            ranges: vec![Range {
                control_no: ControlNo(1),
                first: Sequence(10),
                incarnation: Incarnation(1),
                last: Sequence(20),
                last_digest: Digest::of(b"last"),
                oldest_open: None,
                registry_version: Digest::of(b"registry"),
                shard: ShardId::new(63).unwrap(),
            }],
            tables: vec![TableFile {
                bytes: 1000,
                path: "events/1/ab.parquet".to_owned(),
                row_digest: Digest::of(b"rows"),
                rows: 11,
                table: "events".to_owned(),
            }],
            writer_epoch: WriterEpoch(2),
        };
        let text = header.canonical().unwrap();
        assert_eq!(Header::parse(&text).unwrap(), header);
        // The golden file must load for ever: it is what recovery trusts.
        assert_eq!(text, include_str!("header/golden.json").trim_end());
    }

    #[test]
    fn another_format_is_refused_by_number() {
        let text = include_str!("header/golden.json").replace("\"format\":1", "\"format\":2");
        assert!(matches!(Header::parse(&text), Err(HeaderError::Format { found: 2 })));
    }
}
