//! Levels that are carried into later service periods: the sums of their changes are those of the charges, what was stated is what they come to, and
//! every event that states a level was counted.

use std::collections::BTreeMap;

use platform_registry::levels::{LevelId, Sums, due};
use platform_registry::{Control, ControlBody, carried};
use platform_usage::{IdentityKey, OWN_SOURCE};
use shared_types::{BatchNo, ControlNo, Month, ShardId};

use super::{Gathered, Report, Snapshots, units};
use crate::levels::{LevelMeters, add_batch};
use crate::read_models::Readers;

/// Everything of levels.
pub(super) async fn levels_hold(
    readers: &Readers,
    snapshots: &mut Snapshots,
    identity_key: &IdentityKey,
    gathered: &Gathered,
    report: &mut Report,
) -> anyhow::Result<()> {
    let (tx, folded) = (&mut snapshots.books, snapshots.levels);
    if !carried::measured(tx).await? {
        return Ok(());
    }
    let last = carried::last_tick(tx).await?;
    let (mut meters, mut sums, mut at_tick) = (LevelMeters::default(), Sums::new(), Sums::new());
    for (header, _) in gathered.headers.iter().filter(|(header, _)| header.batch_no <= folded) {
        add_batch(&readers.lake, tx, header, &mut meters, &mut sums).await?;
        if last.is_some_and(|(_, through)| through == header.batch_no) {
            at_tick = sums.clone();
        }
    }
    sums_equal(&carried::changed(tx).await?, &sums, folded, report);

    let controls = platform_registry::store::controls_after(tx, ControlNo(0)).await?;
    every_one_counted(tx, &controls, identity_key, gathered, report).await?;
    let Some((control_no, through)) = last else { return Ok(()) };
    let tick = controls.iter().find(|control| control.control_no == control_no);
    let Some(Control { body: ControlBody::Tick { at }, .. }) = tick else {
        report.add("levels", format!("control record {control_no}"), "levels were looked at by it, and it is no tick");
        return Ok(());
    };
    let Some(version) = platform_registry::store::version_at(tx, control_no).await? else { return Ok(()) };
    for missing in due(&version, &at_tick, &carried::stated(tx).await?, *at).carried {
        report.add(
            "levels",
            format!("{} into {}", shown(&missing.level), missing.period),
            format!("its changes up to batch {through} come to {} more than tick {control_no} left stated", missing.quantity),
        );
    }
    Ok(())
}

fn sums_equal(found: &Sums, made: &Sums, folded: BatchNo, report: &mut Report) {
    type Rows<'a> = BTreeMap<(&'a LevelId, Month), Option<i128>>;
    fn rows(sums: &Sums) -> Rows<'_> {
        let all = sums.iter().flat_map(|(level, months)| months.iter().map(move |(month, units)| ((level, *month), *units)));
        all.filter(|(_, units)| *units != Some(0)).collect()
    }
    let (found, made) = (rows(found), rows(made));
    for key in found.keys().chain(made.keys()).collect::<std::collections::BTreeSet<_>>() {
        let of = |rows: &Rows<'_>| rows.get(key).copied().unwrap_or(Some(0));
        if of(&found) != of(&made) {
            let (level, month) = key;
            let detail = format!("are {} in the books; the charges up to batch {folded} sum to {}", units(of(&found)), units(of(&made)));
            report.add("level-changes", format!("{} in {month}", shown(level)), detail);
        }
    }
}

/// Where a shard stands behind a tick, every event by which it states a level was counted.
async fn every_one_counted(
    tx: &mut shared_db::Transaction,
    controls: &[Control],
    identity_key: &IdentityKey,
    gathered: &Gathered,
    report: &mut Report,
) -> anyhow::Result<()> {
    for control in controls.iter().filter(|control| matches!(control.body, ControlBody::Tick { .. })) {
        for stated in carried::stated_by(tx, control.control_no).await? {
            let organization = stated.organization.as_str();
            let shard = ShardId::of_organization(organization).number();
            let applied = gathered.ends.get(&shard).is_some_and(|end| end.control_no >= control.control_no);
            let identity = identity_key.hash(organization, OWN_SOURCE, &stated.event_id);
            if applied && !gathered.accepted.contains_key(&identity.0) {
                let subject = format!("event {} of organization {organization}", stated.event_id);
                report.add("levels", subject, format!("tick {} states a level by it, and it was never accepted", control.control_no));
            }
        }
    }
    Ok(())
}

fn shown(level: &LevelId) -> String {
    let LevelId { organization, project, meter, dimensions } = level;
    let project = project.as_ref().map(|project| format!(" project {project}")).unwrap_or_default();
    format!("level {meter} {} of organization {organization}{project}", dimensions.canonical())
}
