//! Where a record stands in the stream, and the dense numbers of batches and control records.

use std::fmt;

/// How many shards a deployment has, for ever.
pub const SHARDS: u8 = 64;

/// A fixed hash class of organizations, 0 to 63.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub struct ShardId(u8);

impl ShardId {
    /// Refuses 64 and above.
    pub fn new(number: u8) -> Option<Self> {
        (number < SHARDS).then_some(Self(number))
    }

    /// The shard of an organization: the first byte of SHA-256 of its id, modulo 64. Events that name no organization use the empty text.
    pub fn of_organization(organization: &str) -> Self {
        let [first, ..] = crate::Digest::of(organization.as_bytes()).0;
        Self(first % SHARDS)
    }

    /// All 64 shards in order.
    pub fn all() -> impl DoubleEndedIterator<Item = Self> + ExactSizeIterator {
        (0..SHARDS).map(Self)
    }

    /// 0 to 63.
    pub fn number(self) -> u8 {
        self.0
    }

    /// 0 to 63, for indexing an array of 64.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

impl TryFrom<u8> for ShardId {
    type Error = String;
    fn try_from(number: u8) -> Result<Self, String> {
        Self::new(number).ok_or_else(|| format!("shard {number} is not 0 to 63"))
    }
}

impl From<ShardId> for u8 {
    fn from(shard: ShardId) -> u8 {
        shard.0
    }
}

impl fmt::Display for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ShardId({})", self.0)
    }
}

macro_rules! counter {
    ($(#[$doc:meta])* $name:ident, $inner:ty) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default, serde::Serialize, serde::Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl $name {
            /// The number after this one; `None` at the end of the range.
            pub fn next(self) -> Option<Self> {
                self.0.checked_add(1).map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

counter!(
    /// A life of the stream: it rises when the stream lost what was committed.
    Incarnation, u32
);
counter!(
    /// Dense number of a record in its shard and incarnation, from 1; 0 means "before the first".
    Sequence, u64
);
counter!(
    /// Dense number of a committed batch, from 1; 0 means "before the first".
    BatchNo, u64
);
counter!(
    /// Dense number of a control record, from 1; 0 means "before the first".
    ControlNo, u64
);
counter!(
    /// Number of a writer's reign over the batch log, from 1; a higher one fences the lower.
    WriterEpoch, u64
);

/// Where a record stands in the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub struct Position {
    /// The shard.
    pub shard: ShardId,
    /// The life of the stream in which it was appended.
    pub incarnation: Incarnation,
    /// Its dense number there.
    pub sequence: Sequence,
}

impl fmt::Display for Position {
    /// `shard/incarnation/sequence`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.shard, self.incarnation, self.sequence)
    }
}
