//! Rating again before the record: units are rated whole out of the batches that are committed, beside the task that owns the shards, which goes
//! on with live usage meanwhile. At the record only what came since is rated, behind what is ready; the result is the same as without it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use anyhow::bail;
use platform_rating::{Charge, Plan, Prepared, RatingState};
use shared_types::{BatchNo, Digest};

use super::{Reached, UnitKey, Waiting, Work, plans, unit_with};
use crate::roles::billing::NotRerated;

/// Readings with other rows that are kept in memory until the record; the units of more are rated there.
const KEPT_MAX: usize = 500_000;

/// Units that were rated again before their record.
pub struct Ahead {
    /// The version under which they were rated again.
    pub version: Digest,
    /// The last batch that was read.
    through: BatchNo,
    /// With the size that the unit's log had.
    units: BTreeMap<UnitKey, (u64, Prepared)>,
    /// What waits in quarantine, as far as it was looked for.
    pub waiting: Arc<Waiting>,
}

impl Ahead {
    /// Of nothing.
    pub fn nothing(version: Digest) -> Self {
        Self { version, through: BatchNo(0), units: BTreeMap::new(), waiting: Arc::default() }
    }

    /// What is ready of some units; it is gone here.
    pub fn take(&mut self, units: &BTreeSet<UnitKey>) -> Self {
        let taken = units.iter().filter_map(|unit| self.units.remove_entry(unit)).collect();
        Self { version: self.version, through: self.through, units: taken, waiting: Arc::clone(&self.waiting) }
    }
}

impl Work<'_> {
    /// Rates again what a version reaches, and keeps what there is room for.
    ///
    /// - `state`: of the reached units at least, behind the last batch.
    /// - Errors: also [`NotRerated`], where a reading would have no price any more.
    pub async fn ahead(&self, state: &RatingState, plan: &Plan, reached: &Reached) -> anyhow::Result<Ahead> {
        let mut ahead = Ahead { through: self.through, waiting: Arc::clone(&reached.waiting), ..Ahead::nothing(plan.version) };
        let mut room = KEPT_MAX;
        for group in reached.groups() {
            let units: BTreeSet<UnitKey> =
                group.iter().filter_map(|shard| reached.shards.get(shard)).flat_map(|(units, _)| units).cloned().collect();
            let prepared = self.prepare(state, plan, &reached.waiting, &units).await?;
            let lost: Vec<&Charge> = prepared.values().flat_map(Prepared::lost).collect();
            if let [first, more @ ..] = lost.as_slice() {
                let (reason, more) = (first.fate.reason().unwrap_or_default(), more.len());
                bail!(NotRerated(format!(
                    "a reading of organization {} for meter {} at {} would be in quarantine as {reason}, and {more} more: price them, or \
                     leave what reads them",
                    first.organization, first.meter, first.start_at
                )));
            }
            for (unit, prepared) in prepared {
                if let Some(left) = room.checked_sub(prepared.changed()) {
                    room = left;
                    let size = state.log_size(&unit.0, unit.1);
                    ahead.units.insert(unit, (size, prepared));
                }
            }
        }
        Ok(ahead)
    }

    /// Units as they are rated at the record: what is ready and what came since, or all of it where nothing is.
    pub(super) async fn ready(
        &self,
        state: &RatingState,
        plan: &Plan,
        waiting: &Waiting,
        wanted: &BTreeSet<UnitKey>,
        ahead: &mut Ahead,
    ) -> anyhow::Result<BTreeMap<UnitKey, Prepared>> {
        let (mut ready, mut grown, mut rest) = (BTreeMap::new(), BTreeMap::new(), BTreeSet::new());
        let mut whole = BTreeSet::new();
        for unit in wanted {
            match ahead.units.remove(unit) {
                // Every row that counts has a place in the unit's log; what is in quarantine, or was not read, has none.
                Some((size, prepared)) if size == state.log_size(&unit.0, unit.1) && !waiting.came_behind(unit, ahead.through) => {
                    ready.insert(unit.clone(), prepared);
                }
                Some(known) => drop(grown.insert(unit.clone(), known)),
                None => drop(rest.insert(unit.clone())),
            }
        }
        let names: BTreeSet<UnitKey> = grown.keys().cloned().collect();
        let rows = self.rows(&names, &waiting.batches(&names), ahead.through).await?;
        for (unit, (size, _)) in &grown {
            let since = rows.get(unit).map(Vec::as_slice).unwrap_or_default();
            let counted = since.iter().filter(|row| row.fate.priced().is_some()).count();
            let all = u64::try_from(counted).ok().and_then(|counted| size.checked_add(counted)) == Some(state.log_size(&unit.0, unit.1));
            if !all || since.iter().any(|row| row.supersedes.is_some()) {
                rest.insert(unit.clone());
            }
        }
        // An event that is read again may have readings in more than one unit, and needs all of them.
        whole.extend(rest.iter().map(|(organization, _)| organization.clone()).filter(|organization| waiting.reads_again(organization)));
        rest.extend(wanted.iter().filter(|(organization, _)| whole.contains(organization)).cloned());
        ready.retain(|unit, _| !rest.contains(unit));
        grown.retain(|unit, _| !rest.contains(unit));
        let mut since =
            rows.into_iter().filter(|(unit, _)| !rest.contains(unit)).map(|(unit, rows)| (unit.clone(), unit_with(unit, rows))).collect();
        if let Some((otherwise, events)) = waiting.rereading() {
            self.read_again(otherwise, events, &grown.keys().cloned().collect(), ahead.through, &mut since).await?;
        }
        let (mut names, mut more) = (Vec::new(), Vec::new());
        for (unit, (_, prepared)) in grown {
            let came = since.remove(&unit).unwrap_or_else(|| unit_with(unit.clone(), Vec::new()));
            names.push(unit);
            more.push((prepared, came));
        }
        let snapshots = self.rated_under(more.iter().map(|(_, unit)| unit)).await?;
        let before = plans(&snapshots);
        let went_on = tokio::task::block_in_place(|| platform_rating::go_on(state, plan, &before, more, self.threads))?;
        ready.extend(names.into_iter().zip(went_on));
        ready.extend(self.prepare(state, plan, waiting, &rest).await?);
        Ok(ready)
    }
}
