//! How the readings of a key add up to what a price is applied to: one quantity, or several. Written from the table in the format's page.
//! It knows no price and no money.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;

use crate::money::{Number, Round, round_to, scaled, whole, zero};
use crate::time::{Zone, period};

/// What a state needs to know of a reading beside its quantity's part in the sum.
#[derive(Debug)]
pub struct Fact {
    /// Its start, and what decides between readings that start together.
    pub place: (i64, u128),
    /// Its end, for intervals.
    pub end: Option<i64>,
    /// In units of 10^-9.
    pub quantity: i128,
    /// Of the dimension whose values are counted.
    pub value: Option<String>,
}

/// What was charged by one price row in a key.
#[derive(Debug, Default)]
pub struct State {
    /// Σ quantity in units of 10^-9, and how many readings.
    pub sum: (i128, u64),
    /// The readings one by one, where sums are not enough.
    pub facts: Vec<Fact>,
}

/// A quantity on its way through a price.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Billed {
    /// What is priced.
    pub priced: Number,
    /// What tiers go by: another one for prorated levels only.
    pub reached: Number,
}

impl Billed {
    /// Tiers go by what is priced.
    pub fn of(priced: Number) -> Self {
        Self { reached: priced.clone(), priced }
    }
}

/// What is measured of the readings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Measure {
    /// Their sum; a count sums ones.
    Sum,
    /// Their mean.
    Average,
    /// The greatest.
    Max,
    /// The smallest.
    Min,
    /// The latest, never below zero.
    Latest,
    /// Different values of a dimension, or pairs of one and a local day as a share of the days that the period touches.
    Unique {
        /// The dimension.
        of: String,
        /// Of which zone days count, if they do.
        days: Option<Zone>,
    },
    /// Quantity × seconds held.
    TimeWeighted {
        /// Of which zone days are counted in full, if they are.
        days: Option<Zone>,
    },
    /// Quantity × the share of the period that it is held.
    Prorated {
        /// Of which zone days are counted in full, if they are.
        days: Option<Zone>,
    },
    /// Quantity × time held, the time of what belongs together counted in whole steps: in seconds, or as a share of the period.
    Stepped {
        /// The steps.
        steps: Steps,
        /// Whether it is a share.
        share: bool,
    },
    /// A value for each bucket of the period.
    Bucketed {
        /// How long a bucket is.
        bucket: Bucket,
        /// Whether its value is the sum of the readings; else the greatest, never below zero.
        sums: bool,
        /// What becomes of the values.
        then: Then,
    },
}

/// How long a bucket is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bucket {
    /// So many microseconds.
    Length(i64),
    /// An hour of a zone.
    Hour(Zone),
    /// A day of a zone.
    Day(Zone),
}

impl Bucket {
    /// When the buckets of a service period (yyyymm) begin, in order.
    pub fn begins(&self, month: i32) -> anyhow::Result<Vec<i64>> {
        let (start, end) = period(month)?;
        Ok(match self {
            Self::Length(length) => (0..).map(|number| start + number * length).take_while(|begin| *begin < end).collect(),
            Self::Hour(zone) => zone.hours(start, end)?,
            Self::Day(zone) => {
                zone.dates(start, end)?.into_iter().map(|date| Ok(zone.start(date)?.max(start))).collect::<anyhow::Result<_>>()?
            }
        })
    }
}

/// How time is counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Steps {
    /// Whose time is added up before it is counted; each level by itself.
    pub together: Together,
    /// Microseconds of a step.
    pub step: i64,
    /// What becomes of a begun one.
    pub rounding: Round,
    /// Microseconds that are counted at least.
    pub least: i64,
}

/// Whose time is added up before it is counted in steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Together {
    /// Each reading's alone.
    Reading,
    /// That of a session.
    Session,
    /// That of the service period.
    Period,
}

impl Steps {
    /// Microseconds as they are counted.
    fn count(&self, micros: i64) -> Number {
        if micros == 0 {
            return zero();
        }
        let step = whole(self.step.into());
        (round_to(&(whole(micros.into()) / &step), 0, self.rounding) * step).max(whole(self.least.into()))
    }
}

/// What becomes of the values of buckets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// They are added up.
    Sum,
    /// Each is priced alone.
    Alone,
    /// The value that so many of a hundred do not exceed; buckets without readings are zero.
    Percentile(usize),
}

fn word<'a>(fields: &'a Value, name: &str) -> anyhow::Result<&'a str> {
    fields.get(name).and_then(Value::as_str).with_context(|| format!("it has no {name}"))
}

fn days(fields: &Value, zone: Zone) -> anyhow::Result<Option<Zone>> {
    match word(fields, "by")? {
        "microsecond" => Ok(None),
        "day" => Ok(Some(zone)),
        other => bail!("it counts time in {other:?}"),
    }
}

impl Measure {
    /// From a meter's `aggregation`, the zone of its days and hours and, where billable states cut its events, how they count time. An error
    /// for one that this program has not learnt.
    pub fn of(aggregation: &Value, zone: Option<&str>, steps: Option<&Steps>) -> anyhow::Result<Self> {
        let local = zone.map_or(Ok(Zone::utc()), Zone::of)?;
        let (name, fields) = match aggregation {
            Value::String(name) => (name.as_str(), &Value::Null),
            Value::Object(members) => members.iter().next().map(|(name, fields)| (name.as_str(), fields)).context("it is empty")?,
            other => bail!("it is {other}"),
        };
        if let Some(steps) = steps {
            ensure!(
                ["time_weighted", "prorated"].contains(&name) && days(fields, local)?.is_none() && zone.is_none(),
                "billable states measure {name:?} by whole days or not at all"
            );
            return Ok(Self::Stepped { steps: steps.clone(), share: name == "prorated" });
        }
        let measure = match name {
            "sum" | "count" => Self::Sum,
            "average" => Self::Average,
            "max" => Self::Max,
            "min" => Self::Min,
            "latest" => Self::Latest,
            "unique" => {
                let days = match word(fields, "per")? {
                    "period" => None,
                    "day" => Some(local),
                    other => bail!("it counts values per {other:?}"),
                };
                Self::Unique { of: word(fields, "of")?.to_owned(), days }
            }
            "time_weighted" => Self::TimeWeighted { days: days(fields, local)? },
            "prorated" => Self::Prorated { days: days(fields, local)? },
            "bucketed" => Self::Bucketed {
                bucket: match word(fields, "bucket")? {
                    "five_minutes" => Bucket::Length(300_000_000),
                    "hour" => Bucket::Hour(local),
                    "day" => Bucket::Day(local),
                    other => bail!("its buckets are {other:?}"),
                },
                sums: match word(fields, "each")? {
                    "max" => false,
                    "sum" => true,
                    other => bail!("each of its buckets is {other:?}"),
                },
                then: match word(fields, "then")? {
                    "sum" => Then::Sum,
                    "alone" => Then::Alone,
                    "p50" => Then::Percentile(50),
                    "p90" => Then::Percentile(90),
                    "p95" => Then::Percentile(95),
                    "p99" => Then::Percentile(99),
                    other => bail!("its buckets become {other:?}"),
                },
            },
            other => bail!("{other:?} is unknown"),
        };
        ensure!(zone.is_none() || measure.counts_local_time(), "it counts neither days nor hours, but has a zone");
        Ok(measure)
    }

    fn counts_local_time(&self) -> bool {
        match self {
            Self::Unique { days, .. } | Self::TimeWeighted { days } | Self::Prorated { days } => days.is_some(),
            Self::Bucketed { bucket, .. } => !matches!(bucket, Bucket::Length(_)),
            _ => false,
        }
    }

    /// The windows that are priced alone, where there are any.
    pub fn windows(&self) -> Option<Bucket> {
        if let Self::Bucketed { bucket, then: Then::Alone, .. } = self { Some(*bucket) } else { None }
    }

    /// Whether Σ quantity and the number of readings are enough.
    pub fn is_of_sums(&self) -> bool {
        matches!(self, Self::Sum | Self::Average)
    }

    /// What a state of a service period (yyyymm) comes to.
    pub fn measured(&self, state: &State, month: i32) -> anyhow::Result<Vec<Billed>> {
        let sum = scaled(state.sum.0, 9);
        let one = |number: Number| Ok(vec![Billed::of(number)]);
        let quantities = state.facts.iter().map(|fact| fact.quantity);
        let some = "no reading";
        match self {
            Self::Sum => one(sum),
            Self::Average => one(if state.sum.1 == 0 { zero() } else { sum / whole(state.sum.1.into()) }),
            Self::Max => one(scaled(quantities.max().context(some)?, 9)),
            Self::Min => one(scaled(quantities.min().context(some)?, 9)),
            Self::Latest => {
                let latest = state.facts.iter().max_by_key(|fact| fact.place).context(some)?;
                one(scaled(latest.quantity.max(0), 9))
            }
            Self::Unique { days, .. } => {
                let mut seen = BTreeSet::new();
                for fact in &state.facts {
                    let value = fact.value.as_deref().context("a reading has no value of the dimension that is counted")?;
                    let start = fact.place.0;
                    let touched = days.map_or(Ok(vec![0]), |zone| zone.dates(start, fact.end.unwrap_or(start)))?;
                    seen.extend(touched.into_iter().map(|day| (day, value)));
                }
                let (start, end) = period(month)?;
                let count = whole(i128::try_from(seen.len())?);
                one(match days {
                    Some(zone) => count / whole(zone.dates(start, end)?.len().try_into()?),
                    None => count,
                })
            }
            Self::TimeWeighted { days } => one(state.held(*days, month)? / whole(1_000_000)),
            Self::Prorated { days } => {
                let (start, end) = period(month)?;
                Ok(vec![Billed { priced: state.held(*days, month)? / whole((end - start).into()), reached: sum }])
            }
            Self::Stepped { steps, share } => {
                let mut held: BTreeMap<(usize, &str, i128), i64> = BTreeMap::new();
                for (at, fact) in state.facts.iter().enumerate() {
                    let (reading, session) = match steps.together {
                        Together::Reading => (at, ""),
                        Together::Session => (0, fact.value.as_deref().context("a reading has no session")?),
                        Together::Period => (0, ""),
                    };
                    let sum = held.entry((reading, session, fact.quantity)).or_insert(0);
                    *sum = sum.checked_add(fact.held(None, month)?).context("the time of a level leaves 64 bits")?;
                }
                let sum = held.iter().fold(zero(), |sum, ((_, _, level), micros)| sum + scaled(*level, 9) * steps.count(*micros));
                let (start, end) = period(month)?;
                one(sum / whole(if *share { (end - start).into() } else { 1_000_000 }))
            }
            Self::Bucketed { bucket, sums, then } => {
                let begins = bucket.begins(month)?;
                let mut values: BTreeMap<i64, i128> = BTreeMap::new();
                for fact in &state.facts {
                    let at = fact.place.0;
                    // Of days the date decides: in history clocks were put back over midnight.
                    let number = if let Bucket::Day(zone) = bucket {
                        zone.date(at)?
                    } else {
                        begins.partition_point(|begin| *begin <= at).try_into()?
                    };
                    let value = values.entry(number).or_insert(0);
                    *value = if *sums {
                        value.checked_add(fact.quantity).context("a bucket leaves 128 bits")?
                    } else {
                        fact.quantity.max(*value)
                    };
                }
                let mut values: Vec<Number> = values.into_values().map(|value| scaled(value, 9)).collect();
                match then {
                    Then::Sum => one(values.into_iter().fold(zero(), |sum, value| sum + value)),
                    Then::Alone => Ok(values.into_iter().map(Billed::of).collect()),
                    Then::Percentile(percent) => {
                        values.resize(begins.len().max(values.len()), zero());
                        values.sort();
                        let rank = (values.len() * percent).div_ceil(100);
                        one(values.get(rank.saturating_sub(1)).cloned().context("a period without buckets")?)
                    }
                }
            }
        }
    }
}

impl Fact {
    /// Microseconds held: to its end, without one to the end of the service period (yyyymm). With days of a zone from the begin of the first
    /// to the end of the last one that it touches, without what of them lies in the month before or, unless it does itself, in the one behind.
    pub fn held(&self, days: Option<Zone>, month: i32) -> anyhow::Result<i64> {
        let (opening, closing) = period(month)?;
        let end = self.end.unwrap_or(closing);
        if let Some(zone) = days {
            let start = zone.start(zone.date(self.place.0)?)?.max(opening);
            let over = zone.start(zone.date((end - 1).max(self.place.0))? + 1)?;
            return Ok(if end <= closing { over.min(closing) } else { over } - start);
        }
        ensure!(end >= self.place.0, "a reading ends before it starts");
        Ok(end - self.place.0)
    }
}

impl State {
    /// Takes in a reading; its fact only where the price needs it.
    pub fn add(&mut self, quantity: i128, fact: Option<Fact>) -> anyhow::Result<()> {
        self.sum.0 = self.sum.0.checked_add(quantity).context("the quantities leave 128 bits")?;
        self.sum.1 += 1;
        self.facts.extend(fact);
        Ok(())
    }

    /// The readings in the order that decides: by start.
    pub fn in_order(&self) -> Vec<&Fact> {
        let mut facts: Vec<&Fact> = self.facts.iter().collect();
        facts.sort_by_key(|fact| fact.place);
        facts
    }

    /// Σ quantity × microseconds held.
    fn held(&self, days: Option<Zone>, month: i32) -> anyhow::Result<Number> {
        self.facts.iter().try_fold(zero(), |sum, fact| Ok(sum + scaled(fact.quantity, 9) * whole(fact.held(days, month)?.into())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::money::{decimal, plain};
    use crate::time::parse;
    use serde_json::json;

    /// Readings (start, end, quantity, value) of October 2026.
    fn check(aggregation: &Value, readings: &[(&str, &str, &str, &str)], expected: &[&str]) {
        check_in(None, aggregation, readings, expected);
    }

    fn check_in(zone: Option<&str>, aggregation: &Value, readings: &[(&str, &str, &str, &str)], expected: &[&str]) {
        let mut state = State::default();
        for (at, (start, end, quantity, value)) in readings.iter().enumerate() {
            let instant = |text: &str| parse(&format!("2026-10-{text}Z")).unwrap();
            let quantity = (decimal(quantity).unwrap() * whole(1_000_000_000)).to_integer().try_into().unwrap();
            let (place, end) = ((instant(start), at as u128), (!end.is_empty()).then(|| instant(end)));
            state.add(quantity, Some(Fact { place, end, quantity, value: Some((*value).to_owned()) })).unwrap();
        }
        let measured = Measure::of(aggregation, zone, None).unwrap().measured(&state, 202_610).unwrap();
        let shown: Vec<String> = measured.iter().map(|billed| plain(&billed.priced)).collect();
        assert_eq!(shown, expected, "{aggregation} {zone:?}");
    }

    #[test]
    fn each_measure_comes_to_what_the_format_says() {
        let readings = [
            ("01T00:00:00", "02T00:00:00", "3", "a"),
            ("31T00:00:00", "", "-1", "b"),
            ("31T00:00:00", "", "2", "a"),
            ("05T23:59:59.500000", "06T00:00:00.500000", "4", "a"),
        ];
        for (name, expected) in [("sum", "8"), ("count", "8"), ("average", "2"), ("max", "4"), ("min", "-1"), ("latest", "2")] {
            check(&json!(name), &readings, &[expected]);
        }
        check(&json!("latest"), &readings[..2], &["0"]);
        check(&json!({"unique": {"of": "user", "per": "period"}}), &readings, &["2"]);
        // a on the 1st, 5th, 6th and 31st, b on the 31st.
        check(&json!({"unique": {"of": "user", "per": "day"}}), &readings, &["5/31"]);
        check(&json!({"time_weighted": {"by": "microsecond"}}), &readings, &["345604"]);
        check(&json!({"time_weighted": {"by": "day"}}), &readings, &["1036800"]);
        check(&json!({"prorated": {"by": "day"}}), &readings, &["12/31"]);
        let bucketed = |bucket: &str, each: &str, then: &str| json!({"bucketed": {"bucket": bucket, "each": each, "then": then}});
        check(&bucketed("day", "max", "sum"), &readings, &["9"]);
        check(&bucketed("day", "sum", "alone"), &readings, &["3", "4", "1"]);
        check(&bucketed("day", "max", "p95"), &readings, &["3"]);
        check(&bucketed("day", "max", "p99"), &readings, &["4"]);
        check(&bucketed("hour", "max", "p99"), &readings, &["0"]);
        check(&bucketed("hour", "sum", "p50"), &readings[1..2], &["0"]);
    }

    #[test]
    fn days_and_hours_are_those_of_the_zone() {
        // Local dates of California: September 30 to October 31, the outer ones cut by the month, 7 and 17 hours.
        let readings = [("01T06:59:59", "", "1", "a"), ("01T07:00:00", "01T08:00:00", "2", "a"), ("31T23:00:00", "31T23:30:00", "4", "b")];
        let zone = Some("America/Los_Angeles");
        let bucketed = |bucket: &str, then: &str| json!({"bucketed": {"bucket": bucket, "each": "sum", "then": then}});
        check_in(zone, &bucketed("day", "alone"), &readings, &["1", "2", "4"]);
        // The 31st of 32 days.
        check_in(zone, &bucketed("day", "p95"), &readings, &["2"]);
        check(&bucketed("day", "alone"), &readings, &["3", "4"]);
        check_in(zone, &json!({"unique": {"of": "user", "per": "day"}}), &readings[1..], &["0.0625"]);
        check_in(zone, &json!({"time_weighted": {"by": "day"}}), &readings[1..], &["417600"]);
        check_in(zone, &json!({"prorated": {"by": "day"}}), &readings[..1], &["1"]);
        // Hours of India begin at half past; those of Lord Howe too, but from the 3rd on, 15:30, at full ones of UTC.
        let around = [
            ("01T00:20:00", "", "1", ""),
            ("01T00:40:00", "", "2", ""),
            ("03T15:29:59", "", "4", ""),
            ("03T15:30:00", "", "8", ""),
            ("03T16:00:00", "", "16", ""),
        ];
        check_in(Some("Asia/Kolkata"), &bucketed("hour", "alone"), &around, &["1", "2", "4", "24"]);
        check_in(Some("Australia/Lord_Howe"), &bucketed("hour", "alone"), &around, &["1", "2", "4", "8", "16"]);
        check_in(Some("America/Los_Angeles"), &bucketed("hour", "alone"), &around, &["3", "12", "16"]);
    }

    #[test]
    fn time_is_counted_in_steps_by_what_belongs_together() {
        let check = |together: Together, step: i64, rounding: Round, least: i64, expected: &str| {
            let mut state = State::default();
            // A session of 90 and 30 seconds at level 2 and 1 second at level 1, another of 45 seconds at level 2.
            for (start, seconds, level, session) in [(0, 90, 2, "a"), (100, 30, 2, "a"), (200, 1, 1, "a"), (300, 45, 2, "b")] {
                let start = parse("2026-10-05T00:00:00Z").unwrap() + start * 1_000_000;
                let fact = Fact {
                    place: (start, 0),
                    end: Some(start + seconds * 1_000_000),
                    quantity: level * 1_000_000_000,
                    value: Some(session.to_owned()),
                };
                state.add(level, Some(fact)).unwrap();
            }
            let steps = Steps { together, step, rounding, least };
            let measure = Measure::of(&json!({"time_weighted": {"by": "microsecond"}}), None, Some(&steps)).unwrap();
            assert_eq!(plain(&measure.measured(&state, 202_610).unwrap()[0].priced), expected, "{steps:?}");
        };
        let minute = 60_000_000;
        check(Together::Reading, 1, Round::Ceiling, 0, "331");
        check(Together::Reading, minute, Round::Ceiling, 0, "540");
        check(Together::Session, minute, Round::Ceiling, 0, "420");
        check(Together::Session, minute, Round::Floor, 0, "240");
        check(Together::Session, minute, Round::HalfEven, 0, "360");
        check(Together::Session, 1, Round::Ceiling, minute, "420");
        check(Together::Period, minute, Round::Ceiling, 0, "420");
        check(Together::Period, 10 * minute, Round::Floor, minute, "180");
    }

    #[test]
    fn what_was_not_learnt_is_an_error() {
        let wrong = [json!("median"), json!({"unique": {"of": "user", "per": "week"}}), json!({"prorated": {"by": "hour"}}), json!(7)];
        for aggregation in wrong {
            assert!(Measure::of(&aggregation, None, None).is_err(), "{aggregation}");
        }
        let five_minutes = json!({"bucketed": {"bucket": "five_minutes", "each": "sum", "then": "sum"}});
        for aggregation in
            [json!("sum"), json!({"unique": {"of": "user", "per": "period"}}), json!({"prorated": {"by": "microsecond"}}), five_minutes]
        {
            assert!(Measure::of(&aggregation, Some("Asia/Tokyo"), None).is_err(), "{aggregation}");
        }
        assert!(Measure::of(&json!({"prorated": {"by": "day"}}), Some("Mars/Olympus"), None).is_err());
    }
}
