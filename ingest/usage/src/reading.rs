//! What intake hands to rating: one metered quantity of one accepted event, and a batch of them.
//! It knows no price and no storage.

use std::sync::Arc;

use shared_types::{Digest, IdentityHash, Instant, MeterId, Month, OrganizationId, Position, ProjectId, Quantity, SourceId, UnitId};

use crate::{Event, MeterReading};

/// Names and values by which prices tell readings apart, for example `model = m1`. Sorted by name, names unique.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Dimensions(Arc<[(Arc<str>, Arc<str>)]>);

impl Dimensions {
    /// Sorts by name; of a repeated name the first value stays.
    pub fn new(pairs: impl IntoIterator<Item = (Arc<str>, Arc<str>)>) -> Self {
        let mut pairs: Vec<(Arc<str>, Arc<str>)> = pairs.into_iter().collect();
        pairs.sort_by(|(a, _), (b, _)| a.cmp(b));
        pairs.dedup_by(|(a, _), (b, _)| a == b);
        Self(pairs.into())
    }

    /// Reads what [`Dimensions::canonical`] wrote; none where the text is no object of strings.
    pub fn parse(text: &str) -> Option<Self> {
        let pairs: std::collections::HashMap<String, String> = serde_json::from_str(text).ok()?;
        Some(Self::new(pairs.into_iter().map(|(name, value)| (name.into(), value.into()))))
    }

    /// The value of a name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| &**key == name).map(|(_, value)| &**value)
    }

    /// Pairs in order of name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (&**name, &**value))
    }

    /// Canonical JSON, for example `{"model":"m1"}`.
    pub fn canonical(&self) -> String {
        let members = self.0.iter().map(|(name, value)| (name.to_string(), serde_json::Value::String(value.to_string())));
        // Strings alone always have a canonical form.
        shared_types::canonical_json(&serde_json::Value::Object(members.collect())).unwrap_or_default()
    }
}

/// One meter's quantity from one accepted event: the unit that is rated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MeteredReading {
    /// Where the event stands in the stream.
    pub position: Position,
    /// Number of the reading within its event, from 0.
    pub ordinal: u16,
    /// The event's identity.
    pub identity: IdentityHash,
    /// Who owes.
    pub organization: OrganizationId,
    /// Sub-account, if the source named one.
    pub project: Option<ProjectId>,
    /// Who sent the event.
    pub source: SourceId,
    /// The meter that read it.
    pub meter: MeterId,
    /// What the quantity counts.
    pub unit: UnitId,
    /// What tells prices apart.
    pub dimensions: Dimensions,
    /// How much; already refused at the meter when it is a defect of the event.
    pub quantity: Quantity,
    /// When the usage began (or happened).
    pub start_at: Instant,
    /// When it ended, for intervals.
    pub end_at: Option<Instant>,
    /// When the event entered the stream.
    pub accepted_at: Instant,
    /// The later of the reading's UTC month and the shard's oldest unclosed month.
    pub accounting_period: Month,
    /// H(salt ‖ every string that the source supplied): what evidence shows in place of them.
    pub commitment: Digest,
    /// Why the reading cannot be rated, where the meter refused it; such a reading is quarantined, never rated.
    pub refused: Option<crate::Reason>,
}

/// What is known of an accepted event beyond its own words.
#[derive(Clone, Copy, Debug)]
pub struct Accepted {
    /// Where it stands in the stream.
    pub position: Position,
    /// Its identity.
    pub identity: IdentityHash,
    /// When it entered the stream.
    pub accepted_at: Instant,
    /// H(salt ‖ every string that the source supplied).
    pub commitment: Digest,
}

impl MeterReading {
    /// The reading as rating takes it; a refused one has no quantity.
    pub fn of_event(self, event: &Event, accepted: &Accepted, accounting_period: Month) -> MeteredReading {
        let Accepted { position, identity, accepted_at, commitment } = *accepted;
        let (quantity, refused) = match self.result {
            Ok(quantity) => (quantity, None),
            Err(defect) => (Quantity::ZERO, Some(defect.reason)),
        };
        MeteredReading {
            position,
            ordinal: self.ordinal,
            identity,
            organization: event.organization().clone(),
            project: event.project().cloned(),
            source: event.source().clone(),
            meter: self.meter,
            unit: self.unit,
            dimensions: self.dimensions,
            quantity,
            start_at: self.start_at,
            end_at: self.end_at,
            accepted_at,
            accounting_period,
            commitment,
            refused,
        }
    }
}

/// Readings of one batch in sealed order: (shard, sequence, ordinal).
#[derive(Clone, Debug, Default)]
pub struct UsageBatch {
    /// The readings.
    pub readings: Vec<MeteredReading>,
}
