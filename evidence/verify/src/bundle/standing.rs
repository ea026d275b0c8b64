//! Stage 3, readings that were rated again: which leaves state a reading, which take one back, and which stand.

use std::collections::HashMap;

use super::READINGS;
use super::pieces::billed;
use super::rows::{Reading, Rows};
use crate::finding::{Findings, Stage};
use crate::money::{plain, scaled};
use crate::registry::Version;
use crate::time;

/// What each leaf is, by its place among the readings.
pub(super) struct Standing {
    /// It takes back the leaf of its reading before it.
    pub(super) back: Vec<bool>,
    /// It stands behind the last leaf that the invoice covers.
    pub(super) now: Vec<bool>,
    /// It stood behind the last leaf that earlier invoices covered.
    pub(super) then: Vec<bool>,
    /// Places of leaves that take a reading back for which none stands.
    pub(super) gone: Vec<usize>,
}

/// A reading while its leaves come by.
struct Chain {
    last: usize,
    leaves: u64,
}

/// A reading is a meter of an event, or a piece of it. Of its leaves, in the order of its log, every other one takes the one before back, and the next one stands in its place.
/// Of billed time it may come later, or not at all: a version between them cut or billed it otherwise.
///
/// - `from`: the first leaf of each month that is on no earlier invoice.
pub(super) fn standing(rows: &Rows, versions: &HashMap<String, Version>, from: &HashMap<i32, i64>, findings: &mut Findings) -> Standing {
    let readings = &rows.readings;
    let fresh = |month: i32, log_seq: i64| log_seq >= from.get(&month).copied().unwrap_or(0);
    let none = || vec![false; readings.len()];
    let mut standing = Standing { back: none(), now: none(), then: none(), gone: Vec::new() };
    let of_time = |reading: &Reading| billed(versions.get(&reading.version), &reading.meter);
    let mut chains: HashMap<(usize, &str, i64), Chain> = HashMap::with_capacity(readings.len());
    for (at, reading) in readings.iter().enumerate() {
        let Some((number, event)) = reading.event.and_then(|number| Some((number, rows.events.get(number)?))) else { continue };
        let place = reading.place();
        let name = (number, reading.meter.as_str(), reading.times(event).0);
        let chain = chains.entry(name).or_insert(Chain { last: at, leaves: 0 });
        let before = readings.get(chain.last).filter(|_| chain.leaves > 0);
        let back = chain.leaves % 2 == 1;
        let old = !fresh(reading.month, reading.log_seq);
        if let Some(before) = before {
            if back {
                let shown = |quantity: i128, reading: &Reading| {
                    let names = [&reading.version, &reading.contract, &reading.sku, &reading.price, &reading.unit];
                    let end = reading.piece.and_then(|(_, end)| end).map(|end| format!(" to {}", time::text(end))).unwrap_or_default();
                    format!("{} {}{end}", plain(&scaled(quantity, 9)), names.map(String::as_str).join(" "))
                };
                let expected = before.quantity.checked_neg().map(|quantity| shown(quantity, before)).unwrap_or_default();
                findings.compare(Stage::Readings, READINGS, &place, "what is taken back", &expected, &shown(reading.quantity, reading));
            } else {
                let next = format!("{} leaf {}", before.month, before.log_seq.saturating_add(1));
                let goes_on = next == place;
                let of_time = of_time(before) || of_time(reading);
                if !of_time {
                    findings.compare(Stage::Readings, READINGS, &place, "leaf behind the one that takes the reading back", &next, &place);
                }
                if before.version == reading.version && (goes_on || !of_time) {
                    findings.add(Stage::Readings, READINGS, &*place, "version of what was rated again", "another one", &reading.version);
                }
                if goes_on && !old && !fresh(before.month, before.log_seq) {
                    findings.add(Stage::Readings, READINGS, &*place, "`from` of the log", "before or behind both leaves", "between them");
                }
            }
            set(&mut standing.now, chain.last, false);
            if old {
                set(&mut standing.then, chain.last, false);
            }
        }
        set(&mut standing.back, at, back);
        set(&mut standing.now, at, !back);
        set(&mut standing.then, at, !back && old);
        chain.last = at;
        chain.leaves += 1;
    }
    standing.gone = chains.into_values().filter(|chain| chain.leaves % 2 == 0).map(|chain| chain.last).collect();
    standing.gone.sort_unstable();
    standing
}

fn set(flags: &mut [bool], at: usize, flag: bool) {
    if let Some(found) = flags.get_mut(at) {
        *found = flag;
    }
}
