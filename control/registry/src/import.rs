//! Public price lists as registry documents: LiteLLM's map of model prices becomes units, meters, SKUs and a price book. It knows one map's
//! form and no file system; it guesses nothing: a model that the map does not price stays unpriced.
//!
//! ```ignore
//! let map = PriceMap::parse(&text)?;                          // every field known, every digit kept
//! let imported = import(&map, published.as_ref(), &terms)?;   // what changed, and what is held
//! for file in imported.files() { … }                          // book/*.toml, held.toml, refused.txt
//! ```

mod documents;
mod fields;
mod files;
mod list_price;
mod map;
mod measures;
mod name;

use std::collections::{BTreeMap, BTreeSet};

use shared_types::{AssetId, IdError, Instant, SkuId};

pub use fields::{FIELDS, Field, Meaning, Term, Tier, field};
pub use files::BOOK;
pub use list_price::ListPrice;
pub use map::{Entry, Factor, MapError, PriceMap, Refused, Stated, Terms};
pub use measures::{MEASURES, Measure, measure};
pub use name::{decode, encode};

use crate::Version;
use crate::document::{Document, PriceRow, Sku};
use crate::plausibility::{Hold, Market, Offer, Reason, judge};
use documents::Variants;

/// How the book is to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImportTerms {
    /// The price book's id.
    pub book: String,
    /// Its currency: the map states dollars.
    pub currency: AssetId,
    /// Revenue family of the SKUs.
    pub family: String,
    /// From when new and changed prices are in force.
    pub effective_at: Instant,
}

impl ImportTerms {
    /// Book `litellm` in USD, family `token-factory`.
    pub fn from(effective_at: Instant) -> Result<Self, IdError> {
        let currency = AssetId::parse("USD")?;
        Ok(Self { book: "litellm".to_owned(), currency, family: "token-factory".to_owned(), effective_at })
    }
}

/// A price that waits for a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// The model.
    pub model: String,
    /// The field of the map.
    pub field: String,
    /// What the price is for, in words.
    pub what: String,
    /// What was paid before; none for a new price.
    pub before: Option<ListPrice>,
    /// What is stated now.
    pub price: ListPrice,
    /// Why, at least one.
    pub reasons: Vec<Reason>,
    /// The rows that release it.
    pub rows: Vec<PriceRow>,
}

/// What an import makes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Import {
    /// Units, meters, SKUs, rounding and the price book: they pass the checks as they are.
    pub documents: Vec<Document>,
    /// Prices left out of the book until a person releases them.
    pub held: Vec<Held>,
    /// Fields that are not expressed, by model.
    pub refused: Vec<Refused>,
    /// Models without any price.
    pub unpriced: Vec<String>,
    /// SKUs of the published book that the map no longer states; they keep their prices.
    pub gone: Vec<SkuId>,
    /// How many prices are new.
    pub added: usize,
    /// How many prices changed.
    pub changed: usize,
    /// How many prices are what they were.
    pub unchanged: usize,
}

/// Why nothing can be imported.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ImportError {
    /// A name of this module is no identifier.
    #[error("a document of the import has no valid name")]
    Id(#[from] IdError),
    /// A changed price would not begin after the one that it follows.
    #[error("the price of sku {sku} changes from {effective_at} on, which is not after its last price, from {last_at} on")]
    Order {
        /// The SKU.
        sku: SkuId,
        /// When the new price would begin.
        effective_at: Instant,
        /// When the last one began.
        last_at: Instant,
    },
}

/// Makes documents of a price map.
///
/// - `published`: what a former import made and a person may have edited. Its rows stay; a changed price is a row more, from
///   `effective_at` on. Prices of SKUs that are gone from the map stay too.
/// - Suspicious prices are held: new ones stay unpriced, changed ones stay what they were.
/// - Errors: a changed price that would begin before the one it follows.
pub fn import(map: &PriceMap, published: Option<&Version>, terms: &ImportTerms) -> Result<Import, ImportError> {
    let mut market = Market::default();
    for (model, entry) in &map.models {
        market.put(model, entry.prices.clone());
    }
    let mut desk = Desk::new(published, terms, map.refused.clone());
    for (model, entry) in &map.models {
        if entry.prices.is_empty() {
            desk.made.unpriced.push(model.clone());
        } else {
            desk.model(model, entry, &market)?;
        }
    }
    desk.finish()
}

struct Desk<'a> {
    terms: &'a ImportTerms,
    /// Rows of the published book.
    rows: BTreeMap<SkuId, Vec<PriceRow>>,
    /// SKUs of the published book.
    skus: BTreeMap<SkuId, Sku>,
    seen: BTreeSet<SkuId>,
    made: Import,
}

impl<'a> Desk<'a> {
    fn new(published: Option<&Version>, terms: &'a ImportTerms, refused: Vec<Refused>) -> Self {
        let mut rows: BTreeMap<SkuId, Vec<PriceRow>> = BTreeMap::new();
        let books = published.into_iter().flat_map(Version::price_books).filter(|book| book.id == terms.book);
        for row in books.flat_map(|book| &book.prices) {
            rows.entry(row.sku.clone()).or_default().push(row.clone());
        }
        let skus = published.into_iter().flat_map(Version::skus).filter(|sku| rows.contains_key(&sku.id));
        let skus = skus.map(|sku| (sku.id.clone(), sku.clone())).collect();
        let made = Import {
            documents: Vec::new(),
            held: Vec::new(),
            refused,
            unpriced: Vec::new(),
            gone: Vec::new(),
            added: 0,
            changed: 0,
            unchanged: 0,
        };
        Self { terms, rows, skus, seen: BTreeSet::new(), made }
    }

    fn model(&mut self, model: &str, entry: &Entry, market: &Market) -> Result<(), ImportError> {
        let variants = Variants::of(model, entry, self.terms);
        let offers: Vec<Offer> = entry
            .prices
            .iter()
            .map(|stated| Offer { stated: stated.clone(), before: variants.usual(stated).and_then(|sku| self.before(&sku)) })
            .collect();
        let mut holds: BTreeMap<usize, Vec<Reason>> =
            judge(model, &offers, market).into_iter().map(|Hold { offer, reasons }| (offer, reasons)).collect();
        for (at, offer) in offers.iter().enumerate() {
            let priced = match variants.priced(&offer.stated) {
                Ok(priced) => priced,
                Err(why) => {
                    let (model, field) = (model.to_owned(), offer.stated.field.clone());
                    self.made.refused.push(Refused { model, field, why });
                    continue;
                }
            };
            let mut held_rows = Vec::new();
            for (sku, row) in priced {
                let held = holds.contains_key(&at);
                if let Some(row) = self.row(sku, row, held)? {
                    held_rows.push(row);
                }
            }
            match (holds.remove(&at), offer.before) {
                (Some(reasons), before) => self.made.held.push(Held {
                    model: model.to_owned(),
                    field: offer.stated.field.clone(),
                    what: crate::plausibility::what(&offer.stated.terms),
                    before,
                    price: offer.stated.price,
                    reasons,
                    rows: held_rows,
                }),
                (None, None) => self.made.added += 1,
                (None, Some(before)) if before == offer.stated.price => self.made.unchanged += 1,
                (None, Some(_)) => self.made.changed += 1,
            }
        }
        Ok(())
    }

    /// The price in force of a published SKU, where it is one per unit.
    fn before(&self, sku: &SkuId) -> Option<ListPrice> {
        self.rows.get(sku)?.last().and_then(documents::price_of)
    }

    /// Takes in a SKU and its row, unless the row says what is in force already. A held row is handed back.
    fn row(&mut self, sku: Sku, row: PriceRow, held: bool) -> Result<Option<PriceRow>, ImportError> {
        let id = sku.id.clone();
        self.seen.insert(id.clone());
        self.skus.insert(id.clone(), sku);
        if self.before(&id).is_some_and(|before| documents::price_of(&row) == Some(before)) {
            return Ok(None);
        }
        if let Some(last) = self.rows.get(&id).and_then(|rows| rows.last()).filter(|last| last.effective_at >= row.effective_at) {
            return Err(ImportError::Order { sku: id, effective_at: row.effective_at, last_at: last.effective_at });
        }
        if held {
            return Ok(Some(row));
        }
        self.rows.entry(id).or_default().push(row);
        Ok(None)
    }

    fn finish(mut self) -> Result<Import, ImportError> {
        self.made.gone = self.rows.keys().filter(|sku| !self.seen.contains(*sku)).cloned().collect();
        self.made.refused.sort();
        self.made.documents = documents::all(self.terms, self.skus.into_values(), self.rows.into_values().flatten())?;
        Ok(self.made)
    }
}
