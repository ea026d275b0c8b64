//! What a price model is applied to: how a state becomes a measured quantity, is converted and freed of an allowance.
//! It knows no reading and no price.

use std::sync::Arc;

use platform_usage::calendar::{Span, Zone};
use shared_types::Quantity;

use crate::plan::PriceModel;
use crate::ratio::{Ratio, RoundTo};

/// The way from a state to the quantity that is priced. The default is Σ quantity as it is.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Basis {
    /// What is measured.
    pub measure: Measure,
    /// The zone of the days and hours that it counts; UTC where it counts none.
    pub zone: Zone,
    /// Into which unit it is turned; none keeps the meter's.
    pub convert: Option<Convert>,
    /// Taken off the converted quantity while that is above zero, in the converted unit; never below zero.
    pub free: Quantity,
    /// Whether the first tier's flat fee is due without usage.
    pub first_fee: FirstFee,
}

/// Whether the flat fee of the first tier is due while the quantity is zero or less.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum FirstFee {
    /// Due once any usage lies in the tier.
    #[default]
    WhenUsed,
    /// Due as soon as there is a state.
    Always,
}

/// How the readings of a key add up to one quantity.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub enum Measure {
    /// Σ quantity.
    #[default]
    Sum,
    /// Σ quantity ÷ readings.
    Average,
    /// The greatest quantity.
    Max,
    /// The smallest quantity.
    Min,
    /// The quantity of the latest reading by (start, identity, ordinal); zero where that is below zero.
    Latest,
    /// How many different values of a dimension there were, or how many pairs of a value and a local day, as a share of the days that the
    /// period touches.
    Unique {
        /// The dimension.
        of: Arc<str>,
        /// Whether days count: an item that was there on one day of thirty-one is 1/31.
        per_day: bool,
    },
    /// Σ quantity × seconds held. Held from its start to its end, without an end to the end of the service period.
    TimeWeighted {
        /// What time is counted in.
        by: Clock,
    },
    /// Σ quantity × the share of the service period that it is held: the mean level. Tiers go by full quantities.
    Prorated {
        /// What time is counted in.
        by: Clock,
    },
    /// Each reading is converted, freed and priced alone: tiers go by the reading, begun packages are those of the reading.
    Each,
    /// Σ quantity × time held, the time of what belongs together counted in whole steps.
    Stepped(Stepped),
    /// A value for each bucket of the service period, then one quantity from all of them.
    Bucketed {
        /// Length of a bucket in seconds, above zero; the first begins with the period. 3,600 and 86,400 are local hours and days.
        seconds: u32,
        /// What a bucket's value is.
        each: Each,
        /// What becomes of the values.
        then: Then,
    },
}

/// Time held, in steps. Each level of what belongs together is counted by itself: another level is another lease.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Stepped {
    /// What belongs together.
    pub together: Together,
    /// Microseconds in a step, above zero; one counts every microsecond.
    pub step_micros: i64,
    /// What becomes of a begun step.
    pub rounding: RoundTo,
    /// Microseconds that are counted at least, in the place of any fewer above zero.
    pub least_micros: i64,
    /// Whether the sum is a share of the service period, the mean level; else it is counted in seconds.
    pub share: bool,
}

/// Whose time is added up before it is counted in steps.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Together {
    /// Each reading's alone.
    Reading,
    /// Readings with one value of a dimension.
    Dimension(Arc<str>),
    /// All readings of the service period.
    Period,
}

impl Stepped {
    /// Microseconds as they are counted. Below zero, where time was taken back, they are the mirror image.
    pub fn count(&self, micros: i64) -> Option<i64> {
        let magnitude = micros.checked_abs()?;
        let rest = magnitude.checked_rem(self.step_micros)?;
        let whole = magnitude.checked_sub(rest)?;
        let up = match self.rounding {
            RoundTo::Ceiling => rest > 0,
            RoundTo::Floor => false,
            RoundTo::HalfAwayFromZero => rest >= self.step_micros.checked_sub(rest)?,
            RoundTo::HalfEven => match rest.cmp(&self.step_micros.checked_sub(rest)?) {
                std::cmp::Ordering::Equal => whole.checked_div(self.step_micros)?.checked_rem(2)? == 1,
                order => order == std::cmp::Ordering::Greater,
            },
        };
        let stepped = if up { whole.checked_add(self.step_micros)? } else { whole };
        let counted = if magnitude == 0 { 0 } else { stepped.max(self.least_micros) };
        counted.checked_mul(micros.signum())
    }
}

/// What time is counted in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Clock {
    /// Whole microseconds.
    #[default]
    Microsecond,
    /// Local days, each that is touched counted in full, as far as it lies in the service period: 23 or 25 hours where clocks change.
    Day,
}

/// What a bucket's value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Each {
    /// The greatest quantity, zero where there is none above.
    Max,
    /// Σ quantity.
    Sum,
}

/// What becomes of the values of all buckets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Then {
    /// Their sum is priced.
    Sum,
    /// Each is converted and priced alone.
    Alone,
    /// The value that so many of a hundred buckets do not exceed (nearest rank), 1 to 100; buckets without readings are zero.
    Percentile(u8),
}

/// A change of unit: × multiply ÷ divide, then one rounding, always of the cumulative quantity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Convert {
    /// Factor.
    pub multiply: Quantity,
    /// Divisor, above zero.
    pub divide: Quantity,
    /// Decimal places and which way; none keeps the fraction.
    pub rounding: Option<(i32, RoundTo)>,
}

impl Convert {
    /// The converted quantity; none when it does not fit.
    pub fn apply(&self, quantity: Ratio) -> Option<Ratio> {
        let converted = quantity.checked_mul(self.multiply)?.checked_div(self.divide)?;
        match self.rounding {
            Some((places, to)) => converted.round(places, to),
            None => Some(converted),
        }
    }
}

/// What a segment's state holds beyond Σ quantity and the number of readings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Shape {
    /// Nothing.
    Sums,
    /// The extreme quantity.
    Extreme,
    /// The latest reading.
    Latest,
    /// Items seen.
    Set,
    /// Σ quantity × time held.
    Held,
    /// Changes of a level, in order.
    Levels,
    /// Time held by each level of what belongs together.
    Sessions,
    /// A value for each bucket.
    Buckets,
    /// Readings that an allowance frees, and the classes of the others.
    Transactions,
    /// What each tier of a model got of readings that were priced alone.
    Steps,
}

impl Basis {
    /// Whether Σ quantity is priced as it is.
    pub fn is_plain(&self) -> bool {
        // Member by member: this is asked for every reading.
        self.measure == Measure::Sum && self.convert.is_none() && self.free == Quantity::ZERO && self.first_fee == FirstFee::WhenUsed
    }

    /// What time is counted in.
    pub(crate) fn clock(&self) -> Clock {
        match self.measure {
            Measure::TimeWeighted { by } | Measure::Prorated { by } => by,
            _ => Clock::Microsecond,
        }
    }

    /// What is measured, in words for people.
    pub(crate) fn words(&self) -> String {
        let words = self.measure.words();
        if self.zone == Zone::default() { words } else { format!("{words}, by the clocks of {}", self.zone.name()) }
    }

    /// What the state of a row with this basis and model holds.
    pub fn shape(&self, model: &PriceModel) -> Shape {
        match (&self.measure, model) {
            (Measure::Sum, PriceModel::Percentage(terms)) if !terms.is_linear() => Shape::Transactions,
            (Measure::Sum | Measure::Average, _) => Shape::Sums,
            (Measure::Each, _) => Shape::Steps,
            (Measure::Max | Measure::Min, _) => Shape::Extreme,
            (Measure::Latest, _) => Shape::Latest,
            (Measure::Unique { .. }, _) => Shape::Set,
            (Measure::Prorated { .. }, PriceModel::Graduated { .. }) => Shape::Levels,
            (Measure::Stepped(stepped), _) if stepped.together != Together::Reading => Shape::Sessions,
            (Measure::TimeWeighted { .. } | Measure::Prorated { .. } | Measure::Stepped(_), _) => Shape::Held,
            (Measure::Bucketed { .. }, _) => Shape::Buckets,
        }
    }

    /// What is wrong with it whatever the state.
    pub(crate) fn defect(&self, model: &PriceModel) -> Option<&'static str> {
        if self.zone != Zone::default() && !self.measure.counts_local_time() {
            return Some("it has a time zone, but counts neither days nor hours");
        }
        if self.convert.is_some_and(|convert| convert.divide <= Quantity::ZERO) {
            return Some("its conversion divides by zero or less");
        }
        if self.convert.is_some_and(|convert| convert.rounding.is_some_and(|(places, _)| !(-20..=9).contains(&places))) {
            return Some("its conversion rounds to more than 9 places or less than -20");
        }
        if self.free < Quantity::ZERO {
            return Some("its free units are below zero");
        }
        match &self.measure {
            Measure::Each if self.convert.is_some_and(|convert| convert.rounding.is_none()) => {
                Some("its readings are converted one by one without rounding")
            }
            Measure::Each if matches!(model, PriceModel::Flat { .. }) => Some("an amount for the period is not owed for each reading"),
            Measure::Bucketed { seconds: 0, .. } => Some("its buckets have no length"),
            Measure::Stepped(stepped) if stepped.step_micros <= 0 || stepped.least_micros < 0 => {
                Some("its steps have no length or its least is below zero")
            }
            Measure::Bucketed { then: Then::Percentile(0 | 101..), .. } => Some("its percentile is not between 1 and 100"),
            Measure::Prorated { .. }
                if matches!(model, PriceModel::Graduated { .. }) && (self.convert.is_some() || self.free != Quantity::ZERO) =>
            {
                Some("graduated tiers over prorated levels take no conversion and no free units")
            }
            _ if matches!(model, PriceModel::Percentage(_))
                && (self.measure != Measure::Sum || self.convert.is_some() || self.free != Quantity::ZERO) =>
            {
                Some("a percentage is taken of the sum of the readings")
            }
            _ => None,
        }
    }
}

/// The local windows of a length in seconds; none where the length alone makes the windows.
pub(crate) fn span_of(seconds: u32) -> Option<Span> {
    match seconds {
        3_600 => Some(Span::Hour),
        86_400 => Some(Span::Day),
        _ => None,
    }
}

impl Stepped {
    /// In words, for people.
    fn words(&self) -> String {
        let seconds = |micros: i64| Ratio::new(i128::from(micros).saturating_mul(1_000), 1).unwrap_or(Ratio::ZERO);
        let unit = if self.share { "the share of the period" } else { "seconds" };
        let mut words = format!("quantity times {unit} that it was held");
        if self.step_micros > 1 {
            let which = match self.rounding {
                RoundTo::Ceiling => "begun steps counted",
                RoundTo::Floor => "whole steps only",
                RoundTo::HalfAwayFromZero | RoundTo::HalfEven => "to the nearest step",
            };
            words.push_str(&format!(", in steps of {} seconds, {which}", seconds(self.step_micros)));
        }
        if self.least_micros > 0 {
            words.push_str(&format!(", at least {} seconds", seconds(self.least_micros)));
        }
        match &self.together {
            Together::Reading => words.push_str(" for each reading"),
            Together::Dimension(of) => words.push_str(&format!(" for each {of}")),
            Together::Period => words.push_str(" for the whole period"),
        }
        words
    }
}

impl Measure {
    /// Whether it counts days or hours, which differ from zone to zone.
    pub fn counts_local_time(&self) -> bool {
        match self {
            Self::Unique { per_day, .. } => *per_day,
            Self::TimeWeighted { by } | Self::Prorated { by } => *by == Clock::Day,
            Self::Bucketed { seconds, .. } => span_of(*seconds).is_some(),
            _ => false,
        }
    }

    /// Whether the sum of what was read is priced, all at once or reading by reading.
    pub fn counts_quantity(&self) -> bool {
        matches!(self, Self::Sum | Self::Each)
    }

    /// Whether it counts seconds that quantities were held.
    pub(crate) fn counts_seconds(&self) -> bool {
        match self {
            Self::TimeWeighted { .. } => true,
            Self::Stepped(stepped) => !stepped.share,
            _ => false,
        }
    }

    /// What nothing measures: counts are zero, the others have no value.
    pub fn of_nothing(&self) -> Option<Ratio> {
        matches!(self, Self::Unique { .. }).then_some(Ratio::ZERO)
    }

    /// In words, for people.
    fn words(&self) -> String {
        let by = |by: &Clock| if *by == Clock::Day { ", in whole days" } else { "" };
        match self {
            Self::Sum => "the sum of the readings".to_owned(),
            Self::Average => "the mean of the readings".to_owned(),
            Self::Max => "the greatest reading".to_owned(),
            Self::Min => "the smallest reading".to_owned(),
            Self::Latest => "the latest reading".to_owned(),
            Self::Unique { of, per_day: false } => format!("how many different {of} there were"),
            Self::Unique { of, per_day: true } => format!("the days on which each {of} was there, as a share of the period's days"),
            Self::TimeWeighted { by: clock } => format!("quantity times seconds held{}", by(clock)),
            Self::Prorated { by: clock } => format!("quantity times the share of the period that it was held{}", by(clock)),
            Self::Each => "each reading, converted and priced alone".to_owned(),
            Self::Stepped(stepped) => stepped.words(),
            Self::Bucketed { seconds, each, then } => {
                let each = if *each == Each::Max { "the greatest reading" } else { "the sum of the readings" };
                let then = match then {
                    Then::Sum => "added up".to_owned(),
                    Then::Alone => "each priced alone".to_owned(),
                    Then::Percentile(percent) => format!("of which {percent} in a hundred do not exceed this"),
                };
                match span_of(*seconds) {
                    Some(Span::Hour) => format!("{each} in every hour, {then}"),
                    Some(Span::Day) => format!("{each} in every day, {then}"),
                    None => format!("{each} in every {seconds} seconds, {then}"),
                }
            }
        }
    }
}
