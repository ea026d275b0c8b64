//! Stage 1: the closed world. Names, sizes and digests of files; it reads no file's meaning.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::Context as _;
use serde_json::Value;

use super::{ENVELOPE, Files, MANIFEST, list, member, predicate};
use crate::finding::{Findings, Stage};
use crate::tree::sha256;

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
