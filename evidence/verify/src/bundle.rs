//! Verifies a bundle, stage by stage, as `docs/architecture/bundle-format.md` says. Everything is recomputed; nothing that the bundle says
//! of itself is believed.

mod documents;
mod files;
mod issue;
mod kept;
mod lines;
mod logs;
mod prices;
mod rows;
mod signatures;

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::bail;
use serde_json::Value;

use crate::finding::{Finding, Findings, Stage};
use crate::note::Key;

const MANIFEST: &str = "manifest.json";
const ENVELOPE: &str = "manifest.dsse.json";
const INVOICE: &str = "invoice.json";
const READINGS: &str = "data/readings.parquet";
const EVENTS: &str = "data/events.parquet";
const PROOF: &str = "log/proof.json";

/// What someone outside brings.
#[derive(Debug, Default)]
pub struct Outside {
    /// The pinned log key.
    pub log_key: Option<Key>,
    /// A kept checkpoint, a signed note.
    pub checkpoint: Option<String>,
    /// A copy of the tiled log's files.
    pub log: Option<std::path::PathBuf>,
}

/// What was verified.
#[derive(Debug)]
pub struct Verdict {
    /// What does not hold, the first difference first.
    pub findings: Vec<Finding>,
    /// The invoice, its total and currency.
    pub invoice: String,
    /// Leaves.
    pub readings: usize,
    /// Lines.
    pub lines: usize,
    /// What was not judged, because nothing from outside was given.
    pub unjudged: Vec<&'static str>,
}

type Files = BTreeMap<String, Vec<u8>>;

/// Verifies a folder. An error means that it could not be judged at all.
pub fn verify(folder: &Path, outside: &Outside) -> anyhow::Result<Verdict> {
    let mut findings = Findings::default();
    let mut files = Files::new();
    files::collect(folder, "", &mut files, &mut findings)?;
    if !files.contains_key(MANIFEST) {
        bail!("{} is no bundle: it holds no {MANIFEST}", folder.display());
    }
    let mut verdict = Verdict { findings: Vec::new(), invoice: String::new(), readings: 0, lines: 0, unjudged: Vec::new() };
    if let Err(error) = stages(&files, outside, &mut findings, &mut verdict) {
        // What a later stage cannot read is a difference too, unless an earlier one has named the reason.
        let broken = error.downcast_ref::<Unreadable>();
        let (stage, file) = broken.map_or((Stage::Issue, MANIFEST), |broken| (broken.stage, broken.file.as_str()));
        findings.add(stage, file, broken.map_or(String::new(), |broken| broken.row.clone()), "content", "readable", format!("{error:#}"));
    }
    verdict.findings = findings.sorted();
    Ok(verdict)
}

/// A file that cannot be read.
#[derive(Debug)]
struct Unreadable {
    stage: Stage,
    file: String,
    row: String,
    why: String,
}

impl std::fmt::Display for Unreadable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.why)
    }
}

impl std::error::Error for Unreadable {}

fn unreadable(stage: Stage, file: &str, why: impl std::fmt::Display) -> anyhow::Error {
    Unreadable { stage, file: file.to_owned(), row: String::new(), why: format!("{why:#}") }.into()
}

fn stages(files: &Files, outside: &Outside, findings: &mut Findings, verdict: &mut Verdict) -> anyhow::Result<()> {
    let manifest = json(files, MANIFEST, Stage::Files)?;
    files::closed_world(files, &manifest, findings);
    let head = signatures::signatures(files, &manifest, outside, findings, verdict)?;
    let invoice = json(files, INVOICE, Stage::Lines)?;
    verdict.invoice = ["invoice_id", "total", "currency"].map(|name| member(&invoice, name)).join(" ");
    files::provenance(files, &invoice, findings)?;
    let versions = documents::registry(files, &member(&invoice, "organization"), findings)?;
    let rows = rows::read_rows(files)?;
    verdict.readings = rows.readings.len();
    files::row_counts(&manifest, &rows, findings);
    let organization = logs::logs(files, &head, &invoice, &rows, findings)?;
    for (what, file, found) in [
        ("organization", INVOICE, member(&invoice, "organization")),
        ("organization", MANIFEST, member(predicate(&manifest), "organization")),
    ] {
        findings.compare(Stage::Logs, file, "", what, &organization, &found);
    }
    for name in ["invoice_id", "period"] {
        findings.compare(Stage::Files, MANIFEST, "", name, &member(&invoice, name), &member(predicate(&manifest), name));
    }
    let priced = prices::prices(&organization, &versions, &rows, findings);
    verdict.lines = lines::lines(&invoice, &versions, &rows, &priced, findings)?;
    issue::issue(files, findings)
}

fn bytes<'a>(files: &'a Files, path: &str, stage: Stage) -> anyhow::Result<&'a [u8]> {
    files.get(path).map(Vec::as_slice).ok_or_else(|| unreadable(stage, path, "the file is missing"))
}

fn utf8<'a>(files: &'a Files, path: &str, stage: Stage) -> anyhow::Result<&'a str> {
    std::str::from_utf8(bytes(files, path, stage)?).map_err(|error| unreadable(stage, path, error))
}

fn json(files: &Files, path: &str, stage: Stage) -> anyhow::Result<Value> {
    serde_json::from_str(utf8(files, path, stage)?).map_err(|error| unreadable(stage, path, error))
}

/// A member as text; empty when it is not there.
fn member(value: &Value, name: &str) -> String {
    value.get(name).and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn predicate(manifest: &Value) -> &Value {
    manifest.get("predicate").unwrap_or(&Value::Null)
}

fn list<'a>(value: &'a Value, name: &str) -> impl Iterator<Item = &'a Value> {
    value.get(name).and_then(Value::as_array).into_iter().flatten()
}
