//! Meters: how quantities are read from events of a type.

use std::sync::Arc;

use shared_types::{MeterId, UnitId};

use crate::BillableStates;

/// How the readings of a meter add up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Aggregation {
    /// The value at `value` of each event.
    Sum,
    /// One for each event.
    Count,
}

/// What becomes of a negative value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Negative {
    /// The reading is quarantined.
    #[default]
    Quarantine,
    /// It is rated like any other: sources that send corrections as negative usage.
    Accept,
}

/// One meter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meter {
    /// Its name.
    pub id: MeterId,
    /// The CloudEvents type that it reads.
    pub event_type: Arc<str>,
    /// Sum or count.
    pub aggregation: Aggregation,
    /// Path of the value inside `data`: member names joined by dots; none for `Count`.
    pub value: Option<Arc<str>>,
    /// What the quantity counts.
    pub unit: UnitId,
    /// Dimension name and its path inside `data`. An absent one is left out of the reading.
    pub dimensions: Vec<(Arc<str>, Arc<str>)>,
    /// What becomes of a negative value.
    pub negative: Negative,
    /// Path inside `data` of a total that this value is a part of. All meters of the event type that name one total are its parts: they
    /// share nothing and add up to it, else none of them has a quantity. A part that is absent or zero has no reading.
    pub part_of: Option<Arc<str>>,
    /// For a level whose time is billed: which of it, and at which rates. A reading is then a piece of time, its quantity the level.
    pub billable: Option<Arc<BillableStates>>,
}
