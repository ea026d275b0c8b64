//! Instants as microseconds since 1970 in UTC, and their texts.

use anyhow::{Context as _, bail, ensure};
use chrono::{DateTime, LocalResult, NaiveDateTime, Offset as _, TimeDelta, TimeZone as _, Utc};
use chrono_tz::Tz;

/// Microseconds of a day.
pub const DAY: i64 = 86_400_000_000;

/// Year, month, day of a day number (H. Hinnant's civil_from_days).
fn civil(days: i64) -> (i64, i64, i64) {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let doe = z.rem_euclid(146_097);
    let yoe = (doe - doe / 1_460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    let year = yoe + era * 400 + i64::from(month <= 2);
    (year, month, doy - (153 * mp + 2) / 5 + 1)
}

fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = year - i64::from(month <= 2);
    let era = year.div_euclid(400);
    let yoe = year.rem_euclid(400);
    let doy = (153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5 + day - 1;
    era * 146_097 + yoe * 365 + yoe / 4 - yoe / 100 + doy - 719_468
}

/// RFC 3339 with `Z`, six decimal places or none.
pub fn text(micros: i64) -> String {
    let (year, month, day) = civil(micros.div_euclid(DAY));
    let rest = micros.rem_euclid(DAY);
    let (seconds, fraction) = (rest / 1_000_000, rest % 1_000_000);
    let time = format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}", seconds / 3_600, seconds / 60 % 60, seconds % 60);
    if fraction == 0 { format!("{time}Z") } else { format!("{time}.{fraction:06}Z") }
}

/// The UTC month, yyyymm.
pub fn month(micros: i64) -> i32 {
    let (year, month, _) = civil(micros.div_euclid(DAY));
    i32::try_from(year * 100 + month).unwrap_or(0)
}

/// The first microsecond of a UTC month (yyyymm), and the one after its last.
pub fn period(month: i32) -> anyhow::Result<(i64, i64)> {
    let (year, number) = (i64::from(month.div_euclid(100)), i64::from(month.rem_euclid(100)));
    ensure!((1..=12).contains(&number), "{month} is no month");
    let next = if number == 12 { days(year + 1, 1, 1) } else { days(year, number + 1, 1) };
    Ok((days(year, number, 1) * DAY, next * DAY))
}

/// What [`text`] writes.
pub fn parse(instant: &str) -> anyhow::Result<i64> {
    let number = |range: std::ops::Range<usize>| instant.get(range).and_then(|part| part.parse::<i64>().ok());
    let read = || {
        let day = days(number(0..4)?, number(5..7)?, number(8..10)?);
        let seconds = number(11..13)? * 3_600 + number(14..16)? * 60 + number(17..19)?;
        let fraction = instant.get(19..)?.strip_suffix('Z')?;
        let fraction =
            if fraction.is_empty() { 0 } else { fraction.strip_prefix('.').filter(|digits| digits.len() == 6)?.parse::<i64>().ok()? };
        Some(day * DAY + seconds * 1_000_000 + fraction)
    };
    let micros = read().with_context(|| format!("{instant:?} is no instant"))?;
    ensure!(text(micros) == instant, "{instant:?} is not in canonical form");
    Ok(micros)
}

/// Whether a day, numbered from 1970, is the first of a month.
pub fn first_of_month(day: i64) -> bool {
    civil(day).2 == 1
}

/// An instant as a source writes it (RFC 3339): any offset, at most six decimal places that are not zero.
pub fn read(instant: &str) -> anyhow::Result<i64> {
    let spelt = instant.get(10..11).is_some_and(|between| ["T", "t", " "].contains(&between)) && instant.is_ascii();
    let utc = || {
        let (time, offset) = match instant.get(19..)?.find(['Z', 'z', '+', '-']) {
            Some(at) => instant.split_at_checked(19 + at)?,
            None => return None,
        };
        let digits = time.get(19..)?;
        let digits = if digits.is_empty() { "" } else { digits.strip_prefix('.').filter(|digits| !digits.is_empty())? };
        let (micros, finer) = digits.split_at_checked(6).unwrap_or((digits, ""));
        if !digits.bytes().all(|byte| byte.is_ascii_digit()) || finer.bytes().any(|byte| byte != b'0') {
            return None;
        }
        let fraction: i64 = format!("{micros:0<6}").parse().ok()?;
        let second = format!("{}T{}Z", time.get(0..10)?, time.get(11..19)?);
        let minutes = match offset {
            "Z" | "z" => 0,
            _ => {
                let (sign, rest) = offset.split_at_checked(1)?;
                let (hours, minutes) = rest.split_once(':').filter(|(hours, minutes)| hours.len() == 2 && minutes.len() == 2)?;
                let minutes = hours.parse::<i64>().ok()? * 60 + minutes.parse::<i64>().ok()?;
                if sign == "-" { -minutes } else { minutes }
            }
        };
        Some(parse(&second).ok()? + fraction - minutes * 60_000_000)
    };
    spelt.then(utc).flatten().with_context(|| format!("{instant:?} is no instant"))
}

/// A zone of the IANA database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Zone(Tz);

impl Zone {
    /// By its name.
    pub fn of(name: &str) -> anyhow::Result<Self> {
        name.parse().map(Self).map_err(|_| anyhow::anyhow!("{name:?} is no zone that this program knows"))
    }

    /// UTC.
    pub fn utc() -> Self {
        Self(Tz::UTC)
    }

    /// What local clocks show at an instant, as if they were those of UTC.
    pub fn shown(&self, micros: i64) -> anyhow::Result<i64> {
        let at = DateTime::<Utc>::from_timestamp_micros(micros).context("an instant lies outside the calendar")?;
        Ok(micros + i64::from(self.0.offset_from_utc_datetime(&at.naive_utc()).fix().local_minus_utc()) * 1_000_000)
    }

    /// The local date of an instant, numbered from 1970.
    pub fn date(&self, micros: i64) -> anyhow::Result<i64> {
        Ok(self.shown(micros)?.div_euclid(DAY))
    }

    /// When a date, numbered from 1970, begins; where clocks skip all of it, when the next one does.
    pub fn start(&self, date: i64) -> anyhow::Result<i64> {
        self.at(date, 0)
    }

    /// The dates that a time touches, without those that clocks skip. A time of no length touches that of its start.
    pub fn dates(&self, start: i64, end: i64) -> anyhow::Result<Vec<i64>> {
        let (first, last) = (self.date(start)?, self.date((end - 1).max(start))?);
        let mut dates = Vec::new();
        for date in first..=last {
            if date == first || date == last || self.start(date)? < self.start(date + 1)? {
                dates.push(date);
            }
        }
        Ok(dates)
    }

    /// When the local hours begin that a time touches, the first one with the time: at full hours of local clocks, and where these are
    /// changed by a part of an hour.
    pub fn hours(&self, start: i64, end: i64) -> anyhow::Result<Vec<i64>> {
        const HOUR: i64 = DAY / 24;
        let mut begins = vec![start];
        let mut at = start;
        while at < end {
            let past = (self.shown(at)? - at).rem_euclid(HOUR);
            let full = at + HOUR - self.shown(at)?.rem_euclid(HOUR);
            // Clocks are changed at whole minutes.
            let minutes = (at / 60_000_000 + 1..).map(|minute| minute * 60_000_000).take_while(|minute| *minute < full);
            let mut changed = None;
            if (self.shown(full)? - full).rem_euclid(HOUR) != past {
                for minute in minutes.chain([full]) {
                    if (self.shown(minute)? - minute).rem_euclid(HOUR) != past {
                        changed = Some(minute);
                        break;
                    }
                }
            }
            at = changed.unwrap_or(full);
            begins.extend(Some(at).filter(|at| *at < end));
        }
        Ok(begins)
    }

    /// A local time of a day (numbered from 1970), in minutes since midnight. Where clocks skip it, as long after midnight as it would have been;
    /// where they show it twice, the first time.
    pub fn at(&self, day: i64, minutes: i64) -> anyhow::Result<i64> {
        let shown = DateTime::<Utc>::from_timestamp_micros(day * DAY + minutes * 60_000_000)
            .context("a day lies outside the calendar")?
            .naive_utc();
        let found = |local: NaiveDateTime| match self.0.from_local_datetime(&local) {
            LocalResult::Single(at) | LocalResult::Ambiguous(at, _) => Some(at),
            LocalResult::None => None,
        };
        if let Some(at) = found(shown) {
            return Ok(at.timestamp_micros());
        }
        // The offset of before the skip.
        for hours in 1..=48 {
            if let Some(before) = shown.checked_sub_signed(TimeDelta::hours(hours)).and_then(found) {
                let offset = before.offset().fix().local_minus_utc();
                return Ok(shown.and_utc().timestamp_micros() - i64::from(offset) * 1_000_000);
            }
        }
        bail!("the zone {} has no day {}", self.0, text(day * DAY))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn local_times_are_found_also_where_clocks_change() {
        let at = |zone: &str, day: &str, minutes: i64| text(Zone::of(zone).unwrap().at(parse(day).unwrap() / DAY, minutes).unwrap());
        let (spring, autumn) = ("2026-03-08T00:00:00Z", "2026-11-01T00:00:00Z");
        assert_eq!(at("America/Los_Angeles", spring, 0), "2026-03-08T08:00:00Z");
        assert_eq!(at("America/Los_Angeles", spring, 150), "2026-03-08T10:30:00Z");
        assert_eq!(at("America/Los_Angeles", autumn, 90), "2026-11-01T08:30:00Z");
        assert_eq!(at("America/Havana", spring, 0), "2026-03-08T05:00:00Z");
        assert_eq!(at("Pacific/Apia", "2011-12-30T00:00:00Z", 60), "2011-12-30T11:00:00Z");
        assert!(Zone::of("Mars/Olympus").is_err());
    }

    #[test]
    fn instants_of_sources_are_read_with_their_offsets() {
        for (written, expected) in [
            ("2026-10-01T10:00:00+02:00", "2026-10-01T08:00:00Z"),
            ("2026-10-01t10:00:00.5z", "2026-10-01T10:00:00.500000Z"),
            ("2026-10-01 00:30:00.1234560-05:30", "2026-10-01T06:00:00.123456Z"),
        ] {
            assert_eq!(text(read(written).unwrap()), expected);
        }
        for wrong in [
            "2026-10-01",
            "2026-10-01T10:00:00",
            "2026-10-01T10:00:00.Z",
            "2026-10-01T10:00:00.1234567Z",
            "2026-13-01T10:00:00Z",
            "2026-10-01T10:00:00+2",
        ] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn instants_go_to_text_and_back() {
        for instant in [
            "1970-01-01T00:00:00Z",
            "2024-02-29T23:59:59.999999Z",
            "2026-10-31T23:59:59.000001Z",
            "2000-03-01T00:00:00Z",
            "2100-12-31T12:00:00Z",
        ] {
            assert_eq!(text(parse(instant).unwrap()), instant);
        }
        assert_eq!(
            (parse("2026-11-25T10:00:00Z").unwrap(), month(parse("2026-11-30T23:59:59.999999Z").unwrap())),
            (1_795_600_800_000_000, 202_611)
        );
        for (month, start, end) in
            [(202_612, "2026-12-01T00:00:00Z", "2027-01-01T00:00:00Z"), (202_402, "2024-02-01T00:00:00Z", "2024-03-01T00:00:00Z")]
        {
            assert_eq!(period(month).unwrap(), (parse(start).unwrap(), parse(end).unwrap()));
        }
        assert!(period(202_613).is_err() && period(202_600).is_err());
        for wrong in
            ["2026-11-31T00:00:00Z", "2026-11-25 10:00:00Z", "2026-11-25T10:00:00.1Z", "2026-11-25T10:00:00.000000Z", "2026-11-25T10:00:00"]
        {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
