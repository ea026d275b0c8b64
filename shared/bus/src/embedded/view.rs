//! What is durable and where it lies: the ends of the shards and, four bytes a record, the offsets of their records. In memory only;
//! it knows no file.

use std::collections::VecDeque;

use shared_types::{Incarnation, Sequence, ShardId};

use super::format::End;
use super::shards::PerShard;
use crate::{BusError, ShardEnd};

/// The durable state of the 64 shards.
#[derive(Debug)]
pub struct View(PerShard<Shard>);

#[derive(Debug)]
struct Shard {
    end: End,
    first: Sequence,
    /// Records of the present incarnation, by segment, oldest first. Their sequences are dense.
    runs: VecDeque<Run>,
}

#[derive(Debug)]
struct Run {
    segment: u64,
    first: u64,
    offsets: Vec<u32>,
}

/// Records of one shard that lie in one segment.
#[derive(Debug)]
pub struct Stretch {
    pub segment: u64,
    pub incarnation: Incarnation,
    pub first: Sequence,
    /// Ascending.
    pub offsets: Vec<u32>,
}

impl View {
    /// Nothing but the ends: no record can be read.
    pub fn at(ends: &PerShard<End>) -> Self {
        Self(PerShard::from_fn(|shard| {
            let end = ends[shard];
            Shard { end, first: Sequence(end.sequence.0.saturating_add(1)), runs: VecDeque::new() }
        }))
    }

    pub fn end(&self, shard: ShardId) -> End {
        self.0[shard].end
    }

    pub fn ends(&self) -> PerShard<End> {
        PerShard::from_fn(|shard| self.0[shard].end)
    }

    pub fn shard_ends(&self) -> Vec<ShardEnd> {
        let shown = |shard: &Shard| {
            let End { incarnation, sequence, digest } = shard.end;
            ShardEnd { incarnation, sequence, digest, first: shard.first }
        };
        self.0.iter().map(|(_, shard)| shown(shard)).collect()
    }

    /// A record became durable: it is the new end of its shard.
    pub fn record(&mut self, shard: ShardId, end: End, segment: u64, offset: u32) {
        let shard = &mut self.0[shard];
        shard.end = end;
        match shard.runs.back_mut() {
            Some(run) if run.segment == segment => run.offsets.push(offset),
            _ => shard.runs.push_back(Run { segment, first: end.sequence.0, offsets: vec![offset] }),
        }
    }

    /// A new incarnation became durable.
    pub fn reincarnate(&mut self, shard: ShardId, incarnation: Incarnation) {
        self.0[shard] = Shard { end: End::fresh(incarnation), first: Sequence(1), runs: VecDeque::new() };
    }

    /// Segments before the oldest kept one are gone; `starts` are the ends at the start of that one.
    pub fn forget_before(&mut self, oldest: u64, starts: &PerShard<End>) {
        for (id, start) in starts.iter() {
            let shard = &mut self.0[id];
            if start.incarnation == shard.end.incarnation {
                shard.first = Sequence(start.sequence.0.saturating_add(1));
            }
            while shard.runs.front().is_some_and(|run| run.segment < oldest) {
                shard.runs.pop_front();
            }
        }
    }

    /// Checks that a reader at `after` misses nothing and is not ahead; says whether there is anything for it.
    pub fn check(&self, id: ShardId, after: Sequence) -> Result<bool, BusError> {
        let shard = &self.0[id];
        if after > shard.end.sequence {
            return Err(BusError::BeyondEnd { shard: id, sequence: after, end: shard.end.sequence });
        }
        if after.0.saturating_add(1) < shard.first.0 {
            return Err(BusError::Trimmed { shard: id, after, first: shard.first });
        }
        Ok(after < shard.end.sequence)
    }

    /// The next records after a sequence that lie in one segment, at most so many.
    pub fn stretch(&self, shard: ShardId, after: Sequence, most: usize) -> Option<Stretch> {
        let shard = &self.0[shard];
        let first = after.next()?;
        let behind = shard.runs.partition_point(|run| run.first <= first.0);
        let run = shard.runs.get(behind.checked_sub(1)?)?;
        let skip = usize::try_from(first.0 - run.first).ok()?;
        let offsets: Vec<u32> = run.offsets.iter().skip(skip).take(most).copied().collect();
        (!offsets.is_empty()).then_some(Stretch { segment: run.segment, incarnation: shard.end.incarnation, first, offsets })
    }
}
