//! Cells that tell a time: patterns, RFC 3339, numbers. Exact to the microsecond; finer digits are dropped only where the map
//! says so.

use shared_types::Instant;

use super::number::Decimal;
use super::{Moment, MomentKind};

/// A piece of a time pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// These characters.
    Literal(String),
    Year,
    Month,
    Day,
    Hour,
    Minute,
    Second,
    /// One to nine digits of a second.
    Fraction,
    /// Nothing, or a point and one to nine digits of a second.
    PointFraction,
    /// `Z`, `+hh:mm` or `+hhmm`.
    Offset,
}

/// Reads a pattern: `%Y %m %d %H %M %S %f %.f %z %%` and literal characters.
pub(super) fn pattern(text: &str) -> Result<Vec<Part>, String> {
    let mut parts = Vec::new();
    let mut literal = String::new();
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        if c != '%' {
            literal.push(c);
            continue;
        }
        let part = match rest.next() {
            Some('%') => {
                literal.push('%');
                continue;
            }
            Some('Y') => Part::Year,
            Some('m') => Part::Month,
            Some('d') => Part::Day,
            Some('H') => Part::Hour,
            Some('M') => Part::Minute,
            Some('S') => Part::Second,
            Some('f') => Part::Fraction,
            Some('.') if rest.next() == Some('f') => Part::PointFraction,
            Some('z') => Part::Offset,
            _ => return Err("only %Y %m %d %H %M %S %f %.f %z and %% are read".to_owned()),
        };
        if !literal.is_empty() {
            parts.push(Part::Literal(std::mem::take(&mut literal)));
        }
        if parts.contains(&part) {
            return Err("a part of the time is named twice".to_owned());
        }
        parts.push(part);
    }
    if !literal.is_empty() {
        parts.push(Part::Literal(literal));
    }
    for (part, name) in [(Part::Year, "%Y"), (Part::Month, "%m"), (Part::Day, "%d")] {
        if !parts.contains(&part) {
            return Err(format!("{name} is missing: a date is needed"));
        }
    }
    Ok(parts)
}

impl Moment {
    /// The instant that a cell tells. The caller has dealt with empty cells.
    pub(super) fn read(&self, text: &str) -> Result<Instant, String> {
        match &self.kind {
            MomentKind::Rfc3339 => {
                let (before, fraction, after) = split_fraction(text);
                self.instant(before, fraction, after, text)
            }
            MomentKind::Pattern(parts) => self.read_pattern(parts, text),
            MomentKind::Number { unit_nanos, base } => {
                // In nanoseconds at scale 9, so that a unit of a nanosecond still has nine places.
                let number = Decimal::parse(text)?;
                if number.units_of(9).is_none() && !self.truncate {
                    return Err(finer(text));
                }
                let scaled = number.floor_units_of(9).and_then(|units| units.checked_mul(*unit_nanos));
                let scaled = scaled.ok_or_else(|| format!("{text:?} is out of range"))?;
                let per_micro = 1_000 * 1_000_000_000;
                if scaled.rem_euclid(per_micro) != 0 && !self.truncate {
                    return Err(finer(text));
                }
                let micros = scaled.div_euclid(per_micro).checked_add(i128::from(base.micros()));
                let micros = micros.and_then(|micros| i64::try_from(micros).ok()).ok_or_else(|| format!("{text:?} is out of range"))?;
                Instant::from_micros(micros).map_err(|_| format!("{text:?} lies outside the years 1970 to 9999"))
            }
        }
    }

    fn read_pattern(&self, parts: &[Part], text: &str) -> Result<Instant, String> {
        let unlike = || format!("{text:?} is not like the format");
        let (mut year, mut month, mut day) = ("", "", "");
        let (mut hour, mut minute, mut second) = ("00", "00", "00");
        let (mut fraction, mut offset) = ("", "Z".to_owned());
        let mut rest = text;
        for part in parts {
            let (slot, width) = match part {
                Part::Literal(literal) => {
                    rest = rest.strip_prefix(literal.as_str()).ok_or_else(unlike)?;
                    continue;
                }
                Part::PointFraction if !rest.starts_with('.') => continue,
                Part::PointFraction | Part::Fraction => {
                    rest = if *part == Part::PointFraction { rest.strip_prefix('.').unwrap_or(rest) } else { rest };
                    let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
                    (fraction, rest) = rest.split_at(end);
                    if !(1..=9).contains(&end) {
                        return Err(unlike());
                    }
                    continue;
                }
                Part::Offset => {
                    let width = if rest.starts_with(['Z', 'z']) {
                        1
                    } else if rest.get(3..4) == Some(":") {
                        6
                    } else {
                        5
                    };
                    let (head, tail) = rest.split_at_checked(width).ok_or_else(unlike)?;
                    offset = match (width, head.split_at_checked(3)) {
                        (5, Some((hours, minutes))) => format!("{hours}:{minutes}"),
                        _ => head.to_owned(),
                    };
                    rest = tail;
                    continue;
                }
                Part::Year => (&mut year, 4),
                Part::Month => (&mut month, 2),
                Part::Day => (&mut day, 2),
                Part::Hour => (&mut hour, 2),
                Part::Minute => (&mut minute, 2),
                Part::Second => (&mut second, 2),
            };
            (*slot, rest) = rest.split_at_checked(width).ok_or_else(unlike)?;
        }
        if !rest.is_empty() {
            return Err(unlike());
        }
        self.instant(&format!("{year}-{month}-{day}T{hour}:{minute}:{second}"), fraction, &offset, text)
    }

    /// From RFC 3339 in three pieces: the last word on what a time is has [`Instant::parse`].
    fn instant(&self, before: &str, fraction: &str, after: &str, text: &str) -> Result<Instant, String> {
        let kept = if self.truncate { fraction.get(..6).unwrap_or(fraction) } else { fraction };
        let point = if kept.is_empty() { "" } else { "." };
        Instant::parse(&format!("{before}{point}{kept}{after}")).map_err(|error| match error {
            shared_types::TimeError::TooFine { .. } => finer(text),
            shared_types::TimeError::Malformed { .. } | shared_types::TimeError::Month { .. } => format!("{text:?} is not a time"),
            shared_types::TimeError::OutOfRange { .. } => format!("{text:?} lies outside the years 1970 to 9999"),
        })
    }
}

fn finer(text: &str) -> String {
    format!("{text:?} is finer than a microsecond; say truncate = \"microsecond\" if the digits beyond may be dropped")
}

/// `a.123b` as `a`, `123`, `b`; a point without digits stays in the last piece, where it is refused.
fn split_fraction(text: &str) -> (&str, &str, &str) {
    let Some((before, rest)) = text.split_once('.') else { return (text, "", "") };
    let (fraction, after) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len()));
    if fraction.is_empty() { (text, "", "") } else { (before, fraction, after) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(kind: MomentKind, truncate: bool, text: &str, expected: &str) {
        let moment = Moment { column: 0, kind, truncate, optional: false };
        assert_eq!(moment.read(text).map_or_else(|why| why, |at| at.to_string()), expected, "{text}");
    }

    fn like(format: &str, truncate: bool, text: &str, expected: &str) {
        check(MomentKind::Pattern(pattern(format).unwrap()), truncate, text, expected);
    }

    #[test]
    fn patterns_are_followed_to_the_letter() {
        let azure = "%Y-%m-%d %H:%M:%S.%f";
        like(azure, true, "2023-11-16 18:15:46.6805907", "2023-11-16T18:15:46.680590Z");
        like(azure, false, "2023-11-16 18:15:46.6805900", "2023-11-16T18:15:46.680590Z");
        like(
            azure,
            false,
            "2023-11-16 18:15:46.6805907",
            "\"2023-11-16 18:15:46.6805907\" is finer than a microsecond; say truncate = \"microsecond\" if the digits beyond may be dropped",
        );
        like(azure, true, "2023-11-16 18:15:46", "\"2023-11-16 18:15:46\" is not like the format");
        like(azure, true, "2023-11-16 18:15:46.", "\"2023-11-16 18:15:46.\" is not like the format");
        like(azure, true, "2023-11-16 18:15:46.5 ", "\"2023-11-16 18:15:46.5 \" is not like the format");
        like("%Y-%m-%d %H:%M:%S%.f", false, "2023-11-16 18:15:46", "2023-11-16T18:15:46Z");
        like("%Y-%m-%d %H:%M:%S%.f", false, "2023-11-16 18:15:46.25", "2023-11-16T18:15:46.250000Z");
        like("%d/%m/%Y", false, "29/02/2024", "2024-02-29T00:00:00Z");
        like("%d/%m/%Y", false, "29/02/2023", "\"29/02/2023\" is not a time");
        like("%d/%m/%Y", false, "2/3/2023", "\"2/3/2023\" is not like the format");
        like("%Y%m%dT%H%M%S%z", false, "20231116T181546+0130", "2023-11-16T16:45:46Z");
        like("%Y%m%dT%H%M%S%z", false, "20231116T181546-01:30", "2023-11-16T19:45:46Z");
        like("%Y%m%dT%H%M%S%z", false, "20231116T181546Z", "2023-11-16T18:15:46Z");
        like("%Y-%m-%d", false, "1969-12-31", "\"1969-12-31\" lies outside the years 1970 to 9999");
        like("%Y-%m-%d", false, "20é3-1-31", "\"20é3-1-31\" is not like the format");
        for wrong in ["%Y-%m", "%Y-%m-%d %Y", "%Y-%m-%d %y", "%Y-%m-%d %", "%Y-%m-%d%.S"] {
            assert!(pattern(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn rfc_3339_is_read_as_it_is() {
        check(MomentKind::Rfc3339, false, "2026-03-29T03:00:00.25+02:00", "2026-03-29T01:00:00.250000Z");
        check(MomentKind::Rfc3339, true, "2026-03-29T03:00:00.123456789Z", "2026-03-29T03:00:00.123456Z");
        check(MomentKind::Rfc3339, true, "2026-03-29T03:00:00.Z", "\"2026-03-29T03:00:00.Z\" is not a time");
        check(MomentKind::Rfc3339, true, "2026-03-29T03:00:00", "\"2026-03-29T03:00:00\" is not a time");
    }

    #[test]
    fn numbers_count_from_a_base() {
        let base = Instant::parse("2023-01-01T00:00:00Z").unwrap();
        let number = |unit_nanos| MomentKind::Number { unit_nanos, base };
        check(number(1_000_000_000), false, "12537496", "2023-05-26T02:38:16Z");
        check(number(1_000_000_000), false, "0.000001", "2023-01-01T00:00:00.000001Z");
        check(number(1_000_000_000), false, "-1", "2022-12-31T23:59:59Z");
        check(number(1_000_000), false, "1.5", "2023-01-01T00:00:00.001500Z");
        check(number(1_000), false, "7", "2023-01-01T00:00:00.000007Z");
        check(number(1), true, "1999", "2023-01-01T00:00:00.000001Z");
        check(number(1), true, "-1", "2022-12-31T23:59:59.999999Z");
        check(
            number(1),
            false,
            "1999",
            "\"1999\" is finer than a microsecond; say truncate = \"microsecond\" if the digits beyond may be dropped",
        );
        check(number(1_000_000_000), true, "0.12345678901234", "2023-01-01T00:00:00.123456Z");
        check(number(1_000_000_000), false, "x", "\"x\" is not a decimal number");
        check(number(1_000_000_000), false, "1e20", "\"1e20\" is out of range");
    }
}
