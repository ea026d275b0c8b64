//! Generated usage for the demo, tests and benchmarks: deterministic by seed, shaped like a GPU cloud with a token gateway.
//! It knows the wire form of events, nothing of how they are counted or priced.

use serde_json::json;

/// The registry of the demo: file names and TOML documents of a small GPU cloud with a token gateway.
pub fn demo_registry() -> [(&'static str, &'static str); 5] {
    [
        ("contracts.toml", include_str!("../registry/demo/contracts.toml")),
        ("meters.toml", include_str!("../registry/demo/meters.toml")),
        ("prices.toml", include_str!("../registry/demo/prices.toml")),
        ("skus.toml", include_str!("../registry/demo/skus.toml")),
        ("units.toml", include_str!("../registry/demo/units.toml")),
    ]
}

/// What to generate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// The same seed gives the same events.
    pub seed: u64,
    /// How many days the usage spans, from [`START`].
    pub days: u32,
    /// How many distinct events.
    pub events: u64,
    /// How many organizations owe for it; the first ones use most.
    pub organizations: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self { seed: 1, days: 45, events: 20_000, organizations: 12 }
    }
}

/// First instant of generated usage: 2026-09-15T00:00:00Z, in seconds.
pub const START: i64 = 1_789_430_400;

/// SplitMix64 (Steele, Lea, Flood 2014): six lines that give the same numbers on every machine and in every version.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// Numbers of a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    /// 0 to `end` − 1; 0 when `end` is 0.
    pub fn below(&mut self, end: u64) -> u64 {
        self.bits().checked_rem(end).unwrap_or(0)
    }
}

/// The events of the options as CloudEvents 1.0 JSON, in order of arrival. About one in fifty arrives twice, one in a hundred late,
/// one in two hundred has a defect.
pub fn events(options: Options) -> impl Iterator<Item = String> {
    let mut random = Random::new(options.seed);
    let mut again: Option<String> = None;
    let mut made = 0;
    std::iter::from_fn(move || {
        if let Some(event) = again.take() {
            return Some(event);
        }
        if made == options.events {
            return None;
        }
        let event = event(options, made, &mut random);
        made += 1;
        if random.below(50) == 0 {
            again = Some(event.clone());
        }
        Some(event)
    })
}

fn event(options: Options, number: u64, random: &mut Random) -> String {
    let span = u64::from(options.days) * 86_400;
    let arrival = number.saturating_mul(span) / options.events.max(1);
    let lateness = if random.below(100) == 0 { random.below(5 * 86_400) } else { random.below(30) };
    let second = START + i64::try_from(arrival.saturating_sub(lateness)).unwrap_or(0);
    // The first organizations use most: the smaller of two draws.
    let organizations = u64::from(options.organizations.max(1));
    let organization = random.below(organizations).min(random.below(organizations));
    let (kind, data) = usage(random);
    let mut event = json!({
        "specversion": "1.0",
        "id": format!("{}-{number}", options.seed),
        "source": format!("gateway-{}", random.below(4)),
        "type": kind,
        "time": rfc3339(second),
        "organization": format!("org-{organization:03}"),
        "project": format!("project-{}", random.below(3)),
        "data": data,
    });
    if random.below(200) == 0 {
        spoil(&mut event, random);
    }
    event.to_string()
}

fn usage(random: &mut Random) -> (&'static str, serde_json::Value) {
    match random.below(100) {
        0..=64 => {
            let model = ["llama-70b", "mistral-7b"].get(usize::from(random.below(3) == 0)).copied().unwrap_or("llama-70b");
            let data = json!({
                "model": model,
                "input_tokens": 200 + random.below(6_000),
                "output_tokens": 20 + random.below(1_500),
            });
            ("llm.request", data)
        }
        65..=86 => {
            let gpu = ["h100", "a100"].get(usize::from(random.below(3) == 0)).copied().unwrap_or("h100");
            // Microseconds matter: a lease slice ends when it ends.
            let micros = 1_000_000 * (60 + random.below(3_540)) + random.below(1_000_000);
            ("gpu.lease", json!({"gpu_model": gpu, "gpu_seconds": format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000)}))
        }
        87..=96 => ("storage.sample", json!({"gb_hours": format!("{}.{:03}", random.below(500), random.below(1_000))})),
        _ => ("health.check", json!({})),
    }
}

/// What goes wrong with sources in the field.
fn spoil(event: &mut serde_json::Value, random: &mut Random) {
    let Some(members) = event.as_object_mut() else { return };
    match random.below(4) {
        0 => {
            members.insert("type".to_owned(), json!("llm.reqest"));
        }
        1 => {
            members.remove("organization");
        }
        2 => {
            members.insert("time".to_owned(), json!("2031-01-01T00:00:00Z"));
        }
        _ => {
            members.insert("data".to_owned(), json!({"model": "llama-70b", "input_tokens": -5, "output_tokens": "many"}));
        }
    }
}

/// RFC 3339 of whole seconds since 1970 (days by Howard Hinnant's `civil_from_days`).
fn rfc3339(second: i64) -> String {
    let (days, rest) = (second.div_euclid(86_400) + 719_468, second.rem_euclid(86_400));
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", rest / 3_600, rest / 60 % 60, rest % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_events() {
        let options = Options { events: 500, ..Options::default() };
        let first: Vec<String> = events(options).collect();
        assert_eq!(first, events(options).collect::<Vec<_>>());
        assert_ne!(first, events(Options { seed: 2, ..options }).collect::<Vec<_>>());
        assert!(first.len() > 500, "some arrive twice");
    }

    #[test]
    fn usage_begins_on_the_day_that_is_documented() {
        assert_eq!(rfc3339(START), "2026-09-15T00:00:00Z");
    }
}
