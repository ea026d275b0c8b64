//! Months in zones as the oracle knows them: what local clocks were ahead of UTC by, written down by hand, and arithmetic on that alone.
//! Nothing here is shared with rating or with a database of zones.

use std::collections::{BTreeMap, BTreeSet};

use shared_types::Instant;

const MINUTE: i64 = 60_000_000;
pub const HOUR: i64 = 60 * MINUTE;
pub const DAY: i64 = 24 * HOUR;

/// A UTC month in a zone. Times are microseconds since its begin.
#[derive(Clone, Debug)]
pub struct Month {
    pub zone: &'static str,
    /// Since 1970.
    pub begin: i64,
    pub length: i64,
    /// Minutes that clocks are ahead of UTC by at the begin.
    ahead: i64,
    /// When clocks change, and what they are ahead by then.
    pub change: Option<(i64, i64)>,
}

/// Zone, month, days, minutes ahead at its begin; when clocks change, and minutes ahead from then on.
type Row = (&'static str, &'static str, i64, i64, Option<(&'static str, i64)>);

const MONTHS: [Row; 14] = [
    ("America/Los_Angeles", "2025-03", 31, -480, Some(("2025-03-09T10:00:00Z", -420))),
    ("America/Los_Angeles", "2025-11", 30, -420, Some(("2025-11-02T09:00:00Z", -480))),
    ("Asia/Kolkata", "2026-02", 28, 330, None),
    ("Asia/Kathmandu", "2026-01", 31, 345, None),
    // Half an hour, there and back.
    ("Australia/Lord_Howe", "2025-04", 30, 660, Some(("2025-04-05T15:00:00Z", 630))),
    ("Australia/Lord_Howe", "2025-10", 31, 630, Some(("2025-10-04T15:30:00Z", 660))),
    // Midnight is skipped, and shown twice.
    ("America/Havana", "2025-03", 31, -300, Some(("2025-03-09T05:00:00Z", -240))),
    ("America/Havana", "2025-11", 30, -240, Some(("2025-11-02T05:00:00Z", -300))),
    // From midnight back to eleven.
    ("America/Sao_Paulo", "2018-02", 28, -120, Some(("2018-02-18T02:00:00Z", -180))),
    ("America/Sao_Paulo", "2018-11", 30, -180, Some(("2018-11-04T03:00:00Z", -120))),
    // The 30th is skipped.
    ("Pacific/Apia", "2011-12", 31, -600, Some(("2011-12-30T10:00:00Z", 840))),
    // By half an hour for good.
    ("Asia/Pyongyang", "2018-05", 31, 510, Some(("2018-05-04T15:00:00Z", 540))),
    ("Europe/London", "2026-03", 31, 0, Some(("2026-03-29T01:00:00Z", 60))),
    ("Pacific/Kiritimati", "2026-02", 28, 840, None),
];

impl Month {
    /// January 2026 in UTC.
    pub fn utc() -> Self {
        Self::of(("UTC", "2026-01", 31, 0, None))
    }

    pub fn all() -> Vec<Self> {
        MONTHS.map(Self::of).into()
    }

    fn of((zone, month, days, ahead, change): Row) -> Self {
        let micros = |text: &str| Instant::parse(text).unwrap().micros();
        let begin = micros(&format!("{month}-01T00:00:00Z"));
        let change = change.map(|(at, ahead)| (micros(at) - begin, ahead));
        Self { zone, begin, length: days * DAY, ahead, change }
    }

    /// Stretches with one offset, from before the month to behind it.
    fn stretches(&self) -> Vec<(i64, i64, i64)> {
        let (from, to) = (-10 * DAY, self.length + 10 * DAY);
        match self.change {
            None => vec![(from, to, self.ahead)],
            Some((at, ahead)) => vec![(from, at, self.ahead), (at, to, ahead)],
        }
    }

    /// Pieces of time in each of which local clocks show one date, or one hour of one: from, to and the date's number.
    fn pieces(&self, grain: i64) -> Vec<(i64, i64, i64)> {
        let mut pieces = Vec::new();
        for (from, to, ahead) in self.stretches() {
            // Local time since the epoch, in minutes: cut where it is a multiple of the grain.
            let shown = |at: i64| self.begin + at + ahead * MINUTE;
            let mut at = from;
            while at < to {
                let next = (at + grain - shown(at).rem_euclid(grain)).min(to);
                pieces.push((at, next, shown(at).div_euclid(DAY)));
                at = next;
            }
        }
        pieces
    }

    /// Dates that a time touches, by number; of one without length that of its start.
    pub fn dates(&self, start: i64, end: i64) -> BTreeSet<i64> {
        let end = end.max(start + 1);
        self.pieces(DAY).into_iter().filter(|(from, to, _)| *from < end && start < *to).map(|(_, _, date)| date).collect()
    }

    /// How long the dates are that a time touches, without what lies before the month or, unless the time does, behind it.
    pub fn whole_days(&self, start: i64, end: i64) -> i64 {
        let dates = self.dates(start, end);
        let over = if end <= self.length { self.length } else { i64::MAX };
        let pieces = self.pieces(DAY).into_iter().filter(|(_, _, date)| dates.contains(date));
        pieces.map(|(from, to, _)| (to.min(over) - from.max(0)).max(0)).sum()
    }

    /// Windows of so many seconds: how many the month has, and a name for the one that an instant lies in.
    pub fn windows(&self, seconds: u32) -> (i64, impl Fn(i64) -> i64) {
        let length = i64::from(seconds) * 1_000_000;
        let grain = if length >= HOUR { length } else { HOUR };
        let inside: Vec<(i64, i64, i64)> = self.pieces(grain).into_iter().filter(|(from, to, _)| *from < self.length && 0 < *to).collect();
        let mut names: BTreeMap<i64, i64> = BTreeMap::new();
        for (number, (from, _, date)) in (0..).zip(&inside) {
            // A change of clocks within an hour, by whole hours, begins no other one; a date is one wherever its pieces lie.
            let joined = length == HOUR
                && self.change.is_some_and(|(at, ahead)| at == *from && (ahead - self.ahead) % 60 == 0 && self.within_an_hour(at));
            let before = names.values().next_back().copied();
            names.insert(
                *from,
                if length == DAY {
                    *date
                } else if joined {
                    before.unwrap_or(number)
                } else {
                    number
                },
            );
        }
        let all: BTreeSet<i64> = names.values().copied().collect();
        let count = if length < HOUR { self.length / length } else { i64::try_from(all.len()).unwrap() };
        let of = move |at: i64| if length < HOUR { at / length } else { *names.range(..=at).next_back().unwrap().1 };
        (count, of)
    }

    /// Whether local clocks did not show a full hour when they were changed.
    fn within_an_hour(&self, at: i64) -> bool {
        (self.begin + at + self.ahead * MINUTE).rem_euclid(HOUR) != 0
    }

    /// Whether a date has 23 or 25 hours, or another number than 24.
    pub fn is_odd(&self, start: i64, end: i64) -> bool {
        self.whole_days(start, end) % DAY != 0
    }
}
