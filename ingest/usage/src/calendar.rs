//! Days, months and zones: where intervals are cut, and the lengths that proration divides by. IANA zones from data that is compiled in, so that every machine counts
//! alike. It knows no price and no clock: "now" is no question that it answers.

mod windows;

use std::fmt;

use jiff::civil::Date;
use jiff::tz::{TimeZone, TimeZoneDatabase};
use jiff::{Timestamp, ToSpan as _, Unit};
use shared_types::Instant;

pub use self::windows::Span;

/// Why there is no such day, zone or instant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CalendarError {
    /// Not a date such as `2026-11-24`.
    #[error("{value:?} is not a date")]
    Date {
        /// The refused text.
        value: String,
    },
    /// No zone of the IANA database.
    #[error("{value:?} is no time zone of the IANA database")]
    Zone {
        /// The refused text.
        value: String,
    },
    /// An anchor day that no month has.
    #[error("{value} is no day of a month")]
    Anchor {
        /// The refused number.
        value: u8,
    },
    /// Outside the years that instants have.
    #[error("the result lies outside the years 1970 to 9999")]
    OutOfRange,
}

/// A calendar date.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Day(Date);

/// A zone of the IANA database; UTC unless another one is named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Zone(TimeZone);

impl Default for Zone {
    fn default() -> Self {
        Self(TimeZone::UTC)
    }
}

impl Day {
    /// From `2026-11-24`.
    pub fn parse(text: &str) -> Result<Self, CalendarError> {
        text.parse().map(Self).map_err(|_| CalendarError::Date { value: text.chars().take(40).collect() })
    }

    /// So many days from here to a later day; below zero for an earlier one.
    pub fn days_to(self, later: Self) -> i64 {
        // A difference of two dates in days always has a result.
        self.0.until((Unit::Day, later.0)).map_or(0, |span| i64::from(span.get_days()))
    }

    /// Days from here to a last day, both counted.
    pub fn days_through(self, last: Self) -> i64 {
        self.days_to(last).saturating_add(1)
    }

    /// The day before.
    pub fn previous(self) -> Result<Self, CalendarError> {
        self.0.yesterday().map(Self).map_err(|_| CalendarError::OutOfRange)
    }

    /// The first day of the month after.
    pub fn next_month(self) -> Result<Self, CalendarError> {
        self.0.first_of_month().checked_add(1.month()).map(Self).map_err(|_| CalendarError::OutOfRange)
    }

    /// The day after.
    pub fn next(self) -> Result<Self, CalendarError> {
        self.0.tomorrow().map(Self).map_err(|_| CalendarError::OutOfRange)
    }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Names of the database that are no place's.
const UNSET: [&str; 2] = ["Factory", "Etc/Unknown"];

impl Zone {
    /// By its name, for example `America/Los_Angeles`.
    pub fn parse(name: &str) -> Result<Self, CalendarError> {
        // Of no place: what stands there until somebody sets a zone.
        let set = Some(name).filter(|name| !UNSET.iter().any(|unset| unset.eq_ignore_ascii_case(name)));
        let found = set.and_then(|name| TimeZoneDatabase::bundled().get(name).ok());
        found.map(Self).ok_or_else(|| CalendarError::Zone { value: name.chars().take(80).collect() })
    }

    /// The local date of an instant.
    pub fn day_of(&self, at: Instant) -> Result<Day, CalendarError> {
        let at = Timestamp::from_microsecond(at.micros()).map_err(|_| CalendarError::OutOfRange)?;
        Ok(Day(at.to_zoned(self.0.clone()).date()))
    }

    /// When a local day begins: its first instant, also where clocks skip midnight.
    pub fn start_of(&self, day: Day) -> Result<Instant, CalendarError> {
        let start = day.0.to_zoned(self.0.clone()).and_then(|zoned| zoned.start_of_day()).map_err(|_| CalendarError::OutOfRange)?;
        Instant::from_micros(start.timestamp().as_microsecond()).map_err(|_| CalendarError::OutOfRange)
    }

    /// A local day as a half-open range of instants: days follow one another without gap or overlap, and may have 23 or 25 hours.
    pub fn window(&self, day: Day) -> Result<(Instant, Instant), CalendarError> {
        Ok((self.start_of(day)?, self.start_of(day.next()?)?))
    }

    /// A local time of a day, in minutes since midnight. Where clocks skip it, the same time after midnight that would have been; where they show
    /// it twice, the first.
    pub fn time_of(&self, day: Day, minutes: u16) -> Result<Instant, CalendarError> {
        let part = |minutes: u16| i8::try_from(minutes).map_err(|_| CalendarError::OutOfRange);
        let (hour, minute) = (part(minutes / 60)?, part(minutes % 60)?);
        let time = jiff::civil::Time::new(hour, minute, 0, 0).map_err(|_| CalendarError::OutOfRange)?;
        let zoned = day.0.to_datetime(time).to_zoned(self.0.clone()).map_err(|_| CalendarError::OutOfRange)?;
        Instant::from_micros(zoned.timestamp().as_microsecond()).map_err(|_| CalendarError::OutOfRange)
    }

    /// How many local dates lie between two instants: zero on the same date.
    pub fn days_between(&self, start: Instant, end: Instant) -> Result<i64, CalendarError> {
        Ok(self.day_of(start)?.days_to(self.day_of(end)?))
    }

    /// An instant with the offset that is in force then, `2025-03-09T00:00:00-08:00`.
    pub fn shown(&self, at: Instant) -> Result<String, CalendarError> {
        let timestamp = Timestamp::from_microsecond(at.micros()).map_err(|_| CalendarError::OutOfRange)?;
        Ok(timestamp.display_with_offset(self.0.to_offset(timestamp)).to_string())
    }
}

/// Starts of monthly periods on an anchor day, from the period that holds `start` to the last one before `until`.
///
/// - A month without the day has its last day instead; the next month returns to the anchor.
/// - Errors: an anchor that is not 1 to 31.
pub fn monthly(anchor: u8, start: Day, until: Day) -> Result<Vec<Day>, CalendarError> {
    let anchor_day = i8::try_from(anchor).ok().filter(|day| (1..=31).contains(day)).ok_or(CalendarError::Anchor { value: anchor })?;
    let out_of_range = |_| CalendarError::OutOfRange;
    let anchored = |month: Date| {
        let day = anchor_day.min(month.days_in_month());
        month.with().day(day).build().map(Day).map_err(out_of_range)
    };
    let mut month = start.0.first_of_month();
    if anchored(month)? > start {
        month = month.checked_sub(1.month()).map_err(out_of_range)?;
    }
    let mut starts = Vec::new();
    loop {
        let day = anchored(month)?;
        if day >= until {
            return Ok(starts);
        }
        starts.push(day);
        month = month.checked_add(1.month()).map_err(out_of_range)?;
    }
}

/// Which of the half-open windows that begin on rising days holds a day; none before the first and from `end` on.
pub fn window_of(starts: &[Day], end: Day, day: Day) -> Option<usize> {
    if day >= end {
        return None;
    }
    starts.partition_point(|start| *start <= day).checked_sub(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day(text: &str) -> Day {
        Day::parse(text).unwrap()
    }

    #[test]
    fn days_around_a_clock_change_follow_without_gap() {
        let zone = Zone::parse("America/Los_Angeles").unwrap();
        let hours = |text: &str| {
            let (start, end) = zone.window(day(text)).unwrap();
            (end.micros() - start.micros()) / 3_600_000_000
        };
        assert_eq!((hours("2025-03-08"), hours("2025-03-09"), hours("2025-11-02")), (24, 23, 25));
        assert_eq!(zone.window(day("2025-03-08")).unwrap().1, zone.window(day("2025-03-09")).unwrap().0);
        // Clocks in Havana skip midnight itself.
        let havana = Zone::parse("America/Havana").unwrap();
        assert_eq!(havana.shown(havana.start_of(day("2025-03-09")).unwrap()).unwrap(), "2025-03-09T01:00:00-04:00");
    }

    #[test]
    fn anchors_return_after_short_months() {
        let starts = |anchor, start: &str, until: &str| {
            monthly(anchor, day(start), day(until)).unwrap().iter().map(Day::to_string).collect::<Vec<_>>()
        };
        assert_eq!(starts(31, "2028-01-31", "2028-04-01"), ["2028-01-31", "2028-02-29", "2028-03-31"]);
        assert_eq!(starts(5, "2024-01-03", "2024-01-06"), ["2023-12-05", "2024-01-05"]);
        assert_eq!(monthly(0, day("2024-01-01"), day("2024-02-01")), Err(CalendarError::Anchor { value: 0 }));
    }

    #[test]
    fn what_is_no_day_or_zone_is_refused() {
        assert_eq!(Day::parse("2025-02-29").unwrap_err().to_string(), "\"2025-02-29\" is not a date");
        assert!(Zone::parse("factory").is_err() && Zone::parse("Etc/Unknown").is_err());
        assert_eq!(Zone::parse("Mars/Olympus").unwrap_err().to_string(), "\"Mars/Olympus\" is no time zone of the IANA database");
        assert_eq!(window_of(&[day("2024-01-01"), day("2024-02-01")], day("2024-03-01"), day("2024-02-01")), Some(1));
        assert_eq!(window_of(&[day("2024-01-01")], day("2024-03-01"), day("2024-03-01")), None);
    }
}
