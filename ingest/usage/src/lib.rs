//! The usage event and its readings: envelope, identity, meters. No I/O, no clock, no price.

pub mod billable;
pub mod calendar;
pub mod defect;
pub mod event;
pub mod json;
pub mod meter;
pub mod read;
pub mod reading;
pub mod reason;

pub use billable::{BillableStates, Changes, Cut, During, Told};
pub use defect::Defect;
pub use event::{Event, EventLimits, Glimpse, IdentityKey, OWN_SOURCE, glimpse};
pub use meter::{Aggregation, Meter, Negative};
pub use read::{MeterReading, MeterSet, MeterSetError, StatedParts};
pub use reading::{Accepted, Dimensions, MeteredReading, UsageBatch};
pub use reason::Reason;
