//! Fields about numbers that readings carry: the range a SKU takes, and the total that a meter's value is a part of.
//! It does not know other documents.

use std::collections::BTreeMap;

use shared_types::Quantity;

use super::field::plain;
use super::{Field, Reader, Table};
use crate::document::Aggregation;

/// Bounds by dimension.
type Bounds = BTreeMap<String, Quantity>;

impl Reader<'_> {
    /// `above` and `up_to` of a SKU: ranges that hold some number, of dimensions that `match` does not fix already.
    pub(super) fn bands(&mut self, table: &Table<'_, '_>) -> Option<(Bounds, Bounds)> {
        let (above, up_to) = (self.bounds(table, "above"), self.bounds(table, "up_to"));
        let (above, up_to) = (above?, up_to?);
        let fixed = self.fixed(table);
        let mut good = true;
        for name in above.keys().chain(up_to.keys()) {
            let empty = above.get(name).zip(up_to.get(name)).is_some_and(|(above, up_to)| above >= up_to);
            let message = match (fixed.contains(name), empty) {
                (true, _) => format!("dimension {name:?} of {} has a value to match and a range", table.name),
                (_, true) => format!("no number of dimension {name:?} of {} lies above the one bound and up to the other", table.name),
                (false, false) => continue,
            };
            good = false;
            self.findings.add(table.at, message, "keep the value, or a range whose upper bound is the greater one");
        }
        good.then_some((above, up_to))
    }

    /// Names that `match` fixes, whether or not it is right otherwise.
    fn fixed(&self, table: &Table<'_, '_>) -> Vec<String> {
        let members = table.members.get("match").and_then(|value| value.get_ref().as_table());
        members.map(|members| members.keys().map(|key| key.get_ref().to_string()).collect()).unwrap_or_default()
    }

    fn bounds(&mut self, table: &Table<'_, '_>, field: &'static str) -> Option<Bounds> {
        let texts = self.texts(table, field)?;
        let mut bounds = Some(Bounds::new());
        for (name, (text, at)) in texts {
            let bound = plain::<Quantity>(&text)
                .map_err(|error| {
                    let message = format!("{field} of {}: {error}", table.name);
                    self.findings.add(
                        at,
                        message,
                        "write a plain decimal number in quotes with at most 9 decimal places, for example \"200000\"",
                    );
                })
                .ok();
            bounds = bounds.zip(bound).map(|(mut bounds, bound)| {
                bounds.insert(name, bound);
                bounds
            });
        }
        bounds
    }

    /// `part_of` of a meter: the path of a total. Only values that are summed can be parts.
    pub(super) fn part_of(&mut self, table: &Table<'_, '_>, aggregation: Option<&Aggregation>) -> Option<Option<String>> {
        let text = self.text_field(table, "part_of");
        match (self.path(table, "part_of", text), aggregation) {
            (Field::Good(_, at), Some(aggregation)) if aggregation.counts() => {
                let message = format!("{} counts, so it cannot be a part of a total", table.name);
                self.findings.add(at, message, "remove part_of, or sum a value");
                None
            }
            (path, _) => self.optional(path),
        }
    }
}
