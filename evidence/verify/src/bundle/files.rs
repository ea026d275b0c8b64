//! Stage 1: the closed world. Names, sizes and digests of files; it reads no file's meaning.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::Context as _;
use serde_json::Value;

use super::rows::Rows;
use super::{ENVELOPE, EVENTS, Files, INVOICE, MANIFEST, READINGS, bytes, list, member, predicate, read_json};
use crate::finding::{Findings, Stage};
use crate::tree::sha256;

const PROVENANCE: &str = "provenance.json";

/// Every file of a folder, by path with `/`. Links and other things are findings.
pub(super) fn collect(folder: &Path, below: &str, files: &mut Files, findings: &mut Findings) -> anyhow::Result<()> {
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

/// Manifest and files, both ways.
pub(super) fn closed_world(files: &Files, manifest: &Value, findings: &mut Findings) {
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

/// The rows that the manifest states of the two tables.
pub(super) fn row_counts(manifest: &Value, rows: &Rows, findings: &mut Findings) {
    for (path, found) in [(READINGS, rows.readings.len()), (EVENTS, rows.events.len())] {
        let stated = list(predicate(manifest), "files").find(|file| member(file, "path") == path).map(|file| member(file, "rows"));
        findings.compare(Stage::Files, path, "", "rows", &stated.unwrap_or_default(), &found.to_string());
    }
}

/// The rating as a build: of this invoice, from exactly these files.
pub(super) fn provenance(files: &Files, invoice: &Value, findings: &mut Findings) -> anyhow::Result<()> {
    let stage = Stage::Files;
    let statement = read_json(files, PROVENANCE, stage)?;
    let empty = Value::Null;
    let at = |pointer: &str| statement.pointer(pointer).unwrap_or(&empty);
    let kind = [member(&statement, "_type"), member(&statement, "predicateType")].join(" ");
    let wanted = "https://in-toto.io/Statement/v1 https://slsa.dev/provenance/v1".to_owned();
    findings.compare(stage, PROVENANCE, "", "kind of statement", &wanted, &kind);
    let digest_of = |path: &str| files.get(path).map(|content| hex::encode(sha256(&[content]))).unwrap_or_default();
    let registry = files.keys().map(String::as_str).filter(|path| path.starts_with("registry/"));
    let dependencies = registry.chain([EVENTS]);
    for (what, name, stated, wanted) in [
        ("subject", "name", at("/subject"), BTreeSet::from([INVOICE, READINGS])),
        ("dependency", "uri", at("/predicate/buildDefinition/resolvedDependencies"), dependencies.collect()),
    ] {
        let stated: BTreeMap<String, String> = stated
            .as_array()
            .into_iter()
            .flatten()
            .map(|file| (member(file, name), file.get("digest").map(|digest| member(digest, "sha256")).unwrap_or_default()))
            .collect();
        for path in wanted.iter().copied().chain(stated.keys().map(String::as_str)).collect::<BTreeSet<_>>() {
            let expected = if wanted.contains(path) { digest_of(path) } else { String::new() };
            findings.compare(stage, PROVENANCE, path, what, &expected, &stated.get(path).cloned().unwrap_or_default());
        }
    }
    for name in ["invoice_id", "organization", "period"] {
        let stated = member(at("/predicate/buildDefinition/externalParameters"), name);
        findings.compare(stage, PROVENANCE, "", name, &member(invoice, name), &stated);
    }
    let digest = hex::encode(sha256(&[bytes(files, INVOICE, stage)?]));
    findings.compare(stage, PROVENANCE, "", "invocation", &digest, &member(at("/predicate/runDetails/metadata"), "invocationId"));
    Ok(())
}
