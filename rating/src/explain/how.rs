//! How a measured quantity came about, in sentences with its numbers: which bucket has the rank of a percentile, which levels were held how
//! long. It knows a state and its row; what a state does not hold, such as the reading behind an extreme, is for whoever has the readings.

use platform_usage::calendar::Zone;
use shared_types::{Instant, Month, Quantity};

use crate::amount::{Exact, decimal_text};
use crate::basis::{Basis, Measure, Then, span_of};
use crate::evaluate::{Window, each_window};
use crate::plan::{PriceModel, PriceRow, TrueUp};
use crate::ratio::Ratio;
use crate::state::{Detail, SegmentState};

/// Entries of a state that are written out.
const SHOWN: usize = 6;

/// The sentences; none where Σ quantity is priced as it is.
pub(super) fn came_about(row: &PriceRow, state: &SegmentState, period: Month) -> Vec<String> {
    let SegmentState { quantity, readings, detail } = state;
    match (&row.basis.measure, detail) {
        (Measure::Average, _) => vec![format!("{quantity} in {} is divided by their number", many(*readings, "reading"))],
        (measure, Detail::Extreme(extreme)) => {
            let which = if *measure == Measure::Min { "smallest" } else { "greatest" };
            vec![format!("of {} the {which} is {extreme}", many(*readings, "reading"))]
        }
        (_, Detail::Latest(place, latest)) => {
            vec![format!(
                "of {} the latest is {latest}, used at {}: {}:{}",
                many(*readings, "reading"),
                place.at,
                place.identity,
                place.ordinal
            )]
        }
        (Measure::Unique { of, .. }, Detail::Set { days: 0, items }) => {
            vec![format!("{} had {} of {of}", many(*readings, "reading"), many(count(items.len()), "value"))]
        }
        (Measure::Unique { of, .. }, Detail::Set { days, items }) => {
            let found = many(count(items.len()), "day");
            vec![format!("{found} on which a value of {of} was there, all values together, of {days} days in the period")]
        }
        (measure, Detail::Held { unit_micros, period_micros }) => held(measure, *unit_micros, *period_micros, *readings),
        (_, Detail::Levels { period_micros, changes }) => {
            let mut lines: Vec<String> = changes
                .iter()
                .take(SHOWN)
                .map(|(place, (quantity, held))| format!("{quantity} from {} for {} seconds", place.at, seconds(*held)))
                .collect();
            more(&mut lines, changes.len(), "level");
            lines.push(format!("each times its share of the {} seconds of the period, added up", seconds(*period_micros)));
            lines
        }
        (Measure::Stepped(stepped), Detail::Sessions { period_micros, held }) => {
            let mut lines: Vec<String> = held
                .iter()
                .take(SHOWN)
                .map(|((session, level), micros)| {
                    let name: String = session.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
                    let counted = stepped.count(*micros).map_or_else(|| "too many".to_owned(), seconds);
                    let whose = if *session == [0; 16] { String::new() } else { format!(" by {name}") };
                    format!("{level} was held for {} seconds{whose}: {counted} are counted", seconds(*micros))
                })
                .collect();
            more(&mut lines, held.len(), "level");
            if stepped.share {
                lines.push(format!("as a share of the {} seconds of the period", seconds(*period_micros)));
            }
            lines
        }
        (Measure::Bucketed { seconds: length, then, .. }, Detail::Buckets { count: buckets, values }) => {
            let at = |bucket: u32| starts(&row.basis, period, bucket, *length);
            let mut lines = vec![format!("{} of {buckets} buckets have readings", values.len())];
            match then {
                Then::Percentile(percent) => lines.extend(ranked(values, *buckets, *percent, at)),
                Then::Alone if matches!(row.model, PriceModel::Committed { .. }) => lines.extend(windows(row, state, at)),
                Then::Sum | Then::Alone => lines.extend(
                    values
                        .iter()
                        .max_by_key(|(bucket, value)| (**value, std::cmp::Reverse(**bucket)))
                        .map(|(bucket, value)| format!("the greatest is {value}, in the one from {}", at(*bucket))),
                ),
            }
            lines
        }
        (_, Detail::Transactions { head, tail }) => {
            let apart = tail.least.saturating_add(tail.most);
            let mut lines = vec![format!("{} are looked at for what is free", many(count(head.len()), "reading"))];
            lines.push(format!(
                "of the others {} come to {} within the bounds, {} are charged the least, {} the most",
                readings.saturating_sub(count(head.len())).saturating_sub(apart),
                tail.within,
                tail.least,
                tail.most
            ));
            lines
        }
        (_, Detail::Steps(_)) => {
            vec![format!("{} are converted and priced one by one, then their parts are added up by tier", many(*readings, "reading"))]
        }
        _ => Vec::new(),
    }
}

fn held(measure: &Measure, unit_micros: i128, period_micros: i64, readings: u64) -> Vec<String> {
    let product = Ratio::new(unit_micros, 1_000_000).map_or_else(|| "more than can be shown".to_owned(), |sum| sum.to_string());
    let times = match measure {
        Measure::Stepped(_) => "times the seconds that are counted",
        _ => "times the seconds that it was held",
    };
    let mut lines = vec![format!("{}, the quantity of each {times}: {product} together", many(readings, "reading"))];
    let share = match measure {
        Measure::Prorated { .. } => true,
        Measure::Stepped(stepped) => stepped.share,
        _ => false,
    };
    if share {
        lines.push(format!("divided by the {} seconds of the period", seconds(period_micros)));
    }
    lines
}

/// Which bucket has the rank of a percentile.
fn ranked(values: &std::collections::BTreeMap<u32, Quantity>, buckets: u32, percent: u8, at: impl Fn(u32) -> String) -> Option<String> {
    let all = usize::try_from(buckets).ok()?.max(values.len());
    let rank = all.checked_mul(usize::from(percent))?.div_ceil(100);
    let mut sorted: Vec<(Quantity, Option<u32>)> = values.iter().map(|(bucket, value)| (*value, Some(*bucket))).collect();
    sorted.resize(all, (Quantity::ZERO, None));
    sorted.sort_unstable();
    let (value, bucket) = sorted.get(rank.checked_sub(1)?)?;
    let place = bucket.map_or_else(|| "in one without readings".to_owned(), |bucket| format!("in the one from {}", at(bucket)));
    Some(format!("sorted from the smallest, empty ones being zero, number {rank} of {all} is {value}, {place}"))
}

/// What the first windows come to, each against what was promised for it.
fn windows(row: &PriceRow, state: &SegmentState, at: impl Fn(u32) -> String) -> Vec<String> {
    let PriceModel::Committed { commitment, .. } = &row.model else { return Vec::new() };
    let mut windows: Vec<Window> = Vec::new();
    let mut all = 0_usize;
    let found = each_window(
        row,
        commitment,
        state,
        |_| {},
        |window| {
            all = all.checked_add(1)?;
            if windows.len() < SHOWN {
                windows.push(window);
            }
            Some(())
        },
    );
    let money = |exact: Option<Exact>| exact.map_or_else(|| "more than can be shown".to_owned(), |exact| decimal_text(&exact.text()));
    let sentence = |window: &Window| {
        let cost = money(Some(window.cost.clone()));
        let begin = format!("{} from {} costs {cost}", window.measured, at(window.number));
        if window.beyond.text() == "0" {
            return format!("{begin}, what was promised");
        }
        if !window.beyond.is_negative().unwrap_or(false) {
            let factor = commitment.overage_factor;
            let overage = money(window.beyond.times(factor.units(), 1_000_000_000));
            return format!("{begin}: {} beyond what was promised, times {factor} is {overage}", money(Some(window.beyond.clone())));
        }
        let missing = money(window.beyond.times(-1, 1));
        match commitment.true_up {
            TrueUp::None => format!("{begin}: {missing} less than promised"),
            TrueUp::WhenUsed | TrueUp::Always => format!("{begin}: {missing} less than promised is owed besides"),
        }
    };
    let mut lines: Vec<String> = if found.is_ok() { windows.iter().map(sentence).collect() } else { Vec::new() };
    if found.is_ok() {
        more(&mut lines, all, "window");
    }
    lines
}

/// Where a bucket begins, by the clocks of its zone.
fn starts(basis: &Basis, period: Month, bucket: u32, length: u32) -> String {
    let at = match span_of(length) {
        Some(span) => basis.zone.begin_of(span, period.start(), i64::from(bucket)).ok(),
        None => {
            let since = i64::from(bucket).saturating_mul(i64::from(length)).saturating_mul(1_000_000);
            period.start().micros().checked_add(since).and_then(|micros| Instant::from_micros(micros).ok())
        }
    };
    let utc = basis.zone == Zone::default();
    let shown = at.and_then(|at| if utc { Some(at.to_string()) } else { basis.zone.shown(at).ok() });
    shown.unwrap_or_else(|| format!("bucket {bucket}"))
}

fn seconds(micros: i64) -> String {
    Ratio::new(i128::from(micros).saturating_mul(1_000), 1).unwrap_or(Ratio::ZERO).to_string()
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

fn many(number: u64, what: &str) -> String {
    if number == 1 { format!("1 {what}") } else { format!("{number} {what}s") }
}

fn more(lines: &mut Vec<String>, all: usize, what: &str) {
    let more = all.saturating_sub(lines.len());
    if more > 0 {
        lines.push(format!("and {}", many(count(more), &format!("more {what}"))));
    }
}
