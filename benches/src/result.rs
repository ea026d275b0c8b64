//! A result: figures with the machine, load and versions they belong to. Kept as one JSON file for each bench and day.

use std::path::{Path, PathBuf};

use anyhow::Context;
use serde_json::{Value, json};
use shared_types::Instant;

use crate::machine::{self, Profile};

/// A finished bench.
pub struct Reported {
    /// What is kept.
    pub json: Value,
    /// The same for people.
    pub table: String,
    bench: &'static str,
    day: String,
    profile: Profile,
}

/// What is known when a bench starts.
pub struct Begun {
    bench: &'static str,
    profile: Profile,
    at: Instant,
    load: String,
    machine: Value,
    versions: Value,
}

impl Begun {
    /// Looks at the machine.
    pub async fn now(bench: &'static str, profile: Profile, scratch: &Path) -> anyhow::Result<Self> {
        let machine = machine::describe(scratch).await?;
        Ok(Self { bench, profile, at: now()?, load: machine::load()?, machine, versions: machine::versions(scratch).await? })
    }

    /// Ends the bench: figures and the text of their tables.
    pub fn end(self, figures: Value, tables: &str) -> anyhow::Result<Reported> {
        let load = json!({"begin": self.load, "end": machine::load()?});
        let table = format!(
            "{} at {} ({} cores, {}; load {} to {}; {})\n\n{}",
            self.bench,
            self.at,
            self.machine.get("cores").unwrap_or(&Value::Null),
            self.machine.get("processor").and_then(Value::as_str).unwrap_or("unknown processor"),
            self.load,
            machine::load()?,
            self.profile.described(),
            tables.trim_end(),
        );
        let json = json!({
            "bench": self.bench, "at": self.at.to_string(), "profile": self.profile.described(), "machine": self.machine, "load": load,
            "versions": self.versions, "figures": figures,
        });
        Ok(Reported { json, table, bench: self.bench, profile: self.profile, day: self.at.to_string().chars().take(10).collect() })
    }
}

impl Reported {
    /// The JSON as text.
    pub fn json_text(&self) -> anyhow::Result<String> {
        Ok(serde_json::to_string_pretty(&self.json)?)
    }

    /// Writes `<bench>-<day>.json`, with `-release` behind it in that profile; a later run of the day replaces an earlier one.
    pub fn keep(&self, folder: &Path) -> anyhow::Result<PathBuf> {
        let profile = if self.profile == Profile::Release { "-release" } else { "" };
        let path = folder.join(format!("{}-{}{profile}.json", self.bench, self.day));
        std::fs::create_dir_all(folder)?;
        std::fs::write(&path, self.json_text()? + "\n").with_context(|| format!("could not write {}", path.display()))?;
        Ok(path)
    }
}

fn now() -> anyhow::Result<Instant> {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
    Ok(Instant::from_micros(i64::try_from(since.as_secs())?.saturating_mul(1_000_000))?)
}
