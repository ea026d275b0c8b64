//! The billing role: stream → batch → rated batch → batch log. It composes the domains; they do not know each other.
//! One task owns the state; everything before the commit is a pure function of (stream bytes, state, registry snapshot).

mod again;
mod at_record;
mod controls;
mod levels;

use std::borrow::Cow;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use platform_iam::Permit;
use platform_ingest::batch::{self, Built, Identities, ShardRecords, ShardState, VersionedUsage};
use platform_ingest::events::{EVENTS_ORDER, EVENTS_SORT, events_to_arrow};
use platform_ingest::header::{FORMAT, Header, TableFile};
use platform_ingest::index::{Entry, Index, IndexError, IndexOptions};
use platform_ingest::store;
use platform_rating::{Charge, RatedBatch, RatingState, Total, charges_to_arrow, totals_from_arrow, totals_to_arrow};
use platform_registry::store as registry;
use platform_registry::{Closed, DraftNo, Published, Version};
use shared_bus::Stream;
use shared_db::{Database, OutboxEvent};
use shared_types::{BatchNo, ControlNo, Digest, IdentityHash, Incarnation, Instant, Month, Position, Sequence, ShardId, WriterEpoch};
use tokio::sync::{mpsc, oneshot, watch};

use crate::clock::now;
use crate::home::{BatchSettings, Home, ReviewWhen};
use crate::lake::{CHARGES, EVENTS, Lake, TOTALS};
use crate::registries::Registries;
use crate::rerating::{self, Ahead};
use crate::roles::intake::Lag;
use again::Publications;
use at_record::UnderWay;
use levels::{Levels, Look};

/// The index as the batch builder asks it.
struct Committed<'a>(&'a Index);

impl Identities for Committed<'_> {
    fn look_up(&self, identities: &[(ShardId, IdentityHash)]) -> Result<Vec<Option<Entry>>, IndexError> {
        self.0.get_many(identities)
    }
}

/// A shard as the database has it and as the next record meets it: they differ only when the stream began a new incarnation.
#[derive(Clone)]
struct Shard {
    committed: ShardState,
    working: ShardState,
    /// The last control record that the relay appended to this shard.
    relayed: ControlNo,
}

/// What is to be published.
pub enum Candidate {
    /// A version as it is; only where no review is required.
    Version(Version),
    /// A draft that was approved.
    Draft(DraftNo),
}

/// A folder is not published as it is where a review is required.
#[derive(Debug, thiserror::Error)]
#[error("this home publishes approved drafts only (registry.review = \"required\"): propose it with `tally registry propose FOLDER`")]
pub struct ReviewRequired;

/// A registry version on its way to being in force.
pub struct Publication {
    /// Who may.
    pub permit: Box<Permit>,
    /// What.
    pub candidate: Candidate,
    /// Whether usage that was rated before and that it reaches back over is rated again.
    pub rerate: bool,
    /// Where the answer goes.
    pub answer: oneshot::Sender<anyhow::Result<Published>>,
}

/// What is asked of the billing task from outside.
pub enum Command {
    /// Publish a registry version once everything before it is rated.
    Publish(Publication),
    /// Close a month and all before it: a record in every shard, behind what entered before it.
    Close {
        /// That it may be done.
        permit: Box<Permit>,
        /// The month.
        month: Month,
        /// Where the answer goes, once the record is in every shard.
        answer: oneshot::Sender<anyhow::Result<Closed>>,
    },
}

/// The state of the billing task.
pub struct Billing {
    stream: Arc<dyn Stream>,
    log: Database,
    books: Database,
    registries: Arc<Registries>,
    lake: Lake,
    index: Option<Index>,
    index_folder: PathBuf,
    index_options: IndexOptions,
    rating: RatingState,
    shards: Vec<Shard>,
    head: (BatchNo, Digest),
    epoch: WriterEpoch,
    settings: BatchSettings,
    review: ReviewWhen,
    committed: watch::Sender<BatchNo>,
    /// Held for writing while a registry version is published: intake holds it for reading around each append.
    gate: Arc<tokio::sync::RwLock<()>>,
    lag: Lag,
    first_turn: usize,
    /// When the next recurring fee falls due.
    due_at: Option<Instant>,
    /// Levels that are carried into the next service period.
    levels: Levels,
    /// What was rated again before the record at which it is booked.
    ahead: Option<Ahead>,
    /// Shards that stand at a record and are rated again beside this task.
    under_way: UnderWay,
}

/// How a shard's stream meets its committed position.
async fn attach(stream: &dyn Stream, states: Vec<ShardState>) -> anyhow::Result<Vec<Shard>> {
    let ends = stream.ends().await?;
    let mut shards = Vec::with_capacity(states.len());
    for (state, end) in states.into_iter().zip(ends) {
        let fresh = state.position.sequence == Sequence(0);
        let same = if end.incarnation != state.position.incarnation || end.sequence < state.position.sequence {
            false
        } else if end.sequence == state.position.sequence {
            end.digest == state.digest || fresh
        } else if fresh || end.first > state.position.sequence {
            true
        } else {
            let before = Sequence(state.position.sequence.0.saturating_sub(1));
            let records = stream.read(state.position.shard, before, 1, usize::MAX).await?;
            records.first().is_some_and(|record| record.position == state.position && record.digest == state.digest)
        };
        let mut working = state.clone();
        if !same {
            let incarnation = if end.incarnation > state.position.incarnation {
                // A life of the stream of which nothing is committed yet.
                end.incarnation
            } else {
                let next = Incarnation(state.position.incarnation.0.max(end.incarnation.0).saturating_add(1));
                tracing::warn!(shard = %state.position.shard, committed = %state.position, "the stream does not hold what was committed: new incarnation {next}");
                stream.reincarnate(state.position.shard, next).await?;
                next
            };
            working.position = Position { incarnation, sequence: Sequence(0), ..working.position };
            working.digest = Digest::ZERO;
        }
        shards.push(Shard { relayed: working.control_no, committed: state, working });
    }
    Ok(shards)
}

impl Billing {
    /// Takes over a home: opens a writer epoch, attaches the stream, restores rating from `totals` and the index from `events`.
    #[expect(clippy::too_many_arguments, reason = "the role composes what its process owns; it is opened in one place")]
    pub async fn open(
        home: &Home,
        stream: Arc<dyn Stream>,
        log: Database,
        books: Database,
        registries: Arc<Registries>,
        gate: Arc<tokio::sync::RwLock<()>>,
        lag: Lag,
        lake: Lake,
    ) -> anyhow::Result<Self> {
        #[cfg(feature = "plant")]
        super::plant::skip_fence(&log, &*stream).await?;
        let mut tx = log.begin().await?;
        let epoch = store::open_epoch(&mut tx, &format!("process {}", std::process::id()), now()).await?;
        let states = store::shard_states(&mut tx).await?;
        let head = store::head(&mut tx).await?;
        tx.commit().await?;
        let shards = attach(&*stream, states).await?;
        for (shard, end) in shards.iter().zip(stream.ends().await?) {
            let waiting = end.sequence.0.saturating_sub(shard.working.position.sequence.0);
            lag.entered(usize::try_from(waiting).unwrap_or(usize::MAX));
        }
        let mut versions: Vec<Digest> = shards.iter().map(|shard| shard.committed.registry_version).collect();
        versions.sort_unstable();
        versions.dedup();
        for version in versions.into_iter().filter(|version| *version != Digest::ZERO) {
            registries.snapshot(version).await?;
        }
        let (committed, _) = watch::channel(head.0);
        let mut billing = Self {
            stream,
            log,
            books,
            registries,
            lake,
            index: None,
            index_folder: home.path("index"),
            // Identity hashes of another deployment mean nothing here: the index is bound to the key, not to the key's bytes.
            index_options: IndexOptions::new(Digest::of_parts(&[b"identity-index", &home.secrets()?.identity]).to_string()),
            rating: RatingState::default(),
            shards,
            head,
            epoch,
            settings: home.settings.batch.clone(),
            review: home.settings.registry.review,
            committed,
            gate,
            lag,
            first_turn: 0,
            due_at: None,
            levels: Levels::default(),
            ahead: None,
            under_way: UnderWay::default(),
        };
        billing.restore_rating().await?;
        billing.refill_index().await?;
        billing.relay().await?;
        billing.look_ahead().await?;
        Ok(billing)
    }

    /// Whether a registry version was ever published.
    pub async fn has_registry(&self) -> anyhow::Result<bool> {
        Ok(registry::active(&mut self.books.read().await?).await?.is_some())
    }

    /// A digest over the state of every key, for tests.
    #[cfg(test)]
    pub fn rating_digest(&self) -> Digest {
        let mut keys: Vec<String> = self.rating.keys().map(|(key, state)| format!("{key:?} {state:?}")).collect();
        keys.sort_unstable();
        Digest::of(keys.join("\n").as_bytes())
    }

    /// Its reign.
    pub fn epoch(&self) -> WriterEpoch {
        self.epoch
    }

    /// Follows the commits.
    pub fn commits(&self) -> watch::Receiver<BatchNo> {
        self.committed.subscribe()
    }

    /// Rating's checkpoint is the last row of each key in `totals`. A merged file is read once, in the order of the stream.
    async fn restore_rating(&mut self) -> anyhow::Result<()> {
        let mut after = BatchNo(0);
        while let Some(next) = after.next().filter(|next| *next <= self.head.0) {
            if let Some(merge) = self.lake.merge_of(next) {
                let rows = self.lake.read_merged(&merge, TOTALS, None)?;
                for total in totals_from_arrow(rows.rows())? {
                    self.rating.absorb(&total)?;
                }
                after = merge.last;
                continue;
            }
            let mut tx = self.log.read().await?;
            let headers = store::batches_after(&mut tx, after, 1_000).await?;
            drop(tx);
            for (header, _) in headers {
                if self.lake.merge_of(header.batch_no).is_some() {
                    break;
                }
                after = header.batch_no;
                for rows in self.lake.read(&header, TOTALS, None)? {
                    for total in totals_from_arrow(&rows)? {
                        self.rating.absorb(&total)?;
                    }
                }
            }
        }
        self.lake.forget();
        Ok(())
    }

    /// Opens the index and fills it up to the last batch from the `events` files; nothing is accepted before that.
    async fn refill_index(&mut self) -> anyhow::Result<()> {
        self.index = None;
        let mut opened = Index::open(&self.index_folder, &self.index_options)?;
        if !self.holds(opened.through, opened.digest).await? {
            tracing::warn!(through = %opened.through, "the identity index comes from another history of the log: rebuilding it");
            opened.index.discard()?;
            opened = Index::open(&self.index_folder, &self.index_options)?;
        }
        let mut through = opened.through;
        while through < self.head.0 {
            let mut tx = self.log.read().await?;
            let headers = store::batches_after(&mut tx, through, 100).await?;
            let Some((last, digest)) = headers.last() else { bail!("batch {through} has no successor in the log") };
            let (last, digest) = (last.batch_no, *digest);
            let mut entries = Vec::new();
            for (header, _) in &headers {
                entries.extend(self.lake.accepted_identities(header)?);
            }
            opened.index.apply(&entries, last, &digest)?;
            through = last;
        }
        self.lake.forget();
        self.index = Some(opened.index);
        Ok(())
    }

    /// Whether the log has this batch with this digest; so it is for the beginning.
    async fn holds(&self, batch_no: BatchNo, digest: Digest) -> anyhow::Result<bool> {
        let Some(before) = batch_no.0.checked_sub(1) else { return Ok(true) };
        let mut tx = self.log.read().await?;
        let found = store::batches_after(&mut tx, BatchNo(before), 1).await?;
        Ok(found.first().is_some_and(|(header, found)| header.batch_no == batch_no && *found == digest))
    }

    /// Takes the next records of all shards but those that are under way, up to the batch's limit; the shard that goes first changes from batch to
    /// batch.
    async fn next_records(&mut self) -> anyhow::Result<Vec<ShardRecords>> {
        let (mut left, mut bytes) = (self.settings.records_max, BATCH_BYTES);
        let mut taken = Vec::new();
        let shards = self.shards.len().max(1);
        self.first_turn = (self.first_turn + 1) % shards;
        for turn in 0..shards {
            let Some(shard) = self.shards.get((self.first_turn + turn) % shards) else { continue };
            if left == 0 || bytes == 0 {
                break;
            }
            if self.under_way.holds(shard.working.position.shard) {
                continue;
            }
            let after = shard.working.position.sequence;
            let records = self.stream.read(shard.working.position.shard, after, left, bytes).await?;
            let mut of_shard = ShardRecords { state: shard.working.clone(), records };
            // What is behind a record by which usage is rated again waits for it.
            if rerating::record_of(&of_shard, &*self.registries).is_some() {
                of_shard.records.truncate(1);
            }
            left = left.saturating_sub(of_shard.records.len());
            bytes = bytes.saturating_sub(of_shard.records.iter().map(|record| record.payload.len()).sum());
            if !of_shard.records.is_empty() {
                taken.push(of_shard);
            }
        }
        taken.sort_by_key(|shard| shard.state.position.shard);
        Ok(taken)
    }

    /// Builds, rates and commits one batch; how many records it took, 0 when the stream holds nothing new and nothing is under way.
    ///
    /// Shards that stand at a record by which usage is rated again leave the others alone meanwhile: their batch is made beside this task and
    /// committed when it is written.
    ///
    /// An error leaves memory as it was at the last commit; files that were written are orphans and swept by the next reign.
    pub async fn step(&mut self) -> anyhow::Result<usize> {
        let mut changes = self.stream.subscribe();
        loop {
            if self.index.is_none() {
                self.refill_index().await?;
            }
            changes.borrow_and_update();
            if let Some(made) = self.under_way.done() {
                self.begin_next()?;
                return self.commit(made?).await;
            }
            let mut lap = Lap::start();
            let mut records = self.next_records().await?;
            let met = self.meet_record(&mut records).await?;
            let taken: usize = records.iter().map(|shard| shard.records.len()).sum();
            if taken > 0 {
                return self.live(records, taken, &mut lap).await;
            }
            if met {
                continue;
            }
            if self.under_way.is_empty() {
                return Ok(0);
            }
            tokio::select! {
                made = self.under_way.next() => {
                    self.begin_next()?;
                    return self.commit(made?).await;
                }
                _ = changes.changed() => {}
            }
        }
    }

    /// A batch of usage as it comes.
    async fn live(&mut self, records: Vec<ShardRecords>, taken: usize, lap: &mut Lap) -> anyhow::Result<usize> {
        let read_micros = lap.micros();
        let built = match tokio::task::block_in_place(|| self.build(records)) {
            Ok(built) => built,
            Err(BuildFailure::Index(error)) => {
                tracing::warn!(%error, "the identity index is damaged: rebuilding it from the batch log");
                self.refill_index().await?;
                return Ok(taken);
            }
            Err(BuildFailure::Other(error)) => return Err(error),
        };
        #[cfg(feature = "plant")]
        let built = {
            let mut built = built;
            super::plant::drop_quarantine_row(&mut built);
            built
        };
        let build_micros = lap.micros();
        let rated = tokio::task::block_in_place(|| self.rate(&built))?;
        let rate_micros = lap.micros();
        let tables = tokio::task::block_in_place(|| write(&self.lake, self.epoch, &built, &rated))?;
        let spent = Spent { read_micros, build_micros, rate_micros, write_micros: lap.micros() };
        self.commit(Made { built, rated, tables, again: 0, spent }).await
    }

    /// Commits a batch that is written; how many records it took.
    async fn commit(&mut self, made: Made) -> anyhow::Result<usize> {
        let mut lap = Lap::start();
        let Made { built, rated, tables, again, spent } = made;
        let header = Header {
            accepted_to: built.accepted_to,
            batch_no: self.head.0.next().context("batch numbers are used up")?,
            format: FORMAT,
            previous: self.head.1,
            ranges: built.ranges.clone(),
            tables,
            writer_epoch: self.epoch,
        };
        let changes = self.changes_of(&rated).await?;
        let before: Vec<ShardState> =
            built.ranges.iter().filter_map(|range| self.shards.get(range.shard.index()).map(|shard| shard.committed.clone())).collect();
        let mut tx = self.log.begin().await?;
        let digest = store::append(&mut tx, &header, &before, now()).await?;
        shared_db::enqueue(&mut tx, committed_event(&header, digest)).await?;
        if let Err(error) = tx.commit().await {
            // The commit may have happened all the same: the log itself says.
            let mut tx = self.log.read().await?;
            if store::head(&mut tx).await? != (header.batch_no, digest) {
                return Err(error.into());
            }
        }
        let commit_micros = lap.micros();
        let rows = built.rows.len();
        self.apply(built, rated, header.batch_no, digest);
        match again {
            0 => self.changed(changes),
            _ => self.changed_again(),
        }
        self.lag.committed(rows);
        let (batch, apply_micros) = (header.batch_no, lap.micros());
        let Spent { read_micros, build_micros, rate_micros, write_micros } = spent;
        tracing::debug!(%batch, rows, again, read_micros, build_micros, rate_micros, write_micros, commit_micros, apply_micros, "committed a batch");
        Ok(rows)
    }

    fn build(&self, records: Vec<ShardRecords>) -> Result<Built, BuildFailure> {
        let index = self.index.as_ref().context("the identity index is closed").map_err(BuildFailure::Other)?;
        batch::build(records, &*self.registries, &Committed(index)).map_err(|error| match error {
            batch::BuildError::Index(error) => BuildFailure::Index(error),
            error => BuildFailure::Other(error.into()),
        })
    }

    /// Rates each registry version's readings. Shards, and with them keys, belong to one version only: each is rated against the same state.
    fn rate(&self, built: &Built) -> anyhow::Result<Vec<RatedBatch>> {
        let mut rated = Vec::with_capacity(built.usage.len());
        for VersionedUsage { registry_version, usage } in &built.usage {
            let snapshot = self
                .registries
                .compiled(registry_version)
                .with_context(|| format!("registry version {registry_version} is not compiled"))?;
            rated.push(platform_rating::rate(&self.rating, &snapshot.plan, &usage.readings, self.settings.threads)?);
        }
        Ok(rated)
    }

    /// After the commit: memory and index follow. The index may fail here: it is derived and refilled.
    fn apply(&mut self, built: Built, rated: Vec<RatedBatch>, batch_no: BatchNo, digest: Digest) {
        for batch in rated {
            self.rating.apply(batch.overlay);
        }
        for state in built.states {
            if let Some(shard) = self.shards.get_mut(state.position.shard.index()) {
                shard.committed = state.clone();
                shard.working = state;
            }
        }
        self.head = (batch_no, digest);
        if let Some(index) = &self.index
            && let Err(error) = index.apply(&built.accepted, batch_no, &digest)
        {
            tracing::warn!(%error, "the identity index did not take a batch: it will be refilled");
            self.index = None;
        }
        self.committed.send_replace(batch_no);
    }

    /// Lets the stream forget what is committed, except each shard's last record: the stream is attached by it.
    async fn trim(&self) -> anyhow::Result<()> {
        let through: Vec<(ShardId, Sequence)> = self
            .shards
            .iter()
            .map(|shard| shard.committed.position)
            .map(|position| (position.shard, Sequence(position.sequence.0.saturating_sub(1))))
            .collect();
        Ok(self.stream.trim(&through).await?)
    }

    /// Works until `stop` rises and the stream's end is committed: a batch each `interval_ms` while there is work, at once when full.
    ///
    /// - `patience`: how long to wait after a failure before trying again; none: a failure ends the run.
    pub async fn run(
        mut self,
        mut commands: mpsc::Receiver<Command>,
        mut stop: watch::Receiver<bool>,
        patience: Option<Duration>,
    ) -> anyhow::Result<()> {
        let mut changes = self.stream.subscribe();
        let (mut publications, mut prepared) = Publications::new();
        let interval = Duration::from_millis(self.settings.interval_ms);
        loop {
            changes.borrow_and_update();
            let started = tokio::time::Instant::now();
            let stepped = match self.tick(Look::Due).await {
                Ok(_) => self.step().await,
                Err(error) => Err(error),
            };
            let taken = match (stepped, patience) {
                (Ok(taken), _) => taken,
                (Err(error), Some(patience)) if !is_fenced(&error) => {
                    tracing::error!(error = format!("{error:#}"), "could not commit a batch; trying again");
                    tokio::time::sleep(patience).await;
                    continue;
                }
                (Err(error), _) => return Err(error),
            };
            if taken > 0 {
                if self.head.0.0.is_multiple_of(TRIM_EVERY) {
                    self.trim().await?;
                    self.keep_changes().await;
                }
                if taken < self.settings.records_max && !*stop.borrow() {
                    let made = self.under_way.made();
                    tokio::select! {
                        () = tokio::time::sleep_until(started + interval) => {}
                        () = made.notified(), if !self.under_way.is_empty() => {}
                        Some(command) = commands.recv() => self.obey(command, &mut publications).await,
                        Some(asked) = prepared.recv() => self.go_on(asked, &mut publications).await,
                        _ = stop.changed() => {}
                    }
                }
                continue;
            }
            self.relay_again().await?;
            if changes.has_changed().unwrap_or(false) {
                continue;
            }
            if *stop.borrow() {
                // What came late is stated before the process ends, once.
                if self.tick(Look::Now).await? {
                    continue;
                }
                self.keep_changes().await;
                return Ok(());
            }
            tokio::select! {
                _ = changes.changed() => {}
                () = tokio::time::sleep(CLOCK_LOOK), if self.due_at.is_some() || self.levels.carried => {}
                Some(command) = commands.recv() => self.obey(command, &mut publications).await,
                Some(asked) = prepared.recv() => self.go_on(asked, &mut publications).await,
                _ = stop.changed() => {}
            }
        }
    }
}

/// A batch that is written, before its commit gives it a number.
struct Made {
    built: Built,
    rated: Vec<RatedBatch>,
    tables: Vec<TableFile>,
    /// Rows of usage that was rated again.
    again: usize,
    spent: Spent,
}

/// What the stages before the commit took.
#[derive(Clone, Copy, Default)]
struct Spent {
    read_micros: u64,
    build_micros: u64,
    rate_micros: u64,
    write_micros: u64,
}

/// Writes the three files of a batch, fsynced.
fn write(lake: &Lake, epoch: WriterEpoch, built: &Built, rated: &[RatedBatch]) -> anyhow::Result<Vec<TableFile>> {
    let charges: Cow<'_, [Charge]> = match rated {
        [one] => Cow::Borrowed(&one.charges),
        more => Cow::Owned(more.iter().flat_map(|batch| batch.charges.iter().cloned()).collect()),
    };
    let totals: Vec<Total> = rated.iter().flat_map(|batch| batch.totals.iter().cloned()).collect();
    Ok(vec![
        lake.write(epoch, EVENTS, &events_to_arrow(&built.rows)?, EVENTS_ORDER, EVENTS_SORT)?,
        lake.write(epoch, CHARGES, &charges_to_arrow(&charges)?, platform_rating::CHARGES_ORDER, platform_rating::CHARGES_SORT)?,
        lake.write(epoch, TOTALS, &totals_to_arrow(&totals)?, platform_rating::TOTALS_ORDER, platform_rating::TOTALS_SORT)?,
    ])
}

/// Payload bytes that one batch takes at most.
const BATCH_BYTES: usize = 64 << 20;

/// How often the clock is looked at while nothing else happens and a recurring fee or a level is to come.
const CLOCK_LOOK: Duration = Duration::from_secs(1);

/// Batches between two trims of the stream.
const TRIM_EVERY: u64 = 64;

/// Another writer took over: trying again would be wrong.
pub fn is_fenced(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| cause.to_string().contains("fenced"))
}

/// Times the stages of a batch, for the log.
struct Lap(std::time::Instant);

impl Lap {
    fn start() -> Self {
        Self(std::time::Instant::now())
    }

    /// Microseconds since the start or the last call.
    fn micros(&mut self) -> u64 {
        let before = std::mem::replace(&mut self.0, std::time::Instant::now());
        u64::try_from(self.0.duration_since(before).as_micros()).unwrap_or(u64::MAX)
    }
}

enum BuildFailure {
    Index(IndexError),
    Other(anyhow::Error),
}

/// Why usage is not rated again.
#[derive(Debug, thiserror::Error)]
#[error("the usage that the version reaches back over is not rated again: {0}")]
pub struct NotRerated(pub String);

fn committed_event(header: &Header, digest: Digest) -> OutboxEvent {
    OutboxEvent {
        subject: "platform.ingest.batch-committed".to_owned(),
        event_type: "platform.ingest.batch-committed".to_owned(),
        version: 1,
        correlation_id: digest.to_string(),
        payload: serde_json::json!({"batch_no": header.batch_no, "digest": digest}).to_string(),
    }
}
