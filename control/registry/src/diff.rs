//! What differs between two versions, in words: "input tokens of model m: 0.15 → 0.12 USD per 1M from 2026-11-01". A pure function; it does
//! not judge whether a change may be made: [`reach_back`](crate::reach_back) says what it would reach.

mod documents;
mod prices;
pub(crate) mod words;

pub(crate) use documents::term_words;
pub(crate) use prices::{sold, unit};

use shared_types::{Instant, SkuId};

use crate::document::Document;
use crate::{Kind, Version};

/// What became of a document, a part of it, or a price.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Change {
    /// It was not there before.
    Added,
    /// It is there no more.
    Removed,
    /// It says something else.
    Altered,
}

impl Change {
    /// As text.
    pub fn name(self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Removed => "removed",
            Self::Altered => "altered",
        }
    }
}

/// One difference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Kind of the document.
    pub kind: Kind,
    /// Its name.
    pub id: String,
    /// What became of what this is about: the document, its field, or a price.
    pub change: Change,
    /// Which part of the document; none for all of it.
    pub field: Option<String>,
    /// Whose price.
    pub sku: Option<SkuId>,
    /// What it was, in words; none where there was nothing.
    pub before: Option<String>,
    /// What it is, in words; none where there is nothing.
    pub after: Option<String>,
    /// For a price: usage from this instant on.
    pub effective_at: Option<Instant>,
    /// For a price: usage before this instant; none where there is no end to it.
    pub until: Option<Instant>,
    /// Whether it can alter an amount or where one is booked: everything but units and descriptions.
    pub money: bool,
    /// All of it in one sentence.
    pub text: String,
}

/// Every difference, by kind and id of the document; prices by SKU and instant.
///
/// - Prices are compared as what is in force when: a row that is moved or repeated shows as what it means for usage.
/// - Empty exactly where both versions have one address.
pub fn diff(from: &Version, to: &Version) -> Vec<Difference> {
    let mut differences = Vec::new();
    for kind in Kind::ALL {
        let ids = from.documents().chain(to.documents()).filter(|document| document.kind() == kind).map(Document::id);
        let mut ids: Vec<&str> = ids.collect();
        ids.sort_unstable();
        ids.dedup();
        for id in ids {
            let (before, after) = (from.document(kind, id), to.document(kind, id));
            if before == after {
                continue;
            }
            let found = differences.len();
            differences.extend(documents::differences(before, after));
            if let (Some(Document::PriceBook(_)), _) | (_, Some(Document::PriceBook(_))) = (before, after) {
                prices::differences(from, to, id, &mut differences);
            }
            debug_assert!(differences.len() > found, "{kind} {id:?} differs and nothing says how");
        }
    }
    differences
}
