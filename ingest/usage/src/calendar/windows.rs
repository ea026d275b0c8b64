//! Local days and hours as windows of a service period: which number an instant has, how many there are, where one begins. A local day that
//! the period's begin or end cuts is a window of the period, as is the part of an hour. It knows no reading.

use jiff::Timestamp;
use jiff::civil::Date;
use shared_types::Instant;

use super::{CalendarError, Day, Zone};

const HOUR: i64 = 3_600_000_000;
const DAY: i64 = 24 * HOUR;
const EPOCH: Date = Date::constant(1970, 1, 1);

/// What a window is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Span {
    /// A local hour: one begins at every full hour that local clocks show, and where they change by a part of an hour.
    Hour,
    /// A local date: 23 or 25 hours where clocks change; none where they skip it.
    Day,
}

impl Zone {
    /// Its name, for example `America/Los_Angeles`.
    pub fn name(&self) -> &str {
        self.0.iana_name().unwrap_or_default()
    }

    /// The local date of an instant, in days since 1970-01-01.
    pub fn date_of(&self, at: Instant) -> Result<i64, CalendarError> {
        Ok(at.micros().saturating_add(self.offset(at)?).div_euclid(DAY))
    }

    /// When the local date of so many days since 1970-01-01 begins; where clocks skip all of it, when the next one does.
    pub fn start_of_date(&self, date: i64) -> Result<Instant, CalendarError> {
        if *self == Self::default() {
            return date.checked_mul(DAY).and_then(|start| Instant::from_micros(start).ok()).ok_or(CalendarError::OutOfRange);
        }
        let span = jiff::Span::new().try_days(date).map_err(|_| CalendarError::OutOfRange)?;
        self.start_of(Day(EPOCH.checked_add(span).map_err(|_| CalendarError::OutOfRange)?))
    }

    /// Local dates from that of one instant to that of a later one, in days since 1970-01-01, without those that clocks skip.
    pub fn dates(&self, first: Instant, last: Instant) -> Result<impl Iterator<Item = i64> + '_, CalendarError> {
        let (first, last) = (self.date_of(first)?, self.date_of(last)?);
        // The outer ones hold an instant.
        let is_there = move |date: &i64| {
            let next = date.saturating_add(1);
            *date == first || *date == last || *self == Self::default() || self.start_of_date(*date) != self.start_of_date(next)
        };
        Ok((first..=last).filter(is_there))
    }

    /// The number of the window that holds an instant: 0 for the one that holds the begin of the period. Of a day it is its date less that of
    /// the period's begin.
    pub fn number_of(&self, span: Span, begin: Instant, at: Instant) -> Result<i64, CalendarError> {
        match span {
            Span::Day => Ok(self.date_of(at)?.saturating_sub(self.date_of(begin)?)),
            Span::Hour => self.hours_begun(begin, at),
        }
    }

    /// How many windows the period from one instant up to another has.
    pub fn windows(&self, span: Span, begin: Instant, end: Instant) -> Result<i64, CalendarError> {
        let last = before(end)?;
        match span {
            Span::Day => Ok(i64::try_from(self.dates(begin, last)?.count()).unwrap_or(i64::MAX)),
            Span::Hour => Ok(self.hours_begun(begin, last)?.saturating_add(1)),
        }
    }

    /// Where the window with a number begins, at the earliest with the period.
    pub fn begin_of(&self, span: Span, begin: Instant, number: i64) -> Result<Instant, CalendarError> {
        if number == 0 {
            return Ok(begin);
        }
        match span {
            Span::Day => self.start_of_date(self.date_of(begin)?.saturating_add(number)),
            Span::Hour => {
                // Numbers rise with time: an hour is never longer than two.
                let (mut low, mut high) = (begin.micros(), begin.micros().saturating_add(number.saturating_mul(2 * HOUR)));
                while low < high {
                    let middle = low.midpoint(high);
                    if self.hours_begun(begin, instant(middle)?)? < number {
                        low = middle.saturating_add(1);
                    } else {
                        high = middle;
                    }
                }
                instant(low)
            }
        }
    }

    /// Whether a window begins at an instant.
    pub fn begins(&self, span: Span, at: Instant) -> Result<bool, CalendarError> {
        match span {
            Span::Day => Ok(self.start_of_date(self.date_of(at)?)? == at),
            Span::Hour if at == Instant::EPOCH => Ok(self.offset(at)?.rem_euclid(HOUR) == 0),
            Span::Hour => Ok(self.hours_begun(before(at)?, at)? > 0),
        }
    }

    /// How many hours begin after an instant, up to and with a later one.
    fn hours_begun(&self, after: Instant, to: Instant) -> Result<i64, CalendarError> {
        let (mut from, mut past) = (after.micros(), self.offset(after)?.rem_euclid(HOUR));
        let mut begun = 0_i64;
        let full = |from: i64, to: i64, past: i64| (to + past).div_euclid(HOUR) - (from + past).div_euclid(HOUR);
        for change in self.0.following(timestamp(after)?) {
            let (at, after) = (change.timestamp().as_microsecond(), micros(change.offset().seconds()).rem_euclid(HOUR));
            if at > to.micros() {
                break;
            }
            if after != past {
                begun += full(from, at - 1, past) + 1;
                (from, past) = (at, after);
            }
        }
        Ok(begun + full(from, to.micros(), past))
    }

    /// What local clocks are ahead of UTC by, in microseconds.
    fn offset(&self, at: Instant) -> Result<i64, CalendarError> {
        if *self == Self::default() {
            return Ok(0);
        }
        Ok(micros(self.0.to_offset(timestamp(at)?).seconds()))
    }
}

fn micros(seconds: i32) -> i64 {
    i64::from(seconds).saturating_mul(1_000_000)
}

fn timestamp(at: Instant) -> Result<Timestamp, CalendarError> {
    Timestamp::from_microsecond(at.micros()).map_err(|_| CalendarError::OutOfRange)
}

fn instant(micros: i64) -> Result<Instant, CalendarError> {
    Instant::from_micros(micros).map_err(|_| CalendarError::OutOfRange)
}

fn before(at: Instant) -> Result<Instant, CalendarError> {
    instant(at.micros().saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Instant {
        Instant::parse(text).unwrap()
    }

    /// The windows of a month: how many there are, and where those begin that are asked for.
    fn check(zone: &str, span: Span, month: (&str, &str), windows: i64, begins: &[(i64, &str)]) {
        let zone = Zone::parse(zone).unwrap();
        let (begin, end) = (at(month.0), at(month.1));
        assert_eq!(zone.windows(span, begin, end), Ok(windows), "{} {span:?}", zone.name());
        for (number, start) in begins {
            let start = at(start);
            assert_eq!(zone.begin_of(span, begin, *number), Ok(start), "{} {span:?} {number}", zone.name());
            assert_eq!(zone.number_of(span, begin, start), Ok(*number));
            if *number > 0 {
                assert!(zone.number_of(span, begin, before(start).unwrap()).unwrap() < *number);
                assert_eq!(zone.begins(span, start), Ok(true));
            }
        }
    }

    #[test]
    fn days_are_local_dates_that_the_month_touches() {
        let november = ("2025-11-01T00:00:00Z", "2025-12-01T00:00:00Z");
        check("UTC", Span::Day, november, 30, &[(0, "2025-11-01T00:00:00Z"), (29, "2025-11-30T00:00:00Z")]);
        // October 31 and November 30 of California are cut by the month; November 2 has 25 hours.
        let days = [(0, november.0), (1, "2025-11-01T07:00:00Z"), (2, "2025-11-02T07:00:00Z"), (3, "2025-11-03T08:00:00Z")];
        check("America/Los_Angeles", Span::Day, november, 31, &days);
        check("Asia/Kolkata", Span::Day, november, 31, &[(1, "2025-11-01T18:30:00Z"), (30, "2025-11-30T18:30:00Z")]);
        // Havana's clocks skip midnight in spring and show it twice in autumn.
        check(
            "America/Havana",
            Span::Day,
            ("2025-03-01T00:00:00Z", "2025-04-01T00:00:00Z"),
            32,
            &[(9, "2025-03-09T05:00:00Z"), (10, "2025-03-10T04:00:00Z")],
        );
        check("America/Havana", Span::Day, november, 31, &[(2, "2025-11-02T04:00:00Z"), (3, "2025-11-03T05:00:00Z")]);
        // Samoa had no December 30: number 30 is no window.
        let december = ("2011-12-01T00:00:00Z", "2012-01-01T00:00:00Z");
        check(
            "Pacific/Apia",
            Span::Day,
            december,
            32,
            &[(29, "2011-12-29T10:00:00Z"), (31, "2011-12-30T10:00:00Z"), (32, "2011-12-31T10:00:00Z")],
        );
    }

    #[test]
    fn hours_are_local_hours_and_a_change_by_a_part_of_one_begins_another() {
        let november = ("2025-11-01T00:00:00Z", "2025-12-01T00:00:00Z");
        check("UTC", Span::Hour, november, 720, &[(719, "2025-11-30T23:00:00Z")]);
        check("America/Los_Angeles", Span::Hour, november, 720, &[(33, "2025-11-02T09:00:00Z")]);
        check("Asia/Kolkata", Span::Hour, november, 721, &[(0, november.0), (1, "2025-11-01T00:30:00Z"), (720, "2025-11-30T23:30:00Z")]);
        // Lord Howe: from half past two to two, and back half a year later.
        check(
            "Australia/Lord_Howe",
            Span::Hour,
            ("2025-10-01T00:00:00Z", "2025-11-01T00:00:00Z"),
            745,
            &[
                (1, "2025-10-01T00:30:00Z"),
                (87, "2025-10-04T14:30:00Z"),
                (88, "2025-10-04T15:30:00Z"),
                (89, "2025-10-04T16:00:00Z"),
                (744, "2025-10-31T23:00:00Z"),
            ],
        );
        check(
            "Australia/Lord_Howe",
            Span::Hour,
            ("2025-04-01T00:00:00Z", "2025-05-01T00:00:00Z"),
            721,
            &[(110, "2025-04-05T14:00:00Z"), (111, "2025-04-05T15:00:00Z"), (112, "2025-04-05T15:30:00Z"), (720, "2025-04-30T23:30:00Z")],
        );
        let zone = Zone::parse("Australia/Lord_Howe").unwrap();
        let begins = ["2025-10-04T15:00:00Z", "2025-10-04T16:30:00Z", "2025-04-05T14:30:00Z"].map(|text| zone.begins(Span::Hour, at(text)));
        assert_eq!(begins, [Ok(false), Ok(false), Ok(false)]);
        assert_eq!((zone.begins(Span::Hour, Instant::EPOCH), Zone::default().begins(Span::Hour, Instant::EPOCH)), (Ok(true), Ok(true)));
    }
}
