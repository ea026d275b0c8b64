//! Control records of the billing role: publications, ticks and closes enter the database and, by the relay, every shard of the stream. It rates
//! and commits nothing itself.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::bail;
use platform_iam::{Action, Permit};
use platform_registry::store as registry;
use platform_registry::{Closed, ControlBody, Published, RatedKey, carried, drafts};
use shared_bus::{Append, RecordKind};
use shared_types::{Month, ShardId};

use super::levels::Look;
use super::{Billing, Candidate, NotRerated, Publication, ReviewRequired};
use crate::clock::now;
use crate::kept;
use crate::rerating::{self, Ahead};

impl Billing {
    /// Appends to each shard the control records that it has not been sent.
    pub(super) async fn relay(&mut self) -> anyhow::Result<()> {
        let Some(lowest) = self.shards.iter().map(|shard| shard.relayed).min() else { return Ok(()) };
        let mut tx = self.books.read().await?;
        let controls = registry::controls_after(&mut tx, lowest).await?;
        let at = now();
        let mut records = Vec::new();
        for control in &controls {
            if let Some(version) = control.registry_version() {
                self.registries.snapshot(version).await?;
            }
            // Fees and levels before the tick that calls them due: where the tick stands, none of them is missing.
            let mut own = Vec::new();
            if let ControlBody::Tick { at } = control.body {
                let fees = registry::fees_called(&mut tx, control.control_no, at).await?;
                own.extend(fees.into_iter().map(|fee| (ShardId::of_organization(fee.organization.as_str()), fee.event())));
                let levels = carried::stated_by(&mut tx, control.control_no).await?;
                own.extend(levels.into_iter().map(|level| (ShardId::of_organization(level.organization.as_str()), level.event)));
            }
            for (shard, event) in own {
                if self.shards.get(shard.index()).is_some_and(|shard| shard.relayed < control.control_no) {
                    records.push(Append { shard, kind: RecordKind::Own, accepted_at: at, payload: event.into() });
                }
            }
            for shard in self.shards.iter_mut().filter(|shard| shard.relayed < control.control_no) {
                records.push(Append {
                    shard: shard.working.position.shard,
                    kind: RecordKind::Control,
                    accepted_at: at,
                    payload: control.payload().into(),
                });
                shard.relayed = control.control_no;
            }
        }
        if !records.is_empty() {
            let appended = self.stream.append(records).await?;
            self.lag.entered(appended.len());
        }
        Ok(())
    }

    /// Remembers when the next recurring fee falls due, and whether levels are carried.
    pub(super) async fn look_ahead(&mut self) -> anyhow::Result<()> {
        let mut tx = self.books.read().await?;
        let last = registry::tick_before(&mut tx, registry::LATEST).await?;
        self.due_at = registry::schedule_at(&mut tx, registry::LATEST).await?.next_due(last.as_ref());
        self.look_at_levels(&mut tx).await
    }

    /// Brings time in: where recurring fees have fallen due, or levels are to be stated, a tick is recorded and enters every shard behind the events
    /// that state them.
    ///
    /// - Returns whether it was.
    pub(super) async fn tick(&mut self, look: Look) -> anyhow::Result<bool> {
        let at = now();
        let (fees, levels) = (self.due_at.is_some_and(|due_at| due_at <= at), self.looks(at, look));
        if !fees && !levels {
            return Ok(false);
        }
        if levels {
            self.catch_up().await?;
        }
        let mut tx = self.books.begin().await?;
        // Time does not go back, whatever the clock says: an earlier instant would call fees due a second time.
        let at = registry::tick_before(&mut tx, registry::LATEST).await?.map_or(at, |last| last.at.max(at));
        let due = if levels { self.levels_due(&mut tx, at).await? } else { None };
        let ticks = fees || due.as_ref().is_some_and(|(_, due)| look == Look::Close || !due.carried.is_empty());
        if ticks {
            let control = registry::append(&mut tx, ControlBody::Tick { at }, at).await?;
            if let Some((version, due)) = &due {
                carried::state(&mut tx, control.control_no, self.head.0, version, &due.carried).await?;
            }
        }
        tx.commit().await?;
        if due.is_some() {
            self.stated(at);
        }
        if ticks {
            self.relay().await?;
            self.look_ahead().await?;
        }
        Ok(ticks)
    }

    /// Publishes a registry version: intake pauses, everything accepted is rated, then the version's record enters every shard.
    /// So nothing is rated under the old version behind the check that the new one reaches back over nothing rated. Where that is rated
    /// again, each shard does it at the record, while usage streams in behind it.
    ///
    /// - `ahead`: what was rated again beside this task since it was asked.
    pub(super) async fn publish(&mut self, asked: &Publication, ahead: Option<Ahead>) -> anyhow::Result<Published> {
        let Publication { permit, candidate, rerate, .. } = asked;
        if !permit.covers(Action::RegistryPublish, None) {
            bail!("a permit to {} does not cover publishing a registry version", permit.action());
        }
        if self.wants_review(candidate, registry::active(&mut self.books.read().await?).await?.as_ref()) {
            bail!(ReviewRequired);
        }
        let gate = Arc::clone(&self.gate);
        let closed = gate.write().await;
        // What has fallen due is called so by the version that was in force then.
        self.tick(Look::Due).await?;
        while self.step().await? > 0 {}
        let mut tx = self.books.begin().await?;
        let (draft, version) = match candidate {
            Candidate::Version(version) => (None, version.clone()),
            Candidate::Draft(draft_no) => {
                let (draft, version) = drafts::publishable(&mut tx, *draft_no).await?;
                (Some(draft), version)
            }
        };
        let active = registry::active(&mut tx).await?;
        let used = self.rating.keys().map(|(key, _)| &key.organization).collect();
        kept::refuse_changed(&mut tx, active.as_ref(), &version, &used).await?;
        let mut rerates = false;
        if let Some(active) = active {
            let reaches = platform_registry::reach_back(&active, &version);
            let rated: Vec<RatedKey> = self.rating.keys().map(rerating::rated_key).collect();
            if *rerate {
                platform_registry::refuse_rerating(&reaches, &rated)?;
                if ahead.as_ref().is_some_and(|ahead| ahead.version != version.address()) {
                    bail!(NotRerated("the draft was changed while its usage was rated again: publish it once more".to_owned()));
                }
                let plan = platform_registry::compile(&version)?.plan;
                self.ahead = ahead;
                rerates = platform_registry::reached(&reaches, &rated).iter().any(|keys| !keys.is_empty())
                    || self.waiting(&active, &version, &plan).await?.any();
            } else {
                platform_registry::refuse_reach_back(&reaches, &rated)?;
            }
        }
        let at = now();
        let published = match &draft {
            None => registry::publish(&mut tx, &version, rerates, at).await?,
            Some(draft) => drafts::publish(&mut tx, draft, &version, rerates, permit.principal().name(), at).await?,
        };
        if published.changed {
            let mut detail = BTreeMap::from([("control_no".to_owned(), published.control_no.to_string())]);
            detail.extend(draft.map(|draft| ("draft".to_owned(), draft.draft_no.to_string())));
            if rerates {
                detail.insert("rerates".to_owned(), "true".to_owned());
            }
            let record = permit.record(None, &published.address.to_string(), detail, at);
            platform_audit::record(&mut tx, &record).await?;
        }
        tx.commit().await?;
        self.ahead = self.ahead.take().filter(|_| rerates);
        self.relay().await?;
        self.levels.look_again();
        self.look_ahead().await?;
        self.tick(Look::Due).await?;
        drop(closed);
        while self.shards.iter().any(|shard| shard.committed.control_no < published.control_no) {
            let next = tokio::time::Instant::now() + Duration::from_millis(self.settings.interval_ms);
            match self.step().await? {
                0 => break,
                // Usage of other shards comes meanwhile: batches of it stay as large as they are.
                taken if taken < self.settings.records_max && !self.under_way.is_empty() => {
                    let made = self.under_way.made();
                    tokio::select! {
                        () = tokio::time::sleep_until(next) => {}
                        () = made.notified() => {}
                    }
                }
                _ => {}
            }
        }
        Ok(published)
    }

    /// Closes a month. Intake goes on: what enters a shard before its record is booked as before it, what enters behind it in the next month.
    pub(super) async fn close(&mut self, permit: &Permit, month: Month) -> anyhow::Result<Closed> {
        if !permit.covers(Action::PeriodClose, None) {
            bail!("a permit to {} does not cover closing a month", permit.action());
        }
        // What fell due in the month is booked in it: its record enters every shard behind the fees and the levels.
        self.work_off().await?;
        self.tick(Look::Close).await?;
        let mut tx = self.books.begin().await?;
        let at = now();
        let closed = registry::close(&mut tx, month, at).await?;
        if closed.changed {
            let detail = BTreeMap::from([("control_no".to_owned(), closed.control_no.to_string())]);
            platform_audit::record(&mut tx, &permit.record(None, &month.to_string(), detail, at)).await?;
        }
        tx.commit().await?;
        self.relay().await?;
        Ok(closed)
    }

    /// Sends control records again to shards that stand at the stream's end without having applied them.
    pub(super) async fn relay_again(&mut self) -> anyhow::Result<()> {
        for shard in &mut self.shards {
            shard.relayed = shard.working.control_no;
        }
        self.relay().await
    }
}
