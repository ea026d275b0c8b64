//! What can go wrong with a stream. Errors are cloned to every caller who shared the failed write.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use shared_types::{Incarnation, Sequence, ShardId};

/// Why the stream refused or failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum BusError {
    /// A record larger than the adapter takes. Nothing of the call was appended.
    #[error("a record of {bytes} bytes is larger than the {max} that one record may have")]
    RecordTooLarge {
        /// Bytes of its payload.
        bytes: u64,
        /// The most that is taken.
        max: u64,
    },
    /// One call with more than the adapter can append as a whole. Nothing of it was appended.
    #[error("an append of {bytes} bytes is larger than the {max} that one call may have: split it")]
    AppendTooLarge {
        /// Bytes of the call, framing included.
        bytes: u64,
        /// The most that is taken.
        max: u64,
    },
    /// No space was left. What was half written has been taken back; nothing of the call was appended; later calls may succeed.
    #[error("no space is left to append to the stream at {path}")]
    DiskFull {
        /// The file that could not grow.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: Arc<io::Error>,
    },
    /// A write or sync failed: what reached the disk is unknown, so the stream takes nothing more until it is opened again.
    #[error("the stream takes no more records until it is opened again: could not {action} {path}")]
    Failed {
        /// What was attempted, for example `sync`.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: Arc<io::Error>,
    },
    /// The stream was closed before it could answer.
    #[error("the stream was closed before it answered")]
    Closed,
    /// The stream was opened to be looked at only.
    #[error("the stream was opened read-only")]
    ReadOnly,
    /// Another owner has the stream open.
    #[error("the stream at {path} is open in another process or twice in this one")]
    Locked {
        /// The folder.
        path: PathBuf,
    },
    /// Stored bytes are not what was written.
    #[error("{path} is damaged at byte {offset}: {what}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where the damaged frame begins.
        offset: u64,
        /// What is wrong there.
        what: &'static str,
    },
    /// A file of another version of the format.
    #[error("{path} has format {version}, this program reads format {known}")]
    Format {
        /// The file.
        path: PathBuf,
        /// Its version.
        version: u32,
        /// The version known here.
        known: u32,
    },
    /// Reading or opening failed.
    #[error("could not {action} {path}")]
    Io {
        /// What was attempted.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: Arc<io::Error>,
    },
    /// The records after the wanted sequence are no longer kept.
    #[error("shard {shard} keeps records from {first} on: what follows {after} was trimmed")]
    Trimmed {
        /// The shard.
        shard: ShardId,
        /// The sequence after which was read.
        after: Sequence,
        /// The first that is kept.
        first: Sequence,
    },
    /// The stream ends before the named sequence: it lost records, or the caller's sequence is of another stream.
    #[error("shard {shard} ends at {end}, before {sequence}")]
    BeyondEnd {
        /// The shard.
        shard: ShardId,
        /// The sequence that was named.
        sequence: Sequence,
        /// The last sequence of the shard.
        end: Sequence,
    },
    /// A reincarnation that does not rise.
    #[error("shard {shard} is in incarnation {current}: {wanted} is not higher")]
    NotHigher {
        /// The shard.
        shard: ShardId,
        /// Its incarnation.
        current: Incarnation,
        /// The refused one.
        wanted: Incarnation,
    },
    /// The last sequence that a number can hold was used.
    #[error("shard {shard} has no sequence left")]
    Exhausted {
        /// The shard.
        shard: ShardId,
    },
    /// An option outside its range.
    #[error("stream option {option} is {value}: it must be {range}")]
    Option {
        /// Its name.
        option: &'static str,
        /// Its value.
        value: u64,
        /// What is possible.
        range: String,
    },
}

impl BusError {
    /// The stable code of the error, for its page in `docs/reference/errors/`.
    pub fn code(&self) -> &'static str {
        match self {
            Self::RecordTooLarge { .. } => "BUS-0001",
            Self::AppendTooLarge { .. } => "BUS-0002",
            Self::DiskFull { .. } => "BUS-0003",
            Self::Failed { .. } => "BUS-0004",
            Self::Closed => "BUS-0005",
            Self::ReadOnly => "BUS-0006",
            Self::Locked { .. } => "BUS-0007",
            Self::Damaged { .. } => "BUS-0008",
            Self::Format { .. } => "BUS-0009",
            Self::Io { .. } => "BUS-0010",
            Self::Trimmed { .. } => "BUS-0011",
            Self::BeyondEnd { .. } => "BUS-0012",
            Self::NotHigher { .. } => "BUS-0013",
            Self::Exhausted { .. } => "BUS-0014",
            Self::Option { .. } => "BUS-0015",
        }
    }
}
