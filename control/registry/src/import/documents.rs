//! From what the map states to documents: SKUs with their identifiers and rows of the book. It judges no price.

use std::collections::BTreeMap;

use shared_types::{IdError, Instant, MeterId, PriceId, SkuId};

use super::list_price::ListPrice;
use super::map::{Entry, Factor, Stated, Terms};
use super::measures::{self, MEASURES, measure};
use super::{ImportTerms, Tier, encode};
use crate::document::{Document, PriceBook, PriceModel, PriceRow, Rounding, RoundingMode, Sku};

/// Values of the dimensions that factors are stated for, where no factor applies.
const USUAL: [(&str, &str); 2] = [("inference_region", "global"), ("speed", "standard")];

/// A model's SKUs: each price once, and once more for each combination of the factors on it.
pub(super) struct Variants<'a> {
    model: &'a str,
    terms: &'a ImportTerms,
    /// Dimension values with the factors of each, the usual ones first.
    combinations: Vec<(BTreeMap<&'static str, &'static str>, Vec<i128>)>,
}

impl<'a> Variants<'a> {
    pub(super) fn of(model: &'a str, entry: &'a Entry, terms: &'a ImportTerms) -> Self {
        let mut combinations = vec![(BTreeMap::new(), Vec::new())];
        for (dimension, usual) in USUAL {
            let factors: Vec<&Factor> = entry.factors.iter().filter(|factor| factor.dimension == dimension).collect();
            if factors.is_empty() {
                continue;
            }
            let cases: Vec<_> =
                std::iter::once((usual, None)).chain(factors.iter().map(|factor| (factor.value, Some(factor.millionths)))).collect();
            combinations = combinations
                .iter()
                .flat_map(|(values, factors): &(BTreeMap<_, _>, Vec<i128>)| {
                    cases.iter().map(move |(value, factor)| {
                        let (mut values, mut factors) = (values.clone(), factors.clone());
                        values.insert(dimension, *value);
                        factors.extend(*factor);
                        (values, factors)
                    })
                })
                .collect();
        }
        Self { model, terms, combinations }
    }

    /// The SKU of a price without any factor.
    pub(super) fn usual(&self, stated: &Stated) -> Option<SkuId> {
        let (values, _) = self.combinations.first()?;
        SkuId::parse(&self.id(&stated.terms, values)).ok()
    }

    /// The SKUs of a price with their rows.
    ///
    /// - Errors: why one of them cannot be expressed.
    pub(super) fn priced(&self, stated: &Stated) -> Result<Vec<(Sku, PriceRow)>, String> {
        self.combinations.iter().map(|(values, factors)| self.one(stated, values, factors)).collect()
    }

    fn one(&self, stated: &Stated, values: &BTreeMap<&'static str, &'static str>, factors: &[i128]) -> Result<(Sku, PriceRow), String> {
        let terms = &stated.terms;
        let measure = measure(terms.code).ok_or("nothing is measured for it")?;
        let price = factors.iter().try_fold(stated.price, |price, factor| price.times(*factor));
        let price = price.ok_or("the price times its factor has more than 24 decimal places")?;
        let (unit_price, per) = price.row(measure.per).ok_or("the price has too many digits")?;
        let id = SkuId::parse(&self.id(terms, values)).map_err(|error| error.to_string())?;
        let price_id = PriceId::parse(&format!("{id}:{}", compact(self.terms.effective_at))).map_err(|error| error.to_string())?;
        let cases = values.iter().filter(|(name, value)| !USUAL.contains(&(**name, **value)));
        let cases: String = cases.map(|(name, value)| format!(", {name} {value}")).collect();
        let own = [("model", self.model.to_owned()), ("service_tier", terms.tier.name().to_owned())];
        let only = terms.only.iter().map(|(name, value)| (*name, value.clone()));
        let values = values.iter().map(|(name, value)| (*name, (*value).to_owned()));
        let matches = own.into_iter().chain(only).chain(values).map(|(name, value)| (name.to_owned(), value)).collect();
        let bounds = |bound: Option<(&'static str, _)>| bound.map(|(name, bound)| (name.to_owned(), bound)).into_iter().collect();
        let sku = Sku {
            id: id.clone(),
            family: self.terms.family.clone(),
            meter: MeterId::parse(measure.meter).map_err(|error| error.to_string())?,
            matches,
            above: bounds(terms.above),
            up_to: bounds(terms.up_to),
            description: Some(format!("{}, {}{cases}", self.model, crate::plausibility::what(terms))),
        };
        let model = PriceModel::PerUnit { per, unit_price };
        Ok((sku, PriceRow { id: price_id, sku: id, effective_at: self.terms.effective_at, model }))
    }

    /// `<code>[.<tier>][.<value>…][.above-<bound>]:<model>`; codes and values have no colon.
    fn id(&self, terms: &Terms, values: &BTreeMap<&'static str, &'static str>) -> String {
        let tier = (terms.tier != Tier::Standard).then(|| terms.tier.name().to_owned());
        let only = terms.only.values().map(|value| encode(value).replace(':', "@3A"));
        let values = values.iter().filter(|(name, value)| !USUAL.contains(&(**name, **value))).map(|(_, value)| (*value).to_owned());
        let above = terms.above.map(|(_, bound)| format!("above-{bound}"));
        let parts: Vec<String> = std::iter::once(terms.code.to_owned()).chain(tier).chain(only).chain(values).chain(above).collect();
        format!("{}:{}", parts.join("."), encode(self.model))
    }
}

/// The price for one unit of a row, where it is one.
pub(super) fn price_of(row: &PriceRow) -> Option<ListPrice> {
    match &row.model {
        PriceModel::PerUnit { per, unit_price } => ListPrice::of_row(*unit_price, *per),
        _ => None,
    }
}

/// All documents, by kind.
pub(super) fn all(
    terms: &ImportTerms,
    skus: impl Iterator<Item = Sku>,
    rows: impl Iterator<Item = PriceRow>,
) -> Result<Vec<Document>, IdError> {
    let mut documents: Vec<Document> = measures::units()?.into_iter().map(Document::Unit).collect();
    for measure in MEASURES {
        documents.push(Document::Meter(measure.document()?));
    }
    documents.extend(skus.map(Document::Sku));
    documents.push(Document::Rounding(Rounding { asset: terms.currency.clone(), scale: 2, mode: RoundingMode::HalfAwayFromZero }));
    let book = PriceBook { id: terms.book.clone(), currency: terms.currency.clone(), prices: rows.collect() };
    documents.push(Document::PriceBook(book));
    Ok(documents)
}

/// `20260724T182343Z`.
fn compact(at: Instant) -> String {
    let text = at.to_string();
    let seconds: String = text.chars().take(19).filter(|c| *c != '-' && *c != ':').collect();
    format!("{seconds}Z")
}
