//! Registry versions as the documents say them: meters, contracts, SKUs, price rows; and which price applies to a reading.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use anyhow::Context as _;
use serde_json::Value;

use crate::billable::{Piece, Policy, Reads};
use crate::measure::Steps;
use crate::money::{Half, Number, decimal};
use crate::price::Price;
use crate::terms::{Term, Termed};

/// Places of SKUs by the names that they match, then by the values.
type Matching = BTreeMap<Vec<String>, HashMap<Vec<String>, Vec<usize>>>;

/// One version, as far as its documents are shown.
#[derive(Debug, Default)]
pub struct Version {
    contracts: Vec<Contract>,
    books: HashMap<String, Book>,
    /// By id.
    pub meters: HashMap<String, Meter>,
    skus: Vec<Sku>,
    /// Where a meter's SKUs lie in `skus`, by what they match: a price list has thousands, and each reading asks.
    matching: HashMap<String, Matching>,
    /// Places and mode by currency.
    pub roundings: HashMap<String, (u32, Half)>,
    /// Price rows by id, whole.
    rows: HashMap<String, Value>,
    /// Billable states by id.
    policies: HashMap<String, Policy>,
}

#[derive(Debug)]
struct Contract {
    id: String,
    book: String,
    from: i64,
    default: bool,
    organizations: Vec<String>,
    /// As the document has them, by id.
    terms: Vec<Value>,
    over: Option<String>,
}

#[derive(Debug)]
struct Book {
    currency: String,
    /// SKU → (effective from, price row), rising.
    prices: HashMap<String, Vec<(i64, String)>>,
}

/// How a quantity is read.
#[derive(Debug)]
pub struct Meter {
    /// Which events.
    pub event_type: String,
    /// Path of the value; none for a count.
    pub value: Option<String>,
    /// What is counted.
    pub unit: String,
    dimensions: BTreeMap<String, String>,
    /// How its readings add up, as the document says it.
    aggregation: Value,
    /// Of the days or hours that it counts; none for UTC.
    zone: Option<String>,
    /// Billable states that cut its events into pieces.
    pub billable: Option<String>,
}

#[derive(Debug)]
struct Sku {
    id: String,
    family: String,
    meter: String,
    ranges: Vec<Range>,
}

/// Numbers that a dimension may have.
#[derive(Debug)]
struct Range {
    dimension: String,
    /// Exclusive.
    above: Option<Number>,
    /// Inclusive.
    up_to: Option<Number>,
}

impl Range {
    /// A plain decimal of at most 29 digits before the point and 9 behind it; anything else lies in no range.
    fn holds(&self, value: Option<&String>) -> bool {
        let Some(value) = value else { return false };
        let (integer, fraction) = value.split_once('.').unwrap_or((value.as_str(), ""));
        if integer.trim_start_matches('-').len() > 29 || fraction.len() > 9 {
            return false;
        }
        let Ok(number) = decimal(value) else { return false };
        self.above.as_ref().is_none_or(|above| number > *above) && self.up_to.as_ref().is_none_or(|up_to| number <= *up_to)
    }
}

/// The price rows that priced something, by id. Only these must say the same in every version, of a meter that adds up the same way: a row
/// that priced nothing may be corrected in a later version.
#[derive(Debug, Default)]
pub struct UsedRows(HashMap<String, Used>);

#[derive(Debug)]
struct Used {
    row: Value,
    aggregation: Value,
    zone: Option<String>,
    steps: Option<Steps>,
    price: Price,
}

impl UsedRows {
    /// Takes in the row by which a version priced a reading of a meter; false when another version priced one by another row of this id, or
    /// by another aggregation of its meter.
    ///
    /// - Errors: a row or a meter that this program has not learnt: it cannot be judged.
    pub fn take(&mut self, version: &Version, price: &str, meter: &str) -> anyhow::Result<bool> {
        let (Some(row), Some(read)) = (version.rows.get(price), version.meters.get(meter)) else { return Ok(true) };
        let steps = read.billable.as_ref().and_then(|policy| version.policies.get(policy)?.steps(meter));
        if let Some(used) = self.0.get(price) {
            return Ok(used.row == *row && used.aggregation == read.aggregation && used.zone == read.zone && used.steps.as_ref() == steps);
        }
        if let Some(states) = read.billable.as_ref().filter(|_| steps.is_none()) {
            anyhow::bail!("price {price} cannot be judged: billable states {states} are not shown, or bill nothing of meter {meter}");
        }
        let learnt = Price::of(row.get("model").unwrap_or(&Value::Null), &read.aggregation, read.zone.as_deref(), steps);
        let learnt = learnt.with_context(|| format!("price {price} cannot be judged by this version"))?;
        let used =
            Used { row: row.clone(), aggregation: read.aggregation.clone(), zone: read.zone.clone(), steps: steps.cloned(), price: learnt };
        self.0.insert(price.to_owned(), used);
        Ok(true)
    }

    /// The row that priced something.
    pub fn get(&self, price: &str) -> Option<&Price> {
        self.0.get(price).map(|used| &used.price)
    }
}

/// What a reading is priced by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// The contract.
    pub contract: String,
    /// The SKU.
    pub sku: String,
    /// The price row.
    pub price: String,
    /// The book's currency.
    pub currency: String,
}

fn ranges(document: &Value) -> anyhow::Result<Vec<Range>> {
    let (above, up_to) = (texts(document, "above"), texts(document, "up_to"));
    let names: BTreeSet<&String> = above.keys().chain(up_to.keys()).collect();
    let range = |name: &String| -> anyhow::Result<Range> {
        let bound = |bounds: &BTreeMap<String, String>| bounds.get(name).map(|text| decimal(text)).transpose();
        Ok(Range { dimension: name.clone(), above: bound(&above)?, up_to: bound(&up_to)? })
    };
    names.into_iter().map(range).collect()
}

fn text(value: &Value, name: &str) -> anyhow::Result<String> {
    Ok(value.get(name).and_then(Value::as_str).with_context(|| format!("a document has no {name}"))?.to_owned())
}

fn texts(value: &Value, name: &str) -> BTreeMap<String, String> {
    let members = value.get(name).and_then(Value::as_object).into_iter().flatten();
    members.filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned()))).collect()
}

/// The text at a path of member names joined by dots.
pub fn find(data: &Value, path: &str) -> Option<String> {
    match path.split('.').try_fold(data, |value, name| value.get(name))? {
        Value::String(text) => Some(text.clone()),
        Value::Bool(truth) => Some(truth.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) | Value::Number(_) => None,
    }
}

impl Version {
    /// Takes in a document.
    pub fn add(&mut self, document: &Value) -> anyhow::Result<()> {
        let kind = text(document, "kind")?;
        match kind.as_str() {
            "contract" => {
                let covers = document.get("covers").context("a contract covers nobody")?;
                let organizations = covers.get("organizations").and_then(Value::as_array).into_iter().flatten();
                self.contracts.push(Contract {
                    id: text(document, "id")?,
                    book: text(document, "price_book")?,
                    from: crate::time::parse(&text(document, "effective_at")?)?,
                    default: covers.as_str() == Some("default"),
                    organizations: organizations.filter_map(|id| id.as_str().map(str::to_owned)).collect(),
                    terms: document.get("terms").and_then(Value::as_array).cloned().unwrap_or_default(),
                    over: text(document, "terms_over").ok(),
                });
            }
            "price_book" => {
                let mut prices: HashMap<String, Vec<(i64, String)>> = HashMap::new();
                for row in document.get("prices").and_then(Value::as_array).into_iter().flatten() {
                    let (id, from) = (text(row, "id")?, crate::time::parse(&text(row, "effective_at")?)?);
                    prices.entry(text(row, "sku")?).or_default().push((from, id.clone()));
                    self.rows.insert(id, row.clone());
                }
                prices.values_mut().for_each(|rows| rows.sort());
                self.books.insert(text(document, "id")?, Book { currency: text(document, "currency")?, prices });
            }
            "meter" => {
                let meter = Meter {
                    event_type: text(document, "event_type")?,
                    value: text(document, "value").ok(),
                    unit: text(document, "unit")?,
                    dimensions: texts(document, "dimensions"),
                    aggregation: document.get("aggregation").cloned().unwrap_or_default(),
                    zone: document.get("zone").map(|zone| zone.as_str().unwrap_or_default().to_owned()),
                    billable: document.get("billable").map(|states| states.as_str().unwrap_or_default().to_owned()),
                };
                self.meters.insert(text(document, "id")?, meter);
            }
            "sku" => {
                let sku = Sku {
                    id: text(document, "id")?,
                    family: text(document, "family").unwrap_or_default(),
                    meter: text(document, "meter")?,
                    ranges: ranges(document)?,
                };
                let (names, values) = texts(document, "match").into_iter().unzip();
                let of_names = self.matching.entry(sku.meter.clone()).or_default().entry(names).or_default();
                of_names.entry(values).or_default().push(self.skus.len());
                self.skus.push(sku);
            }
            "rounding" => {
                let half = match text(document, "mode")?.as_str() {
                    "half_even" => Half::Even,
                    "half_away_from_zero" => Half::Away,
                    other => anyhow::bail!("the rounding mode {other:?} is unknown"),
                };
                self.roundings.insert(text(document, "asset")?, (text(document, "scale")?.parse()?, half));
            }
            "billable_states" => {
                let id = text(document, "id")?;
                let policy = Policy::of(document).with_context(|| format!("billable states {id}"))?;
                self.policies.insert(id, policy);
            }
            "unit" => {}
            other => anyhow::bail!("the kind of document {other:?} is unknown"),
        }
        Ok(())
    }

    /// The values that tell prices apart, of one meter.
    pub fn dimensions(&self, meter: &str, data: &Value) -> BTreeMap<String, String> {
        let names = self.meters.get(meter).into_iter().flat_map(|meter| &meter.dimensions);
        names.filter_map(|(name, path)| Some((name.clone(), find(data, path)?))).collect()
    }

    /// The billed pieces of an event, of a meter whose events billable states cut. `times`: when the event begins, and ends; `changes`: see
    /// [`Self::changes`].
    pub fn pieces(&self, name: &str, data: &Value, times: (i64, Option<i64>), changes: &[i64]) -> anyhow::Result<Vec<Piece>> {
        let meter = self.meters.get(name).context("the meter is not there")?;
        let policy = meter.billable.as_ref().and_then(|policy| self.policies.get(policy)).context("its billable states are not there")?;
        let reads = Reads { value: meter.value.as_deref().context("the meter reads no value")?, dimensions: &meter.dimensions };
        policy.pieces(name, reads, data, times, changes)
    }

    /// Instants at which a price of the meter, or a contract of the organization, begins.
    pub fn changes(&self, organization: &str, meter: &str) -> Vec<i64> {
        let skus: HashSet<&String> = self.skus.iter().filter(|sku| sku.meter == meter).map(|sku| &sku.id).collect();
        let mut changes = Vec::new();
        for contract in self.agreements(organization) {
            changes.push(contract.from);
            let prices = self.books.get(&contract.book).into_iter().flat_map(|book| &book.prices);
            changes.extend(prices.filter(|(sku, _)| skus.contains(sku)).flat_map(|(_, rows)| rows).map(|(from, _)| *from));
        }
        changes
    }

    /// Documents that the shown ones lead to and that are not shown: what they are, and their ids. A SKU left out would let a dearer, less
    /// specific one take its place.
    pub fn withheld(&self, organization: &str) -> Vec<(&'static str, String)> {
        let books = self.agreements(organization).into_iter().map(|contract| ("price book", &contract.book));
        let books = books.filter(|(_, book)| !self.books.contains_key(*book));
        let shown: HashSet<&String> = self.skus.iter().map(|sku| &sku.id).collect();
        let skus = self.books.values().flat_map(|book| book.prices.keys()).map(|sku| ("SKU", sku));
        let skus = skus.filter(|(_, id)| !shown.contains(id));
        let meters = self.skus.iter().map(|sku| ("meter", &sku.meter)).filter(|(_, meter)| !self.meters.contains_key(*meter));
        let billable = self.meters.values().filter_map(|meter| meter.billable.as_ref());
        let policies = billable.filter(|policy| !self.policies.contains_key(*policy)).map(|policy| ("billable states", policy));
        let missing: BTreeSet<_> = books.chain(skus).chain(meters).chain(policies).map(|(kind, id)| (kind, id.clone())).collect();
        missing.into_iter().collect()
    }

    /// Whether a price row charges nothing.
    pub fn is_free(&self, price: &str) -> bool {
        let row = self.rows.get(price);
        row.is_some_and(|row| ["/model/free", "/model/adjusted/model/free"].iter().any(|free| row.pointer(free).is_some()))
    }

    /// What the quantity of a SKU counts.
    pub fn unit(&self, sku: &str) -> Option<&str> {
        let sku = self.skus.iter().find(|found| found.id == sku)?;
        Some(self.meters.get(&sku.meter)?.unit.as_str())
    }

    /// The family of a SKU, and whether its meter reads recurring fees, which are events of the issuer's own.
    pub fn family(&self, sku: &str) -> Option<(&str, bool)> {
        let sku = self.skus.iter().find(|found| found.id == sku)?;
        let own = self.meters.get(&sku.meter).and_then(|meter| meter.event_type.strip_prefix("tallystick.recurring"));
        Some((&sku.family, own.is_some_and(|rest| rest.is_empty() || rest.starts_with('.') && rest.len() > 1)))
    }

    /// The organization's contracts with terms whose book has a currency, by id. Each ends where the next contract begins.
    ///
    /// - Errors: a term that this program has not learnt.
    pub fn termed(&self, organization: &str, currency: &str) -> anyhow::Result<Vec<Termed<'_>>> {
        let mut contracts = self.agreements(organization);
        contracts.sort_by_key(|contract| contract.from);
        let ends = contracts.iter().skip(1).map(|next| Some(crate::time::month(next.from))).chain([None]);
        let in_currency = |contract: &Contract| self.books.get(&contract.book).is_some_and(|book| book.currency == currency);
        let mut termed = Vec::new();
        for (contract, until) in contracts.iter().zip(ends).filter(|(contract, _)| !contract.terms.is_empty() && in_currency(contract)) {
            let terms = contract.terms.iter().map(Term::of).collect::<anyhow::Result<Vec<_>>>();
            let terms = terms.with_context(|| format!("contract {} cannot be judged", contract.id))?;
            if let Some((one, other)) =
                terms.iter().enumerate().find_map(|(at, one)| Some((one, terms.iter().skip(at + 1).find(|other| one.rivals(other))?)))
            {
                anyhow::bail!(
                    "contract {} cannot be judged: terms {} and {} ask for the same of the same SKUs",
                    contract.id,
                    one.id,
                    other.id
                );
            }
            let over = contract.over.as_deref().with_context(|| format!("contract {} has terms over nothing", contract.id))?;
            termed.push(Termed { contract: &contract.id, over, from: crate::time::month(contract.from), until, terms });
        }
        termed.sort_by_key(|termed| termed.contract);
        Ok(termed)
    }

    /// The organization's own contracts; without any, the default ones.
    fn agreements(&self, organization: &str) -> Vec<&Contract> {
        let own = |contract: &&Contract| contract.organizations.iter().any(|id| id == organization);
        let contracts: Vec<&Contract> = self.contracts.iter().filter(own).collect();
        if contracts.is_empty() { self.contracts.iter().filter(|contract| contract.default).collect() } else { contracts }
    }

    /// The price of a reading.
    pub fn resolve(&self, organization: &str, meter: &str, dimensions: &BTreeMap<String, String>, at: i64) -> Option<Resolved> {
        let contract =
            self.agreements(organization).into_iter().filter(|contract| contract.from <= at).max_by_key(|contract| contract.from)?;
        let book = self.books.get(&contract.book)?;
        let fits =
            |sku: &&Sku| book.prices.contains_key(&sku.id) && sku.ranges.iter().all(|range| range.holds(dimensions.get(&range.dimension)));
        let mut found: Option<(usize, &Sku)> = None;
        for (names, by_values) in self.matching.get(meter)? {
            let Some(values) = names.iter().map(|name| dimensions.get(name).cloned()).collect::<Option<Vec<_>>>() else { continue };
            let places = by_values.get(&values).into_iter().flatten();
            for sku in places.filter_map(|place| self.skus.get(*place)).filter(fits) {
                let members = names.len() + sku.ranges.len();
                if found.is_none_or(|(most, _)| members >= most) {
                    found = Some((members, sku));
                }
            }
        }
        let (_, sku) = found?;
        let (_, price) = book.prices.get(&sku.id)?.iter().rfind(|(from, _)| *from <= at)?;
        Some(Resolved { contract: contract.id.clone(), sku: sku.id.clone(), price: price.clone(), currency: book.currency.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn version(price: &str) -> Version {
        let row = |id: &str, from: &str, price: &str| json!({"id": id, "sku": "tokens", "effective_at": from, "model": {"per_unit": {"per": "1", "unit_price": price}}});
        let book = json!({"kind": "price_book", "id": "list", "currency": "USD", "prices": [
            row("now", "2026-10-01T00:00:00Z", "2"), row("december", "2026-12-01T00:00:00Z", price)]});
        let mut version = Version::default();
        version.add(&book).unwrap();
        for (id, aggregation) in [("tokens", "sum"), ("peak", "max"), ("odd", "median")] {
            version.add(&json!({"kind": "meter", "id": id, "event_type": "llm", "unit": "token", "aggregation": aggregation})).unwrap();
        }
        version
    }

    #[test]
    fn only_rows_that_priced_something_must_say_the_same_in_every_version() {
        let (first, second) = (version("3"), version("4"));
        let mut rows = UsedRows::default();
        let mut take = |version: &Version, price: &str, meter: &str| rows.take(version, price, meter).unwrap();
        assert!(take(&first, "now", "tokens") && take(&second, "now", "tokens") && take(&second, "december", "tokens"));
        assert!(!take(&first, "december", "tokens"), "another row");
        assert!(!take(&first, "now", "peak"), "another aggregation");
        assert!(take(&first, "of-no-book", "tokens"));
        assert!(rows.get("december").is_some() && rows.get("of-no-book").is_none());
        assert!(UsedRows::default().take(&first, "now", "odd").is_err(), "not learnt");
    }

    #[test]
    fn time_that_is_billed_by_states_is_priced_by_its_steps() {
        let meter = |id: &str| {
            json!({"kind": "meter", "id": id, "event_type": "lease", "unit": "gpu", "value": "gpus", "billable": "leases",
            "aggregation": {"time_weighted": {"by": "microsecond"}}})
        };
        let states = |increment: &str| {
            json!({"kind": "billable_states", "id": "leases", "states": ["held"], "told": {"state": "state"}, "start": [], "stop": [],
            "ready": [], "split": "month", "zone": "UTC", "bands": {}, "meters": [{"meter": "billed", "rates": {"held": "use"}, "during": "session",
            "increment": increment, "rounding": "up", "minimum": "0", "each": "reading", "greater_of": {}, "at_least": "0"}]})
        };
        let version = |increment: &str| {
            let mut version = Version::default();
            for document in [meter("billed"), meter("other"), states(increment)] {
                version.add(&document).unwrap();
            }
            version.rows.insert("row".to_owned(), json!({"id": "row", "model": {"per_unit": {"per": "1", "unit_price": "1"}}}));
            version
        };
        let mut rows = UsedRows::default();
        assert!(rows.take(&version("60"), "row", "billed").unwrap() && rows.take(&version("60"), "row", "billed").unwrap());
        assert!(!rows.take(&version("61"), "row", "billed").unwrap(), "other steps");
        let refused = UsedRows::default().take(&version("60"), "row", "other").unwrap_err().to_string();
        assert_eq!(refused, "price row cannot be judged: billable states leases are not shown, or bill nothing of meter other");
        let mut hidden = Version::default();
        hidden.add(&meter("billed")).unwrap();
        assert_eq!(hidden.withheld("acme"), [("billable states", "leases".to_owned())]);
    }

    #[test]
    fn what_the_shown_documents_lead_to_must_be_shown() {
        let contract = |id: &str, covers: Value, book: &str| json!({"kind": "contract", "id": id, "covers": covers, "price_book": book, "effective_at": "2026-01-01T00:00:00Z"});
        let mut version = version("3");
        version.add(&contract("standard", json!("default"), "list")).unwrap();
        assert_eq!(version.withheld("acme"), [("SKU", "tokens".to_owned())]);
        version.add(&json!({"kind": "sku", "id": "tokens", "meter": "input", "match": {}})).unwrap();
        version.add(&contract("own", json!({"organizations": ["acme"]}), "special")).unwrap();
        assert_eq!(version.withheld("acme"), [("meter", "input".to_owned()), ("price book", "special".to_owned())]);
        assert_eq!((version.withheld("globex").len(), version.unit("tokens")), (1, None));
        version.add(&json!({"kind": "meter", "id": "input", "event_type": "llm", "unit": "token"})).unwrap();
        assert_eq!((version.withheld("globex"), version.unit("tokens")), (vec![], Some("token")));
    }
}
