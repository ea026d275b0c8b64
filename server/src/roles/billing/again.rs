//! Publications in the billing role: what one reaches back over is rated again beside the task, which goes on with live usage, before the
//! version's record is written.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use anyhow::bail;
use platform_iam::Action;
use platform_rating::{Plan, RatingState};
use platform_registry::store as registry;
use platform_registry::{RatedKey, Version, drafts};
use shared_db::Database;
use shared_types::BatchNo;
use tokio::sync::mpsc;

use super::{Billing, Candidate, Command, NotRerated, Publication, Registries};
use crate::home::ReviewWhen;
use crate::lake::Lake;
use crate::rerating::{self, Ahead, Reached, UnitKey, Waiting, Work};

/// A publication whose usage was rated again beside the task, or why it cannot be.
pub(super) type Prepared = (Publication, anyhow::Result<Ahead>);

/// Publications that are on their way: one at a time, in the order in which they were asked for.
pub(super) struct Publications {
    prepared: mpsc::Sender<Prepared>,
    /// Whether one is prepared beside the task.
    busy: bool,
    waiting: VecDeque<Publication>,
}

impl Publications {
    /// None so far, and where those that are prepared come out.
    pub(super) fn new() -> (Self, mpsc::Receiver<Prepared>) {
        let (prepared, ready) = mpsc::channel(1);
        (Self { prepared, busy: false, waiting: VecDeque::new() }, ready)
    }
}

/// What is rated beside the task, with everything that it takes.
struct Beside {
    log: Database,
    lake: Lake,
    registries: Arc<Registries>,
    through: BatchNo,
    threads: usize,
    state: RatingState,
    plan: Plan,
    active: Version,
    version: Version,
    reached: Reached,
}

impl Beside {
    async fn run(self) -> anyhow::Result<Ahead> {
        let started = std::time::Instant::now();
        let Self { log, lake, registries, through, threads, mut state, plan, active, version, mut reached } = self;
        let work = Work { log: &log, lake: &lake, registries: &registries, through, threads };
        let waiting = work.wait(&active, &version, &plan, Arc::default()).await?;
        let known: BTreeSet<UnitKey> = reached.shards.values().flat_map(|(units, _)| units).cloned().collect();
        let waits: BTreeSet<UnitKey> = waiting.units().into_keys().cloned().collect();
        if !waits.is_subset(&known) {
            state = rerating::restore_units(&log, &lake, through, |unit| known.contains(unit) || waits.contains(unit)).await?;
        }
        reached = reached.and_waiting(waiting, state.keys(), |_| true);
        let ahead = work.ahead(&state, &plan, &reached).await?;
        tracing::debug!(micros = started.elapsed().as_micros(), %through, "prepared rating again");
        Ok(ahead)
    }
}

impl Billing {
    pub(super) async fn obey(&mut self, command: Command, publications: &mut Publications) {
        match command {
            Command::Publish(asked) if publications.busy => publications.waiting.push_back(asked),
            Command::Publish(asked) => self.take_up(asked, publications).await,
            Command::Close { permit, month, answer } => {
                let closed = self.close(&permit, month).await;
                // The asker may be gone; the close stands.
                let _ = answer.send(closed);
            }
        }
    }

    /// Publishes at once where nothing is rated again, else when that is prepared.
    async fn take_up(&mut self, asked: Publication, publications: &mut Publications) {
        let beside = match self.beside(&asked).await {
            Ok(Some(beside)) => beside,
            Ok(None) => return self.put_in_force(asked, None).await,
            Err(error) => return drop(asked.answer.send(Err(error))),
        };
        publications.busy = true;
        let prepared = publications.prepared.clone();
        tokio::spawn(async move {
            // A panic in there must be answered too.
            let ahead = match tokio::spawn(beside.run()).await {
                Ok(ahead) => ahead,
                Err(error) => Err(anyhow::anyhow!(error).context("rating again panicked")),
            };
            // The task may have ended.
            let _ = prepared.send((asked, ahead)).await;
        });
    }

    /// Goes on with a publication that is prepared, then with those that waited for it.
    pub(super) async fn go_on(&mut self, (asked, ahead): Prepared, publications: &mut Publications) {
        publications.busy = false;
        match ahead {
            Ok(ahead) => self.put_in_force(asked, Some(ahead)).await,
            Err(error) => drop(asked.answer.send(Err(error))),
        }
        while !publications.busy
            && let Some(next) = publications.waiting.pop_front()
        {
            self.take_up(next, publications).await;
        }
    }

    async fn put_in_force(&mut self, asked: Publication, ahead: Option<Ahead>) {
        let published = self.publish(&asked, ahead).await;
        self.ahead = None;
        // The asker may be gone; the publication stands.
        let _ = asked.answer.send(published);
    }

    /// What a publication has rated again, if anything; what rating again would not carry out is refused: changes that it cannot follow,
    /// currencies that could not be rounded. Readings that would have no price any more are refused by whoever rates it beside this task. So no
    /// record asks for what then cannot be booked.
    async fn beside(&self, asked: &Publication) -> anyhow::Result<Option<Beside>> {
        // Whether it may be published at all is said by publishing.
        let active = registry::active(&mut self.books.read().await?).await?;
        let may = asked.permit.covers(Action::RegistryPublish, None) && !self.wants_review(&asked.candidate, active.as_ref());
        let Some(active) = active.filter(|_| asked.rerate && may) else { return Ok(None) };
        let version = match &asked.candidate {
            Candidate::Version(version) => version.clone(),
            Candidate::Draft(draft_no) => {
                let (draft, version) = drafts::publishable(&mut self.books.begin().await?, *draft_no).await?;
                if draft.published.is_some() && version.address() != active.address() {
                    return Ok(None);
                }
                version
            }
        };
        self.refuse_rerating(&active, &version)?;
        let reached = Reached::of(&active, &version, self.rating.keys());
        let units: BTreeSet<UnitKey> = reached.shards.values().flat_map(|(units, _)| units).cloned().collect();
        Ok(Some(Beside {
            log: self.log.clone(),
            lake: self.lake.clone(),
            registries: Arc::clone(&self.registries),
            through: self.head.0,
            // One is left to live usage.
            threads: self.settings.threads.saturating_sub(1).max(1),
            state: self.rating.part(|organization, month| units.contains(&(organization.clone(), month))),
            plan: platform_registry::compile(&version)?.plan,
            active,
            version,
            reached,
        }))
    }

    /// Whether a review is missing. What is in force has had its own.
    pub(super) fn wants_review(&self, candidate: &Candidate, active: Option<&Version>) -> bool {
        let Candidate::Version(version) = candidate else { return false };
        self.review == ReviewWhen::Required && active.is_none_or(|active| active.address() != version.address())
    }

    fn refuse_rerating(&self, active: &Version, version: &Version) -> anyhow::Result<()> {
        let rated: Vec<RatedKey> = self.rating.keys().map(rerating::rated_key).collect();
        platform_registry::refuse_rerating(&platform_registry::reach_back(active, version), &rated)?;
        let compiled = platform_registry::compile(version)?;
        let reached = Reached::of(active, version, self.rating.keys());
        let mut keys = reached.changes.iter().flat_map(|(_, keys)| keys);
        if let Some(key) = keys.find(|key| !compiled.roundings.contains_key(&key.currency)) {
            bail!(NotRerated(format!("usage was charged in {}, for which the version has no [[rounding]]: leave it there", key.currency)));
        }
        Ok(())
    }

    /// What waits for a version by now; behind what was looked at before, for the same version, only what came since is looked at.
    pub(super) async fn waiting(&mut self, before: &Version, version: &Version, plan: &Plan) -> anyhow::Result<Arc<Waiting>> {
        let ahead = self.ahead.take().filter(|ahead| ahead.version == plan.version);
        let mut ahead = ahead.unwrap_or_else(|| Ahead::nothing(plan.version));
        let work =
            Work { log: &self.log, lake: &self.lake, registries: &self.registries, through: self.head.0, threads: self.settings.threads };
        let waiting = work.wait(before, version, plan, Arc::clone(&ahead.waiting)).await?;
        ahead.waiting = Arc::clone(&waiting);
        self.ahead = Some(ahead);
        Ok(waiting)
    }
}
