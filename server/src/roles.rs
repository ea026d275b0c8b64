//! Roles of the owning process and how they run together: billing (stream → batch log), the folds that follow it, and invoicing.
//! Composition only; what a role does is written in its module.

pub mod billing;
pub mod compact;
pub mod folds;
pub mod iam;
pub mod intake;
pub mod invoicing;
#[cfg(feature = "plant")]
pub mod plant;
pub mod proposals;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use platform_iam::{Pepper, Permit};
use platform_ingest::wire::WireLimits;
use platform_registry::{Closed, DraftNo, Published, Version};
use shared_bus::{Disk, Embedded, RealDisk, Stream, UnsyncedInMemory};
use shared_db::Database;
use shared_types::{BatchNo, Month};
use tokio::sync::{Notify, RwLock, mpsc, oneshot, watch};
use tokio::task::JoinSet;

use crate::access::{Access, Denials};
use crate::home::{DiskKind, Home, Lock, Store};
use crate::lake::Lake;
use crate::registries::Registries;
use billing::{Billing, Candidate, Command, Publication};
use compact::{Compaction, Compactor};
use folds::{EvidenceFold, LakeFold, LedgerFold, UsageFold, follow};
use iam::Iam;
use intake::{Intake, Lag};
use invoicing::Invoicing;

/// What to do when a role fails.
#[derive(Clone, Copy, Debug)]
pub enum OnFailure {
    /// Say so and try again after this time: a server.
    Retry(Duration),
    /// End with the error: a command.
    End,
}

/// The roles of an owned home, at work.
pub struct Running {
    /// Where events enter.
    pub intake: Intake,
    /// Who is asking.
    pub access: Access,
    /// Who may do what.
    pub iam: Iam,
    books: Database,
    commands: mpsc::Sender<Command>,
    folded: Vec<(&'static str, watch::Receiver<BatchNo>)>,
    commits: watch::Receiver<BatchNo>,
    registry: watch::Sender<bool>,
    invoice: Arc<Notify>,
    stop: watch::Sender<bool>,
    tasks: JoinSet<anyhow::Result<()>>,
    compaction: watch::Receiver<Compaction>,
    /// Of a command, which merges only when it is asked to; a server's works beside the other roles.
    compactor: Option<Compactor>,
    /// Held as long as the roles run; freed when this is dropped.
    lock: Lock,
}

/// The embedded stream of a home.
pub fn open_stream(home: &Home) -> anyhow::Result<Arc<dyn Stream>> {
    let disk: Arc<dyn Disk> = match home.settings.stream.disk {
        DiskKind::Real => Arc::new(RealDisk),
        DiskKind::UnsyncedInMemory => Arc::new(UnsyncedInMemory::default()),
    };
    let options = shared_bus::Options { segment_bytes: home.settings.stream.segment_bytes, ..shared_bus::Options::default() };
    Ok(Arc::new(Embedded::open(&home.path("stream"), disk, options).context("could not open the stream")?))
}

impl Running {
    /// Takes the home's lock and starts every role.
    pub async fn start(home: &Home, on_failure: OnFailure) -> anyhow::Result<Self> {
        Self::start_owned(home, home.lock(None)?, on_failure).await
    }

    /// Starts every role of a home whose lock is held.
    pub async fn start_owned(home: &Home, lock: Lock, on_failure: OnFailure) -> anyhow::Result<Self> {
        let secrets = home.secrets()?;
        let stream = open_stream(home)?;
        let log = home.database(Store::Log).await?;
        let books = home.database(Store::Books).await?;
        let registries = Arc::new(Registries::new(books.clone(), &secrets));
        let gate = Arc::new(RwLock::new(()));
        let lake = Lake::open(home, &log).await?;
        let lag = Lag::default();
        let billing = Billing::open(
            home,
            Arc::clone(&stream),
            log.clone(),
            books.clone(),
            Arc::clone(&registries),
            Arc::clone(&gate),
            lag.clone(),
            lake.clone(),
        )
        .await?;
        let (registry, registry_seen) = watch::channel(billing.has_registry().await?);
        let (stop, stopping) = watch::channel(false);
        let (commands, obeyed) = mpsc::channel(16);
        let commits = billing.commits();
        let patience = match on_failure {
            OnFailure::Retry(after) => Some(after),
            OnFailure::End => None,
        };
        let mut tasks = JoinSet::new();
        let mut folded = Vec::new();

        let (ledger_at, ledger_seen) = watch::channel(BatchNo(0));
        let (lake_at, lake_seen) = watch::channel(BatchNo(0));
        let (usage_at, usage_seen) = watch::channel(BatchNo(0));
        let (evidence_at, evidence_seen) = watch::channel(BatchNo(0));
        let ledger = LedgerFold::new(log.clone(), books.clone(), lake.clone());
        tasks.spawn(follow(ledger, commits.clone(), ledger_at, patience));
        let database = home.database(Store::Lake).await?;
        let catalog = LakeFold::open(log.clone(), database.clone(), lake.clone()).await?;
        compact::sweep(&log, &database, &lake, billing.epoch()).await?;
        let compactor = Compactor::new(log.clone(), database, catalog.clone(), lake.clone(), billing.epoch(), &home.settings.compact);
        tasks.spawn(follow(catalog, commits.clone(), lake_at, patience));
        let usage = UsageFold::new(log.clone(), home.database(Store::Usage).await?, lake.clone());
        tasks.spawn(follow(usage, commits.clone(), usage_at, patience));
        // Evidence never runs ahead of the ledger: it follows its cursor.
        let (pepper, denials) = (Pepper::from_bytes(&secrets.pepper), Denials::default());
        let access = Access::new(books.clone(), pepper.clone(), &home.settings.access, denials.clone());
        let iam = Iam::new(books.clone(), pepper);
        tasks.spawn(denials.run(books.clone(), stopping.clone()));
        let evidence =
            EvidenceFold::open(home, &secrets, log, books.clone(), home.database(Store::Evidence).await?, lake, home.path("tiles")).await?;
        let (entries, booked) = watch::channel(0);
        tasks.spawn(folds::seal(evidence, ledger_seen.clone(), booked, evidence_at, patience));
        let invoice = Arc::new(Notify::new());
        let invoicing = Invoicing::new(books.clone(), home.settings.billing.clone(), entries);
        tasks.spawn(invoicing.run(ledger_seen.clone(), Arc::clone(&invoice), patience));
        tasks.spawn(billing.run(obeyed, stopping.clone(), patience));

        folded.push(("ledger", ledger_seen));
        folded.push(("lake", lake_seen));
        folded.push(("usage", usage_seen));
        folded.push(("evidence", evidence_seen));
        let compaction = compactor.done();
        let compactor = if patience.is_some() {
            tasks.spawn(compactor.run(folded.iter().map(|(_, at)| at.clone()).collect(), stopping));
            None
        } else {
            Some(compactor)
        };
        let limits = WireLimits { body_bytes_max: home.settings.serve.body_bytes_max, ..WireLimits::default() };
        let intake = Intake::new(stream, gate, registry_seen, lag, home.settings.serve.lag_events_max, limits);
        Ok(Self { intake, access, iam, books, commands, folded, commits, registry, invoice, stop, tasks, compaction, compactor, lock })
    }

    /// Publishes a registry version behind everything accepted so far; [`Publisher::publish`].
    pub async fn publish(&self, permit: Permit, version: Version, rerate: bool) -> anyhow::Result<Published> {
        self.publisher().publish(permit, version, rerate).await
    }

    /// The lock of the home.
    pub fn lock(&self) -> &Lock {
        &self.lock
    }

    /// A handle that publishes, for the HTTP server.
    pub fn publisher(&self) -> Publisher {
        Publisher { commands: self.commands.clone(), registry: self.registry.clone() }
    }

    /// Closes a month and all before it; answers when its record is in every shard. Drafting follows by itself.
    pub async fn close(&self, permit: Permit, month: Month) -> anyhow::Result<Closed> {
        self.closer().close(permit, month).await
    }

    /// A handle that closes months, for the HTTP server.
    pub fn closer(&self) -> Closer {
        Closer { commands: self.commands.clone(), invoice: Arc::clone(&self.invoice) }
    }

    /// How far the log and its folds are.
    pub fn progress(&self) -> Progress {
        Progress { commits: self.commits.clone(), folded: self.folded.clone(), compaction: self.compaction.clone() }
    }

    /// Waits until a role fails; for a server beside its other work.
    pub async fn failure(&mut self) -> anyhow::Error {
        match self.tasks.join_next().await {
            Some(Ok(Err(error))) => error,
            Some(Ok(Ok(()))) => anyhow::anyhow!("a role ended by itself"),
            Some(Err(error)) => anyhow::anyhow!(error).context("a role panicked"),
            None => anyhow::anyhow!("no role runs"),
        }
    }

    /// Works until everything in the stream is committed and folded, then ends every role.
    pub async fn drain(mut self) -> anyhow::Result<()> {
        self.finish().await
    }

    /// Drains, then merges everything that may be merged and removes what may be removed. For a command.
    pub async fn compact(mut self, permit: Permit) -> anyhow::Result<Compaction> {
        self.finish().await?;
        let mut compactor = self.compactor.take().context("a server compacts by itself")?;
        let (_go_on, stop) = watch::channel(false);
        let through = *self.commits.borrow();
        // Recorded before history is given up: nothing goes without a record.
        let mut tx = self.books.begin().await?;
        platform_audit::record(&mut tx, &permit.record(None, "lake", BTreeMap::new(), crate::clock::now())).await?;
        tx.commit().await?;
        compactor.pass(through, crate::clock::now(), true, &stop).await
    }

    async fn finish(&mut self) -> anyhow::Result<()> {
        self.stop.send_replace(true);
        while let Some(ended) = self.tasks.join_next().await {
            ended.context("a role panicked")??;
        }
        Ok(())
    }
}

/// Publishes registry versions through the billing task.
#[derive(Clone)]
pub struct Publisher {
    commands: mpsc::Sender<Command>,
    registry: watch::Sender<bool>,
}

impl Publisher {
    /// Publishes a registry version behind everything accepted so far.
    ///
    /// - `rerate`: whether usage that was rated before and that it reaches back over is rated again; else such a version is refused.
    pub async fn publish(&self, permit: Permit, version: Version, rerate: bool) -> anyhow::Result<Published> {
        self.put_in_force(permit, Candidate::Version(version), rerate).await
    }

    /// Publishes an approved draft behind everything accepted so far.
    ///
    /// - `rerate`: as for [`Publisher::publish`].
    pub async fn publish_draft(&self, permit: Permit, draft_no: DraftNo, rerate: bool) -> anyhow::Result<Published> {
        self.put_in_force(permit, Candidate::Draft(draft_no), rerate).await
    }

    async fn put_in_force(&self, permit: Permit, candidate: Candidate, rerate: bool) -> anyhow::Result<Published> {
        let (answer, answered) = oneshot::channel();
        self.commands
            .send(Command::Publish(Publication { permit: Box::new(permit), candidate, rerate, answer }))
            .await
            .map_err(|_| anyhow::anyhow!("the billing role has ended"))?;
        let published = answered.await.context("the billing role has ended")??;
        self.registry.send_replace(true);
        Ok(published)
    }
}

/// Closes months through the billing task, and wakes invoicing.
#[derive(Clone)]
pub struct Closer {
    commands: mpsc::Sender<Command>,
    invoice: Arc<Notify>,
}

impl Closer {
    /// Closes a month and all before it; answers when its record is in every shard.
    pub async fn close(&self, permit: Permit, month: Month) -> anyhow::Result<Closed> {
        let (answer, answered) = oneshot::channel();
        let command = Command::Close { permit: Box::new(permit), month, answer };
        self.commands.send(command).await.map_err(|_| anyhow::anyhow!("the billing role has ended"))?;
        answered.await.context("the billing role has ended")?
    }

    /// Has invoicing look again: an opinion was recorded.
    pub fn look_again(&self) {
        self.invoice.notify_one();
    }
}

/// How far the log and its folds are.
#[derive(Clone)]
pub struct Progress {
    commits: watch::Receiver<BatchNo>,
    folded: Vec<(&'static str, watch::Receiver<BatchNo>)>,
    compaction: watch::Receiver<Compaction>,
}

impl Progress {
    /// The last committed batch.
    pub fn committed(&self) -> BatchNo {
        *self.commits.borrow()
    }

    /// What compaction has come to.
    pub fn compaction(&self) -> Compaction {
        *self.compaction.borrow()
    }

    /// Each fold's last batch.
    pub fn folds(&self) -> impl Iterator<Item = (&'static str, BatchNo)> {
        self.folded.iter().map(|(name, at)| (*name, *at.borrow()))
    }
}
