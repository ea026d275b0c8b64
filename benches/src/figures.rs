//! Medians, percentiles and ratios of measurements, and their text. It knows no money: floats are fine here and nowhere else.
#![expect(clippy::float_arithmetic, reason = "statistics of measurements; nothing here is billed")]

use std::time::Duration;

use serde_json::{Value, json};

/// Measured durations.
#[derive(Clone, Debug, Default)]
pub struct Samples(Vec<Duration>);

impl Samples {
    /// Takes one more.
    pub fn push(&mut self, sample: Duration) {
        self.0.push(sample);
    }

    /// How many.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// The smallest sample that at least so many percent of all do not exceed; zero without samples.
    pub fn percentile(&self, percent: usize) -> Duration {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let rank = (sorted.len() * percent).div_ceil(100).max(1);
        sorted.get(rank - 1).copied().unwrap_or_default()
    }

    /// The middle one.
    pub fn median(&self) -> Duration {
        self.percentile(50)
    }

    /// Count, p50, p99 and the largest in milliseconds.
    pub fn json(&self) -> Value {
        json!({
            "samples": self.count(), "p50_ms": milliseconds(self.median()), "p99_ms": milliseconds(self.percentile(99)),
            "max_ms": milliseconds(self.percentile(100)),
        })
    }
}

impl FromIterator<Duration> for Samples {
    fn from_iter<I: IntoIterator<Item = Duration>>(samples: I) -> Self {
        Self(samples.into_iter().collect())
    }
}

/// Milliseconds to the microsecond.
pub fn milliseconds(duration: Duration) -> f64 {
    rounded(duration.as_secs_f64() * 1_000.0, 3)
}

/// Seconds to the millisecond.
pub fn seconds(duration: Duration) -> f64 {
    rounded(duration.as_secs_f64(), 3)
}

/// How often the second goes into the first; none when the second is zero.
pub fn ratio(of: Duration, to: Duration) -> Option<f64> {
    (!to.is_zero()).then(|| rounded(of.as_secs_f64() / to.as_secs_f64(), 3))
}

/// How much faster the second was for each thing than the first, as (time, things); none when either did nothing.
pub fn faster(first: (Duration, u64), second: (Duration, u64)) -> Option<f64> {
    let each = |(time, count): (Duration, u64)| u32::try_from(count).ok().and_then(|count| time.checked_div(count));
    let (first, second) = (each(first)?, each(second)?);
    ratio(first, second)
}

/// Whole things per second; 0 in no time.
pub fn per_second(count: u64, time: Duration) -> u64 {
    let micros = u128::from(count) * 1_000_000;
    micros.checked_div(time.as_micros()).and_then(|rate| u64::try_from(rate).ok()).unwrap_or(0)
}

/// Seconds for a million, when so many took this time; none for no things.
pub fn seconds_per_million(time: Duration, count: u64) -> Option<f64> {
    let count = u32::try_from(count).ok().filter(|count| *count > 0)?;
    Some(rounded(time.as_secs_f64() * 1_000_000.0 / f64::from(count), 2))
}

/// Hundredths of a whole, to a tenth; 0 of nothing.
pub fn percent(part: Duration, whole: Duration) -> f64 {
    ratio(part, whole).map_or(0.0, |share| rounded(share * 100.0, 1))
}

fn rounded(value: f64, digits: i32) -> f64 {
    let scale = 10_f64.powi(digits);
    (value * scale).round() / scale
}

/// Lines of aligned columns: the first to the left, the others to the right.
pub fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns)
        .map(|column| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0))
        .collect();
    let mut text = String::new();
    for row in rows {
        for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
            let cell = if column == 0 { format!("{cell:<width$}") } else { format!("  {cell:>width$}") };
            text.push_str(&cell);
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_samples_and_need_no_order() {
        let samples: Samples = (1..=200).rev().map(Duration::from_millis).collect();
        assert_eq!(samples.median(), Duration::from_millis(100));
        assert_eq!(samples.percentile(99), Duration::from_millis(198));
        assert_eq!(samples.percentile(100), Duration::from_millis(200));
        assert_eq!(Samples::default().median(), Duration::ZERO);
    }

    #[test]
    fn rates_and_shares_of_nothing_are_nothing() {
        assert_eq!(per_second(500, Duration::from_millis(250)), 2_000);
        assert_eq!(per_second(500, Duration::ZERO), 0);
        assert_eq!(seconds_per_million(Duration::from_secs(2), 100_000), Some(20.0));
        assert_eq!(seconds_per_million(Duration::from_secs(2), 0), None);
        assert_eq!(ratio(Duration::from_millis(3), Duration::from_millis(2)), Some(1.5));
        assert_eq!(percent(Duration::from_secs(1), Duration::ZERO), 0.0);
    }
}
