//! The stream: what entered, in order, per shard; durable before it is answered. The port (`Stream`) and its embedded adapter.
//! It knows no event, no meter and no price: a payload is bytes.

#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
pub mod disk;
pub mod embedded;
pub mod error;
pub mod faults;
pub mod stream;

pub use disk::{Disk, DiskFile, RealDisk, UnsyncedInMemory};
pub use embedded::{Embedded, Options};
pub use error::BusError;
pub use stream::{Append, Appended, FIRST_INCARNATION, RecordKind, ShardEnd, Stream, StreamRecord, record_digest};
