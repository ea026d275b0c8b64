//! The price map as it stands in the file: models with what is stated about each, read from the JSON text. It refuses what it does not
//! know and guesses nothing. It knows no document of the registry.

use std::collections::{BTreeMap, BTreeSet};

use platform_usage::json::{Json, JsonError};
use shared_types::{Instant, Quantity};

use super::fields::{Field, Meaning, Term, Tier, field};
use super::list_price::ListPrice;
use super::measures::{CONTEXT, RESULTS};

/// Members of the file that are no models.
const NO_MODELS: [&str; 3] = ["sample_spec", "fallback_generalizations", "last_updated"];
/// Short names of `provider_specific_entry`, with the dimension value each is a factor for.
const FACTORS: [(&str, &str, &str); 3] = [("us", "inference_region", "us"), ("eu", "inference_region", "eu"), ("fast", "speed", "fast")];

/// What a price holds for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Terms {
    /// Code of the measure.
    pub code: &'static str,
    /// The service tier.
    pub tier: Tier,
    /// Other dimension values.
    pub only: BTreeMap<&'static str, String>,
    /// The dimension whose range tells prices apart, if any, with its lower bound (exclusive).
    pub above: Option<(&'static str, Quantity)>,
    /// Its upper bound (inclusive).
    pub up_to: Option<(&'static str, Quantity)>,
}

impl Terms {
    /// Whether two prices are for the same thing. The upper end of a range is no part of what a price is for: it follows from the next range.
    pub fn alike(&self, other: &Self) -> bool {
        (self.code, self.tier, &self.only, self.above) == (other.code, other.tier, &other.only, other.above)
    }
}

/// One price of one model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stated {
    /// The field, for example `tiered_pricing[1].input_cost_per_token`.
    pub field: String,
    /// What it holds for.
    pub terms: Terms,
    /// Money for one unit.
    pub price: ListPrice,
}

/// A factor on every price of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Factor {
    /// The dimension.
    pub dimension: &'static str,
    /// Its value.
    pub value: &'static str,
    /// In millionths.
    pub millionths: i128,
}

/// A field that is not expressed for a model.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Refused {
    /// The model.
    pub model: String,
    /// The field.
    pub field: String,
    /// Why.
    pub why: String,
}

/// What the map says about a model.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// Prices, in order of their terms.
    pub prices: Vec<Stated>,
    /// Factors on all of them.
    pub factors: Vec<Factor>,
}

/// The file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PriceMap {
    /// What it says about each model.
    pub models: BTreeMap<String, Entry>,
    /// Fields that are not expressed, by model.
    pub refused: Vec<Refused>,
    /// When the file was made, if it says so.
    pub updated_at: Option<Instant>,
}

/// Why a text is not a price map.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MapError {
    /// It is not JSON.
    #[error("the price map is not JSON")]
    Json(#[from] JsonError),
    /// It is JSON of another shape.
    #[error("the price map is not an object of models")]
    Shape,
    /// It has fields that nobody has looked at: each could be a price.
    #[error("the price map has fields that are not known: {}", listed(.fields))]
    Unknown {
        /// Each with a model that has it.
        fields: BTreeMap<String, String>,
    },
}

fn listed(fields: &BTreeMap<String, String>) -> String {
    let all: Vec<String> = fields.iter().map(|(field, model)| format!("{field} (in {model})")).collect();
    all.join(", ")
}

impl PriceMap {
    /// Reads the text of the file.
    ///
    /// - Numbers keep their digits. A price that cannot be expressed is refused by name and its model keeps the others.
    /// - Errors: no JSON, a name twice in one object, or a field without a row in [`super::FIELDS`].
    pub fn parse(text: &str) -> Result<Self, MapError> {
        let Json::Object(members) = Json::parse(text)? else { return Err(MapError::Shape) };
        let mut reading = Reading::default();
        for (model, value) in &members {
            match value {
                Json::Text(text) if model == "last_updated" => reading.map.updated_at = Instant::parse(text).ok(),
                _ if NO_MODELS.contains(&model.as_ref()) => {}
                Json::Object(fields) => reading.model(model, fields),
                _ => return Err(MapError::Shape),
            }
        }
        if !reading.unknown.is_empty() {
            return Err(MapError::Unknown { fields: reading.unknown });
        }
        reading.map.refused.sort();
        Ok(reading.map)
    }
}

type Members<'a> = [(std::borrow::Cow<'a, str>, Json<'a>)];

#[derive(Default)]
struct Reading {
    map: PriceMap,
    unknown: BTreeMap<String, String>,
}

impl Reading {
    fn model(&mut self, model: &str, fields: &Members<'_>) {
        let mut entry = Entry::default();
        for (name, value) in fields {
            match field(name) {
                None => {
                    self.unknown.entry(name.to_string()).or_insert_with(|| model.to_owned());
                }
                Some(row) => self.field(model, &mut entry, row, value),
            }
        }
        if fields.iter().any(|(name, value)| name == "supports_reasoning" && *value == Json::Bool(true)) {
            reasoning(&mut entry.prices);
        }
        self.settle(model, &mut entry.prices);
        self.map.models.insert(model.to_owned(), entry);
    }

    fn field(&mut self, model: &str, entry: &mut Entry, row: &Field, value: &Json<'_>) {
        match (row.meaning, value) {
            (Meaning::Description, _) | (_, Json::Null) => {}
            (Meaning::Price(term), Json::Number(text)) => self.price(model, entry, row.name.to_owned(), terms(&term), text),
            (Meaning::BySearchContext(code), Json::Object(members)) => {
                for (size, value) in members {
                    let field = format!("{}.{size}", row.name);
                    let (Some(size), Json::Number(text)) = (size.strip_prefix("search_context_size_"), value) else {
                        self.refuse(model, &field, "not a price for a search_context_size");
                        continue;
                    };
                    let only = BTreeMap::from([("search_context_size", size.to_owned())]);
                    let terms = Terms { code, tier: Tier::Standard, only, above: None, up_to: None };
                    self.price(model, entry, field, terms, text);
                }
            }
            (Meaning::Ranges, Json::Array(ranges)) => {
                for (at, range) in ranges.iter().enumerate() {
                    self.range(model, entry, &format!("{}[{at}]", row.name), range);
                }
            }
            (Meaning::Factor { dimension, value: case }, Json::Number(text)) => {
                self.factor(model, entry, row.name, (dimension, case), text)
            }
            (Meaning::Factors, Json::Object(members)) => {
                for (name, value) in members {
                    let field = format!("{}.{name}", row.name);
                    match (FACTORS.iter().find(|(short, _, _)| short == name), value) {
                        (Some((_, dimension, case)), Json::Number(text)) => self.factor(model, entry, &field, (*dimension, *case), text),
                        (None, Json::Text(_) | Json::Bool(_)) => {}
                        _ => self.refuse(model, &field, "a factor whose condition the map does not state"),
                    }
                }
            }
            (Meaning::Refused(why), _) => self.refuse(model, row.name, why),
            _ => self.refuse(model, row.name, "not of the form that this field has"),
        }
    }

    fn price(&mut self, model: &str, entry: &mut Entry, field: String, terms: Terms, text: &str) {
        match ListPrice::parse(text) {
            Ok(price) if price.is_negative() => self.refuse(model, &field, &format!("{text} is below zero")),
            Ok(price) => entry.prices.push(Stated { field, terms, price }),
            Err(error) => self.refuse(model, &field, &error.to_string()),
        }
    }

    fn factor(&mut self, model: &str, entry: &mut Entry, field: &str, (dimension, value): (&'static str, &'static str), text: &str) {
        match ListPrice::factor(text) {
            Ok(millionths) if millionths > 0 => entry.factors.push(Factor { dimension, value, millionths }),
            Ok(_) => self.refuse(model, field, &format!("the factor {text} is not above zero")),
            Err(error) => self.refuse(model, field, &error.to_string()),
        }
    }

    /// One range of `tiered_pricing`. `range` is of input tokens, above its first number up to its second one; `max_results_range` counts
    /// both of its ends.
    fn range(&mut self, model: &str, entry: &mut Entry, place: &str, range: &Json<'_>) {
        let Json::Object(members) = range else { return self.refuse(model, place, "not a range with prices") };
        let bounds = members.iter().find_map(|(name, value)| match (name.as_ref(), value) {
            ("range", Json::Array(ends)) => Some((CONTEXT, Quantity::ZERO, ends)),
            ("max_results_range", Json::Array(ends)) => Some((RESULTS, crate::compile::one(), ends)),
            _ => None,
        });
        let Some((dimension, step, [Json::Number(from), Json::Number(to)])) =
            bounds.map(|(name, step, ends)| (name, step, ends.as_slice()))
        else {
            return self.refuse(model, place, "a range without two ends");
        };
        let ends = Quantity::parse(from).and_then(|from| Ok((from.checked_sub(step)?, Quantity::parse(to)?)));
        let Ok((from, to)) = ends else { return self.refuse(model, place, "a range whose ends are no quantities") };
        for (name, value) in members.iter().filter(|(name, _)| !name.ends_with("range")) {
            let inner = format!("{place}.{name}");
            match (field(name).map(|row| row.meaning), value) {
                (None, _) => {
                    self.unknown.entry(inner).or_insert_with(|| model.to_owned());
                }
                (Some(Meaning::Price(term)), Json::Number(text)) if term.above.is_none() => {
                    // Below its first range nothing is sold, so that range begins at the bottom.
                    let above = (from > Quantity::ZERO).then_some((dimension, from));
                    let terms = Terms { above, up_to: Some((dimension, to)), ..terms(&term) };
                    self.price(model, entry, inner, terms, text);
                }
                (Some(Meaning::Description), _) => {}
                _ => self.refuse(model, &inner, "not a price for a range"),
            }
        }
    }

    /// Puts prices in order, gives each range its end, and refuses prices that contradict one another.
    fn settle(&mut self, model: &str, prices: &mut Vec<Stated>) {
        prices.sort_by(|a, b| (&a.terms, &a.field).cmp(&(&b.terms, &b.field)));
        let mut settled: Vec<Stated> = Vec::with_capacity(prices.len());
        for group in prices.chunk_by(|a, b| same_group(&a.terms, &b.terms)) {
            let dimensions: BTreeSet<&str> = group.iter().filter_map(|stated| bound(&stated.terms)).collect();
            if dimensions.len() > 1 {
                for stated in group {
                    self.refuse(model, &stated.field, "two different thresholds on one price");
                }
                continue;
            }
            let mut kept: Vec<Stated> = Vec::with_capacity(group.len());
            for same in group.chunk_by(|a, b| a.terms.above == b.terms.above) {
                let Some(first) = same.first() else { continue };
                if same.iter().all(|stated| stated.price == first.price && stated.terms == first.terms) {
                    kept.push(first.clone());
                } else {
                    for stated in same {
                        self.refuse(model, &stated.field, "two fields state different prices for the same thing");
                    }
                }
            }
            let starts: Vec<_> = kept.iter().map(|stated| stated.terms.above).skip(1).chain([None]).collect();
            for (stated, next) in kept.iter_mut().zip(starts) {
                stated.terms.up_to = match (stated.terms.up_to, next) {
                    (Some((name, up_to)), Some((_, next))) => Some((name, up_to.min(next))),
                    (up_to, next) => up_to.or(next),
                };
            }
            settled.extend(kept);
        }
        *prices = settled;
    }

    fn refuse(&mut self, model: &str, field: &str, why: &str) {
        self.map.refused.push(Refused { model: model.to_owned(), field: field.to_owned(), why: why.to_owned() });
    }
}

impl From<&Term> for Terms {
    fn from(term: &Term) -> Self {
        terms(term)
    }
}

fn terms(term: &Term) -> Terms {
    let whole = |(name, bound): (&'static str, u64)| {
        let units = i128::from(bound).checked_mul(10_i128.pow(Quantity::SCALE))?;
        Some((name, Quantity::from_units(units).ok()?))
    };
    let only = term.only.map(|(name, value)| (name, value.to_owned())).into_iter().collect();
    Terms { code: term.code, tier: term.tier, only, above: term.above.and_then(whole), up_to: None }
}

fn same_group(a: &Terms, b: &Terms) -> bool {
    (a.code, a.tier, &a.only) == (b.code, b.tier, &b.only)
}

fn bound(terms: &Terms) -> Option<&'static str> {
    terms.above.or(terms.up_to).map(|(name, _)| name)
}

/// The map's output price is the one of all output tokens; reasoning tokens have another one only where a field says so. Where none does
/// for a tier, they get the output prices of the tier: stated twice, because kinds of tokens are disjoint here.
fn reasoning(prices: &mut Vec<Stated>) {
    let stated: BTreeSet<Tier> = prices.iter().filter(|stated| stated.terms.code == "reasoning").map(|stated| stated.terms.tier).collect();
    let copies: Vec<Stated> = prices
        .iter()
        .filter(|output| output.terms.code == "output" && !stated.contains(&output.terms.tier))
        .map(|output| Stated { terms: Terms { code: "reasoning", ..output.terms.clone() }, ..output.clone() })
        .collect();
    prices.extend(copies);
}
