//! Rating: readings become charges and running totals. Pure: no I/O, clock, randomness, environment or logging.
//!
//! The rule: for each key F is evaluated over the accumulated state as an exact rational; T = F rounded once, half to even, at
//! scale 9. A charge is T after minus T before its reading. So Σ charges of a key = T of the key, whatever the order of the readings,
//! the cuts between batches, the lateness of events or the number of threads.
//!
//! Invariants, each checked where it says:
//! - `RAT-1` Σ charges of a key = T of the key = Σ amounts of its totals. By construction; property tests.
//! - `RAT-2` Every price row that a key's state names is in the plan: [`rate()`] halts with [`RateError::Evaluate`] when one is missing.
//!   The registry refuses a publication that drops or renames a used row.
//! - `RAT-3` F of a key's state under the plan rounds to what was booked: [`rate()`] halts with [`RateError::TotalDiffers`] otherwise.
//!   The registry refuses a publication that changes a used row.
//! - `RAT-4` `log_seq` is dense from 0 per (organization, UTC month of the reading's start), over charged and free readings in sealed order.
//! - `RAT-5` A state restored from `totals` equals the state that was kept by applying overlays. Property tests.
//! - `RAT-6` The charges of a key that stand sum to its T: [`rerate()`] halts with [`RerateError::BookedDiffers`] otherwise.
#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects, clippy::float_arithmetic))]

pub mod allocate;
pub mod amount;
pub mod basis;
pub mod charges;
mod columns;
pub mod contract;
pub mod evaluate;
pub mod explain;
pub mod forecast;
pub mod line_index;
pub mod per_row;
pub mod plan;
mod provable;
pub mod rate;
pub mod ratio;
pub mod rerate;
pub mod state;
pub mod totals;

/// Days, months and zones: they live with the events that are cut at them.
pub use platform_usage::calendar;

pub use amount::Exact;
pub use basis::{Basis, Clock, Convert, Each, FirstFee, Measure, Shape, Stepped, Then, Together};
pub use charges::{
    CHARGES_ORDER, CHARGES_SORT, COUNTED, Charge, Counted, Fate, Priced, RATED, Rated, STATES, States, charges_from_arrow, charges_schema,
    charges_to_arrow, counted_from_arrow, rated_from_arrow,
};
pub use columns::RowError;
pub use evaluate::{Committed, EvaluateError, Evaluation, Measured, PriceIndex, Rule, Segment, Step, evaluate, measured};
pub use explain::{ExplainError, Explanation};
pub use forecast::{Forecast, ForecastError, ForecastLine, Horizon, Stage, forecast};
pub use line_index::LineIndex;
pub use plan::{
    Band, BlockTier, Contract, Line, Percentage, Plan, PlanError, PriceBook, PriceModel, PriceRow, Promised, Resolved, Tier, TrueUp,
    WindowCommitment,
};
pub use rate::look_up::{PriceFinder, look_up};
pub use rate::{RateError, RatedBatch, rate};
pub use ratio::{Ratio, RoundTo};
pub use rerate::{AtRecord, Gathering, Prepared, Read, RerateError, Standing, Unit, book, go_on, prepare, rate_standing, rerate};
pub use state::{Detail, Fact, Key, KeyState, Overlay, Place, RatingState, SegmentState, StateError, decode_segments, encode_segments};
pub use totals::{TOTALS_ORDER, TOTALS_SORT, Total, totals_from_arrow, totals_schema, totals_to_arrow};
