//! At the record of a version that reaches back: shards that stand there are rated again, and their rows written, beside the task, some at a
//! time. The task goes on with the other shards and commits what is ready; a shard goes on behind its own commit.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use anyhow::{Context, anyhow};
use platform_ingest::batch::{Built, ShardRecords};
use platform_rating::RatingState;
use platform_registry::Control;
use shared_db::Database;
use shared_types::{BatchNo, Position, ShardId, WriterEpoch};
use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::{Billing, BuildFailure, Lap, Made, Registries, Spent, write};
use crate::lake::Lake;
use crate::registries::Snapshot;
use crate::rerating::{self, Ahead, Reached, Record, UnitKey, Work};

/// Shards that are rated again at their record.
#[derive(Default)]
pub(super) struct UnderWay {
    /// From the record until their batch is committed, or has failed.
    shards: BTreeSet<ShardId>,
    waiting: VecDeque<Group>,
    jobs: JoinSet<(Vec<ShardId>, anyhow::Result<Made>)>,
    /// Since when any is.
    since: Option<std::time::Instant>,
    /// Says that a batch is made.
    made: Arc<Notify>,
}

/// Shards that are rated again together, each with the record at which it stands.
struct Group {
    records: Vec<ShardRecords>,
    reached: Reached,
    version: Arc<Snapshot>,
}

impl UnderWay {
    /// Whether none is.
    pub(super) fn is_empty(&self) -> bool {
        self.shards.is_empty()
    }

    /// Whether this shard is.
    pub(super) fn holds(&self, shard: ShardId) -> bool {
        self.shards.contains(&shard)
    }

    /// What is told when a batch is made.
    pub(super) fn made(&self) -> Arc<Notify> {
        Arc::clone(&self.made)
    }

    /// A batch that is made, if any is.
    pub(super) fn done(&mut self) -> Option<anyhow::Result<Made>> {
        let joined = self.jobs.try_join_next()?;
        Some(self.joined(joined))
    }

    /// The next batch that is made; waits for it. Nothing is lost where the caller waits no more.
    pub(super) async fn next(&mut self) -> anyhow::Result<Made> {
        match self.jobs.join_next().await {
            Some(joined) => self.joined(joined),
            None => std::future::pending().await,
        }
    }

    /// Its shards go on: behind its commit, or with the record again where it failed.
    fn joined(&mut self, joined: Result<(Vec<ShardId>, anyhow::Result<Made>), tokio::task::JoinError>) -> anyhow::Result<Made> {
        match joined {
            Ok((shards, made)) => {
                self.shards.retain(|shard| !shards.contains(shard));
                if self.shards.is_empty()
                    && let Some(since) = self.since.take()
                {
                    tracing::debug!(micros = since.elapsed().as_micros(), "rated again at the record");
                }
                made
            }
            Err(error) => Err(anyhow!(error).context("rating again panicked")),
        }
    }
}

/// A group while it is rated, with everything that it takes.
struct Job {
    log: Database,
    lake: Lake,
    registries: Arc<Registries>,
    epoch: WriterEpoch,
    through: BatchNo,
    threads: usize,
    state: RatingState,
    ahead: Option<Ahead>,
    version: Arc<Snapshot>,
    reached: Reached,
    built: Built,
}

impl Job {
    async fn run(self) -> anyhow::Result<Made> {
        let mut lap = Lap::start();
        let Self { log, lake, registries, epoch, through, threads, state, mut ahead, version, reached, mut built } = self;
        let mut shards = BTreeMap::new();
        for state in &built.states {
            let (position, oldest_open) = (state.position, state.oldest_open);
            shards.insert(position.shard, Record { position, accepted_at: built.accepted_to, oldest_open });
        }
        let work = Work { log: &log, lake: &lake, registries: &registries, through, threads };
        let mut batch = work.rerate(&state, &version.plan, &reached, &shards, ahead.as_mut()).await?;
        // Rows stand in the order of the records.
        let at_records = batch.charges.chunk_by(|a, b| a.position == b.position);
        let counts: BTreeMap<Position, usize> = at_records.filter_map(|rows| Some((rows.first()?.position, rows.len()))).collect();
        for row in &mut built.rows {
            row.readings = i32::try_from(counts.get(&row.position).copied().unwrap_or_default())?;
        }
        let rate_micros = lap.micros();
        let tables = tokio::task::block_in_place(|| write(&lake, epoch, &built, std::slice::from_ref(&batch)))?;
        let again = std::mem::take(&mut batch.charges).len();
        tracing::info!(rows = again, version = %version.plan.version, "rated usage again");
        let spent = Spent { rate_micros, write_micros: lap.micros(), ..Spent::default() };
        Ok(Made { built, rated: vec![batch], tables, again, spent })
    }
}

impl Billing {
    /// Takes out the shards that stand at a record by which usage is rated again, and has that done beside this task: those at the earliest one,
    /// in groups, as many at a time as there are threads.
    ///
    /// - Returns whether there were any.
    pub(super) async fn meet_record(&mut self, records: &mut Vec<ShardRecords>) -> anyhow::Result<bool> {
        let standing = rerating::take_at_record(records, &*self.registries);
        let met = !standing.is_empty();
        if let Some((shard, record)) = standing.first().and_then(|shard| Some((shard, shard.records.first()?))) {
            let version = Control::parse(&record.payload)?.registry_version().context("the record puts no version in force")?;
            let (old, version) = (self.registries.snapshot(shard.state.registry_version).await?, self.registries.snapshot(version).await?);
            let here: BTreeSet<ShardId> = standing.iter().map(|shard| shard.state.position.shard).collect();
            let waiting = self.waiting(&old.version, &version.version, &version.plan).await?;
            let keys = || self.rating.keys().filter(|(_, state)| here.contains(&state.shard));
            let mut reached =
                Reached::of(&old.version, &version.version, keys()).and_waiting(waiting, keys(), |shard| here.contains(&shard));
            let groups = reached.groups();
            let mut by_group: BTreeMap<Option<usize>, Vec<ShardRecords>> = BTreeMap::new();
            for shard in standing {
                let name = shard.state.position.shard;
                self.under_way.shards.insert(name);
                by_group.entry(groups.iter().position(|group| group.contains(&name))).or_default().push(shard);
            }
            // In order: shards of which nothing is rated again come first, and go on at once.
            for records in by_group.into_values() {
                let shards: BTreeSet<ShardId> = records.iter().map(|shard| shard.state.position.shard).collect();
                self.under_way.waiting.push_back(Group { records, reached: reached.take(&shards), version: Arc::clone(&version) });
            }
        }
        self.begin_next()?;
        Ok(met)
    }

    /// Begins what waits, while there is a thread for it.
    pub(super) fn begin_next(&mut self) -> anyhow::Result<()> {
        while self.under_way.jobs.len() < self.settings.threads.max(1)
            && let Some(group) = self.under_way.waiting.pop_front()
        {
            let shards: Vec<ShardId> = group.records.iter().map(|shard| shard.state.position.shard).collect();
            if let Err(error) = self.begin(group, &shards) {
                self.under_way.shards.retain(|shard| !shards.contains(shard));
                return Err(error);
            }
        }
        Ok(())
    }

    fn begin(&mut self, group: Group, shards: &[ShardId]) -> anyhow::Result<()> {
        let Group { records, reached, version } = group;
        let built = match tokio::task::block_in_place(|| self.build(records)) {
            Ok(built) => built,
            Err(BuildFailure::Index(error)) => {
                // It is filled again before the next try.
                self.index = None;
                return Err(error.into());
            }
            Err(BuildFailure::Other(error)) => return Err(error),
        };
        let units: BTreeSet<UnitKey> = reached.shards.values().flat_map(|(units, _)| units).cloned().collect();
        let others = self.under_way.jobs.len().saturating_add(self.under_way.waiting.len());
        let job = Job {
            log: self.log.clone(),
            lake: self.lake.clone(),
            registries: Arc::clone(&self.registries),
            epoch: self.epoch,
            through: self.head.0,
            threads: self.settings.threads.div_ceil(others.saturating_add(1)),
            state: self.rating.part(|organization, month| units.contains(&(organization.clone(), month))),
            // Should this batch not be committed, what it took is rated whole the next time.
            ahead: self.ahead.as_mut().filter(|ahead| ahead.version == version.plan.version).map(|ahead| ahead.take(&units)),
            version,
            reached,
            built,
        };
        self.under_way.since.get_or_insert_with(std::time::Instant::now);
        let (shards, told) = (shards.to_vec(), self.under_way.made());
        self.under_way.jobs.spawn(async move {
            // A panic in there must set its shards free too.
            let made = match tokio::spawn(job.run()).await {
                Ok(made) => made,
                Err(error) => Err(anyhow!(error).context("rating again panicked")),
            };
            told.notify_one();
            (shards, made)
        });
        Ok(())
    }
}
