//! What versions read of billed time: the pieces into which each cuts an event. It judges nothing.

use std::collections::HashMap;

use super::rows::{Reading, Rows};
use crate::billable::Piece;
use crate::registry::Version;
use crate::time;

/// The pieces of events, each cut once for a meter and version.
pub(super) struct Pieces<'r> {
    organization: &'r str,
    rows: &'r Rows,
    /// By event, meter and version.
    known: HashMap<(i64, &'r str, &'r str), Result<Vec<Piece>, String>>,
    /// Instants at which a version cuts a meter's time.
    changes: HashMap<(&'r str, &'r str), Vec<i64>>,
}

/// Whether a version bills a meter's time by states.
pub(super) fn billed(version: Option<&Version>, meter: &str) -> bool {
    version.and_then(|version| version.meters.get(meter)).is_some_and(|meter| meter.billable.is_some())
}

impl<'r> Pieces<'r> {
    pub(super) fn new(organization: &'r str, rows: &'r Rows) -> Self {
        Self { organization, rows, known: HashMap::new(), changes: HashMap::new() }
    }

    /// The piece of a reading's event and meter that begins at an instant, by a version; none where there is no such piece.
    ///
    /// - `address`: the version's. Errors: an event that the version cannot cut, and why.
    pub(super) fn of(&mut self, reading: &'r Reading, address: &'r str, version: &Version, start: i64) -> Result<Option<Piece>, String> {
        let cut = self.all(reading, address, version).map_err(Clone::clone)?;
        Ok(cut.iter().find(|piece| piece.start == start).cloned())
    }

    /// Where the pieces begin that lie in a stretch of time, or reach into it; without an end it lasts.
    pub(super) fn within(
        &mut self,
        reading: &'r Reading,
        address: &'r str,
        version: &Version,
        start: i64,
        end: Option<i64>,
    ) -> Result<Vec<i64>, String> {
        let cut = self.all(reading, address, version).map_err(Clone::clone)?;
        let reach = |piece: &&Piece| piece.end > start && end.is_none_or(|end| piece.start < end);
        let in_month = |piece: &&Piece| time::month(piece.start) == time::month(start);
        Ok(cut.iter().filter(reach).filter(in_month).map(|piece| piece.start).collect())
    }

    fn all(&mut self, reading: &'r Reading, address: &'r str, version: &Version) -> Result<&[Piece], &String> {
        let (rows, organization, changes) = (self.rows, self.organization, &mut self.changes);
        let cut = self.known.entry((reading.number, &reading.meter, address)).or_insert_with(|| {
            let event = reading.event.and_then(|at| rows.events.get(at)).ok_or("none: the event is missing")?;
            let changes = changes.entry((&reading.meter, address)).or_insert_with(|| version.changes(organization, &reading.meter));
            let pieces = version.pieces(&reading.meter, &event.data, (event.start, event.end), changes);
            pieces.map_err(|error| format!("none: {error:#}"))
        });
        cut.as_deref()
    }
}
