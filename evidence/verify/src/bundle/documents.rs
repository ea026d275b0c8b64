//! Stage 4, its ground: registry versions and their documents, by the digests that name them.

use std::collections::{HashMap, HashSet};

use super::{Files, list, member, read_json, unreadable};
use crate::finding::{Findings, Stage};
use crate::registry::Version;
use crate::tree::sha256;

/// The versions by address, as far as `organization` is shown them.
pub(super) fn registry(files: &Files, organization: &str, findings: &mut Findings) -> anyhow::Result<HashMap<String, Version>> {
    let stage = Stage::Registry;
    let mut documents = HashMap::new();
    for (path, content) in files.iter().filter(|(path, _)| path.starts_with("registry/documents/")) {
        let digest = hex::encode(sha256(&[content]));
        findings.compare(stage, path, "", "digest", &name_of(path), &digest);
        documents.insert(digest, (path, read_json(files, path, stage)?));
    }
    let mut versions = HashMap::new();
    let mut used = HashSet::new();
    for (path, content) in files.iter().filter(|(path, _)| path.starts_with("registry/") && !path.starts_with("registry/documents/")) {
        let address = hex::encode(sha256(&[content]));
        findings.compare(stage, path, "", "address", &name_of(path), &address);
        let mut version = Version::default();
        for entry in list(&read_json(files, path, stage)?, "documents") {
            let Some((file, document)) = documents.get(&member(entry, "digest")) else { continue };
            used.insert(member(entry, "digest"));
            findings.compare(stage, file, "", "kind", &member(entry, "kind"), &member(document, "kind"));
            version.add(document).map_err(|error| unreadable(stage, file, error))?;
        }
        for (kind, id) in version.withheld(organization) {
            findings.add(stage, path, format!("{kind} {id}"), "document", "shown, because shown ones lead to it", "withheld");
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
