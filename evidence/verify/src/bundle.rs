//! Verifies a bundle, stage by stage, as `docs/architecture/bundle-format.md` says. Everything is recomputed; nothing that the bundle says
//! of itself is believed.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::Path;

use anyhow::{Context as _, bail};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::Value;

use crate::finding::{Finding, Findings, Stage};
use crate::money::{self, Number, decimal, plain, round, scaled, whole};
use crate::note::{Head, Key};
use crate::registry::{Price, Version, find};
use crate::table::{self, Damage};
use crate::tree::{self, Hash, sha256};

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
    collect(folder, "", &mut files, &mut findings)?;
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

fn collect(folder: &Path, below: &str, files: &mut Files, findings: &mut Findings) -> anyhow::Result<()> {
    let entries = std::fs::read_dir(folder).with_context(|| format!("could not read {}", folder.display()))?;
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = if below.is_empty() { name } else { format!("{below}/{name}") };
        let kind = entry.file_type()?;
        if kind.is_dir() {
            collect(&entry.path(), &path, files, findings)?;
        } else if kind.is_file() {
            let bytes = std::fs::read(entry.path()).with_context(|| format!("could not read {}", entry.path().display()))?;
            files.insert(path, bytes);
        } else {
            findings.add(Stage::Files, &path, "", "kind", "a file", "a link or something else");
        }
    }
    Ok(())
}

fn stages(files: &Files, outside: &Outside, findings: &mut Findings, verdict: &mut Verdict) -> anyhow::Result<()> {
    let manifest = json(files, MANIFEST, Stage::Files)?;
    closed_world(files, &manifest, findings);
    let head = signatures(files, &manifest, outside, findings, verdict)?;
    let invoice = json(files, INVOICE, Stage::Lines)?;
    verdict.invoice = ["invoice_id", "total", "currency"].map(|name| member(&invoice, name)).join(" ");
    let versions = registry(files, findings)?;
    let rows = read_rows(files)?;
    verdict.readings = rows.readings.len();
    let organization = logs(files, &head, &invoice, &rows, findings)?;
    for (what, file, found) in [
        ("organization", INVOICE, member(&invoice, "organization")),
        ("organization", MANIFEST, member(predicate(&manifest), "organization")),
    ] {
        findings.compare(Stage::Logs, file, "", what, &organization, &found);
    }
    for name in ["invoice_id", "period"] {
        findings.compare(Stage::Files, MANIFEST, "", name, &member(&invoice, name), &member(predicate(&manifest), name));
    }
    let priced = prices(&organization, &versions, &rows, findings);
    verdict.lines = lines(&invoice, &versions, &rows, &priced, findings)?;
    issue(files, findings)
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

fn closed_world(files: &Files, manifest: &Value, findings: &mut Findings) {
    let kind = [member(manifest, "_type"), member(manifest, "predicateType"), member(predicate(manifest), "format")].join(" ");
    let wanted = "https://in-toto.io/Statement/v1 urn:tallystick:bundle:v1 1".to_owned();
    findings.compare(Stage::Files, MANIFEST, "", "kind of statement", &wanted, &kind);
    let mut listed = BTreeMap::new();
    for file in list(predicate(manifest), "files") {
        if listed.insert(member(file, "path"), file).is_some() {
            findings.add(Stage::Files, &member(file, "path"), "", "entries in the manifest", 1, 2);
        }
    }
    let subjects: BTreeMap<String, String> = list(manifest, "subject")
        .map(|subject| (member(subject, "name"), subject.get("digest").map(|d| member(d, "sha256")).unwrap_or_default()))
        .collect();
    for (path, file) in &listed {
        let digest = member(file, "sha256");
        findings.compare(
            Stage::Files,
            path,
            "",
            "digest in the statement's subject",
            &digest,
            &subjects.get(path).cloned().unwrap_or_default(),
        );
        match files.get(path) {
            None => findings.add(Stage::Files, path, "", "file", "there", "missing"),
            Some(found) => {
                findings.compare(Stage::Files, path, "", "digest", &digest, &hex::encode(sha256(&[found])));
                findings.compare(Stage::Files, path, "", "size", &member(file, "size"), &found.len().to_string());
            }
        }
    }
    for path in subjects.keys().chain(files.keys()).collect::<BTreeSet<_>>() {
        if !listed.contains_key(path) && path != MANIFEST && path != ENVELOPE {
            findings.add(Stage::Files, path, "", "file", "listed in the manifest", "not listed");
        }
    }
}

fn signatures(files: &Files, manifest: &Value, outside: &Outside, findings: &mut Findings, verdict: &mut Verdict) -> anyhow::Result<Head> {
    let stage = Stage::Signatures;
    let key_of = |name: &str| Key::parse(&member(predicate(manifest), name)).map_err(|error| unreadable(stage, MANIFEST, error));
    let stated = key_of("log_key")?;
    let bundle_key = key_of("bundle_key")?;
    let pinned = outside.log_key.as_ref();
    if let Some(pinned) = pinned {
        findings.compare(stage, MANIFEST, "", "log_key", &pinned.text, &stated.text);
    } else {
        verdict.unjudged.push("whether the log's key is the right one: give it with --log-key");
    }
    let log_key = pinned.unwrap_or(&stated);
    for (path, key) in [("keys/log.pem", log_key), ("keys/bundle.pem", &bundle_key)] {
        findings.compare(stage, path, "", "key", &key.pem(), &utf8(files, path, stage)?.to_owned());
    }
    // The envelope.
    let envelope = json(files, ENVELOPE, stage)?;
    let body = bytes(files, MANIFEST, stage)?;
    let payload = BASE64_STANDARD.decode(member(&envelope, "payload")).unwrap_or_default();
    if payload != body {
        findings.add(stage, ENVELOPE, "", "payload", "manifest.json", "something else");
    }
    let kind = member(&envelope, "payloadType");
    let signed = [format!("DSSEv1 {} {kind} {} ", kind.len(), payload.len()).as_bytes(), &payload].concat();
    let by_key = list(&envelope, "signatures").any(|signature| {
        member(signature, "keyid") == hex::encode(bundle_key.id)
            && BASE64_STANDARD.decode(member(signature, "sig")).is_ok_and(|signature| bundle_key.signed(&signed, &signature))
    });
    if !by_key {
        findings.add(stage, ENVELOPE, "", "signature", format!("by {}", bundle_key.text), "another or none");
    }
    // The bundle's key.
    let vouched = format!("tallystick/bundle-key/v1\n{}\n", bundle_key.text);
    match log_key.open(utf8(files, "keys/bundle.note", stage)?) {
        Ok(text) => findings.compare(stage, "keys/bundle.note", "", "vouched key", &vouched, &text.to_owned()),
        Err(error) => findings.add(stage, "keys/bundle.note", "", "signature", format!("by {}", log_key.text), format!("{error:#}")),
    }
    // The checkpoint.
    let note = utf8(files, "log/checkpoint", stage)?;
    if let Err(error) = log_key.open(note) {
        findings.add(stage, "log/checkpoint", "", "signature", format!("by {}", log_key.text), format!("{error:#}"));
    }
    let text = note.split_once("\n\n").map(|(text, _)| text).unwrap_or_default();
    let head = Head::parse(text).map_err(|error| unreadable(stage, "log/checkpoint", error))?;
    findings.compare(stage, "log/checkpoint", "", "origin", &log_key.name, &head.origin);
    match &outside.checkpoint {
        Some(kept) => against_kept(kept, log_key, &head, outside.log.as_deref(), findings)?,
        None => verdict.unjudged.push("whether the log was rewritten, or an old state shown: give a kept checkpoint with --checkpoint"),
    }
    Ok(head)
}

/// Staleness and forks, against a checkpoint that someone kept.
fn against_kept(kept: &str, key: &Key, head: &Head, log: Option<&Path>, findings: &mut Findings) -> anyhow::Result<()> {
    let text = key.open(kept).context("the kept checkpoint is not signed by the log's key")?;
    let kept = Head::parse(text.trim_end_matches('\n')).context("the kept checkpoint")?;
    let (stage, file) = (Stage::Signatures, "log/checkpoint");
    if head.size < kept.size {
        findings.add(stage, file, "", "size", format!("{} or more, as the kept checkpoint has", kept.size), head.size);
        return Ok(());
    }
    if head.size == kept.size {
        findings.compare(stage, file, "", "root", &hex::encode(kept.root), &hex::encode(head.root));
        return Ok(());
    }
    let Some(log) = log else {
        bail!(
            "the kept checkpoint has {} entries, the bundle's {}: give the log's files with --log to see whether one continues the other",
            kept.size,
            head.size
        );
    };
    let hashes = entry_hashes(log, head.size)?;
    for (what, size, root) in [("root of the kept checkpoint", kept.size, kept.root), ("root", head.size, head.root)] {
        let first = usize::try_from(size).context("the log is too large")?;
        let found = tree::root(hashes.get(..first).unwrap_or_default());
        findings.compare(stage, file, "", &format!("{what}, by the log's files"), &hex::encode(found), &hex::encode(root));
    }
    Ok(())
}

/// Hashes of the first entries, from the bundles of entries of a tiled log (c2sp.org/tlog-tiles).
fn entry_hashes(log: &Path, size: u64) -> anyhow::Result<Vec<Hash>> {
    let mut hashes = Vec::new();
    let mut number = 0_u64;
    while number * 256 < size {
        let width = (size - number * 256).min(256);
        let mut name = format!("{:03}", number % 1_000);
        let mut rest = number / 1_000;
        while rest > 0 {
            name = format!("x{:03}/{name}", rest % 1_000);
            rest /= 1_000;
        }
        let full = log.join(format!("tile/entries/{name}"));
        // A newer, fuller bundle holds the same entries in front.
        let folder = log.join(format!("tile/entries/{name}.p"));
        let partial =
            std::fs::read_dir(&folder).into_iter().flatten().flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u64>().ok());
        let path =
            if full.is_file() { full } else { folder.join(partial.filter(|found| *found >= width).max().unwrap_or(width).to_string()) };
        let bytes = std::fs::read(&path).with_context(|| format!("could not read {}", path.display()))?;
        let mut rest = bytes.as_slice();
        for _ in 0..width {
            let entry =
                rest.split_first_chunk::<2>().and_then(|(length, after)| after.split_at_checked(u16::from_be_bytes(*length).into()));
            let (entry, after) = entry.with_context(|| format!("{} holds fewer than {width} entries", path.display()))?;
            hashes.push(tree::leaf(entry));
            rest = after;
        }
        number += 1;
    }
    Ok(hashes)
}

fn registry(files: &Files, findings: &mut Findings) -> anyhow::Result<HashMap<String, Version>> {
    let stage = Stage::Registry;
    let mut documents = HashMap::new();
    for (path, content) in files.iter().filter(|(path, _)| path.starts_with("registry/documents/")) {
        let digest = hex::encode(sha256(&[content]));
        findings.compare(stage, path, "", "digest", &name_of(path), &digest);
        documents.insert(digest, (path, json(files, path, stage)?));
    }
    let mut versions = HashMap::new();
    let mut used = HashSet::new();
    let mut rows: HashMap<String, String> = HashMap::new();
    for (path, content) in files.iter().filter(|(path, _)| path.starts_with("registry/") && !path.starts_with("registry/documents/")) {
        let address = hex::encode(sha256(&[content]));
        findings.compare(stage, path, "", "address", &name_of(path), &address);
        let mut version = Version::default();
        for entry in list(&json(files, path, stage)?, "documents") {
            let Some((file, document)) = documents.get(&member(entry, "digest")) else { continue };
            used.insert(member(entry, "digest"));
            findings.compare(stage, file, "", "kind", &member(entry, "kind"), &member(document, "kind"));
            version.add(document).map_err(|error| unreadable(stage, file, error))?;
        }
        for (price, (row, _)) in &version.prices {
            let known = rows.entry(price.clone()).or_insert_with(|| row.clone());
            findings.compare(stage, path, &format!("price {price}"), "row", known, row);
        }
        versions.insert(address, version);
    }
    for (digest, (path, _)) in &documents {
        if !used.contains(digest) {
            findings.add(stage, path, "", "document", "in the index of a version", "in none");
        }
    }
    Ok(versions)
}

fn name_of(path: &str) -> String {
    path.rsplit('/').next().and_then(|name| name.strip_suffix(".json")).unwrap_or_default().to_owned()
}

struct Reading {
    month: i32,
    log_seq: i64,
    event: Option<usize>,
    meter: String,
    unit: String,
    quantity: i128,
    version: String,
    contract: String,
    sku: String,
    price: String,
    check: i32,
}

struct Event {
    id: String,
    kind: String,
    source: String,
    text: String,
    data: Value,
    start: i64,
    end: Option<i64>,
    salt: Hash,
}

struct Rows {
    readings: Vec<Reading>,
    events: Vec<Event>,
}

fn frames(files: &Files, path: &str) -> anyhow::Result<Vec<table::Frame>> {
    table::read(bytes(files, path, Stage::Logs)?).map_err(|Damage { row_group, why }| {
        let row = row_group.map_or("footer".to_owned(), |group| format!("row group {group}"));
        Unreadable { stage: Stage::Logs, file: path.to_owned(), row, why }.into()
    })
}

fn read_rows(files: &Files) -> anyhow::Result<Rows> {
    let broken = |path: &'static str| move |error: anyhow::Error| unreadable(Stage::Logs, path, error);
    let mut events = Vec::new();
    let mut places = HashMap::new();
    for frame in &frames(files, EVENTS)? {
        read_events(frame, &mut events, &mut places).map_err(broken(EVENTS))?;
    }
    let mut readings = Vec::new();
    for frame in &frames(files, READINGS)? {
        read_readings(frame, &places, &mut readings).map_err(broken(READINGS))?;
    }
    Ok(Rows { readings, events })
}

fn read_events(frame: &table::Frame, events: &mut Vec<Event>, places: &mut HashMap<i64, usize>) -> anyhow::Result<()> {
    let mut numbers = table::int64s(frame, "event")?.into_iter();
    let mut ids = table::given_texts(frame, "id")?.into_iter();
    let mut kinds = table::given_texts(frame, "type")?.into_iter();
    let mut sources = table::given_texts(frame, "source")?.into_iter();
    let mut projects = table::texts(frame, "project")?.into_iter();
    let mut subjects = table::texts(frame, "subject")?.into_iter();
    let mut data = table::texts(frame, "data")?.into_iter();
    let mut starts = table::instants(frame, "start_at")?.into_iter();
    let mut ends = table::instants(frame, "end_at")?.into_iter();
    let mut salts = table::hashes(frame, "salt")?.into_iter();
    while let (
        Some(number),
        Some(id),
        Some(kind),
        Some(source),
        Some(project),
        Some(subject),
        Some(data),
        Some(start),
        Some(end),
        Some(salt),
    ) = (
        numbers.next(),
        ids.next(),
        kinds.next(),
        sources.next(),
        projects.next(),
        subjects.next(),
        data.next(),
        starts.next(),
        ends.next(),
        salts.next(),
    ) {
        let quoted = |text: &str| Value::from(text).to_string();
        let members = [
            ("data", data.clone()),
            ("id", Some(quoted(&id))),
            ("project", project.as_deref().map(quoted)),
            ("source", Some(quoted(&source))),
            ("subject", subject.as_deref().map(quoted)),
            ("type", Some(quoted(&kind))),
        ];
        let members: Vec<String> = members.into_iter().filter_map(|(name, value)| Some(format!("\"{name}\":{}", value?))).collect();
        let text = format!("{{{}}}", members.join(","));
        let data = match &data {
            Some(data) => serde_json::from_str(data).with_context(|| format!("the data of event {number} is no JSON"))?,
            None => Value::Object(serde_json::Map::new()),
        };
        if places.insert(number, events.len()).is_some() {
            bail!("event {number} is there twice");
        }
        let start = start.with_context(|| format!("event {number} has no start_at"))?;
        events.push(Event { id, kind, source, text, data, start, end, salt });
    }
    Ok(())
}

fn read_readings(frame: &table::Frame, places: &HashMap<i64, usize>, readings: &mut Vec<Reading>) -> anyhow::Result<()> {
    let mut months = table::int32s(frame, "month")?.into_iter();
    let mut log_seqs = table::int64s(frame, "log_seq")?.into_iter();
    let mut events = table::int64s(frame, "event")?.into_iter();
    let mut meters = table::given_texts(frame, "meter")?.into_iter();
    let mut units = table::given_texts(frame, "unit")?.into_iter();
    let mut quantities = table::decimals(frame, "quantity")?.into_iter();
    let mut versions = table::hashes(frame, "registry_version")?.into_iter();
    let mut contracts = table::given_texts(frame, "contract")?.into_iter();
    let mut skus = table::given_texts(frame, "sku")?.into_iter();
    let mut prices = table::given_texts(frame, "price_id")?.into_iter();
    let mut checks = table::int32s(frame, "leaf_check")?.into_iter();
    while let (
        Some(month),
        Some(log_seq),
        Some(event),
        Some(meter),
        Some(unit),
        Some(quantity),
        Some(version),
        Some(contract),
        Some(sku),
        Some(price),
        Some(check),
    ) = (
        months.next(),
        log_seqs.next(),
        events.next(),
        meters.next(),
        units.next(),
        quantities.next(),
        versions.next(),
        contracts.next(),
        skus.next(),
        prices.next(),
        checks.next(),
    ) {
        let quantity = quantity.with_context(|| format!("reading {log_seq} of {month} has no quantity"))?;
        let version = hex::encode(version);
        readings.push(Reading {
            month,
            log_seq,
            event: places.get(&event).copied(),
            meter,
            unit,
            quantity,
            version,
            contract,
            sku,
            price,
            check,
        });
    }
    Ok(())
}

impl Reading {
    fn place(&self) -> String {
        format!("{} leaf {}", self.month, self.log_seq)
    }
}

/// Leaves, roots and paths up to the checkpoint; answers whose they are.
fn logs(files: &Files, head: &Head, invoice: &Value, rows: &Rows, findings: &mut Findings) -> anyhow::Result<String> {
    let stage = Stage::Logs;
    let commitments: Vec<String> = rows.events.iter().map(|event| hex::encode(sha256(&[&event.salt, event.text.as_bytes()]))).collect();
    let mut leaves: BTreeMap<i32, Vec<Hash>> = BTreeMap::new();
    for reading in &rows.readings {
        let log = leaves.entry(reading.month).or_default();
        findings.compare(stage, READINGS, &reading.place(), "log_seq", &i64::try_from(log.len()).unwrap_or(i64::MAX), &reading.log_seq);
        let event = reading.event.and_then(|at| Some((rows.events.get(at)?, commitments.get(at)?)));
        let Some((event, commitment)) = event else {
            findings.add(stage, READINGS, reading.place(), "event", "there", "missing");
            continue;
        };
        let end = event.end.map_or("null".to_owned(), |end| format!("\"{}\"", crate::time::text(end)));
        let text = format!(
            "{{\"commitment\":\"{commitment}\",\"end_at\":{end},\"log_seq\":\"{}\",\"meter\":\"{}\",\"quantity\":\"{}\",\"registry_version\":\"{}\",\"start_at\":\"{}\",\"unit\":\"{}\"}}",
            reading.log_seq,
            reading.meter,
            plain(&scaled(reading.quantity, 9)),
            reading.version,
            crate::time::text(event.start),
            reading.unit
        );
        let hash = tree::leaf(text.as_bytes());
        let [first, second, ..] = hash;
        findings.compare(stage, READINGS, &reading.place(), "leaf_check", &i32::from(u16::from_be_bytes([first, second])), &reading.check);
        log.push(hash);
    }
    let proof = json(files, PROOF, stage)?;
    let empty = Value::Null;
    let organization = proof.get("organization").unwrap_or(&empty);
    let leaf_text = member(organization, "leaf");
    let leaf: Value = serde_json::from_str(&leaf_text).map_err(|error| unreadable(stage, PROOF, error))?;
    let stated: BTreeMap<String, &Value> = list(&leaf, "logs").map(|log| (member(log, "month"), log)).collect();
    let proven: BTreeMap<String, &Value> = list(&proof, "logs").map(|log| (member(log, "month"), log)).collect();
    let covered: BTreeMap<String, u64> =
        list(invoice, "logs").map(|log| (member(log, "month"), member(log, "to").parse().unwrap_or(0))).filter(|(_, to)| *to > 0).collect();
    let months: BTreeSet<String> = covered.keys().cloned().chain(leaves.keys().map(i32::to_string)).chain(proven.keys().cloned()).collect();
    for month in months {
        let log = month.parse::<i32>().ok().and_then(|month| leaves.get(&month)).map(Vec::as_slice).unwrap_or_default();
        let size = u64::try_from(log.len()).unwrap_or(u64::MAX);
        findings.compare(stage, READINGS, &month, "leaves", &covered.get(&month).copied().unwrap_or(0), &size);
        let claim = proven.get(&month).copied().unwrap_or(&empty);
        let root = tree::root(log);
        findings.compare(stage, READINGS, &month, "root", &member(claim, "root"), &hex::encode(root));
        let later = stated.get(&month).copied().unwrap_or(&empty);
        let path = hashes(claim, "path")?;
        let second = (member(later, "size").parse().unwrap_or(0), hash(&member(later, "root")));
        let holds =
            member(claim, "size") == size.to_string() && second.1.is_some_and(|to| tree::consistent(size, &root, second.0, &to, &path));
        if !holds {
            findings.add(
                stage,
                PROOF,
                month,
                "consistency",
                format!("{} leaves with root {}", second.0, member(later, "root")),
                format!("{size} leaves with root {}", hex::encode(root)),
            );
        }
    }
    let (id, salt) = (member(organization, "id"), hex::decode(member(organization, "salt")).unwrap_or_default());
    let salted = hex::encode(sha256(&[&salt, id.as_bytes()]));
    findings.compare(stage, PROOF, "organization", "salted organization", &member(&leaf, "organization"), &salted);
    let entry = proof.get("entry").unwrap_or(&empty);
    let entry_text = member(entry, "text");
    let heads: Value = serde_json::from_str(&entry_text).map_err(|error| unreadable(stage, PROOF, error))?;
    let number = |value: &Value, name: &str| member(value, name).parse::<u64>().unwrap_or(u64::MAX);
    let found = tree::inclusion(
        tree::leaf(leaf_text.as_bytes()),
        number(organization, "index"),
        number(&heads, "organizations"),
        &hashes(organization, "path")?,
    );
    findings.compare(
        stage,
        PROOF,
        "organization",
        "root of organizations",
        &member(&heads, "organizations_root"),
        &found.map(hex::encode).unwrap_or_default(),
    );
    let found = tree::inclusion(tree::leaf(entry_text.as_bytes()), head.size.saturating_sub(1), head.size, &hashes(entry, "path")?);
    findings.compare(stage, PROOF, "entry", "root of the checkpoint", &hex::encode(head.root), &found.map(hex::encode).unwrap_or_default());
    Ok(id)
}

fn hash(text: &str) -> Option<Hash> {
    hex::decode(text).ok()?.try_into().ok()
}

fn hashes(value: &Value, name: &str) -> anyhow::Result<Vec<Hash>> {
    list(value, name)
        .map(|text| {
            text.as_str().and_then(hash).ok_or_else(|| unreadable(Stage::Logs, PROOF, format!("{name} holds {text}, hashes are wanted")))
        })
        .collect()
}

/// What each reading is and costs by the registry. None where nothing can be said; the findings say why.
fn prices(organization: &str, versions: &HashMap<String, Version>, rows: &Rows, findings: &mut Findings) -> Vec<Option<Price>> {
    let mut seen = HashSet::new();
    let mut used = HashSet::new();
    let mut names = HashMap::new();
    for event in &rows.events {
        if names.insert((&event.source, &event.id), ()).is_some() {
            findings.add(Stage::Readings, EVENTS, format!("{} {}", event.source, event.id), "events of this name", 1, 2);
        }
    }
    let mut known: HashMap<(usize, &str, &str), BTreeMap<String, String>> = HashMap::new();
    let mut priced = Vec::with_capacity(rows.readings.len());
    for reading in &rows.readings {
        let place = reading.place();
        let Some((at, event)) = reading.event.and_then(|at| Some((at, rows.events.get(at)?))) else {
            priced.push(None);
            continue;
        };
        used.insert(at);
        if !seen.insert((at, reading.meter.as_str())) {
            findings.add(Stage::Readings, READINGS, &*place, "readings of this event and meter", 1, 2);
        }
        findings.compare(Stage::Readings, READINGS, &place, "month", &crate::time::month(event.start), &reading.month);
        let Some(version) = versions.get(&reading.version) else {
            findings.add(Stage::Registry, READINGS, &*place, "registry version", "in the bundle", &reading.version);
            priced.push(None);
            continue;
        };
        let Some(meter) = version.meters.get(&reading.meter) else {
            findings.add(Stage::Readings, READINGS, &*place, "meter", "in the registry version", &reading.meter);
            priced.push(None);
            continue;
        };
        let metered = meter.value.as_ref().map_or(Some("1".to_owned()), |path| find(&event.data, path)).unwrap_or_default();
        findings.compare(Stage::Readings, READINGS, &place, "quantity", &metered, &plain(&scaled(reading.quantity, 9)));
        findings.compare(Stage::Readings, READINGS, &place, "unit", &meter.unit, &reading.unit);
        findings.compare(Stage::Readings, READINGS, &place, "event type", &meter.event_type, &event.kind);
        let dimensions =
            known.entry((at, &reading.meter, &reading.version)).or_insert_with(|| version.dimensions(&reading.meter, &event.data));
        let price = version.resolve(organization, &reading.meter, dimensions, event.start);
        let expected = price.as_ref().map(|price| [price.contract.as_str(), &price.sku, &price.price].join(" ")).unwrap_or_default();
        findings.compare(
            Stage::Prices,
            READINGS,
            &place,
            "price",
            &expected,
            &[reading.contract.as_str(), &reading.sku, &reading.price].join(" "),
        );
        priced.push(price);
    }
    for (at, event) in rows.events.iter().enumerate().filter(|(at, _)| !used.contains(at)) {
        findings.add(Stage::Readings, EVENTS, format!("event {at}, {} {}", event.source, event.id), "readings", "at least 1", 0);
    }
    priced
}

/// Σ quantity and readings by price row.
type Segments = BTreeMap<String, (i128, u64)>;

/// What follows from the readings of one key.
#[derive(Default)]
struct KeySums {
    all: (i128, u64),
    fresh: (i128, u64),
    fresh_charged: u64,
    earlier: u64,
    after: Segments,
    before: Segments,
}

fn lines(
    invoice: &Value,
    versions: &HashMap<String, Version>,
    rows: &Rows,
    priced: &[Option<Price>],
    findings: &mut Findings,
) -> anyhow::Result<usize> {
    let stage = Stage::Lines;
    let currency = member(invoice, "currency");
    let models: HashMap<&str, &Value> =
        versions.values().flat_map(|version| version.prices.iter().map(|(price, (_, model))| (price.as_str(), model))).collect();
    let from: HashMap<i32, i64> =
        list(invoice, "logs").filter_map(|log| Some((member(log, "month").parse().ok()?, member(log, "from").parse().ok()?))).collect();
    let mut keys: BTreeMap<(String, String, i32), KeySums> = BTreeMap::new();
    for (reading, price) in rows.readings.iter().zip(priced) {
        let Some(price) = price.as_ref().filter(|price| price.currency == currency) else { continue };
        let key = keys.entry((price.contract.clone(), price.sku.clone(), reading.month)).or_default();
        let fresh = reading.log_seq >= from.get(&reading.month).copied().unwrap_or(0);
        let free = models.get(price.price.as_str()).is_some_and(|model| model.get("free").is_some());
        let mut sums = vec![&mut key.all];
        if fresh {
            sums.push(&mut key.fresh);
            key.fresh_charged += u64::from(!free);
        } else {
            key.earlier += 1;
        }
        if !free {
            sums.push(key.after.entry(price.price.clone()).or_default());
            if !fresh {
                sums.push(key.before.entry(price.price.clone()).or_default());
            }
        }
        for sum in sums {
            sum.0 = sum.0.checked_add(reading.quantity).with_context(|| format!("the quantity of {} leaves 128 bits", price.sku))?;
            sum.1 += 1;
        }
    }
    let version = versions.get(&member(invoice, "registry_version"));
    let Some((places, half)) = version.and_then(|version| version.roundings.get(&currency)).copied() else {
        findings.add(stage, INVOICE, "", "rounding of the currency", "in the invoice's registry version", "not there");
        return Ok(0);
    };
    let stated =
        invoice.get("rounding").map(|rounding| [member(rounding, "scale"), member(rounding, "mode")].join(" ")).unwrap_or_default();
    let mode = if half == money::Half::Even { "half_even" } else { "half_away_from_zero" };
    findings.compare(stage, INVOICE, "", "rounding", &format!("{places} {mode}"), &stated);
    let worth = |segments: &Segments| -> anyhow::Result<Number> {
        let mut sum = money::zero();
        for (price, (quantity, _)) in segments {
            let model = models.get(price.as_str()).with_context(|| format!("price {price} is in no document"))?;
            sum += money::worth(model, &scaled(*quantity, 9))?;
        }
        Ok(money::total(&sum))
    };
    let mut total = money::zero();
    let mut billed = HashSet::new();
    let mut count = 0;
    for line in list(invoice, "lines") {
        count += 1;
        let row = format!("line {} {} {}", member(line, "number"), member(line, "contract_line"), member(line, "service_period"));
        let is = |what: &str, expected: String, findings: &mut Findings| {
            findings.compare(stage, INVOICE, &row, what, &expected, &member(line, what))
        };
        is("number", count.to_string(), findings);
        is("contract_line", format!("{}/{}", member(line, "contract"), member(line, "sku")), findings);
        total += decimal(&member(line, "amount")).map_err(|error| unreadable(stage, INVOICE, error))?;
        let place = (member(line, "contract"), member(line, "sku"), member(line, "service_period").parse().unwrap_or(0));
        if !billed.insert(place.clone()) {
            findings.add(stage, INVOICE, &*row, "lines of this key", 1, 2);
        }
        let Some(key) = keys.get(&place).filter(|key| key.fresh.1 > 0) else {
            findings.add(stage, INVOICE, &*row, "readings of this key since the last invoice", "at least 1", 0);
            continue;
        };
        let bad = |error: anyhow::Error| unreadable(stage, INVOICE, format!("{row}: {error:#}"));
        let (after, before) = (worth(&key.after).map_err(bad)?, worth(&key.before).map_err(bad)?);
        let invoiced = decimal(&member(line, "invoiced_before")).map_err(bad)?;
        let (exact, key_amount) = (&after - &before, round(&after, places, half));
        let amount = &key_amount - &invoiced;
        is("key_quantity", plain(&scaled(key.all.0, 9)), findings);
        is("key_readings", key.all.1.to_string(), findings);
        is("quantity", plain(&scaled(key.fresh.0, 9)), findings);
        is("readings", key.fresh.1.to_string(), findings);
        let prices: Segments = list(line, "prices")
            .map(|price| {
                let quantity =
                    decimal(&member(price, "quantity")).ok().map(|quantity| quantity * whole(1_000_000_000)).filter(Number::is_integer);
                let quantity = quantity.and_then(|quantity| i128::try_from(quantity.to_integer()).ok()).unwrap_or(i128::MIN);
                (member(price, "price_id"), (quantity, member(price, "readings").parse().unwrap_or(0)))
            })
            .collect();
        for price in prices.keys().chain(key.after.keys()).collect::<BTreeSet<_>>() {
            let shown = |segments: &Segments| {
                segments
                    .get(price)
                    .map(|(quantity, readings)| format!("{} in {readings} readings", plain(&scaled(*quantity, 9))))
                    .unwrap_or_default()
            };
            findings.compare(stage, INVOICE, &row, &format!("price {price}"), &shown(&key.after), &shown(&prices));
        }
        is("key_total", plain(&after), findings);
        is("exact_before", plain(&before), findings);
        is("exact", plain(&exact), findings);
        is("key_amount", plain(&key_amount), findings);
        is("amount", plain(&amount), findings);
        is("rounding", plain(&(&amount - &exact)), findings);
        let mut earlier =
            versions.values().filter_map(|version| version.roundings.get(&currency)).map(|(places, half)| round(&before, *places, *half));
        if !earlier.any(|amount| amount == invoiced) {
            is("invoiced_before", plain(&round(&before, places, half)), findings);
        }
        let kind = member(line, "kind");
        let first = before == money::zero() && invoiced == money::zero();
        if !(kind == "usage" && first || kind == "adjustment" && key.earlier > 0) {
            is("kind", if key.earlier == 0 { "usage" } else { "adjustment" }.to_owned(), findings);
        }
        let unit = version.and_then(|version| version.meters.iter().find(|(_, meter)| meter.unit == member(line, "unit")));
        if unit.is_none() {
            is("unit", "a unit of the registry".to_owned(), findings);
        }
    }
    for ((contract, sku, month), key) in &keys {
        if key.fresh_charged > 0 && !billed.contains(&(contract.clone(), sku.clone(), *month)) {
            findings.add(stage, INVOICE, format!("{contract}/{sku} {month}"), "lines of this key", 1, 0);
        }
    }
    findings.compare(stage, INVOICE, "", "total", &plain(&total), &member(invoice, "total"));
    Ok(count)
}

fn issue(files: &Files, findings: &mut Findings) -> anyhow::Result<()> {
    let stage = Stage::Issue;
    let issue = json(files, "issue.json", stage)?;
    let digest = hex::encode(sha256(&[bytes(files, INVOICE, stage)?]));
    findings.compare(stage, "issue.json", "", "digest", &digest, &member(&issue, "digest"));
    let proof = json(files, PROOF, stage)?;
    let text = proof.get("entry").map(|entry| member(entry, "text")).unwrap_or_default();
    let heads: Value = serde_json::from_str(&text).map_err(|error| unreadable(stage, PROOF, error))?;
    let reached = member(&heads, "ledger_seq").parse::<u64>().unwrap_or(0);
    let Some(entry) = issue.get("entry") else {
        let invoice = json(files, INVOICE, stage)?;
        if list(&invoice, "lines").any(|line| member(line, "exact") != "0" || member(line, "rounding") != "0") {
            findings.add(stage, "issue.json", "", "entry", "the ledger entry that posted the lines", "");
        }
        return Ok(());
    };
    let entry = entry.as_str().and_then(|entry| entry.parse::<u64>().ok()).unwrap_or(u64::MAX);
    if entry > reached {
        findings.add(stage, "issue.json", "", "entry", format!("at most {reached}, where the checkpoint stands"), entry);
    } else if entry == reached {
        findings.compare(stage, "issue.json", "", "entry_digest", &member(&heads, "ledger_digest"), &member(&issue, "entry_digest"));
    }
    Ok(())
}
