//! Stages 3 and 4: what each reading counts, and which price applies to it.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::rows::{Reading, Rows};
use super::standing::Standing;
use super::{EVENTS, READINGS};
use crate::billable::Piece;
use crate::finding::{Findings, Stage};
use crate::money::{Number, plain, quantity, scaled};
use crate::registry::{Resolved, Version, find};

/// What each leaf is and costs by the registry.
#[derive(Default)]
pub(super) struct Priced {
    /// By place among the readings.
    pub(super) by: Vec<Option<Resolved>>,
    /// Sessions of the pieces that have one.
    pub(super) sessions: HashMap<usize, String>,
}

/// The pieces of events, by event, meter and version.
type Pieces<'r> = HashMap<(usize, &'r str, &'r str), Result<Vec<Piece>, String>>;

/// What each leaf is and costs by the registry. None where nothing can be said; the findings say why. `in_force`: the invoice's version, under
/// which what stands must cost the same.
pub(super) fn prices<'r>(
    organization: &str,
    versions: &HashMap<String, Version>,
    in_force: &'r str,
    rows: &'r Rows,
    standing: &Standing,
    findings: &mut Findings,
) -> Priced {
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
    let mut pieces = Pieces::new();
    let mut changes: HashMap<(&str, &str), Vec<i64>> = HashMap::new();
    let mut sessions = HashMap::new();
    let mut priced = Vec::with_capacity(rows.readings.len());
    for (number, ((reading, back), now)) in rows.readings.iter().zip(&standing.back).zip(&standing.now).enumerate() {
        let place = reading.place();
        let Some((at, event)) = reading.event.and_then(|at| Some((at, rows.events.get(at)?))) else {
            priced.push(None);
            continue;
        };
        used.insert(at);
        let (start, end) = reading.times(event);
        findings.compare(Stage::Readings, READINGS, &place, "month", &crate::time::month(start), &reading.month);
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
        // A reading that was rated again is what it was when it was read first.
        let first = standing.first.get(number).and_then(|first| rows.readings.get(*first)).unwrap_or(reading);
        let read =
            versions.get(&first.version).filter(|read| read.meters.get(&reading.meter).is_some_and(|meter| meter.billable.is_some()));
        let counted = scaled(reading.quantity, 9);
        let mut piece = None;
        if let Some(read) = read {
            let cut = pieces.entry((at, &reading.meter, &first.version)).or_insert_with(|| {
                let changes = changes.entry((&reading.meter, &first.version)).or_insert_with(|| read.changes(organization, &reading.meter));
                let pieces = read.pieces(&reading.meter, &event.data, (event.start, event.end), changes);
                pieces.map_err(|error| format!("none: {error:#}"))
            });
            let found = cut.as_ref().map(|cut| cut.iter().find(|piece| piece.start == start));
            let expected = match found {
                Ok(Some(piece)) => shown(&piece.level, piece.start, Some(piece.end)),
                Ok(None) => "none that begins then".to_owned(),
                Err(why) => why.clone(),
            };
            let stated = if *back { -counted.clone() } else { counted.clone() };
            findings.compare(Stage::Readings, READINGS, &place, "piece of billed time", &expected, &shown(&stated, start, end));
            piece = found.ok().flatten().cloned();
        } else {
            if reading.piece.is_some_and(|times| times != (event.start, event.end)) {
                let all = || crate::time::text(event.start);
                findings.add(Stage::Readings, READINGS, &*place, "begin and end", all(), crate::time::text(start));
            }
            let metered = meter.value.as_ref().map_or(Some("1".to_owned()), |path| find(&event.data, path)).unwrap_or_default();
            // A source may quote its decimals in any form: the number counts, not the text. What is taken back is held against what it takes back.
            if !back && plain(&counted) != metered && !quantity(&metered).is_ok_and(|metered| metered == counted) {
                findings.add(Stage::Readings, READINGS, &*place, "quantity", &metered, plain(&counted));
            }
        }
        findings.compare(Stage::Readings, READINGS, &place, "unit", &meter.unit, &reading.unit);
        findings.compare(Stage::Readings, READINGS, &place, "event type", &meter.event_type, &event.kind);
        let mut resolve = |name: &'r str, version: &Version| {
            let dimensions = match &piece {
                Some(piece) => &piece.dimensions,
                None => &*known.entry((at, &reading.meter, name)).or_insert_with(|| version.dimensions(&reading.meter, &event.data)),
            };
            version.resolve(organization, &reading.meter, dimensions, start)
        };
        let price = resolve(&reading.version, version);
        findings.compare(Stage::Prices, READINGS, &place, "price", &named(price.as_ref()), &stated(reading));
        if *now
            && reading.version != in_force
            && let Some(version) = versions.get(in_force)
        {
            let price = resolve(in_force, version);
            findings.compare(Stage::Prices, READINGS, &place, "price by the invoice's version", &named(price.as_ref()), &stated(reading));
        }
        if let Some(session) = piece.as_mut().and_then(|piece| piece.dimensions.remove("session")) {
            sessions.insert(number, session);
        }
        priced.push(price);
    }
    for (at, event) in rows.events.iter().enumerate().filter(|(at, _)| !used.contains(at)) {
        findings.add(Stage::Readings, EVENTS, format!("event {at}, {} {}", event.source, event.id), "readings", "at least 1", 0);
    }
    Priced { by: priced, sessions }
}

fn shown(level: &Number, start: i64, end: Option<i64>) -> String {
    let end = end.map_or("no end".to_owned(), crate::time::text);
    format!("{} from {} to {end}", plain(level), crate::time::text(start))
}

fn named(price: Option<&Resolved>) -> String {
    price.map(|price| [price.contract.as_str(), &price.sku, &price.price].join(" ")).unwrap_or_default()
}

fn stated(reading: &Reading) -> String {
    [reading.contract.as_str(), &reading.sku, &reading.price].join(" ")
}
