//! Levels that are carried into the next service period: what has to be stated of the changes of a level, and the events that state it. A pure
//! function of a version, sums and an instant; it knows no clock, no stream, no table and no price.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use platform_usage::{Dimensions, OWN_SOURCE};
use serde_json::{Map, Value, json};
use shared_types::{Instant, MeterId, Month, OrganizationId, ProjectId, Quantity, canonical_json};

use crate::Version;
use crate::document::Meter;

/// What a level is told by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LevelId {
    /// Who owes.
    pub organization: OrganizationId,
    /// Sub-account, if the source named one.
    pub project: Option<ProjectId>,
    /// The meter that reads its changes.
    pub meter: MeterId,
    /// What tells prices apart.
    pub dimensions: Dimensions,
}

/// Sums of a level by month, in units of 10^-9 of the meter's unit; none where one leaves 128 bits: such a level is not carried.
pub type Sums = BTreeMap<LevelId, BTreeMap<Month, Option<i128>>>;

/// Adds to the sum of a level in a month.
pub fn add(sums: &mut Sums, level: LevelId, month: Month, units: Option<i128>) {
    let sum = sums.entry(level).or_default().entry(month).or_insert(Some(0));
    *sum = sum.zip(units).and_then(|(sum, units)| sum.checked_add(units));
}

/// What is still to be stated of a level for one service period.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Carried {
    /// The level.
    pub level: LevelId,
    /// The service period into which it is carried.
    pub period: Month,
    /// By how much what was stated for the period differs from the level: everything, the first time.
    pub quantity: Quantity,
}

/// What is to be stated.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Due {
    /// By level, then by period.
    pub carried: Vec<Carried>,
    /// Levels with a sum that is no quantity.
    pub beyond: BTreeSet<LevelId>,
}

/// What is to be stated by an instant under a version: for each service period that has begun and into which a meter carries its levels, the sum of
/// the changes without an end since the period before the meter's first one, less what was stated for it. What was stated for a period into which
/// the version carries nothing is taken back.
///
/// - `changed`: the changes by the month of their starts, as priced readings say them; `stated`: what was stated by service period.
/// - Stating it once more leaves nothing to be stated.
pub fn due(version: &Version, changed: &Sums, stated: &Sums, at: Instant) -> Due {
    let meters: BTreeMap<&MeterId, &Meter> = version.meters().filter(|meter| meter.is_level()).map(|meter| (&meter.id, meter)).collect();
    let mut due = Due::default();
    let none = BTreeMap::new();
    for level in changed.keys().chain(stated.keys()).collect::<BTreeSet<_>>() {
        // Of a level whose meter is gone nothing was stated: that is refused.
        let Some(meter) = meters.get(&level.meter) else { continue };
        let wanted = wanted(meter, changed.get(level).unwrap_or(&none), at);
        let stated = stated.get(level).unwrap_or(&none);
        for period in wanted.keys().chain(stated.keys()).copied().collect::<BTreeSet<_>>() {
            let of = |sums: &BTreeMap<Month, Option<i128>>| sums.get(&period).copied().unwrap_or(Some(0));
            let difference = of(&wanted).zip(of(stated)).and_then(|(wanted, stated)| wanted.checked_sub(stated));
            match difference.and_then(|units| Quantity::from_units(units).ok()) {
                Some(Quantity::ZERO) => {}
                Some(quantity) => due.carried.push(Carried { level: level.clone(), period, quantity }),
                None => drop(due.beyond.insert(level.clone())),
            }
        }
    }
    due
}

/// The level that is carried into each service period that has begun.
fn wanted(meter: &Meter, changed: &BTreeMap<Month, Option<i128>>, at: Instant) -> BTreeMap<Month, Option<i128>> {
    let mut levels = BTreeMap::new();
    let Some(from) = meter.recurring_from.map(Instant::month) else { return levels };
    // What held at the end of the period before the first one is carried too; before that, levels ended with their periods.
    let mut level = Some(0_i128);
    let mut before = from.previous();
    for period in std::iter::successors(Some(from), |period| period.next()).take_while(|period| period.start() <= at) {
        let moved = before.map_or(Some(0), |before| changed.get(&before).copied().unwrap_or(Some(0)));
        level = level.zip(moved).and_then(|(level, moved)| level.checked_add(moved));
        before = Some(period);
        if !meter.carries_into(period) {
            break;
        }
        levels.insert(period, level);
    }
    levels
}

/// When the next service period begins into which the version carries levels, after an instant.
pub fn next_due(version: &Version, after: Instant) -> Option<Instant> {
    let next = after.month().next()?;
    let carrying = version.meters().filter(|meter| meter.recurring_until.is_none_or(|until| next.start() < until));
    carrying.filter_map(|meter| meter.recurring_from).map(|from| from.max(next.start())).min()
}

impl Carried {
    /// Id of the event that states it: numbers are given once, so it is counted once however often it is stated.
    pub fn event_id(&self, level_no: u64) -> String {
        format!("{}/{}/level-{level_no}", self.level.meter, self.period)
    }

    /// The event that states it, as canonical JSON: a change of the level at the period's first instant, without an end, from which the meter reads
    /// the level's dimensions.
    pub fn event(&self, meter: &Meter, level_no: u64) -> String {
        let mut data = Map::new();
        for (name, value) in self.level.dimensions.iter() {
            if let Some(path) = meter.dimensions.get(name) {
                put(&mut data, path, value);
            }
        }
        if let Some(path) = &meter.value {
            put(&mut data, path, &self.quantity.to_string());
        }
        let mut event = json!({
            "specversion": "1.0",
            "source": OWN_SOURCE,
            "type": meter.event_type,
            "id": self.event_id(level_no),
            "subject": format!("{}/{}", self.level.meter, self.period),
            "organization": self.level.organization.as_str(),
            "time": self.period.start().to_string(),
            "data": data,
        });
        if let (Some(project), Some(members)) = (&self.level.project, event.as_object_mut()) {
            members.insert("project".to_owned(), project.as_str().into());
        }
        // Texts alone always have a canonical form.
        canonical_json(&event).unwrap_or_default()
    }
}

/// Puts a text under member names joined by dots.
fn put(data: &mut Map<String, Value>, path: &str, text: &str) {
    match path.split_once('.') {
        None => drop(data.insert(path.to_owned(), text.into())),
        Some((name, rest)) => {
            let inner = data.entry(name).or_insert_with(|| Value::Object(Map::new()));
            if let Some(inner) = inner.as_object_mut() {
                put(inner, rest, text);
            }
        }
    }
}

/// Refuses a version by which an event that stated a level would say something else, or could not be taken back.
///
/// - `stated`: meters of which a level was stated; `before`: the version in force.
pub fn refuse_changed(stated: &BTreeSet<MeterId>, before: &Version, after: &Version) -> Result<(), LevelChanged> {
    for meter in stated {
        let of = |version: &Version| version.meters().find(|found| found.id == *meter).cloned();
        let Some(old) = of(before) else { continue };
        let read = |meter: &Meter| (meter.event_type.clone(), meter.value.clone(), meter.dimensions.clone(), meter.negative);
        let alone = after.meters().filter(|other| other.event_type == old.event_type).count() == 1;
        let same = of(after).is_some_and(|new| new.is_level() && read(&new) == read(&old));
        if !same || !alone {
            return Err(LevelChanged { meter: meter.clone(), event_type: old.event_type });
        }
    }
    Ok(())
}

/// Why a version may not be published: it reads what was stated of a level otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LevelChanged {
    meter: MeterId,
    event_type: String,
}

impl fmt::Display for LevelChanged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { meter, event_type } = self;
        write!(
            f,
            "levels of meter {meter:?} were carried into later service periods by events of type {event_type:?}, and this version reads these \
             events otherwise\n    remedy: leave the meter's event_type, value, dimensions, negative and kind of aggregation as they were, and its \
             event type to it alone; end it with recurring_until and add another meter for events of another type",
            meter = meter.as_str(),
        )
    }
}

impl std::error::Error for LevelChanged {}

#[cfg(test)]
mod tests;
