//! Stages 3 and 4: what each reading counts, and which price applies to it.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::pieces::{Pieces, billed};
use super::rows::{Event, Reading, Rows};
use super::standing::Standing;
use super::{EVENTS, READINGS};
use crate::billable::Piece;
use crate::finding::{Findings, Stage};
use crate::money::{Number, plain, quantity, scaled};
use crate::registry::{Meter, Resolved, Version, find};

/// What each leaf is and costs by the registry.
#[derive(Default)]
pub(super) struct Priced {
    /// By place among the readings.
    pub(super) by: Vec<Option<Resolved>>,
    /// Sessions of the pieces that have one.
    pub(super) sessions: HashMap<usize, String>,
}

/// What each leaf is and costs by the registry. None where nothing can be said; the findings say why. `in_force`: the invoice's version, under
/// which what stands must cost the same, and be the same piece of billed time.
pub(super) fn prices<'r>(
    organization: &'r str,
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
    let mut pieces = Pieces::new(organization, rows);
    taken_back(versions, in_force, rows, standing, &mut pieces, findings);
    let mut sessions = HashMap::new();
    let mut priced = Vec::with_capacity(rows.readings.len());
    for (number, ((reading, back), now)) in rows.readings.iter().zip(&standing.back).zip(&standing.now).enumerate() {
        let place = reading.place();
        let Some((at, event)) = reading.event.and_then(|at| Some((at, rows.events.get(at)?))) else {
            priced.push(None);
            continue;
        };
        used.insert(at);
        let (start, _) = reading.times(event);
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
        let mut read = |by: (&'r str, &Version, &Meter), of: &'static str, findings: &mut Findings| {
            let leaf = Leaf { reading, event, back: *back, place: &place };
            leaf.judge(by, of, &mut pieces, findings)
        };
        let mut piece = read((&reading.version, version, meter), "", findings);
        findings.compare(Stage::Readings, READINGS, &place, "unit", &meter.unit, &reading.unit);
        findings.compare(Stage::Readings, READINGS, &place, "event type", &meter.event_type, &event.kind);
        let mut resolve = |name: &'r str, version: &Version, piece: Option<&Piece>| {
            let dimensions = match piece {
                Some(piece) => &piece.dimensions,
                None => &*known.entry((at, &reading.meter, name)).or_insert_with(|| version.dimensions(&reading.meter, &event.data)),
            };
            version.resolve(organization, &reading.meter, dimensions, start)
        };
        let price = resolve(&reading.version, version, piece.as_ref());
        findings.compare(Stage::Prices, READINGS, &place, "price", &named(price.as_ref()), &stated(reading));
        if *now
            && reading.version != in_force
            && let Some(by) = versions.get(in_force)
        {
            let billed = billed(Some(version), &reading.meter) || billed(Some(by), &reading.meter);
            let meter = by.meters.get(&reading.meter).filter(|_| billed);
            let piece = meter.and_then(|meter| read((in_force, by, meter), " by the invoice's version", findings));
            let price = resolve(in_force, by, piece.as_ref());
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

/// Judges what was taken back: of billed time, what the invoice's version reads there must stand; of anything else the reading itself.
fn taken_back<'r>(
    versions: &HashMap<String, Version>,
    in_force: &'r str,
    rows: &'r Rows,
    standing: &Standing,
    pieces: &mut Pieces<'r>,
    findings: &mut Findings,
) {
    let begin = |reading: &'r Reading| {
        let event = rows.events.get(reading.event?)?;
        Some((reading.event?, reading.meter.as_str(), reading.times(event).0))
    };
    let stands = rows.readings.iter().zip(&standing.now).filter(|(_, now)| **now).filter_map(|(reading, _)| begin(reading));
    let mut stands: HashSet<(usize, &str, i64)> = stands.collect();
    let version = versions.get(in_force);
    for (number, (reading, _)) in rows.readings.iter().zip(&standing.back).enumerate().filter(|(_, (_, back))| **back) {
        let Some(event) = reading.event.and_then(|at| rows.events.get(at)) else { continue };
        let Some((at, name, start)) = begin(reading) else { continue };
        let end = reading.times(event).1;
        let now = version.and_then(|version| Some((version, version.meters.get(name)?)));
        let owed = match now {
            Some((version, meter)) if meter.billable.is_some() => pieces.within(reading, in_force, version, start, end),
            Some(_) if billed(versions.get(&reading.version), name) => {
                let same_month = crate::time::month(event.start) == crate::time::month(start);
                Ok(same_month.then_some(event.start).into_iter().collect())
            }
            _ if standing.gone.contains(&number) => Ok(vec![start]),
            _ => Ok(Vec::new()),
        };
        let owed = owed.unwrap_or_else(|_| vec![start]);
        // Each once, however often it was taken back.
        for start in owed.into_iter().filter(|start| stands.insert((at, name, *start))) {
            let expected = format!("one from {}", crate::time::text(start));
            findings.add(Stage::Readings, READINGS, reading.place(), "reading in the place of the one that is taken back", expected, "");
        }
    }
}

/// A leaf beside its event.
struct Leaf<'r, 'p> {
    reading: &'r Reading,
    event: &'r Event,
    back: bool,
    place: &'p str,
}

impl<'r> Leaf<'r, '_> {
    /// Compares it with what a version reads, and answers with the piece of billed time that it is there.
    ///
    /// - `of`: behind the names of findings, whose version it is.
    fn judge(
        &self,
        (address, version, meter): (&'r str, &Version, &Meter),
        of: &str,
        pieces: &mut Pieces<'r>,
        findings: &mut Findings,
    ) -> Option<Piece> {
        let (reading, event, place) = (self.reading, self.event, self.place);
        let ((start, end), counted) = (reading.times(event), scaled(reading.quantity, 9));
        if meter.billable.is_some() {
            let found = pieces.of(reading, address, version, start);
            let expected = match &found {
                Ok(Some(piece)) => shown(&piece.level, piece.start, Some(piece.end)),
                Ok(None) => "none that begins then".to_owned(),
                Err(why) => why.clone(),
            };
            let stated = if self.back { -counted } else { counted };
            let what = format!("piece of billed time{of}");
            findings.compare(Stage::Readings, READINGS, place, &what, &expected, &shown(&stated, start, end));
            return found.ok().flatten();
        }
        if reading.piece.is_some_and(|times| times != (event.start, event.end)) {
            let all = || crate::time::text(event.start);
            findings.add(Stage::Readings, READINGS, place, &format!("begin and end{of}"), all(), crate::time::text(start));
        }
        let metered = meter.value.as_ref().map_or(Some("1".to_owned()), |path| find(&event.data, path)).unwrap_or_default();
        // A source may quote its decimals in any form: the number counts, not the text. What is taken back is held against what it takes back.
        if !self.back && plain(&counted) != metered && !quantity(&metered).is_ok_and(|metered| metered == counted) {
            findings.add(Stage::Readings, READINGS, place, &format!("quantity{of}"), &metered, plain(&counted));
        }
        None
    }
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
