//! Stages 3 and 4: what each reading counts, and which price applies to it.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::rows::Rows;
use super::{EVENTS, READINGS};
use crate::finding::{Findings, Stage};
use crate::money::{plain, quantity, scaled};
use crate::registry::{Resolved, Version, find};

/// What each reading is and costs by the registry. None where nothing can be said; the findings say why.
pub(super) fn prices(
    organization: &str,
    versions: &HashMap<String, Version>,
    rows: &Rows,
    findings: &mut Findings,
) -> Vec<Option<Resolved>> {
    let mut seen = HashSet::new();
    let mut used = HashSet::new();
    let mut names = HashMap::new();
    let mut places = HashSet::new();
    for event in &rows.events {
        if names.insert((&event.source, &event.id), ()).is_some() {
            findings.add(Stage::Readings, EVENTS, format!("{} {}", event.source, event.id), "events of this name", 1, 2);
        }
        if !places.insert((event.start, event.tie)) {
            findings.add(Stage::Readings, EVENTS, format!("{} {}", event.source, event.id), "tie", "another one", event.tie);
        }
    }
    let mut known: HashMap<(usize, &str, &str), BTreeMap<String, String>> = HashMap::new();
    let mut priced = Vec::with_capacity(rows.readings.len());
    for reading in &rows.readings {
        let place = reading.place();
        let Some((at, event)) = reading.event.and_then(|at| Some((at, rows.events.get(at)?))) else {
            priced.push(None);
            continue;
        };
        used.insert(at);
        if !seen.insert((at, reading.meter.as_str())) {
            findings.add(Stage::Readings, READINGS, &*place, "readings of this event and meter", 1, 2);
        }
        findings.compare(Stage::Readings, READINGS, &place, "month", &crate::time::month(event.start), &reading.month);
        let Some(version) = versions.get(&reading.version) else {
            findings.add(Stage::Registry, READINGS, &*place, "registry version", "in the bundle", &reading.version);
            priced.push(None);
            continue;
        };
        let Some(meter) = version.meters.get(&reading.meter) else {
            findings.add(Stage::Readings, READINGS, &*place, "meter", "in the registry version", &reading.meter);
            priced.push(None);
            continue;
        };
        let metered = meter.value.as_ref().map_or(Some("1".to_owned()), |path| find(&event.data, path)).unwrap_or_default();
        // A source may quote its decimals in any form: the number counts, not the text.
        let counted = scaled(reading.quantity, 9);
        if plain(&counted) != metered && !quantity(&metered).is_ok_and(|metered| metered == counted) {
            findings.add(Stage::Readings, READINGS, &*place, "quantity", &metered, plain(&counted));
        }
        findings.compare(Stage::Readings, READINGS, &place, "unit", &meter.unit, &reading.unit);
        findings.compare(Stage::Readings, READINGS, &place, "event type", &meter.event_type, &event.kind);
        let dimensions =
            known.entry((at, &reading.meter, &reading.version)).or_insert_with(|| version.dimensions(&reading.meter, &event.data));
        let price = version.resolve(organization, &reading.meter, dimensions, event.start);
        let expected = price.as_ref().map(|price| [price.contract.as_str(), &price.sku, &price.price].join(" ")).unwrap_or_default();
        findings.compare(
            Stage::Prices,
            READINGS,
            &place,
            "price",
            &expected,
            &[reading.contract.as_str(), &reading.sku, &reading.price].join(" "),
        );
        priced.push(price);
    }
    for (at, event) in rows.events.iter().enumerate().filter(|(at, _)| !used.contains(at)) {
        findings.add(Stage::Readings, EVENTS, format!("event {at}, {} {}", event.source, event.id), "readings", "at least 1", 0);
    }
    priced
}
