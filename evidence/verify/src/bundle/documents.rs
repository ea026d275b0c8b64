//! Stage 4, its ground: registry versions and their documents, by the digests that name them.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};

use super::{Files, Unreadable, bytes, list, member, read_json};
use crate::documents::{DOCUMENTS, Documents};
use crate::finding::{Findings, Stage};
use crate::registry::Version;
use crate::tree::sha256;

/// The versions by address, as far as `organization` is shown them.
pub(super) fn registry(files: &Files, organization: &str, findings: &mut Findings) -> anyhow::Result<HashMap<String, Version>> {
    let stage = Stage::Registry;
    let documents = Documents::of(bytes(files, DOCUMENTS, stage)?);
    let mut versions = HashMap::new();
    let (mut listed, mut read) = (HashSet::new(), HashMap::new());
    for (path, content) in files {
        let Some(name) = path.strip_prefix("registry/").and_then(|name| name.strip_suffix(".json")) else { continue };
        let address = hex::encode(sha256(&[content]));
        findings.compare(stage, path, "", "address", &name, &address.as_str());
        let mut version = Version::default();
        for entry in list(&read_json(files, path, stage)?, "documents") {
            let digest = member(entry, "digest");
            if let Some(found) = documents.find(&digest) {
                let unreadable = |why: String| Unreadable { stage, file: DOCUMENTS.to_owned(), row: found.row(), why };
                // Versions share most documents.
                let document = match read.entry(digest.clone()) {
                    Entry::Occupied(known) => known.into_mut(),
                    Entry::Vacant(place) => place.insert(found.read().map_err(|error| unreadable(error.to_string()))?),
                };
                findings.compare(stage, DOCUMENTS, &found.row(), "kind", &member(entry, "kind"), &member(document, "kind"));
                version.add(document).map_err(|error| unreadable(format!("{error:#}")))?;
            }
            listed.insert(digest);
        }
        for (kind, id) in version.withheld(organization) {
            findings.add(stage, path, format!("{kind} {id}"), "document", "shown, because shown ones lead to it", "withheld");
        }
        versions.insert(address, version);
    }
    documents.judge(&listed, findings);
    Ok(versions)
}
