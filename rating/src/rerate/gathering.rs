//! Readings as they stand, out of their rows of `charges`. It rates nothing.

use std::collections::HashMap;

use platform_usage::{MeteredReading, Reason};
use shared_types::{IdentityHash, Position};

use crate::charges::{Charge, Fate};

/// A reading as it is known: the row that counts now, or that holds it in quarantine, or the last one that did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Where its first row stands: with its event, or at the record that had it read; of one that left quarantine, at the record by which it did.
    pub origin: Position,
    /// The first row, or the one that a re-rating put in its place.
    pub charge: Charge,
    /// Whether that row was taken back, with nothing in its place: no version read it since.
    pub taken_back: bool,
    /// What the plan's meters make of it.
    pub read: Read,
}

/// How a reading that has rows is read again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Read {
    /// As its row says.
    #[default]
    Same,
    /// By meters: quantity, unit, dimensions, end, and whether it is refused, are these.
    Anew(Box<MeteredReading>),
    /// Not any more.
    Gone,
}

impl Standing {
    /// Whether it is charged or free.
    pub fn stands(&self) -> bool {
        !self.taken_back && self.charge.fate.priced().is_some()
    }

    /// Whether it is rated where it stands, not behind everything else: it counts, or would have where there was room. What overflows depends on
    /// what came before it.
    pub(super) fn in_place(&self) -> bool {
        !self.taken_back && has_place(&self.charge.fate)
    }

    /// In which order readings are rated: by where they first stood.
    pub(super) fn place(&self) -> (Position, u16, IdentityHash) {
        (self.origin, self.charge.ordinal, self.charge.identity)
    }

    /// What was read from the event, as rating takes it; none where nothing was.
    pub fn reading(&self) -> Option<MeteredReading> {
        let charge = &self.charge;
        let (position, ordinal) = (self.origin, charge.ordinal);
        match &self.read {
            Read::Anew(reading) => return Some(MeteredReading { position, ordinal, ..(**reading).clone() }),
            Read::Same if !self.taken_back => {}
            Read::Same | Read::Gone => return None,
        }
        Some(MeteredReading {
            position,
            ordinal,
            identity: charge.identity,
            organization: charge.organization.clone(),
            project: charge.project.clone(),
            source: charge.source.clone(),
            meter: charge.meter.clone(),
            unit: charge.unit.clone(),
            dimensions: charge.dimensions.clone(),
            quantity: charge.quantity,
            start_at: charge.start_at,
            end_at: charge.end_at,
            accepted_at: charge.accepted_at,
            accounting_period: charge.accounting_period,
            commitment: charge.commitment,
            refused: refused(&charge.fate),
        })
    }
}

/// Whether a reading counts, or would have where there was room.
pub(super) fn has_place(fate: &Fate) -> bool {
    match fate {
        Fate::Charged { .. } | Fate::Free { .. } => true,
        Fate::Quarantined { reason } => *reason == Reason::AmountOverflow,
    }
}

/// Why a meter refused a reading. What rating refused may have a price under another plan. Some refuse it for a dimension: then its row does
/// not say which of both it was, and only the event itself does.
pub(super) fn refused(fate: &Fate) -> Option<Reason> {
    match fate {
        Fate::Quarantined { reason: Reason::NoContract | Reason::Unpriced | Reason::AmountOverflow } => None,
        Fate::Quarantined { reason } => Some(*reason),
        Fate::Charged { .. } | Fate::Free { .. } => None,
    }
}

/// Gathers readings as they stand out of rows of `charges`, which come in the order of their batches and, within one, of
/// [`Charge::place`].
#[derive(Clone, Debug, Default)]
pub struct Gathering {
    places: HashMap<(IdentityHash, u16), usize>,
    /// Each with the record by which it was taken back last.
    readings: Vec<(Standing, Option<Position>)>,
}

impl Gathering {
    /// Takes in the next row.
    ///
    /// Behind a row that stands the next one of the same reading takes it back, and the one behind that stands in its place: a re-rating
    /// writes both. A row in quarantine needs no taking back. What comes to stand where nothing stood before its record is rated there.
    pub fn add(&mut self, row: Charge) {
        let place = *self.places.entry((row.identity, row.ordinal)).or_insert(self.readings.len());
        let Some((known, taken_back_by)) = self.readings.get_mut(place) else {
            return self.readings.push((Standing { origin: row.position, charge: row, taken_back: false, read: Read::Same }, None));
        };
        if known.stands() {
            (known.taken_back, *taken_back_by) = (true, Some(row.position));
        } else {
            if has_place(&row.fate) && !known.in_place() && *taken_back_by != Some(row.position) {
                known.origin = row.position;
            }
            (known.charge, known.taken_back) = (row, false);
        }
    }

    /// Every reading that has rows, in the order in which they came.
    pub fn readings(self) -> Vec<Standing> {
        self.readings.into_iter().map(|(standing, _)| standing).collect()
    }
}
