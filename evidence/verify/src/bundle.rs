//! Verifies a bundle, stage by stage, as `docs/architecture/bundle-format.md` says. Everything is recomputed; nothing that the bundle says
//! of itself is believed.

mod documents;
mod earlier;
mod files;
mod issue;
mod kept;
mod lines;
mod logs;
mod pieces;
mod prices;
mod rows;
mod signatures;
mod standing;
mod terms;

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use anyhow::bail;
use serde_json::{Value, json};

use crate::finding::{Finding, Findings, Stage};
use crate::money::plain;
use crate::note::{Head, Key};

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
    pub log: Option<PathBuf>,
    /// Folders with earlier invoices of the organization: all of them.
    pub previous: Vec<PathBuf>,
}

/// What was verified.
#[derive(Debug, Default)]
pub struct Verdict {
    /// What does not hold, the first difference first.
    pub findings: Vec<Finding>,
    /// The invoice, its total and currency.
    pub invoice: String,
    /// Leaves.
    pub readings: usize,
    /// Lines.
    pub lines: usize,
    /// How far the invoice goes into each log of the organization.
    pub covers: Vec<Cover>,
    /// What was not judged, because nothing from outside was given.
    pub unjudged: Vec<String>,
}

/// How far an invoice goes into the log of a month. That it goes far enough is the issuer's word: any beginning of a log can be proved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cover {
    /// yyyymm.
    pub month: String,
    /// The first leaf that this invoice charges, and the one after its last; none where it names no new leaf of the month.
    pub range: Option<(u64, u64)>,
    /// Leaves that the log has in the checkpoint.
    pub size: u64,
}

impl Cover {
    /// For programs.
    pub fn json(&self) -> Value {
        let (from, to) = self.range.map(|(from, to)| (from.to_string(), to.to_string())).unzip();
        json!({"month": self.month, "from": from, "to": to, "size": self.size.to_string()})
    }
}

impl std::fmt::Display for Cover {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { month, range, size } = self;
        match range {
            Some((from, to)) => {
                write!(f, "log {month}: leaves {from} to {to} are on this invoice, {} later ones are not", size.saturating_sub(*to))
            }
            None => write!(f, "log {month}: none of its {size} leaves is on this invoice"),
        }
    }
}

type Files = BTreeMap<String, Vec<u8>>;

/// What the signatures lead to.
struct Signed {
    key: Key,
    head: Head,
}

/// Verifies a folder. An error means that something could not be judged, and nothing that could be judged is wrong.
pub fn verify(folder: &Path, outside: &Outside) -> anyhow::Result<Verdict> {
    let mut findings = Findings::default();
    let mut files = Files::new();
    files::collect(folder, "", &mut files, &mut findings)?;
    if !files.contains_key(MANIFEST) {
        bail!("{} is no bundle: it holds no {MANIFEST}", folder.display());
    }
    let mut verdict = Verdict::default();
    let mut signed = None;
    let mut terms = terms::Terms::default();
    let mut judged = match stages(&files, outside, &mut signed, &mut terms, &mut findings, &mut verdict) {
        Err(error) => match error.downcast::<Unreadable>() {
            // What a later stage cannot read is a difference too.
            Ok(Unreadable { stage, file, row, why }) => {
                findings.add(stage, &file, row, "content", "readable", why);
                Ok(())
            }
            Err(error) => Err(error),
        },
        Ok(()) => Ok(()),
    };
    // What comes from outside is judged last: where it does not suffice, everything inside has been judged before.
    if let (Ok(()), Some(Signed { key, head })) = (&judged, &signed) {
        judged = against_outside(&files, outside, key, head, &terms, &mut findings, &mut verdict);
    }
    verdict.findings = findings.sorted();
    match judged {
        Err(error) if verdict.findings.is_empty() => return Err(error),
        Err(error) => verdict.unjudged.push(format!("{error:#}")),
        Ok(()) => {}
    }
    Ok(verdict)
}

fn against_outside(
    files: &Files,
    outside: &Outside,
    key: &Key,
    head: &Head,
    terms: &terms::Terms,
    findings: &mut Findings,
    verdict: &mut Verdict,
) -> anyhow::Result<()> {
    if outside.previous.is_empty() {
        verdict.unjudged.push("whether earlier invoices charged the same: give all of them with --previous".to_owned());
    } else if let Ok(invoice) = read_json(files, INVOICE, Stage::Lines) {
        earlier::against_earlier(&invoice, &outside.previous, terms, findings)?;
    }
    match &outside.checkpoint {
        Some(kept) => kept::against_kept(kept, key, head, outside.log.as_deref(), findings)?,
        None => {
            let rewritten = "whether the log was rewritten, or an old state shown: give a kept checkpoint with --checkpoint";
            verdict.unjudged.push(rewritten.to_owned());
        }
    }
    Ok(())
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

fn stages(
    files: &Files,
    outside: &Outside,
    signed: &mut Option<Signed>,
    terms: &mut terms::Terms,
    findings: &mut Findings,
    verdict: &mut Verdict,
) -> anyhow::Result<()> {
    let manifest = read_json(files, MANIFEST, Stage::Files)?;
    files::closed_world(files, &manifest, findings);
    let Signed { head, .. } = signed.insert(signatures::signatures(files, &manifest, outside, findings, verdict)?);
    let invoice = read_json(files, INVOICE, Stage::Lines)?;
    // A member that is there twice would be read by one program as the first, by another as the last.
    let canonical = invoice.to_string();
    if utf8(files, INVOICE, Stage::Lines)? != canonical {
        findings.add(Stage::Lines, INVOICE, "", "form", "canonical JSON", "another one");
    }
    verdict.invoice = ["invoice_id", "total", "currency"].map(|name| member(&invoice, name)).join(" ");
    files::provenance(files, &invoice, findings)?;
    let versions = documents::registry(files, &member(&invoice, "organization"), findings)?;
    let rows = rows::read_rows(files)?;
    verdict.readings = rows.readings.len();
    files::row_counts(&manifest, &rows, findings);
    let organization = logs::logs(files, head, &invoice, &rows, findings)?;
    verdict.covers = logs::covers(files, &invoice)?;
    for (what, file, found) in [
        ("organization", INVOICE, member(&invoice, "organization")),
        ("organization", MANIFEST, member(predicate(&manifest), "organization")),
    ] {
        findings.compare(Stage::Logs, file, "", what, &organization, &found);
    }
    for name in ["invoice_id", "period"] {
        findings.compare(Stage::Files, MANIFEST, "", name, &member(&invoice, name), &member(predicate(&manifest), name));
    }
    let from = list(&invoice, "logs").filter_map(|log| Some((member(log, "month").parse().ok()?, member(log, "from").parse().ok()?)));
    let from: HashMap<i32, i64> = from.collect();
    let standing = standing::standing(&rows, &versions, &from, findings);
    let priced = prices::prices(&organization, &versions, &member(&invoice, "registry_version"), &rows, &standing, findings);
    let lines = lines::lines(&invoice, &versions, &rows, &standing, &from, &priced, findings)?;
    verdict.lines = lines.count + list(&invoice, "terms").count();
    let of_terms = terms::terms(&invoice, &versions, &from, &lines, findings)?;
    findings.compare(Stage::Lines, INVOICE, "", "total", &plain(&(&lines.total + &of_terms.total)), &member(&invoice, "total"));
    *terms = of_terms;
    issue::issue(files, findings)
}

fn bytes<'a>(files: &'a Files, path: &str, stage: Stage) -> anyhow::Result<&'a [u8]> {
    files.get(path).map(Vec::as_slice).ok_or_else(|| unreadable(stage, path, "the file is missing"))
}

fn utf8<'a>(files: &'a Files, path: &str, stage: Stage) -> anyhow::Result<&'a str> {
    std::str::from_utf8(bytes(files, path, stage)?).map_err(|error| unreadable(stage, path, error))
}

fn read_json(files: &Files, path: &str, stage: Stage) -> anyhow::Result<Value> {
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
