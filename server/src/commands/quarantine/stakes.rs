//! The money at stake in totals whose parts do not add up: what the parts would cost as they were stated, and the most that the total could
//! cost, at the prices of the version that refused them. `platform-registry` calculates it; other quarantined usage has no known worth.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context as _;
use platform_catalog::Scope;
use platform_rating::PriceIndex;
use platform_registry::stake::at_stake;
use platform_usage::{Event, EventLimits, MeterSet, Reason};
use shared_types::{Digest, Instant};

use crate::answers::{Answers, Row};

/// Shard, incarnation and sequence.
pub(super) type Place = (i64, i64, i64);

/// Places in one question.
const PLACES: usize = 200;

/// What is at stake in events that were refused because their parts differ, by place: `USD 1.2 to 3.4`.
pub(super) async fn of(answers: &Answers, places: &BTreeSet<Place>) -> anyhow::Result<BTreeMap<Place, String>> {
    let places: Vec<Place> = places.iter().copied().collect();
    let mut stakes = BTreeMap::new();
    for part in places.chunks(PLACES) {
        let here: Vec<String> = part
            .iter()
            .map(|(shard, incarnation, sequence)| {
                format!("(e.shard = {shard} AND e.incarnation = {incarnation} AND e.sequence = {sequence})")
            })
            .collect();
        let sql = format!(
            "SELECT DISTINCT e.shard, e.incarnation, e.sequence, e.accepted_at, e.attributes, c.registry_version FROM usage.events e \
             JOIN usage.charges c ON e.shard = c.shard AND e.incarnation = c.incarnation AND e.sequence = c.sequence \
             WHERE c.reason = '{}' AND e.outcome = 'accepted' AND ({})",
            Reason::PartsDiffer.code(),
            here.join(" OR ")
        );
        for row in answers.rows(&sql, &Scope::Operator).await? {
            if let (Some(place), Some(stake)) = (super::position(&row), stake(answers, &row).await?) {
                stakes.insert(place, stake);
            }
        }
    }
    Ok(stakes)
}

/// What is at stake in one event; none where none of its parts has a price.
async fn stake(answers: &Answers, row: &Row) -> anyhow::Result<Option<String>> {
    let text = |column: &str| row.text(column).with_context(|| format!("an event has no {column}"));
    let version = Digest::parse(text("registry_version")?).context("a charge names no registry version")?;
    let compiled = answers.registry(version).await?;
    let accepted_at = Instant::parse(text("accepted_at")?)?;
    let limits = EventLimits { far_future_micros: i64::MAX };
    let event = Event::parse(text("attributes")?.as_bytes(), accepted_at, &limits)
        .map_err(|defect| anyhow::anyhow!("a stored event does not read: {defect}"))?;
    let (meters, prices) = (MeterSet::new(compiled.meters.clone())?, PriceIndex::of(&compiled.plan));
    let mut said = Vec::new();
    for stated in meters.stated_parts(&event) {
        if let Some(stake) = at_stake(&compiled.plan, &prices, event.organization(), event.start_at(), &stated)? {
            said.push(format!("{} {} to {}", stake.currency, stake.stated, stake.most));
        }
    }
    Ok((!said.is_empty()).then(|| said.join(", ")))
}
