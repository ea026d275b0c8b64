//! Instants in whole microseconds of UTC, and calendar months. No clock is read here.

use std::fmt;

/// Why a text is not an instant or a month.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TimeError {
    /// Not RFC 3339 with an offset, such as `2026-11-24T09:30:00.5Z`.
    #[error("{value:?} is not an RFC 3339 instant such as 2026-11-24T09:30:00Z")]
    Malformed {
        /// The refused text, cut to 80 characters.
        value: String,
    },
    /// More than six decimal places of a second.
    #[error("{value:?} is finer than a microsecond")]
    TooFine {
        /// The refused text.
        value: String,
    },
    /// Not a calendar month.
    #[error("{value:?} is not a month such as 2026-11")]
    Month {
        /// The refused text, cut to 40 characters.
        value: String,
    },
    /// Outside the years 1970 to 9999.
    #[error("{value:?} lies outside the years 1970 to 9999")]
    OutOfRange {
        /// The refused text.
        value: String,
    },
}

/// Microseconds since 1970-01-01T00:00:00Z, years 1970 to 9999.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Instant(i64);

const DAY: i64 = 86_400_000_000;
/// 10000-01-01T00:00:00Z.
const END: i64 = 253_402_300_800_000_000;

/// Days since 1970-01-01 of a civil date (Gregorian), after Howard Hinnant's `days_from_civil`.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

fn days_in_month(year: i64, month: i64) -> i64 {
    let (next_year, next_month) = if month == 12 { (year + 1, 1) } else { (year, month + 1) };
    days_from_civil(next_year, next_month, 1) - days_from_civil(year, month, 1)
}

fn digits(text: &str, from: usize, to: usize) -> Option<i64> {
    let part = text.get(from..to)?;
    if part.bytes().all(|byte| byte.is_ascii_digit()) { part.parse().ok() } else { None }
}

impl Instant {
    /// 1970-01-01T00:00:00Z.
    pub const EPOCH: Self = Self(0);

    /// From microseconds since 1970; refused outside the years 1970 to 9999.
    pub fn from_micros(micros: i64) -> Result<Self, TimeError> {
        if (0..END).contains(&micros) { Ok(Self(micros)) } else { Err(TimeError::OutOfRange { value: format!("{micros} µs") }) }
    }

    /// Microseconds since 1970-01-01T00:00:00Z.
    pub fn micros(self) -> i64 {
        self.0
    }

    /// Parses RFC 3339 with an offset (`Z` or `±hh:mm`) and at most six decimal places (further ones must be zeros).
    pub fn parse(text: &str) -> Result<Self, TimeError> {
        let malformed = || TimeError::Malformed { value: text.chars().take(80).collect() };
        let byte = |at: usize| text.as_bytes().get(at).copied();
        if text.len() < 20 || byte(4) != Some(b'-') || byte(7) != Some(b'-') || byte(13) != Some(b':') || byte(16) != Some(b':') {
            return Err(malformed());
        }
        if !matches!(byte(10), Some(b'T' | b't' | b' ')) {
            return Err(malformed());
        }
        let field = |from, to| digits(text, from, to).ok_or_else(malformed);
        let (year, month, day) = (field(0, 4)?, field(5, 7)?, field(8, 10)?);
        let (hour, minute, second) = (field(11, 13)?, field(14, 16)?, field(17, 19)?);
        if !(1..=12).contains(&month) || day < 1 || day > days_in_month(year, month) || hour > 23 || minute > 59 || second > 59 {
            return Err(malformed());
        }
        let rest = text.get(19..).ok_or_else(malformed)?;
        let (fraction, offset) = match rest.strip_prefix('.') {
            Some(rest) => {
                let end = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(malformed)?;
                rest.split_at(end)
            }
            None => ("", rest),
        };
        if rest.starts_with('.') && fraction.is_empty() {
            return Err(malformed());
        }
        if fraction.bytes().skip(6).any(|byte| byte != b'0') {
            return Err(TimeError::TooFine { value: text.chars().take(80).collect() });
        }
        let micros =
            fraction.bytes().chain(std::iter::repeat(b'0')).take(6).fold(0_i64, |micros, byte| micros * 10 + i64::from(byte - b'0'));
        let offset_minutes = match offset {
            "Z" | "z" => 0,
            _ => {
                let sign = match offset.as_bytes().first() {
                    Some(b'+') => 1,
                    Some(b'-') => -1,
                    _ => return Err(malformed()),
                };
                if offset.len() != 6 || offset.as_bytes().get(3) != Some(&b':') {
                    return Err(malformed());
                }
                let (hours, minutes) = (digits(offset, 1, 3).ok_or_else(malformed)?, digits(offset, 4, 6).ok_or_else(malformed)?);
                if hours > 23 || minutes > 59 {
                    return Err(malformed());
                }
                sign * (hours * 60 + minutes)
            }
        };
        let seconds = days_from_civil(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second - offset_minutes * 60;
        Self::from_micros(seconds * 1_000_000 + micros).map_err(|_| TimeError::OutOfRange { value: text.chars().take(80).collect() })
    }

    /// The calendar month in UTC.
    pub fn month(self) -> Month {
        let (year, month, _) = civil_from_days(self.0.div_euclid(DAY));
        Month(i32::try_from(year * 100 + month).unwrap_or(i32::MAX))
    }

    /// The later of two instants.
    pub fn max(self, other: Self) -> Self {
        if self.0 >= other.0 { self } else { other }
    }
}

impl fmt::Display for Instant {
    /// RFC 3339 in UTC with `Z`; six decimal places when there is a fraction, none otherwise.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = civil_from_days(self.0.div_euclid(DAY));
        let rest = self.0.rem_euclid(DAY);
        let (seconds, micros) = (rest / 1_000_000, rest % 1_000_000);
        let (hour, minute, second) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}")?;
        if micros > 0 {
            write!(f, ".{micros:06}")?;
        }
        f.write_str("Z")
    }
}

impl fmt::Debug for Instant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Instant({self})")
    }
}

impl serde::Serialize for Instant {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Instant {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

/// A UTC calendar month as the integer yyyymm, 197001 to 999912.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Month(i32);

impl Month {
    /// From yyyymm.
    pub fn from_number(number: i32) -> Result<Self, TimeError> {
        if (197_001..=999_912).contains(&number) && (1..=12).contains(&(number % 100)) {
            Ok(Self(number))
        } else {
            Err(TimeError::OutOfRange { value: number.to_string() })
        }
    }

    /// From `2026-11`, as people write it, or `202611`, as it stands in files.
    pub fn parse(text: &str) -> Result<Self, TimeError> {
        let (year, month) = match text.as_bytes() {
            [year @ .., b'-', tens, ones] if year.len() == 4 => (year, [*tens, *ones]),
            [year @ .., tens, ones] if year.len() == 4 => (year, [*tens, *ones]),
            _ => (&[][..], [0, 0]),
        };
        let mut digits = year.iter().chain(&month).map(|digit| char::from(*digit).to_digit(10));
        let number = digits.try_fold(0_u32, |number, digit| Some(number * 10 + digit?)).and_then(|number| i32::try_from(number).ok());
        number.and_then(|number| Self::from_number(number).ok()).ok_or_else(|| TimeError::Month { value: text.chars().take(40).collect() })
    }

    /// As yyyymm.
    pub fn number(self) -> i32 {
        self.0
    }

    /// First instant of the month.
    pub fn start(self) -> Instant {
        Instant(days_from_civil(i64::from(self.0 / 100), i64::from(self.0 % 100), 1) * DAY)
    }

    /// The month after; `None` after December 9999.
    pub fn next(self) -> Option<Self> {
        let number = if self.0 % 100 == 12 { self.0 + 89 } else { self.0 + 1 };
        Self::from_number(number).ok()
    }

    /// The month before; `None` before January 1970.
    pub fn previous(self) -> Option<Self> {
        let number = if self.0 % 100 == 1 { self.0 - 89 } else { self.0 - 1 };
        Self::from_number(number).ok()
    }

    /// How many months it lies behind another; below zero where it lies before it.
    pub fn since(self, other: Self) -> i32 {
        (self.0 / 100 - other.0 / 100) * 12 + self.0 % 100 - other.0 % 100
    }
}

impl fmt::Display for Month {
    /// `2026-11`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}", self.0 / 100, self.0 % 100)
    }
}

/// On the wire a month is the integer yyyymm.
impl serde::Serialize for Month {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_i32(self.0)
    }
}

impl<'de> serde::Deserialize<'de> for Month {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::from_number(i32::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

impl fmt::Debug for Month {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Month({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_parse_and_print() {
        for (text, shown) in [
            ("1970-01-01T00:00:00Z", "1970-01-01T00:00:00Z"),
            ("2024-02-29T23:59:59.123456Z", "2024-02-29T23:59:59.123456Z"),
            ("2026-03-29T03:00:00+02:00", "2026-03-29T01:00:00Z"),
            ("2023-11-16 18:15:46.5000000-00:30", "2023-11-16T18:45:46.500000Z"),
        ] {
            assert_eq!(Instant::parse(text).map(|at| at.to_string()), Ok(shown.to_owned()));
        }
        assert!(matches!(Instant::parse("2026-01-01T00:00:00.1234567Z"), Err(TimeError::TooFine { .. })));
        for text in ["", "2026-02-30T00:00:00Z", "2026-01-01T00:00:00", "2026-01-01T24:00:00Z", "2026-01-01T00:00:00.Z"] {
            assert!(matches!(Instant::parse(text), Err(TimeError::Malformed { .. })), "{text}");
        }
        assert!(matches!(Instant::parse("1969-12-31T23:59:59Z"), Err(TimeError::OutOfRange { .. })));
    }

    #[test]
    fn months_begin_and_follow() {
        let december = Instant::parse("2026-12-31T23:59:59.999999Z").unwrap().month();
        assert_eq!(december.to_string(), "2026-12");
        assert_eq!(december.next().unwrap().start().to_string(), "2027-01-01T00:00:00Z");
        assert_eq!(december.next().and_then(Month::previous), Some(december));
        assert_eq!((december.previous().map(Month::number), Month(197_001).previous()), (Some(202_611), None));
        assert_eq!((december.since(Month(202_511)), Month(202_602).since(december), december.since(december)), (13, -10, 0));
        assert_eq!(Month::parse("2026-12"), Ok(december));
        assert_eq!(Month::parse("202612"), Ok(december));
        for text in ["", "2026-13", "2026-1", "26-12", "+02612", "2026-1２", "2026-12-01"] {
            assert!(Month::parse(text).is_err(), "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn text_round_trips(micros in 0_i64..END) {
            let at = Instant(micros);
            proptest::prop_assert_eq!(Instant::parse(&at.to_string()), Ok(at));
            proptest::prop_assert!(at.month().start() <= at);
            proptest::prop_assert!(at.month().next().is_none_or(|next| next.start() > at));
        }
    }
}
