//! One value for each of the 64 shards. It knows nothing of what the values are.

use std::ops::{Index, IndexMut};

use shared_types::{SHARDS, ShardId};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PerShard<T>(Vec<T>);

impl<T> PerShard<T> {
    /// The same value for all.
    pub fn all(value: T) -> Self
    where
        T: Clone,
    {
        Self(vec![value; usize::from(SHARDS)])
    }

    /// A value made for each.
    pub fn from_fn(make: impl FnMut(ShardId) -> T) -> Self {
        Self(ShardId::all().map(make).collect())
    }

    /// A value made for each, if each can be made.
    pub fn try_from_fn(make: impl FnMut(ShardId) -> Option<T>) -> Option<Self> {
        ShardId::all().map(make).collect::<Option<Vec<T>>>().map(Self)
    }

    pub fn iter(&self) -> impl Iterator<Item = (ShardId, &T)> {
        ShardId::all().zip(&self.0)
    }
}

#[expect(clippy::indexing_slicing, reason = "there are as many values as shards")]
impl<T> Index<ShardId> for PerShard<T> {
    type Output = T;
    fn index(&self, shard: ShardId) -> &T {
        &self.0[shard.index()]
    }
}

#[expect(clippy::indexing_slicing, reason = "there are as many values as shards")]
impl<T> IndexMut<ShardId> for PerShard<T> {
    fn index_mut(&mut self, shard: ShardId) -> &mut T {
        &mut self.0[shard.index()]
    }
}
