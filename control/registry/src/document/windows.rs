//! Commitments of prices for each window of their meter. They know no meter and no model.

use serde::{Deserialize, Serialize};
use shared_types::{Price, Quantity};

use super::terms::words;

words!(
    /// Which windows owe what is missing to what was promised for them.
    WindowTrueUp {
        /// None: the commitment only says where overage begins.
        None = "none",
        /// Those with a reading.
        OwedWhenUsed = "owed_when_used",
        /// All of the service period, as soon as the price has a reading in it.
        OwedAlways = "owed_always",
    }
);

/// How much is promised for a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Promised {
    /// Money, above zero.
    Amount(Price),
    /// What a window costs that measures this many of the meter's unit, above zero.
    Quantity(Quantity),
}

/// A promise for each window of a meter whose buckets are priced alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WindowCommitment {
    /// How much is promised for a window.
    pub promised: Promised,
    /// What a window costs beyond it, as a multiple; above zero.
    pub overage_factor: Quantity,
    /// Which windows owe what is missing.
    pub true_up: WindowTrueUp,
}
