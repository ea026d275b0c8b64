//! Levels that are carried into the next service period. Their changes are summed as batches are committed, and written to the books now and then;
//! a tick states what is due of them. What is due is the registry's to say.

use anyhow::{Context as _, bail};
use platform_ingest::store;
use platform_rating::RatedBatch;
use platform_registry::levels::{Due, Sums, add, due, next_due};
use platform_registry::store as registry;
use platform_registry::{Version, carried};
use shared_db::Transaction;
use shared_types::{BatchNo, Digest, Instant};

use super::Billing;
use crate::clock::now;
use crate::levels::{Change, LevelMeters, add_batch};

/// How a tick looks at levels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// Where a service period has begun, or a change has come late and the last look is an hour old.
    Due,
    /// In any case.
    Now,
    /// In any case, and a tick is recorded whether or not anything is stated: a month closes behind it.
    Close,
}

/// Late changes are stated so long after the last look, in microseconds; a close does not wait.
const LATE: i64 = 3_600_000_000;

/// What is known of levels.
#[derive(Default)]
pub(super) struct Levels {
    meters: LevelMeters,
    /// Whether any version ever measured a level.
    measured: bool,
    /// Whether the version in force carries one, or one was ever carried.
    pub(super) carried: bool,
    /// The version in force.
    active: Option<Version>,
    /// When the next service period begins.
    due_at: Option<Instant>,
    /// When they were looked at last.
    looked_at: Option<Instant>,
    /// Whether a change has come since then for a month that was over.
    late: bool,
    /// Changes that the books do not have yet; none where the books must be asked how far they are.
    pending: Option<Pending>,
}

/// Changes behind the ones that the books have.
struct Pending {
    /// The batch up to which they have them.
    after: BatchNo,
    /// Those of the batches behind it.
    changed: Sums,
}

impl Levels {
    /// Whether it is time to look.
    fn wanted(&self, at: Instant, look: Look) -> bool {
        let waited = |looked_at: Instant| at.micros().saturating_sub(looked_at.micros()) >= LATE;
        let late = self.late && self.looked_at.is_some_and(waited);
        self.carried && (look != Look::Due || self.looked_at.is_none() || late || self.due_at.is_some_and(|due_at| due_at <= at))
    }

    /// Has levels looked at as soon as every shard has come as far as the registry.
    pub(super) fn look_again(&mut self) {
        self.looked_at = None;
    }
}

impl Billing {
    /// Learns which version is in force.
    pub(super) async fn look_at_levels(&mut self, tx: &mut Transaction) -> anyhow::Result<()> {
        let active = registry::active(tx).await?;
        let carries = active.as_ref().is_some_and(|version| version.meters().any(|meter| meter.recurring_from.is_some()));
        self.levels.measured = carried::measured(tx).await?;
        self.levels.carried = carries || !carried::meters(tx).await?.is_empty();
        self.levels.active = active;
        if !self.levels.measured && self.levels.pending.is_none() {
            // Nothing so far is a change of a level: no file need be read for that.
            self.levels.pending = Some(Pending { after: shared_db::cursor(tx, carried::FOLD).await?, changed: Sums::new() });
        }
        self.levels.due_at = self.next_period(self.levels.looked_at);
        Ok(())
    }

    fn next_period(&self, after: Option<Instant>) -> Option<Instant> {
        next_due(self.levels.active.as_ref()?, after?)
    }

    /// Whether every shard rates under the version in force: before that, levels are told by what another one reads.
    fn stands_at_version(&self) -> bool {
        let active = self.levels.active.as_ref().map_or(Digest::ZERO, Version::address);
        self.under_way.is_empty() && self.shards.iter().all(|shard| shard.committed.registry_version == active)
    }

    /// Whether a tick looks at levels.
    pub(super) fn looks(&self, at: Instant, look: Look) -> bool {
        self.levels.wanted(at, look) && self.stands_at_version()
    }

    /// Commits what is in the stream now, for a close: what came before it counts in its month, and so does what is carried of it.
    pub(super) async fn work_off(&mut self) -> anyhow::Result<()> {
        if !self.levels.carried {
            return Ok(());
        }
        let ends = self.stream.ends().await?;
        let behind = |billing: &Self| {
            let mut shards = billing.shards.iter().map(|shard| shard.working.position).zip(&ends);
            shards.any(|(at, end)| at.incarnation == end.incarnation && at.sequence < end.sequence)
        };
        while behind(self) && self.step().await? > 0 {}
        if !self.stands_at_version() {
            bail!("the version in force has not entered every shard yet, so what levels come to cannot be said: close the month again");
        }
        Ok(())
    }

    /// Takes in the changes of a batch that will be committed. Where the books must be asked, they are read from its files then.
    pub(super) async fn changes_of(&mut self, rated: &[RatedBatch]) -> anyhow::Result<Sums> {
        let mut sums = Sums::new();
        if !self.levels.measured {
            return Ok(sums);
        }
        let changes: Vec<Change<'_>> = rated.iter().flat_map(|batch| &batch.charges).filter_map(Change::of_charge).collect();
        if changes.iter().any(|change| !self.levels.meters.knows(&change.version)) {
            let mut tx = self.books.read().await?;
            let versions = changes.iter().map(|change| change.version).collect();
            self.levels.meters.learn(&mut tx, versions).await?;
        }
        changes.iter().for_each(|change| change.add_to(&mut sums, &self.levels.meters));
        Ok(sums)
    }

    /// Usage was rated again in a batch that is committed: its rows are in its files only.
    pub(super) fn changed_again(&mut self) {
        self.levels.pending = None;
        self.levels.late = true;
    }

    /// The batch is committed.
    pub(super) fn changed(&mut self, changed: Sums) {
        let month = now().month();
        for (level, months) in changed {
            self.levels.late |= months.keys().any(|changed| *changed < month);
            if let Some(pending) = &mut self.levels.pending {
                for (month, units) in months {
                    add(&mut pending.changed, level.clone(), month, units);
                }
            }
        }
    }

    /// Where it is not known, asks the books how far they are, and reads the changes behind that from the files of the batches.
    pub(super) async fn catch_up(&mut self) -> anyhow::Result<()> {
        if self.levels.pending.is_some() {
            return Ok(());
        }
        let mut tx = self.books.read().await?;
        let mut pending = Pending { after: shared_db::cursor(&mut tx, carried::FOLD).await?, changed: Sums::new() };
        let mut through = pending.after;
        if through > self.head.0 {
            bail!("the books have changes of levels up to batch {through}, and the log ends at {}", self.head.0);
        }
        while self.levels.measured && through < self.head.0 {
            let headers = store::batches_after(&mut self.log.read().await?, through, 100).await?;
            let Some((last, _)) = headers.last() else { bail!("batch {through} has no successor in the log") };
            through = last.batch_no;
            for (header, _) in &headers {
                if header.batch_no > self.head.0 {
                    break;
                }
                add_batch(&self.lake, &mut tx, header, &mut self.levels.meters, &mut pending.changed).await?;
            }
        }
        self.lake.forget();
        self.levels.pending = Some(pending);
        Ok(())
    }

    /// Writes the changes that the books do not have yet. Until [`Self::changes_written`] says that they do, how far they are is not known.
    async fn write_changes(&mut self, tx: &mut Transaction) -> anyhow::Result<()> {
        let pending = self.levels.pending.take().context("changes of levels are written before they were read")?;
        if pending.after < self.head.0 {
            carried::fold_changes(tx, pending.after, self.head.0, &pending.changed).await?;
        }
        Ok(())
    }

    /// They are written, and the transaction is committed.
    pub(super) fn changes_written(&mut self) {
        self.levels.pending = Some(Pending { after: self.head.0, changed: Sums::new() });
    }

    /// What is to be stated at an instant, of all that is committed; [`Self::stated`] says that the transaction is.
    pub(super) async fn levels_due(&mut self, tx: &mut Transaction, at: Instant) -> anyhow::Result<Option<(Version, Due)>> {
        let Some(version) = self.levels.active.clone() else { return Ok(None) };
        self.write_changes(tx).await?;
        let found = due(&version, &carried::changed(tx).await?, &carried::stated(tx).await?, at);
        for level in &found.beyond {
            tracing::error!(organization = %level.organization, meter = %level.meter, "a level is beyond any quantity: it is not carried");
        }
        Ok(Some((version, found)))
    }

    /// Levels were looked at, and what was due is stated.
    pub(super) fn stated(&mut self, at: Instant) {
        self.changes_written();
        self.levels.late = false;
        self.levels.looked_at = Some(at);
        self.levels.due_at = self.next_period(Some(at));
    }

    /// Writes the changes to the books, so that less is read from files when it is opened again. What fails is tried again later.
    pub(super) async fn keep_changes(&mut self) {
        if !self.levels.measured || self.levels.pending.as_ref().is_some_and(|pending| pending.after == self.head.0) {
            return;
        }
        match self.try_keep_changes().await {
            Ok(()) => self.changes_written(),
            Err(error) => {
                tracing::warn!(error = format!("{error:#}"), "could not write the changes of levels to the books; trying again later")
            }
        }
    }

    async fn try_keep_changes(&mut self) -> anyhow::Result<()> {
        self.catch_up().await?;
        let mut tx = self.books.begin().await?;
        self.write_changes(&mut tx).await?;
        Ok(tx.commit().await?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Instant {
        Instant::parse(text).unwrap()
    }

    #[test]
    fn levels_are_looked_at_when_a_month_begins_and_an_hour_after_a_late_change() {
        let seen = |late| Levels {
            carried: true,
            looked_at: Some(at("2026-11-20T10:00:00Z")),
            due_at: Some(at("2026-12-01T00:00:00Z")),
            late,
            ..Levels::default()
        };
        assert!(!seen(false).wanted(at("2026-11-30T23:59:59Z"), Look::Due));
        assert!(seen(false).wanted(at("2026-12-01T00:00:00Z"), Look::Due));
        assert!(!seen(true).wanted(at("2026-11-20T10:59:59Z"), Look::Due));
        assert!(seen(true).wanted(at("2026-11-20T11:00:00Z"), Look::Due));
        for look in [Look::Now, Look::Close] {
            assert!(seen(false).wanted(at("2026-11-20T10:00:00Z"), look));
            assert!(!Levels { carried: false, ..seen(true) }.wanted(at("2026-12-20T10:00:00Z"), look));
        }
        // A process that has just begun, and a version that has just come into force.
        let mut levels = seen(false);
        levels.look_again();
        assert!(levels.wanted(at("2026-11-20T10:00:00Z"), Look::Due));
    }
}
