//! The api role's intake: events enter the stream and nowhere else. Durable before the answer.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use platform_iam::access::Report;
use platform_iam::{Action, Permit, Target};
use platform_ingest::wire::{RawEvent, WireLimits};
use shared_bus::{Append, Appended, BusError, RecordKind, Stream};
use shared_types::{OrganizationId, SourceId};
use tokio::sync::{RwLock, watch};

use crate::clock::now;

/// Why events were not accepted. None of them entered the stream.
#[derive(Debug, thiserror::Error)]
pub enum IntakeError {
    /// Without a registry version no meter could read them.
    #[error("no registry version is published yet: run `tally registry publish FOLDER`")]
    NoRegistry,
    /// Committing does not keep up.
    #[error("{waiting} events wait to be committed, more than the limit of {limit}")]
    Lagging {
        /// Events waiting.
        waiting: u64,
        /// The limit.
        limit: u64,
    },
    /// The permit is for something else, or for other events: a defect of the program.
    #[error("the permit to {had} does not cover these events")]
    Permit {
        /// What it is for.
        had: Action,
    },
    /// The stream could not make them durable.
    #[error("could not make the events durable")]
    Stream(#[from] BusError),
}

/// Cheap handle through which every event enters.
#[derive(Clone)]
pub struct Intake {
    stream: Arc<dyn Stream>,
    gate: Arc<RwLock<()>>,
    registry: watch::Receiver<bool>,
    lag: Lag,
    lag_events_max: u64,
    limits: Arc<WireLimits>,
}

/// What the events report: each source and organization once. A permit of an agent is asked for by it.
pub fn reports(events: &[RawEvent]) -> BTreeSet<Report> {
    let texts: HashSet<(Option<&str>, Option<&str>)> =
        events.iter().map(|event| (event.source.as_deref(), event.organization.as_deref())).collect();
    let report = |(source, organization): (Option<&str>, Option<&str>)| Report {
        source: source.and_then(|text| SourceId::parse(text).ok()),
        organization: organization.and_then(|text| OrganizationId::parse(text).ok()),
    };
    texts.into_iter().map(report).collect()
}

/// Whether the permit is for these events: for all, or for every report that they make.
fn covers(permit: &Permit, events: &[RawEvent]) -> bool {
    let target = match permit.target() {
        Target::Deployment => true,
        Target::Organization(_) => false,
        Target::Reports(permitted) => reports(events).is_subset(permitted),
    };
    permit.action() == Action::EventsSend && target
}

/// How many records entered and how many are committed, in this process's life.
#[derive(Clone, Default)]
pub struct Lag(Arc<LagCounters>);

#[derive(Default)]
struct LagCounters {
    entered: AtomicU64,
    committed: AtomicU64,
}

impl Lag {
    /// Records that wait to be committed.
    pub fn waiting(&self) -> u64 {
        self.0.entered.load(Ordering::Relaxed).saturating_sub(self.0.committed.load(Ordering::Relaxed))
    }

    /// Counts records into the stream.
    pub fn entered(&self, records: usize) {
        self.0.entered.fetch_add(u64::try_from(records).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Counts records into the batch log.
    pub fn committed(&self, records: usize) {
        self.0.committed.fetch_add(u64::try_from(records).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

impl Intake {
    /// For a stream whose billing task holds `gate` and says through `registry` whether a version is in force.
    pub fn new(
        stream: Arc<dyn Stream>,
        gate: Arc<RwLock<()>>,
        registry: watch::Receiver<bool>,
        lag: Lag,
        lag_events_max: u64,
        limits: WireLimits,
    ) -> Self {
        Self { stream, gate, registry, lag, lag_events_max, limits: Arc::new(limits) }
    }

    /// Limits of one request.
    pub fn limits(&self) -> &WireLimits {
        &self.limits
    }

    /// Makes the events durable, all or none.
    pub async fn append(&self, permit: &Permit, events: Vec<RawEvent>) -> Result<Vec<Appended>, IntakeError> {
        if !covers(permit, &events) {
            return Err(IntakeError::Permit { had: permit.action() });
        }
        let _open = self.gate.read().await;
        if !*self.registry.borrow() {
            return Err(IntakeError::NoRegistry);
        }
        let waiting = self.lag.waiting();
        if waiting > self.lag_events_max {
            return Err(IntakeError::Lagging { waiting, limit: self.lag_events_max });
        }
        let accepted_at = now();
        let records: Vec<Append> = events
            .into_iter()
            .map(|event| Append { shard: event.shard, kind: RecordKind::Usage, accepted_at, payload: event.payload.into() })
            .collect();
        let appended = self.stream.append(records).await?;
        self.lag.entered(appended.len());
        Ok(appended)
    }

    /// Events accepted that wait to be committed.
    pub fn waiting(&self) -> u64 {
        self.lag.waiting()
    }
}
