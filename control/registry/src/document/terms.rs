//! The smaller parts of meters and prices: clocks, buckets, roundings, fees, blocks. Each name is the one in documents.

use serde::{Deserialize, Serialize};
use shared_types::{Price, Quantity};

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $word:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
        pub enum $name {
            $($(#[$variant_doc])* #[serde(rename = $word)] $variant,)*
        }

        impl $name {
            /// Every word with what it stands for.
            pub const WORDS: &[(&'static str, Self)] = &[$(($word, Self::$variant),)*];

            /// The name in documents.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)*
                }
            }
        }
    };
}

pub(super) use words;

words!(
    /// What time is counted in.
    Clock {
        /// Whole microseconds.
        Microsecond = "microsecond",
        /// Days of the meter's zone, each that is touched counted in full.
        Day = "day",
    }
);

words!(
    /// Over what different values are told apart.
    UniquePer {
        /// Once in a service period.
        Period = "period",
        /// Once on each day of the meter's zone, as a share of the days that the period touches.
        Day = "day",
    }
);

words!(
    /// What a model is applied to.
    AppliesTo {
        /// The quantity of the service period.
        Period = "period",
        /// Each event alone.
        EachEvent = "each_event",
    }
);

words!(
    /// How long a bucket is.
    Bucket {
        /// 300 seconds.
        FiveMinutes = "five_minutes",
        /// An hour of the meter's zone.
        Hour = "hour",
        /// A day of the meter's zone.
        Day = "day",
    }
);

words!(
    /// What a bucket's value is.
    Each {
        /// The greatest value.
        Max = "max",
        /// The sum of the values.
        Sum = "sum",
    }
);

words!(
    /// What becomes of the values of all buckets.
    Then {
        /// Their sum is priced.
        Sum = "sum",
        /// Each is priced alone.
        Alone = "alone",
        /// The value that 50 of a hundred buckets do not exceed.
        P50 = "p50",
        /// The value that 90 of a hundred buckets do not exceed.
        P90 = "p90",
        /// The value that 95 of a hundred buckets do not exceed.
        P95 = "p95",
        /// The value that 99 of a hundred buckets do not exceed.
        P99 = "p99",
    }
);

words!(
    /// Which neighbour a converted quantity becomes.
    RoundTo {
        /// It stays as it is.
        None = "none",
        /// The one above.
        Ceiling = "ceiling",
        /// The one below.
        Floor = "floor",
        /// The nearer one, a half away from zero.
        HalfAwayFromZero = "half_away_from_zero",
        /// The nearer one, a half to the even one.
        HalfEven = "half_even",
    }
);

/// A change of unit of the cumulative quantity.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Convert {
    /// Factor, above zero.
    pub multiply: Quantity,
    /// Divisor, above zero.
    pub divide: Quantity,
    /// Which way it is rounded.
    pub rounding: RoundTo,
    /// To how many decimal places; below zero to tens, hundreds and so on.
    #[serde(with = "places")]
    pub places: i32,
}

/// A share of a value, and fees for readings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Percentage {
    /// The rate in percent.
    pub rate: Price,
    /// Money for each reading that is not free.
    pub fee: Price,
    /// The least that the share of one reading comes to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub least: Option<Price>,
    /// The most that the share of one reading comes to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub most: Option<Price>,
    /// How many readings are free; zero for no such limit.
    pub free_readings: Quantity,
    /// How much of the value is free; zero for no such limit.
    pub free_value: Quantity,
}

/// One tier of blocks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BlockTier {
    /// Upper bound, inclusive; none for the last tier.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub up_to: Option<Quantity>,
    /// Units in a block, above zero.
    pub size: Quantity,
    /// Money for a block.
    pub block_price: Price,
}

/// Whole numbers as text.
mod places {
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub(super) fn serialize<S: Serializer>(number: &i32, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(number)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i32, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

words!(
    /// When a recurring fee is charged.
    ChargedAt {
        /// When the service period begins, or the fee within it.
        Start = "start",
        /// When the service period is over, or the fee within it.
        End = "end",
    }
);

words!(
    /// Which time of a lease is billed.
    BilledDuring {
        /// That of its sessions.
        Session = "session",
        /// All of it.
        Lease = "lease",
    }
);

words!(
    /// Where local time cuts intervals.
    CutAt {
        /// Where months begin.
        Month = "month",
        /// Where days begin.
        Day = "day",
    }
);

words!(
    /// What becomes of a begun step.
    StepRounding {
        /// It counts in full.
        Up = "up",
        /// It does not count.
        Down = "down",
        /// It counts from a half on; a half goes to the even number of steps.
        HalfEven = "half_even",
    }
);

words!(
    /// Whose time is counted in steps together.
    StepsOf {
        /// Each reading's.
        Reading = "reading",
        /// That of a session, by level and rate.
        Session = "session",
        /// That of the service period, by level and rate.
        Period = "period",
    }
);
