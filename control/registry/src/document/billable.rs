//! Billable states: which time of a lease is billed, at which rate and in which steps. It knows no event.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use shared_types::{MeterId, Quantity};

use super::terms::{BilledDuring, CutAt, StepRounding, StepsOf};

/// Which time of a lease is billed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BillableStates {
    /// Its name.
    pub id: String,
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Every state that events may tell.
    pub states: BTreeSet<String>,
    /// How an event tells them.
    pub told: Told,
    /// States that open a session.
    pub start: BTreeSet<String>,
    /// States that close a session.
    pub stop: BTreeSet<String>,
    /// States of which a session must reach one.
    pub ready: BTreeSet<String>,
    /// The rate of a session that reached none of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub never_ready: Option<String>,
    /// Path inside `data` of what a session is told by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// Whether intervals are cut at local days.
    pub split: CutAt,
    /// IANA zone of days, months and bands.
    pub zone: String,
    /// Local times of a day, `HH:MM`, and the band that begins there.
    pub bands: BTreeMap<String, String>,
    /// What each meter bills, by meter.
    pub meters: Vec<BilledMeter>,
}

/// How an event tells its states.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Told {
    /// One, at this path inside `data`.
    State(String),
    /// A list of spans at this path inside `data`.
    Spans(String),
}

/// What a meter bills.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BilledMeter {
    /// The meter.
    pub meter: MeterId,
    /// The rate of each billed state.
    pub rates: BTreeMap<String, String>,
    /// Which time is billed.
    pub during: BilledDuring,
    /// Seconds in a step; none counts every microsecond.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub increment: Option<Quantity>,
    /// What becomes of a begun step.
    pub rounding: StepRounding,
    /// Seconds that are billed at least.
    pub minimum: Quantity,
    /// Whose time is added up before it is counted in steps.
    pub each: StepsOf,
    /// Paths of other values and their factors: the greatest is the level.
    pub greater_of: BTreeMap<String, Quantity>,
    /// A level below is raised to it.
    pub at_least: Quantity,
}

impl BillableStates {
    /// What it says of a meter.
    pub fn of(&self, meter: &MeterId) -> Option<&BilledMeter> {
        self.meters.iter().find(|billed| billed.meter == *meter)
    }
}

/// Minutes since midnight of `HH:MM`.
pub(crate) fn minutes(text: &str) -> Option<u16> {
    let (hour, minute) = text.split_once(':').filter(|(hour, minute)| hour.len() == 2 && minute.len() == 2)?;
    let number =
        |text: &str, below: u16| text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse::<u16>().ok())?.filter(|n| *n < below);
    number(hour, 24)?.checked_mul(60)?.checked_add(number(minute, 60)?)
}

/// Microseconds of whole or broken seconds; none when they are finer, below zero or do not fit.
pub(crate) fn micros(seconds: Quantity) -> Option<i64> {
    let nanos = seconds.units();
    if nanos < 0 || nanos % 1_000 != 0 { None } else { i64::try_from(nanos / 1_000).ok() }
}
