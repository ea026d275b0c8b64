//! What a segment's state holds beyond its sums: extremes, sets, ordered changes. Each is folded reading by reading and comes out the same
//! in any order; `docs/decisions/0010` names the algebra of each. It knows no money.

use std::collections::{BTreeMap, BTreeSet};

use platform_usage::calendar::{Span, Zone};
use platform_usage::{Dimensions, MeteredReading};
use shared_types::{Digest, IdentityHash, Instant, Month, Price, Quantity};

use super::take;
use crate::basis::{Basis, Clock, Each, Measure, Shape, Stepped, Together, span_of};
use crate::evaluate::Allowance;
use crate::plan::{Percentage, PriceModel, PriceRow};

/// Most entries of one detail: a state is written beside every charge.
pub const ENTRIES_MAX: usize = 65_536;

/// Where a reading stands among those of its key: by start, then by what no two readings share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Its start.
    pub at: Instant,
    /// Identity of its event.
    pub identity: IdentityHash,
    /// Its number within the event.
    pub ordinal: u16,
}

/// What a state needs to know of a reading.
#[derive(Clone, Copy, Debug)]
pub struct Fact<'a> {
    /// Its place.
    pub place: Place,
    /// When it ended, for intervals.
    pub end_at: Option<Instant>,
    /// How much.
    pub quantity: Quantity,
    /// What tells it apart.
    pub dimensions: &'a Dimensions,
    /// The service period that it belongs to.
    pub period: Month,
}

/// Why a reading does not enter a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// A sum leaves its range, or a detail has no room.
    Range,
    /// The dimension whose values are counted is absent.
    WithoutDimension,
}

/// What a segment's state holds beyond Σ quantity and the number of readings.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum Detail {
    /// Nothing.
    #[default]
    Sums,
    /// The extreme quantity.
    Extreme(Quantity),
    /// The latest reading.
    Latest(Place, Quantity),
    /// Items seen, each with its local date in days since 1970, or with day zero where days do not count.
    Set {
        /// Local dates that the service period touches; zero where days do not count.
        days: u32,
        /// The items: the first 128 bits of the value's SHA-256.
        items: BTreeSet<(u32, [u8; 16])>,
    },
    /// Σ quantity × microseconds held, in units of 10^-9, and the length of the service period in microseconds.
    Held {
        /// The sum.
        unit_micros: i128,
        /// The length.
        period_micros: i64,
    },
    /// Changes of a level, each with the microseconds that it is held.
    Levels {
        /// The length of the service period in microseconds.
        period_micros: i64,
        /// The changes.
        changes: BTreeMap<Place, (Quantity, i64)>,
    },
    /// Values of buckets by number.
    Buckets {
        /// How many buckets the service period has.
        count: u32,
        /// Those with a value.
        values: BTreeMap<u32, Quantity>,
    },
    /// Readings while an allowance lasts, and the classes of all others.
    Transactions {
        /// The first readings, up to and with the one that uses the allowance up.
        head: BTreeMap<Place, Quantity>,
        /// The others.
        tail: Classes,
    },
    /// What each tier got of readings that were priced alone, by the tier's lower bound.
    Steps(BTreeMap<Quantity, StepSum>),
    /// Microseconds held by each level of what belongs together.
    Sessions {
        /// The length of the service period in microseconds.
        period_micros: i64,
        /// By the first 128 bits of the SHA-256 of what belongs together, zeros for the whole period, and level. None is zero.
        held: BTreeMap<([u8; 16], Quantity), i64>,
    },
}

/// What one tier got.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct StepSum {
    /// Σ quantity, converted and without what is free.
    pub quantity: Quantity,
    /// Σ packages or blocks; zero where quantities are priced.
    pub packages: i128,
    /// How many readings owe the tier's flat fee.
    pub fees: u64,
}

/// Readings by what their fee comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Classes {
    /// Σ quantity of those between the bounds.
    pub within: Quantity,
    /// How many owe the least.
    pub least: u64,
    /// How many owe the most.
    pub most: u64,
}

impl Classes {
    /// Adds one reading's charged quantity.
    pub(crate) fn add(&mut self, terms: &Percentage, per: Quantity, quantity: Quantity) -> Option<()> {
        match terms.class(per, quantity)? {
            std::cmp::Ordering::Less => self.least = self.least.checked_add(1)?,
            std::cmp::Ordering::Greater => self.most = self.most.checked_add(1)?,
            std::cmp::Ordering::Equal => self.within = self.within.checked_add(quantity).ok()?,
        }
        Some(())
    }
}

impl<'a> Fact<'a> {
    /// What a state needs to know of a reading.
    pub fn of(reading: &'a MeteredReading, period: Month) -> Self {
        Self {
            place: Place { at: reading.start_at, identity: reading.identity, ordinal: reading.ordinal },
            end_at: reading.end_at,
            quantity: reading.quantity,
            dimensions: &reading.dimensions,
            period,
        }
    }

    fn period_micros(&self) -> Option<i64> {
        self.period_end()?.micros().checked_sub(self.period.start().micros())
    }

    fn period_end(&self) -> Option<Instant> {
        Some(self.period.next()?.start())
    }

    /// The last instant of a time that ends: its start where it has no length.
    fn last(&self, end: Instant) -> Option<Instant> {
        Some(Instant::from_micros(end.micros().checked_sub(1)?).ok()?.max(self.place.at))
    }

    fn end(&self) -> Option<Instant> {
        self.end_at.map_or_else(|| self.period_end(), Some)
    }

    /// Microseconds held.
    fn held(&self, basis: &Basis) -> Option<i64> {
        let end = self.end()?;
        match basis.clock() {
            Clock::Microsecond => end.micros().checked_sub(self.place.at.micros()),
            Clock::Day => {
                let zone = &basis.zone;
                let start = zone.start_of_date(zone.date_of(self.place.at).ok()?).ok()?.max(self.period.start());
                let over = zone.start_of_date(zone.date_of(self.last(end)?).ok()?.checked_add(1)?).ok()?;
                // What of a day lies in the next period is the next period's, unless the reading itself goes on.
                let period_end = self.period_end()?;
                let over = if end <= period_end { over.min(period_end) } else { over };
                over.micros().checked_sub(start.micros())
            }
        }
    }
}

impl Detail {
    /// Whether it is what a row of this shape needs.
    pub(crate) fn fits(&self, shape: Shape) -> bool {
        self.shape() == shape
    }

    fn shape(&self) -> Shape {
        match self {
            Self::Sums => Shape::Sums,
            Self::Extreme(_) => Shape::Extreme,
            Self::Latest(..) => Shape::Latest,
            Self::Set { .. } => Shape::Set,
            Self::Held { .. } => Shape::Held,
            Self::Levels { .. } => Shape::Levels,
            Self::Buckets { .. } => Shape::Buckets,
            Self::Transactions { .. } => Shape::Transactions,
            Self::Steps(_) => Shape::Steps,
            Self::Sessions { .. } => Shape::Sessions,
        }
    }

    /// The detail of one reading alone, before any other.
    fn opened(row: &PriceRow, fact: &Fact<'_>) -> Option<Self> {
        Some(match row.basis.shape(&row.model) {
            Shape::Sums => Self::Sums,
            Shape::Extreme => Self::Extreme(fact.quantity),
            Shape::Latest => Self::Latest(fact.place, fact.quantity),
            Shape::Set => {
                let days = match row.basis.measure {
                    Measure::Unique { per_day: true, .. } => {
                        u32::try_from(row.basis.zone.windows(Span::Day, fact.period.start(), fact.period_end()?).ok()?).ok()?
                    }
                    _ => 0,
                };
                Self::Set { days, items: BTreeSet::new() }
            }
            Shape::Held => Self::Held { unit_micros: 0, period_micros: fact.period_micros()? },
            Shape::Levels => Self::Levels { period_micros: fact.period_micros()?, changes: BTreeMap::new() },
            Shape::Buckets => {
                let Measure::Bucketed { seconds, .. } = row.basis.measure else { return None };
                let whole = match span_of(seconds) {
                    Some(span) => row.basis.zone.windows(span, fact.period.start(), fact.period_end()?).ok()?,
                    None => {
                        let length = i64::from(seconds).checked_mul(1_000_000)?;
                        fact.period_micros()?.checked_add(length)?.checked_sub(1)?.checked_div(length)?
                    }
                };
                Self::Buckets { count: u32::try_from(whole).ok()?, values: BTreeMap::new() }
            }
            Shape::Transactions => Self::Transactions { head: BTreeMap::new(), tail: Classes::default() },
            Shape::Steps => Self::Steps(BTreeMap::new()),
            Shape::Sessions => Self::Sessions { period_micros: fact.period_micros()?, held: BTreeMap::new() },
        })
    }

    /// Takes a reading in; `first` when the segment had none.
    pub(crate) fn add(&mut self, row: &PriceRow, fact: &Fact<'_>, first: bool) -> Result<(), Refused> {
        if first {
            *self = Self::opened(row, fact).ok_or(Refused::Range)?;
        }
        match self {
            Self::Set { days, items } => {
                let Measure::Unique { of, .. } = &row.basis.measure else { return Err(Refused::Range) };
                let value = fact.dimensions.get(of).ok_or(Refused::WithoutDimension)?;
                see((*days > 0).then_some(&row.basis.zone), items, value, fact).ok_or(Refused::Range)
            }
            Self::Sessions { held, .. } => {
                let Measure::Stepped(stepped) = &row.basis.measure else { return Err(Refused::Range) };
                let session = match &stepped.together {
                    Together::Dimension(of) => Some(fact.dimensions.get(of).ok_or(Refused::WithoutDimension)?),
                    Together::Reading | Together::Period => None,
                };
                hold(held, session, fact).ok_or(Refused::Range)
            }
            _ => self.fold(row, fact).ok_or(Refused::Range),
        }
    }

    fn fold(&mut self, row: &PriceRow, fact: &Fact<'_>) -> Option<()> {
        let quantity = fact.quantity;
        match self {
            Self::Sums | Self::Set { .. } | Self::Sessions { .. } => {}
            Self::Extreme(extreme) => {
                let better = if row.basis.measure == Measure::Min { quantity < *extreme } else { quantity > *extreme };
                *extreme = if better { quantity } else { *extreme };
            }
            Self::Latest(place, latest) => {
                if fact.place >= *place {
                    (*place, *latest) = (fact.place, quantity);
                }
            }
            Self::Held { unit_micros, .. } => {
                let held = fact.held(&row.basis)?;
                let held = if let Measure::Stepped(stepped) = &row.basis.measure { stepped.count(held)? } else { held };
                *unit_micros = unit_micros.checked_add(quantity.units().checked_mul(i128::from(held))?)?;
            }
            Self::Levels { changes, .. } => {
                let held = fact.held(&row.basis)?;
                if changes.len() >= ENTRIES_MAX {
                    return None;
                }
                changes.insert(fact.place, (quantity, held));
            }
            Self::Buckets { values, .. } => {
                let Measure::Bucketed { seconds, each, .. } = row.basis.measure else { return None };
                let bucket = match span_of(seconds) {
                    Some(span) => row.basis.zone.number_of(span, fact.period.start(), fact.place.at).ok()?,
                    None => {
                        let since = fact.place.at.micros().checked_sub(fact.period.start().micros())?;
                        since.checked_div(i64::from(seconds).checked_mul(1_000_000)?)?
                    }
                };
                let bucket = u32::try_from(bucket).ok()?;
                if values.len() >= ENTRIES_MAX && !values.contains_key(&bucket) {
                    return None;
                }
                let value = values.entry(bucket).or_insert(Quantity::ZERO);
                *value = if each == Each::Max { quantity.max(*value) } else { value.checked_add(quantity).ok()? };
            }
            Self::Transactions { head, tail } => {
                let PriceModel::Percentage(terms) = &row.model else { return None };
                head.insert(fact.place, quantity);
                spill(head, tail, terms, row.per)?;
            }
            Self::Steps(sums) => {
                for step in crate::evaluate::steps_of_one(row, quantity)? {
                    let sum = sums.entry(step.above).or_default();
                    sum.quantity = sum.quantity.checked_add(step.quantity.as_quantity()?).ok()?;
                    sum.packages = sum.packages.checked_add(step.packages.unwrap_or(0))?;
                    sum.fees = sum.fees.checked_add(u64::from(step.flat_fee != Price::ZERO))?;
                }
            }
        }
        Some(())
    }

    /// The bytes behind a segment of version 2: a tag, then numbers big-endian. Lists begin with their length as `u32` and rise.
    pub(crate) fn encode_into(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Sums => bytes.push(0),
            Self::Extreme(quantity) => {
                bytes.push(1);
                bytes.extend_from_slice(&quantity.units().to_be_bytes());
            }
            Self::Latest(place, quantity) => {
                bytes.push(2);
                place.encode_into(bytes);
                bytes.extend_from_slice(&quantity.units().to_be_bytes());
            }
            Self::Set { days, items } => {
                bytes.push(3);
                bytes.extend_from_slice(&days.to_be_bytes());
                length_into(items.len(), bytes);
                for (day, item) in items {
                    bytes.extend_from_slice(&day.to_be_bytes());
                    bytes.extend_from_slice(item);
                }
            }
            Self::Held { unit_micros, period_micros } => {
                bytes.push(4);
                bytes.extend_from_slice(&unit_micros.to_be_bytes());
                bytes.extend_from_slice(&period_micros.to_be_bytes());
            }
            Self::Levels { period_micros, changes } => {
                bytes.push(5);
                bytes.extend_from_slice(&period_micros.to_be_bytes());
                length_into(changes.len(), bytes);
                for (place, (quantity, held)) in changes {
                    place.encode_into(bytes);
                    bytes.extend_from_slice(&quantity.units().to_be_bytes());
                    bytes.extend_from_slice(&held.to_be_bytes());
                }
            }
            Self::Buckets { count, values } => {
                bytes.push(6);
                bytes.extend_from_slice(&count.to_be_bytes());
                length_into(values.len(), bytes);
                for (bucket, quantity) in values {
                    bytes.extend_from_slice(&bucket.to_be_bytes());
                    bytes.extend_from_slice(&quantity.units().to_be_bytes());
                }
            }
            Self::Transactions { head, tail } => {
                bytes.push(7);
                bytes.extend_from_slice(&tail.within.units().to_be_bytes());
                bytes.extend_from_slice(&tail.least.to_be_bytes());
                bytes.extend_from_slice(&tail.most.to_be_bytes());
                length_into(head.len(), bytes);
                for (place, quantity) in head {
                    place.encode_into(bytes);
                    bytes.extend_from_slice(&quantity.units().to_be_bytes());
                }
            }
            Self::Steps(sums) => {
                bytes.push(8);
                length_into(sums.len(), bytes);
                for (above, sum) in sums {
                    bytes.extend_from_slice(&above.units().to_be_bytes());
                    bytes.extend_from_slice(&sum.quantity.units().to_be_bytes());
                    bytes.extend_from_slice(&sum.packages.to_be_bytes());
                    bytes.extend_from_slice(&sum.fees.to_be_bytes());
                }
            }
            Self::Sessions { period_micros, held } => {
                bytes.push(9);
                bytes.extend_from_slice(&period_micros.to_be_bytes());
                length_into(held.len(), bytes);
                for ((session, level), micros) in held {
                    bytes.extend_from_slice(session);
                    bytes.extend_from_slice(&level.units().to_be_bytes());
                    bytes.extend_from_slice(&micros.to_be_bytes());
                }
            }
        }
    }

    /// Reads what [`Detail::encode_into`] wrote.
    pub(crate) fn decode(rest: &mut &[u8]) -> Option<Self> {
        let [tag] = take(rest)?;
        Some(match tag {
            0 => Self::Sums,
            1 => Self::Extreme(quantity(rest)?),
            2 => Self::Latest(Place::decode(rest)?, quantity(rest)?),
            3 => {
                let days = u32::from_be_bytes(take(rest)?);
                let items: Vec<_> = list(rest, |rest| Some(((u32::from_be_bytes(take(rest)?), take(rest)?), ())))?;
                Self::Set { days, items: items.into_iter().map(|(item, ())| item).collect() }
            }
            4 => Self::Held { unit_micros: i128::from_be_bytes(take(rest)?), period_micros: i64::from_be_bytes(take(rest)?) },
            5 => {
                let period_micros = i64::from_be_bytes(take(rest)?);
                let changes = list(rest, |rest| Some((Place::decode(rest)?, (quantity(rest)?, i64::from_be_bytes(take(rest)?)))))?
                    .into_iter()
                    .collect();
                Self::Levels { period_micros, changes }
            }
            6 => {
                let count = u32::from_be_bytes(take(rest)?);
                Self::Buckets {
                    count,
                    values: list(rest, |rest| Some((u32::from_be_bytes(take(rest)?), quantity(rest)?)))?.into_iter().collect(),
                }
            }
            7 => {
                let within = quantity(rest)?;
                let (least, most) = (u64::from_be_bytes(take(rest)?), u64::from_be_bytes(take(rest)?));
                let head = list(rest, |rest| Some((Place::decode(rest)?, quantity(rest)?)))?.into_iter().collect();
                Self::Transactions { head, tail: Classes { within, least, most } }
            }
            8 => {
                let sum = |rest: &mut &[u8]| {
                    let (quantity, packages) = (quantity(rest)?, i128::from_be_bytes(take(rest)?));
                    Some(StepSum { quantity, packages, fees: u64::from_be_bytes(take(rest)?) })
                };
                Self::Steps(list(rest, |rest| Some((quantity(rest)?, sum(rest)?)))?.into_iter().collect())
            }
            9 => {
                let period_micros = i64::from_be_bytes(take(rest)?);
                let entry = |rest: &mut &[u8]| Some(((take(rest)?, quantity(rest)?), i64::from_be_bytes(take(rest)?)));
                Self::Sessions { period_micros, held: list(rest, entry)?.into_iter().collect() }
            }
            _ => return None,
        })
    }
}

/// Adds an item, in a zone on each day that the reading touches.
fn see(zone: Option<&Zone>, items: &mut BTreeSet<(u32, [u8; 16])>, value: &str, fact: &Fact<'_>) -> Option<()> {
    let item = *Digest::of(value.as_bytes()).0.first_chunk()?;
    let mut add = |day: i64| {
        items.insert((u32::try_from(day).ok()?, item));
        (items.len() <= ENTRIES_MAX).then_some(())
    };
    let Some(zone) = zone else { return add(0) };
    zone.dates(fact.place.at, fact.last(fact.end_at.unwrap_or(fact.place.at))?).ok()?.try_for_each(add)
}

/// Adds the time that a level was held; a level below zero takes time of the same level back.
fn hold(held: &mut BTreeMap<([u8; 16], Quantity), i64>, session: Option<&str>, fact: &Fact<'_>) -> Option<()> {
    let micros = fact.end()?.micros().checked_sub(fact.place.at.micros())?;
    let level = Quantity::from_units(fact.quantity.units().checked_abs()?).ok()?;
    if level == Quantity::ZERO || micros == 0 {
        return Some(());
    }
    let micros = if fact.quantity < Quantity::ZERO { micros.checked_neg()? } else { micros };
    let session = session.map_or(Some([0; 16]), |session| Digest::of(session.as_bytes()).0.first_chunk().copied())?;
    let entry = (session, level);
    if held.len() >= ENTRIES_MAX && !held.contains_key(&entry) {
        return None;
    }
    let sum = held.get(&entry).copied().unwrap_or(0).checked_add(micros)?;
    // A level that was taken back altogether leaves no trace: equal sums have equal bytes.
    if sum == 0 {
        held.remove(&entry);
    } else {
        held.insert(entry, sum);
    }
    Some(())
}

/// Σ level × microseconds as they are counted, in units of 10^-9.
pub(crate) fn counted(stepped: &Stepped, held: &BTreeMap<([u8; 16], Quantity), i64>) -> Option<i128> {
    held.iter()
        .try_fold(0_i128, |sum, ((_, level), micros)| sum.checked_add(level.units().checked_mul(i128::from(stepped.count(*micros)?))?))
}

/// Moves readings behind the end of the allowance from the head to the classes. The head never grows again: what comes later uses up
/// no less of the allowance.
fn spill(head: &mut BTreeMap<Place, Quantity>, tail: &mut Classes, terms: &Percentage, per: Quantity) -> Option<()> {
    let mut allowance = Allowance::of(terms);
    let mut end = None;
    for (place, quantity) in head.iter() {
        if allowance.is_over() {
            end = Some(*place);
            break;
        }
        allowance.take(*quantity);
    }
    if let Some(end) = end {
        for (_, quantity) in head.split_off(&end) {
            tail.add(terms, per, quantity)?;
        }
    }
    (head.len() <= ENTRIES_MAX).then_some(())
}

impl Place {
    fn encode_into(&self, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(&self.at.micros().to_be_bytes());
        bytes.extend_from_slice(&self.identity.0);
        bytes.extend_from_slice(&self.ordinal.to_be_bytes());
    }

    fn decode(rest: &mut &[u8]) -> Option<Self> {
        let at = Instant::from_micros(i64::from_be_bytes(take(rest)?)).ok()?;
        Some(Self { at, identity: IdentityHash(take(rest)?), ordinal: u16::from_be_bytes(take(rest)?) })
    }
}

fn quantity(rest: &mut &[u8]) -> Option<Quantity> {
    Quantity::from_units(i128::from_be_bytes(take(rest)?)).ok()
}

fn length_into(length: usize, bytes: &mut Vec<u8>) {
    // A detail has at most `ENTRIES_MAX` entries.
    bytes.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
}

/// Entries whose keys rise.
fn list<K: Ord, V>(rest: &mut &[u8], mut entry: impl FnMut(&mut &[u8]) -> Option<(K, V)>) -> Option<Vec<(K, V)>> {
    let count = u32::from_be_bytes(take(rest)?);
    let mut entries: Vec<(K, V)> = Vec::new();
    for _ in 0..count {
        let (key, value) = entry(rest)?;
        if entries.last().is_some_and(|(last, _)| *last >= key) {
            return None;
        }
        entries.push((key, value));
    }
    Some(entries)
}
