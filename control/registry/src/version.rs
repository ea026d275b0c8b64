//! A registry version: checked documents and the address of their content. It knows no database and no rating.

use std::collections::BTreeMap;
use std::sync::Arc;

use shared_types::Digest;

use crate::check::{check, within_limits};
use crate::document::{BillableStates, Contract, Document, DocumentError, Meter, PriceBook, Rounding, Sku, Unit};
use crate::problem::{At, Findings, Text};
use crate::{Kind, Problems, SourceFile};

/// One document with its canonical form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The document.
    pub document: Document,
    /// Its canonical JSON.
    pub canonical: String,
    /// SHA-256 of the canonical JSON.
    pub digest: Digest,
}

/// Documents that passed every check, known by the address of their content. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Version(Arc<Content>);

#[derive(Debug)]
struct Content {
    address: Digest,
    entries: BTreeMap<(Kind, String), Entry>,
}

impl Version {
    /// Checks files of documents, in any order and cut.
    ///
    /// - Errors: everything that is wrong, with file, line and remedy.
    pub fn check(files: &[SourceFile]) -> Result<Self, Problems> {
        let mut sorted: Vec<&SourceFile> = files.iter().collect();
        sorted.sort_by(|a, b| a.name.cmp(&b.name));
        let mut findings = Findings::new(Vec::new());
        if within_limits(files, &mut findings) {
            findings.files = sorted.iter().map(|file| Text::new(&file.name, &file.text)).collect();
        }
        let contents = crate::read::read(&mut findings);
        check(&contents, &mut findings);
        if contents.documents.is_empty() && findings.len() == 0 {
            findings.add_whole("all files", "there is no document", "write at least one meter, SKU, price book and contract");
        }
        findings.into_result()?;
        let documents: Vec<Document> = contents.documents.into_iter().map(|located| located.document).collect();
        Self::from_documents(documents).map_err(|error| {
            let mut findings = Findings::new(vec![Text::new("all files", "")]);
            findings.add(At { file: 0, offset: 0 }, error.to_string(), "report this: the documents passed every check before");
            findings.into_result().err().unwrap_or(Problems(Vec::new()))
        })
    }

    /// From documents that passed the checks, or of which the caller knows the address. Rows of price books are put in order.
    pub(crate) fn from_documents(documents: Vec<Document>) -> Result<Self, DocumentError> {
        let mut entries = BTreeMap::new();
        for mut document in documents {
            if let Document::PriceBook(book) = &mut document {
                book.prices.sort_by(|a, b| (&a.sku, a.effective_at, &a.id).cmp(&(&b.sku, b.effective_at, &b.id)));
            }
            let (kind, id) = (document.kind(), document.id().to_owned());
            let canonical = document.canonical()?;
            let digest = Digest::of(canonical.as_bytes());
            if entries.insert((kind, id.clone()), Entry { document, canonical, digest }).is_some() {
                return Err(DocumentError::Repeated { kind, id });
            }
        }
        let address = Digest::of(index(&entries).as_bytes());
        Ok(Self(Arc::new(Content { address, entries })))
    }

    /// SHA-256 of [`Version::index`].
    pub fn address(&self) -> Digest {
        self.0.address
    }

    /// What the address covers: `{"documents":[{"digest":"…","kind":"contract"},…],"format":"2"}`, documents by kind, then by id in order
    /// of bytes. It binds every document and shows none, so a version can be proven to someone who may see only some of them.
    pub fn index(&self) -> String {
        index(&self.0.entries)
    }

    /// The content: `{"documents":[…],"format":"1"}`, the canonical JSON of the documents by kind, then by id in order of bytes.
    pub fn canonical(&self) -> String {
        canonical(&self.0.entries)
    }

    /// Documents with their canonical form, by kind, then by id.
    pub fn entries(&self) -> impl ExactSizeIterator<Item = &Entry> {
        self.0.entries.values()
    }

    /// Documents by kind, then by id.
    pub fn documents(&self) -> impl ExactSizeIterator<Item = &Document> {
        self.0.entries.values().map(|entry| &entry.document)
    }

    /// One document.
    pub fn document(&self, kind: Kind, id: &str) -> Option<&Document> {
        self.entry(kind, id).map(|entry| &entry.document)
    }

    /// One document with its canonical form.
    pub fn entry(&self, kind: Kind, id: &str) -> Option<&Entry> {
        self.0.entries.get(&(kind, id.to_owned()))
    }

    fn of_kind(&self, kind: Kind) -> impl Iterator<Item = &Document> {
        self.0.entries.range((kind, String::new())..).take_while(move |((found, _), _)| *found == kind).map(|(_, entry)| &entry.document)
    }
}

fn index(entries: &BTreeMap<(Kind, String), Entry>) -> String {
    let documents: Vec<String> =
        entries.iter().map(|((kind, _), entry)| format!("{{\"digest\":\"{}\",\"kind\":\"{kind}\"}}", entry.digest)).collect();
    format!("{{\"documents\":[{}],\"format\":\"2\"}}", documents.join(","))
}

fn canonical(entries: &BTreeMap<(Kind, String), Entry>) -> String {
    let documents: Vec<&str> = entries.values().map(|entry| entry.canonical.as_str()).collect();
    format!("{{\"documents\":[{}],\"format\":\"1\"}}", documents.join(","))
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $many:ident, $kind:ident;)*) => {
        impl Version {
            $(
                $(#[$doc])*
                pub fn $many(&self) -> impl Iterator<Item = &$kind> {
                    self.of_kind(Kind::$kind).filter_map(|document| match document {
                        Document::$kind(document) => Some(document),
                        _ => None,
                    })
                }
            )*
        }
    };
}

kinds! {
    /// Billable states by id.
    billable_states, BillableStates;
    /// Contracts by id.
    contracts, Contract;
    /// Meters by id.
    meters, Meter;
    /// Price books by id.
    price_books, PriceBook;
    /// Roundings by asset.
    roundings, Rounding;
    /// SKUs by id.
    skus, Sku;
    /// Units by id.
    units, Unit;
}
