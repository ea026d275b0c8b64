//! The lake: Parquet files that are written once, a digest over rows that does not depend on their layout, and a DuckLake 1.0 catalog in our own
//! database. It has no business words: tables, columns and orders come in as arguments.

pub mod column;
pub mod digest;
pub mod ducklake;
pub mod files;
pub mod parquet;
pub mod publish;
mod store;
pub mod sweep;

pub use column::{ColumnError, ColumnType, FIELD_ID, field, field_id};
pub use digest::{DigestError, RowDigest, row_digest, sort};
pub use ducklake::replace::{Expired, Replacement, Scheduled, TableReplacement, Waiting};
pub use ducklake::{Catalog, LakeCommit, LakeError, LakeFile, Snapshot, SnapshotId, TableSpec, attach_statements};
pub use files::{Files, RealFiles};
pub use parquet::{
    ColumnStatistics, Contents, FileMeta, ReadError, WriteError, describe_file, read_bytes, read_file, read_metadata, write_file,
};
pub use publish::{PublishError, Published, objects, publish_object};
pub use sweep::{Orphan, SweepError, orphans};
