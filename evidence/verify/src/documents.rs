//! Registry documents as bundles and exports hold them: one file, a document a line, found by its digest. It reads no document's meaning.

use std::collections::{HashMap, HashSet};

use serde_json::Value;

use crate::finding::{Findings, Stage};
use crate::tree::sha256;

/// The file.
pub const DOCUMENTS: &str = "registry/documents.jsonl";

/// The lines of the file.
#[derive(Debug)]
pub struct Documents<'a> {
    lines: Vec<(String, &'a [u8])>,
    by_digest: HashMap<String, usize>,
}

/// One document.
#[derive(Clone, Copy, Debug)]
pub struct Document<'a> {
    text: &'a [u8],
    line: usize,
}

impl Document<'_> {
    /// Where it stands.
    pub fn row(&self) -> String {
        format!("line {}", self.line)
    }

    /// What it says.
    pub fn read(&self) -> serde_json::Result<Value> {
        serde_json::from_slice(self.text)
    }
}

impl<'a> Documents<'a> {
    /// From the file's content.
    pub fn of(content: &'a [u8]) -> Self {
        let lines = content.split_inclusive(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\n").unwrap_or(line));
        let lines: Vec<_> = lines.map(|line| (hex::encode(sha256(&[line])), line)).collect();
        let by_digest = (1..).zip(&lines).map(|(line, (digest, _))| (digest.clone(), line)).collect();
        Self { lines, by_digest }
    }

    /// The document of a digest; none where it is withheld.
    pub fn find(&self, digest: &str) -> Option<Document<'a>> {
        let line = *self.by_digest.get(digest)?;
        let (_, text) = self.lines.get(line.checked_sub(1)?)?;
        Some(Document { text, line })
    }

    /// Compares the lines with the digests that indexes list: each is one of them, and each is there once, in order.
    pub fn judge(&self, listed: &HashSet<String>, findings: &mut Findings) {
        let mut before = "";
        for (line, (digest, text)) in (1..).zip(&self.lines) {
            let row = Document { text, line }.row();
            if !listed.contains(digest) {
                findings.add(Stage::Registry, DOCUMENTS, row, "digest", "in the index of a version", digest);
            } else if digest.as_str() <= before {
                findings.add(Stage::Registry, DOCUMENTS, row, "digest", format!("above {before}"), digest);
            } else {
                before = digest;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lines that are named.
    fn wrong(content: &[u8]) -> Vec<String> {
        let listed = ["{\"a\":1}", "{\"b\":2}"].map(|text| hex::encode(sha256(&[text.as_bytes()]))).into();
        let mut findings = Findings::default();
        Documents::of(content).judge(&listed, &mut findings);
        findings.sorted().into_iter().map(|finding| finding.row).collect()
    }

    #[test]
    fn a_line_that_is_changed_repeated_or_out_of_order_is_named() {
        let mut lines = ["{\"a\":1}", "{\"b\":2}"];
        lines.sort_by_key(|line| sha256(&[line.as_bytes()]));
        let [first, second] = lines;
        assert_eq!(wrong(format!("{first}\n{second}\n").as_bytes()), Vec::<String>::new());
        assert_eq!(wrong(format!("{second}\n{first}\n").as_bytes()), ["line 2"]);
        assert_eq!(wrong(format!("{first}\n{first}\n{second}\n").as_bytes()), ["line 2"]);
        assert_eq!(wrong(format!("{first}\n\n{second} \n").as_bytes()), ["line 2", "line 3"]);
        assert_eq!(wrong(b""), Vec::<String>::new());
        assert_eq!(wrong(b"\xff\n"), ["line 1"]);
    }

    #[test]
    fn a_document_is_found_by_its_digest_alone() {
        let documents = Documents::of(b"{\"a\":1}\nno json\n");
        let found = documents.find(&hex::encode(sha256(&[b"{\"a\":1}"]))).unwrap();
        assert_eq!((found.row(), found.read().unwrap()), ("line 1".to_owned(), serde_json::json!({"a": 1})));
        assert!(documents.find(&hex::encode(sha256(&[b"no json"]))).unwrap().read().is_err());
        assert!(documents.find("").is_none() && documents.find(&hex::encode(sha256(&[b""]))).is_none());
    }
}
