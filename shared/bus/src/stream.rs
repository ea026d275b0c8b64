//! The stream port: 64 shards of records, dense and chained. It knows no storage and no payload.

use async_trait::async_trait;
use bytes::Bytes;
use shared_types::{Digest, Incarnation, Instant, Position, Sequence, ShardId};
use tokio::sync::watch;

use crate::BusError;

/// The incarnation of every shard of a new stream.
pub const FIRST_INCARNATION: Incarnation = Incarnation(1);

/// What a record is. The codes are persisted and part of the digest: they never change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RecordKind {
    /// What a source sent.
    Usage,
    /// A control record: registry publication, tick, close, re-rating.
    Control,
    /// What the deployment itself states, in the form of usage: recurring fees. No source can send it.
    Own,
}

impl RecordKind {
    /// The persisted code: 1 usage, 2 control, 5 own. 3 and 4 are frames of the embedded stream that are no records.
    pub fn code(self) -> u8 {
        match self {
            Self::Usage => 1,
            Self::Control => 2,
            Self::Own => 5,
        }
    }

    /// From a persisted code.
    pub fn from_code(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::Usage),
            2 => Some(Self::Control),
            5 => Some(Self::Own),
            _ => None,
        }
    }
}

/// A record to append.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Append {
    /// Where it goes.
    pub shard: ShardId,
    /// What it is.
    pub kind: RecordKind,
    /// When it entered, stamped once by the caller.
    pub accepted_at: Instant,
    /// Its bytes; may be empty.
    pub payload: Bytes,
}

/// Where an appended record stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// Its position.
    pub position: Position,
    /// Its link of the shard's chain ([`record_digest`]).
    pub digest: Digest,
}

/// A durable record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamRecord {
    /// Its position.
    pub position: Position,
    /// Its link of the shard's chain ([`record_digest`]).
    pub digest: Digest,
    /// What it is.
    pub kind: RecordKind,
    /// When it entered.
    pub accepted_at: Instant,
    /// Its bytes.
    pub payload: Bytes,
}

/// The durable end of one shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShardEnd {
    /// The present life of the shard.
    pub incarnation: Incarnation,
    /// The last sequence; 0 when nothing was appended in this incarnation.
    pub sequence: Sequence,
    /// The digest of the last record; zeros when nothing was appended in this incarnation.
    pub digest: Digest,
    /// The first sequence that can still be read; `sequence + 1` when none can.
    pub first: Sequence,
}

/// The stream, as every part of the path sees it. Calls belong into a Tokio runtime.
#[async_trait]
pub trait Stream: Send + Sync {
    /// Appends the records of one call, all or none, in the order given within each shard; they are durable when it answers.
    ///
    /// The answers are in the order of the records. It waits while the adapter is full (its bound is an option).
    /// After an error the records are not in the stream, except after [`BusError::Failed`] and [`BusError::Closed`], when nobody
    /// knows. A caller that stops waiting does not take its records back.
    async fn append(&self, records: Vec<Append>) -> Result<Vec<Appended>, BusError>;

    /// The durable records of a shard's present incarnation after a sequence, in order.
    ///
    /// - Limits: at most `max_records` records and `max_bytes` bytes of payload, but always one record if there is one and
    ///   `max_records` is not 0. Nothing is held back within the limits.
    /// - Errors: [`BusError::Trimmed`] when the next record is no longer kept, [`BusError::BeyondEnd`] when the stream ends before
    ///   `after`: never an empty answer in their place. A reader whose cursor may be older than a reincarnation compares the
    ///   incarnation of what it gets.
    async fn read(&self, shard: ShardId, after: Sequence, max_records: usize, max_bytes: usize) -> Result<Vec<StreamRecord>, BusError>;

    /// The durable ends of the 64 shards, in shard order.
    async fn ends(&self) -> Result<Vec<ShardEnd>, BusError>;

    /// A counter that rises whenever something became durable: `changed()` on the receiver misses nothing that came after the last
    /// value it saw, so subscribe first, then read, then wait.
    fn subscribe(&self) -> watch::Receiver<u64>;

    /// Permits the stream to forget the records of the listed shards up to and including a sequence. What was permitted earlier
    /// stays permitted until the stream is opened again; more than the rest may be kept. Refused beyond the end of a shard.
    async fn trim(&self, through: &[(ShardId, Sequence)]) -> Result<(), BusError>;

    /// Begins a higher incarnation of a shard, durably: its sequence restarts at 1, its chain at zeros, and what it held can no
    /// longer be read. Refused when the incarnation is not higher than the present one.
    async fn reincarnate(&self, shard: ShardId, incarnation: Incarnation) -> Result<(), BusError>;
}

/// The link of a record in its shard's chain: SHA-256 of a tag, the digest of its predecessor (zeros for sequence 1) and its own
/// fields, each of fixed width and big-endian, the payload last. Equal (incarnation, sequence, digest) means equal history.
pub fn record_digest(previous: &Digest, position: Position, kind: RecordKind, accepted_at: Instant, payload: &[u8]) -> Digest {
    const TAG: &[u8; 24] = b"tallystick/stream/rec/1\n";
    let mut head = Vec::with_capacity(80);
    head.extend_from_slice(TAG);
    head.extend_from_slice(&previous.0);
    head.push(position.shard.number());
    head.extend_from_slice(&position.incarnation.0.to_be_bytes());
    head.extend_from_slice(&position.sequence.0.to_be_bytes());
    head.push(kind.code());
    head.extend_from_slice(&accepted_at.micros().to_be_bytes());
    Digest::of_parts(&[&head, payload])
}
