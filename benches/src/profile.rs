//! Where the time of the server goes: the stages that it logs, and samples of `perf` where that is installed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use serde_json::{Value, json};

use crate::server::signal;

/// Time of each stage of the batches and of each fold, and how many batches, from the lines of a server's log.
#[derive(Debug, Default)]
pub struct Stages {
    /// By name: `batch: read` to `batch: apply`, `fold: ledger` and so on.
    pub spent: BTreeMap<String, Duration>,
    /// Batches committed.
    pub batches: u64,
}

impl Stages {
    /// Of the lines that the server wrote in `log`.
    pub fn of(log: &str) -> Self {
        let mut stages = Self::default();
        for line in log.lines() {
            let fields = line.split_whitespace().filter_map(|word| word.split_once('='));
            if line.contains("committed a batch") {
                stages.batches += 1;
                for (name, value) in fields {
                    if let Some(stage) = name.strip_suffix("_micros") {
                        stages.add(format!("batch: {stage}"), value);
                    }
                }
            } else if line.contains("folded") {
                let fields: BTreeMap<&str, &str> = fields.collect();
                if let (Some(fold), Some(micros)) = (fields.get("fold"), fields.get("micros")) {
                    stages.add(format!("fold: {}", fold.trim_matches('"')), micros);
                }
            }
        }
        stages
    }

    /// Those of batches alone: they follow each other, folds run beside them.
    #[must_use]
    pub fn of_batches(mut self) -> Self {
        self.spent.retain(|stage, _| stage.starts_with("batch: "));
        self
    }

    /// All of them together.
    pub fn all(&self) -> Duration {
        self.spent.values().sum()
    }

    fn add(&mut self, stage: String, micros: &str) {
        *self.spent.entry(stage).or_default() += Duration::from_micros(micros.parse().unwrap_or(0));
    }
}

/// A number that a line of the log names.
pub fn number(line: &str, name: &str) -> Option<u64> {
    let mut fields = line.split_whitespace().filter_map(|word| word.split_once('='));
    fields.find(|(found, _)| *found == name).and_then(|(_, value)| value.parse().ok())
}

/// Samples a process until it is told to stop.
pub struct Perf {
    recording: Child,
    samples: PathBuf,
}

/// Functions whose share with everything below them says where the processor works.
const LANDMARKS: [(&str, &str); 13] = [
    ("http: accept events", "tally::routes::platform_ingest::accept_events"),
    ("stream: append", "shared_bus::embedded"),
    ("batch: build", "platform_ingest::batch::build"),
    ("batch: rate", "platform_rating::rate::rate"),
    ("batch: write files", "tally::lake::Lake::write"),
    ("batch: commit", "platform_ingest::store::append"),
    ("index: apply", "platform_ingest::index::Index::apply"),
    ("fold: ledger", "tally::roles::folds::LedgerFold"),
    ("fold: lake", "tally::roles::folds::LakeFold"),
    ("fold: usage", "tally::roles::folds::UsageFold"),
    ("fold: evidence", "tally::roles::folds::EvidenceFold"),
    ("sqlite", "sqlite3_step"),
    ("zstd", "ZSTD_compress"),
];

impl Perf {
    /// Starts sampling a process 199 times a second; none where `perf` is not installed or not permitted.
    pub fn start(process: u32, scratch: &Path) -> Option<Self> {
        let samples = scratch.join("perf.data");
        let mut record = Command::new("perf");
        record.args(["record", "--quiet", "--event", "cpu-clock", "--freq", "199", "--call-graph", "dwarf,16384", "--pid"]);
        record.arg(process.to_string()).arg("--output").arg(&samples);
        let mut recording = record.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().ok()?;
        // It attaches at once or ends at once.
        std::thread::sleep(Duration::from_millis(500));
        match recording.try_wait() {
            Ok(None) => Some(Self { recording, samples }),
            _ => None,
        }
    }

    /// Ends sampling: shares by role with everything below, and by function and crate alone.
    pub fn end(mut self) -> anyhow::Result<Value> {
        signal("INT", self.recording.id())?;
        self.recording.wait()?;
        let alone = self.report(&["--no-children"])?;
        let below = self.report(&["--children"])?;
        Ok(json!({"roles": roles(&below), "crates": crates(&alone), "functions": alone.iter().take(25).map(shown).collect::<Vec<_>>()}))
    }

    fn report(&self, how: &[&str]) -> anyhow::Result<Vec<Share>> {
        let mut report = Command::new("perf");
        report.args(["report", "--stdio", "--call-graph", "none", "--no-inline", "--sort", "symbol", "--percent-limit", "0.05"]);
        let output = report.args(how).arg("--input").arg(&self.samples).stdin(Stdio::null()).output()?;
        if !output.status.success() {
            bail!("perf report ended with {}: {}", output.status, String::from_utf8_lossy(&output.stderr));
        }
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let shares: Vec<Share> = text.lines().filter_map(Share::parse).collect();
        shares.first().context("perf saw nothing")?;
        Ok(shares)
    }
}

/// A function's share in ten-thousandths.
#[derive(Debug, PartialEq, Eq)]
struct Share {
    parts: u32,
    symbol: String,
}

impl Share {
    /// A line of `perf report`: one share or two, `[.]` or `[k]`, the symbol.
    fn parse(line: &str) -> Option<Self> {
        let (shares, symbol) = line.split_once("[.] ").or_else(|| line.split_once("[k] "))?;
        let (whole, hundredths) = shares.split_whitespace().next()?.strip_suffix('%')?.split_once('.')?;
        let parts = whole.parse::<u32>().ok()?.checked_mul(100)?.checked_add(hundredths.parse().ok()?)?;
        // Columns that perf cannot fill follow as dashes.
        let symbol = symbol.trim_end_matches([' ', '-']);
        let symbol = if line.contains("[k] ") { format!("kernel::{}", symbol.trim()) } else { symbol.trim().to_owned() };
        Some(Self { parts, symbol })
    }

    /// What it belongs to: the first word of its path. Names of C have none, and the functions inside SQLite no prefix.
    fn crate_name(&self) -> &str {
        let symbol = self.symbol.trim_start_matches(['<', '&', '(', '*', '[']);
        let symbol = symbol.trim_start_matches("dyn ").trim_start_matches("mut ");
        let first = symbol.split_once("::").map_or("C: SQLite, zstd, libc", |(first, _)| first);
        // `<A as core::…>`: a trait of `core` for a type that has no name here.
        first.rsplit(" as ").next().unwrap_or(first)
    }
}

fn percent(parts: u32) -> String {
    format!("{}.{:02} %", parts / 100, parts % 100)
}

fn shown(share: &Share) -> Value {
    let symbol: String = share.symbol.chars().take(120).collect();
    json!([percent(share.parts), symbol])
}

/// The largest share among the functions of each landmark, with what they call. Landmarks call each other, so the shares do not add up.
fn roles(below: &[Share]) -> Vec<Value> {
    let mut found: Vec<(u32, &str)> = LANDMARKS
        .iter()
        .filter_map(|(role, symbol)| {
            let largest = below.iter().filter(|share| share.symbol.contains(symbol)).map(|share| share.parts).max()?;
            Some((largest, *role))
        })
        .collect();
    found.sort_unstable_by(|a, b| b.cmp(a));
    found.into_iter().map(|(parts, role)| json!([percent(parts), role])).collect()
}

fn crates(alone: &[Share]) -> Vec<Value> {
    let mut sums: BTreeMap<&str, u32> = BTreeMap::new();
    for share in alone {
        *sums.entry(share.crate_name()).or_default() += share.parts;
    }
    let mut sums: Vec<(u32, &str)> = sums.into_iter().map(|(name, parts)| (parts, name)).collect();
    sums.sort_unstable_by(|a, b| b.cmp(a));
    sums.into_iter().take(15).map(|(parts, name)| json!([percent(parts), name])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_are_read_from_the_lines_of_the_log() {
        let log = "2026 DEBUG tally::roles::billing: committed a batch batch=3 rows=10 read_micros=5 build_micros=70\n\
                   2026 DEBUG tally::roles::folds: folded fold=\"lake\" through=3 batches=1 micros=900\n\
                   2026 DEBUG tally::roles::billing: committed a batch batch=4 rows=10 read_micros=6 build_micros=30\n";
        let stages = Stages::of(log);
        assert_eq!(stages.batches, 2);
        let spent: Vec<(&str, u128)> = stages.spent.iter().map(|(name, time)| (name.as_str(), time.as_micros())).collect();
        assert_eq!(spent, [("batch: build", 100), ("batch: read", 11), ("fold: lake", 900)]);
    }

    #[test]
    fn lines_of_perf_are_read_and_added_by_crate() {
        let lines = [
            "     5.31%  [.] <sha2::Sha256 as digest::Update>::update",
            "    12.00%     3.00%  [k] fsync",
            "# header",
            "     1.25%  [.] sha2::x      -      -   ",
        ];
        let shares: Vec<Share> = lines.iter().filter_map(|line| Share::parse(line)).collect();
        assert_eq!(shares.iter().map(|share| share.parts).collect::<Vec<_>>(), [531, 1_200, 125]);
        assert_eq!(crates(&shares), [json!(["12.00 %", "kernel"]), json!(["6.56 %", "sha2"])]);
    }
}
