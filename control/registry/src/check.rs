//! Checks across documents: names used once, references that lead somewhere, one answer for every reading and instant.
//! It does not know files beyond the places of what is wrong.

mod terms;
mod windows;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Display;

use platform_rating::Measure;
use platform_usage::billable::{BAND, RATE, SESSION};
use shared_types::{Instant, OrganizationId, PriceId, Quantity, SkuId};

use crate::band::{meet, names};
use crate::compile::measure;
use crate::document::{
    Aggregation, AppliesTo, BillableStates, Contract, Covers, Document, Meter, Negative, PriceBook, PriceModel, PriceRow, Recurring, Sku,
    Tier, Unit,
};
use crate::matching::MatchIndex;
use crate::problem::{At, Findings};
use crate::read::{Contents, Located};
use crate::{Kind, SourceFile};

/// platform-usage numbers the meters of an event type in 16 bits.
const METERS_OF_TYPE_MAX: usize = 65_536;

/// Adds what is wrong between documents to the findings.
pub(crate) fn check(contents: &Contents, findings: &mut Findings) {
    let known = Known::new(contents, findings);
    let mut checker = Checker { known: &known, contents, findings };
    checker.meters();
    checker.billable_states();
    checker.skus();
    checker.ambiguous_skus();
    checker.prices();
    checker.contracts();
    checker.terms();
    checker.windows();
}

/// Files too many or too large for the limits.
pub(crate) fn within_limits(files: &[SourceFile], findings: &mut Findings) -> bool {
    use crate::folder::{FILE_BYTES_MAX, FILES_MAX, FOLDER_BYTES_MAX, SPLIT, too_large};
    let before = findings.len();
    for file in files.iter().filter(|file| file.text.len() > FILE_BYTES_MAX) {
        findings.add_whole(&file.name, too_large(), SPLIT);
    }
    if files.len() > FILES_MAX {
        findings.add_whole("all files", format!("more than {FILES_MAX} files"), "put more documents into each file");
    }
    if files.iter().map(|file| file.text.len()).fold(0, usize::saturating_add) > FOLDER_BYTES_MAX {
        let message = format!("the files together are larger than {} MiB", FOLDER_BYTES_MAX / 1024 / 1024);
        findings.add_whole("all files", message, "remove what is no registry document");
    }
    findings.len() == before
}

/// The first document of every name.
struct Known<'c> {
    documents: BTreeMap<(Kind, &'c str), &'c Located>,
}

impl<'c> Known<'c> {
    fn new(contents: &'c Contents, findings: &mut Findings) -> Self {
        let mut documents: BTreeMap<(Kind, &str), &Located> = BTreeMap::new();
        for located in &contents.documents {
            let (kind, id) = (located.document.kind(), located.document.id());
            match documents.get(&(kind, id)) {
                None => {
                    documents.insert((kind, id), located);
                }
                Some(first) => {
                    let field = id_field(kind);
                    let first = findings.shown(first.at(field));
                    let message = format!("{kind} {id:?} is there twice, first at {first}");
                    findings.add(located.at(field), message, "keep one of them, or give this one another name");
                }
            }
        }
        Self { documents }
    }

    fn get(&self, kind: Kind, id: &str) -> Option<&'c Document> {
        self.documents.get(&(kind, id)).map(|located| &located.document)
    }

    fn ids(&self, kind: Kind) -> impl Iterator<Item = &'c str> {
        self.documents
            .range((kind, "")..)
            .map(|((kind, id), _)| (*kind, *id))
            .take_while(move |(found, _)| *found == kind)
            .map(|(_, id)| id)
    }

    fn meter(&self, sku: &Sku) -> Option<&'c Meter> {
        match self.get(Kind::Meter, sku.meter.as_str()) {
            Some(Document::Meter(meter)) => Some(meter),
            _ => None,
        }
    }

    fn unit_of(&self, sku: &SkuId) -> Option<&'c Unit> {
        let Some(Document::Sku(sku)) = self.get(Kind::Sku, sku.as_str()) else { return None };
        match self.get(Kind::Unit, self.meter(sku)?.unit.as_str()) {
            Some(Document::Unit(unit)) => Some(unit),
            _ => None,
        }
    }
}

fn id_field(kind: Kind) -> &'static str {
    if kind == Kind::Rounding { "asset" } else { "id" }
}

struct Checker<'k, 'c, 'f> {
    known: &'k Known<'c>,
    contents: &'c Contents,
    findings: &'f mut Findings,
}

impl<'c> Checker<'_, 'c, '_> {
    /// A reference to a document; silent where the target may lie in what could not be read.
    fn reference(&mut self, kind: Kind, id: &str, at: At, from: impl Display) {
        if self.known.get(kind, id).is_some() || self.contents.broken || self.contents.declared.contains(&(kind, id.to_owned())) {
            return;
        }
        let hint = self.findings.hint(id, self.known.ids(kind));
        let remedy = format!("{hint}add a [[{kind}]] with {} = {id:?}, or correct the name", id_field(kind));
        self.findings.add(at, format!("{from} names {kind} {id:?}, which does not exist"), remedy);
    }

    fn meters(&mut self) {
        let mut of_type: HashMap<&str, usize> = HashMap::new();
        for (located, meter) in documents(self.contents, meter) {
            self.reference(Kind::Unit, meter.unit.as_str(), located.at("unit"), format_args!("meter {:?}", meter.id.as_str()));
            if let Aggregation::Unique { of, .. } = &meter.aggregation
                && !meter.dimensions.contains_key(of)
            {
                let hint = self.findings.hint(of, meter.dimensions.keys().map(String::as_str));
                let message = format!("meter {:?} counts different values of {of:?}, which is no dimension of it", meter.id.as_str());
                self.findings.add(located.at("of"), message, format!("{hint}add {of:?} to its dimensions, or correct the name"));
            }
            self.billable(located, meter);
            self.recurring_level(located, meter);
            let count = of_type.entry(&meter.event_type).or_default();
            *count += 1;
            if *count == METERS_OF_TYPE_MAX + 1 {
                let message = format!("more than {METERS_OF_TYPE_MAX} meters read events of type {:?}", meter.event_type);
                self.findings.add(located.at("id"), message, "tell usage apart by dimensions instead of meters");
            }
        }
    }

    /// A level that is carried is stated by an event of the meter's type: every meter of that type would read it.
    fn recurring_level(&mut self, located: &Located, meter: &Meter) {
        let (Some(_), id) = (meter.recurring_from, meter.id.as_str()) else { return };
        let at = located.at("recurring_from");
        let event_type = &meter.event_type;
        let other = documents(self.contents, self::meter).map(|(_, other)| other);
        if let Some(other) = other.filter(|other| other.event_type == *event_type).find(|other| other.id != meter.id) {
            let message = format!(
                "the level of meter {id:?} is carried by events of type {event_type:?}, which meter {:?} reads too",
                other.id.as_str()
            );
            self.findings.add(at, message, "send the changes of a level that is carried as events of a type of their own");
        }
        if Recurring::is_own(event_type) {
            let message = format!("meter {id:?} reads recurring fees, which end with their service period: no level is carried");
            self.findings.add(at, message, "remove recurring_from");
        }
        if let Some(total) = &meter.part_of {
            let message = format!("meter {id:?} reads parts of {total:?}, and the events that state a level have no total");
            self.findings.add(at, message, "remove part_of, or recurring_from");
        }
        if let Some((name, _)) = meter.dimensions.iter().find(|(_, path)| Some(*path) == meter.value.as_ref()) {
            let message = format!("dimension {name:?} of meter {id:?} is its value, so each change would be a level of its own");
            self.findings.add(located.at("dimensions"), message, "remove the dimension, or recurring_from");
        }
    }

    /// What a meter names must exist and say something of it, and names of dimensions must be free for what it adds.
    fn billable(&mut self, located: &Located, meter: &Meter) {
        let Some(id) = &meter.billable else { return };
        let from = format!("meter {:?}", meter.id.as_str());
        self.reference(Kind::BillableStates, id, located.at("billable"), &from);
        for name in [RATE, SESSION, BAND].into_iter().filter(|name| meter.dimensions.contains_key(*name)) {
            let message = format!("{from} has a dimension {name:?}, which its billable states give it");
            self.findings.add(located.at("dimensions"), message, "give the dimension another name");
        }
        let Some(Document::BillableStates(policy)) = self.known.get(Kind::BillableStates, id) else { return };
        let Some(billed) = policy.of(&meter.id) else {
            let message = format!("{from} names billable states {id:?}, which say nothing of it");
            self.findings.add(
                located.at("billable"),
                message,
                format!("add a [[billable_states.meter]] with meter = {:?}", meter.id.as_str()),
            );
            return;
        };
        let raised = billed.at_least > Quantity::ZERO || !billed.greater_of.is_empty();
        if raised && meter.negative == Negative::Accept {
            let message = format!("{from} accepts negative values, but billable states {id:?} raise them");
            self.findings.add(
                located.at("billable"),
                message,
                "remove negative from the meter, or greater_of and at_least from the states",
            );
        }
    }

    fn billable_states(&mut self) {
        for (located, policy) in documents(self.contents, billable_states) {
            for (row, billed) in policy.meters.iter().enumerate() {
                let at = located.at_row("billed", row);
                let from = format!("billable_states {:?}", policy.id);
                self.reference(Kind::Meter, billed.meter.as_str(), at, &from);
                let Some(Document::Meter(meter)) = self.known.get(Kind::Meter, billed.meter.as_str()) else { continue };
                if meter.billable.as_ref() != Some(&policy.id) {
                    let message = format!("{from} bills meter {:?}, which does not name it", billed.meter.as_str());
                    self.findings.add(at, message, format!("write billable = {:?} in the meter, or remove it here", policy.id));
                }
            }
        }
    }

    fn skus(&mut self) {
        for (located, sku) in documents(self.contents, sku) {
            let from = format!("sku {:?}", sku.id.as_str());
            self.reference(Kind::Meter, sku.meter.as_str(), located.at("meter"), &from);
            let Some(meter) = self.known.meter(sku) else { continue };
            let ranged = sku.above.keys().chain(sku.up_to.keys());
            let known =
                |name: &str| meter.dimensions.contains_key(name) || meter.billable.is_some() && [RATE, SESSION, BAND].contains(&name);
            for (row, name) in sku.matches.keys().chain(ranged).enumerate().filter(|(_, name)| !known(name)) {
                let hint = self.findings.hint(name, meter.dimensions.keys().map(String::as_str));
                let message = format!("{from} matches dimension {name:?}, which meter {:?} does not have", meter.id.as_str());
                let remedy = format!("{hint}add the dimension to the meter, or correct the name");
                self.findings.add(located.at_row("match", row), message, remedy);
            }
        }
    }

    /// Of two SKUs of a meter that one book prices and that can match one reading, one must ask for more dimensions than the other.
    fn ambiguous_skus(&mut self) {
        let skus: Vec<(&Located, &Sku)> = documents(self.contents, sku).collect();
        let items: HashMap<&SkuId, usize> = skus.iter().enumerate().map(|(item, (_, sku))| (&sku.id, item)).collect();
        let mut reported: BTreeSet<(usize, usize)> = BTreeSet::new();
        for (_, book) in documents(self.contents, book) {
            let mut by_meter: BTreeMap<&str, BTreeSet<usize>> = BTreeMap::new();
            for item in book.prices.iter().filter_map(|price| items.get(&price.sku)) {
                if let Some((_, sku)) = skus.get(*item) {
                    by_meter.entry(sku.meter.as_str()).or_default().insert(*item);
                }
            }
            for items in by_meter.values() {
                let of_meter = || items.iter().filter_map(|item| skus.get(*item).map(|(located, sku)| (*located, *sku, *item)));
                let mut index = MatchIndex::new(of_meter().map(|(_, sku, item)| (&sku.matches, item)));
                for (located, sku, item) in of_meter() {
                    let mut first = item;
                    index.compatible(
                        &sku.matches,
                        |size| size <= names(sku),
                        |found| {
                            let rivals = found
                                .iter()
                                .filter(|item| skus.get(**item).is_some_and(|(_, other)| names(other) == names(sku) && meet(sku, other)));
                            first = rivals.min().map_or(first, |found| first.min(*found));
                        },
                    );
                    let Some((other_located, other)) = skus.get(first).filter(|_| first != item && reported.insert((first, item))) else {
                        continue;
                    };
                    let message = format!(
                        "sku {:?} and sku {:?} ({}) can both match one reading of meter {:?}, and price book {:?} prices both",
                        sku.id.as_str(),
                        other.id.as_str(),
                        self.findings.shown(other_located.at("id")),
                        sku.meter.as_str(),
                        book.id,
                    );
                    let remedy = "let one of them match more dimensions, or another value: the one with more dimensions wins";
                    self.findings.add(located.at("match"), message, remedy);
                }
            }
        }
    }

    fn prices(&mut self) {
        let mut ids: HashMap<&PriceId, At> = HashMap::new();
        for (located, book) in documents(self.contents, book) {
            self.reference(Kind::Rounding, book.currency.as_str(), located.at("currency"), format_args!("price book {:?}", book.id));
            let mut instants: HashMap<(&SkuId, Instant), At> = HashMap::new();
            for (row, price) in book.prices.iter().enumerate() {
                let at = located.at_row("price", row);
                let from = format!("price {:?}", price.id.as_str());
                self.reference(Kind::Sku, price.sku.as_str(), located.at_row("price.sku", row), &from);
                if let Some(unit) = self.known.unit_of(&price.sku) {
                    self.fits_unit(price, unit, at);
                }
                self.fits_meter(price, at);
                let again = instants.insert((&price.sku, price.effective_at), at);
                if let Some(first) = again {
                    let first = self.findings.shown(first);
                    let sku = price.sku.as_str();
                    let message =
                        format!("sku {sku:?} has two prices from {} on in book {:?}, first at {first}", price.effective_at, book.id);
                    let remedy = "remove one of them, or give it another effective_at";
                    self.findings.add(located.at_row("price.effective_at", row), message, remedy);
                } else if let Some(first) = ids.insert(&price.id, at) {
                    let message = format!("{from} is there twice, first at {}", self.findings.shown(first));
                    self.findings.add(located.at_row("price.id", row), message, "give every price an id of its own, or leave the ids out");
                }
            }
        }
    }

    /// Bounds and sizes must not be finer than the unit can be counted.
    fn fits_unit(&mut self, price: &PriceRow, unit: &Unit, at: At) {
        let (convert, free_units, _, model) = price.model.parts();
        if convert.is_some() {
            // Sizes and bounds count converted units, which no document names.
            return;
        }
        let tier_bounds = |tiers: &[Tier]| tiers.iter().map(|tier| tier.up_to).collect::<Vec<_>>();
        let (first, bounds): (Vec<(&str, Quantity)>, Vec<Option<Quantity>>) = match model {
            PriceModel::PerUnit { per, .. } => (vec![("per", *per)], vec![]),
            PriceModel::Package { size, .. } => (vec![("size", *size)], vec![]),
            PriceModel::Graduated { per, tiers } | PriceModel::Volume { per, tiers } => (vec![("per", *per)], tier_bounds(tiers)),
            PriceModel::GraduatedPercentage { tiers } => (vec![], tier_bounds(tiers)),
            PriceModel::Blocks { tiers } | PriceModel::TopBlocks { tiers } => {
                (tiers.iter().map(|tier| ("size", tier.size)).collect(), tiers.iter().map(|tier| tier.up_to).collect())
            }
            PriceModel::Percentage(terms) => (vec![("free_value", terms.free_value)], vec![]),
            PriceModel::Free { .. } | PriceModel::Adjusted { .. } | PriceModel::Committed { .. } => (vec![], vec![]),
        };
        let bounds = bounds.into_iter().flatten().map(|up_to| ("up_to", up_to));
        let first = first.into_iter().chain([("free_units", free_units)]);
        let step = 10_i128.pow(Quantity::SCALE.saturating_sub(unit.scale));
        for (field, quantity) in first.chain(bounds).filter(|(_, quantity)| quantity.units() % step != 0) {
            let places = unit.scale;
            let message = format!(
                "{field} of price {:?} is {quantity}, but unit {:?} has {places} decimal places",
                price.id.as_str(),
                unit.id.as_str()
            );
            self.findings.add(at, message, "round it, or raise the scale of the unit");
        }
    }

    /// Models that make sense of some meters only.
    fn fits_meter(&mut self, price: &PriceRow, at: At) {
        let Some(Document::Sku(sku)) = self.known.get(Kind::Sku, price.sku.as_str()) else { return };
        let Some(meter) = self.known.meter(sku) else { return };
        let (convert, free_units, applies_to, model) = price.model.parts();
        let (id, aggregation) = (price.id.as_str(), meter.aggregation.name());
        if matches!(model, PriceModel::Percentage(_)) && measure(&meter.aggregation) != Measure::Sum {
            let message =
                format!("price {id:?} is a percentage, but meter {:?} is no sum: its aggregation is {aggregation:?}", meter.id.as_str());
            self.findings.add(at, message, "price a meter that sums values, or use another model");
        }
        if applies_to == AppliesTo::EachEvent && measure(&meter.aggregation) != Measure::Sum {
            let message = format!(
                "price {id:?} applies to each event, but meter {:?} is no sum: its aggregation is {aggregation:?}",
                meter.id.as_str()
            );
            self.findings.add(at, message, "leave out applies_to, or price a meter that sums values");
        }
        let leveled = meter.billable.is_none()
            && matches!(meter.aggregation, Aggregation::Prorated { .. })
            && matches!(model, PriceModel::Graduated { .. });
        if leveled && (convert.is_some() || free_units != Quantity::ZERO) {
            let message = format!(
                "price {id:?} has graduated tiers over the prorated levels of meter {:?}, converted or partly free",
                meter.id.as_str()
            );
            self.findings.add(
                at,
                message,
                "leave out convert and free_units: state the tiers in the meter's unit, the first of them at a price of zero",
            );
        }
    }

    fn contracts(&mut self) {
        let mut starts: HashMap<(Option<&OrganizationId>, Instant), (&Contract, At)> = HashMap::new();
        for (located, contract) in documents(self.contents, contract) {
            let from = format!("contract {:?}", contract.id.as_str());
            self.reference(Kind::PriceBook, &contract.price_book, located.at("price_book"), &from);
            self.recurring(located, contract);
            let organizations: Vec<Option<&OrganizationId>> = match &contract.covers {
                Covers::Default => vec![None],
                Covers::Organizations(organizations) => organizations.iter().map(Some).collect(),
            };
            for organization in organizations {
                let at = located.at("effective_at");
                let Some((first, first_at)) = starts.insert((organization, contract.effective_at), (contract, at)) else { continue };
                let whom = organization.map_or_else(|| "the default".to_owned(), |id| format!("organization {:?}", id.as_str()));
                let message = format!(
                    "{from} and contract {:?} ({}) both begin at {} for {whom}",
                    first.id.as_str(),
                    self.findings.shown(first_at),
                    contract.effective_at,
                );
                self.findings.add(at, message, "give one of them another effective_at, or remove it");
            }
        }
    }
}

impl Checker<'_, '_, '_> {
    /// A fee that no price of the contract's book could take would be quarantined, period after period.
    fn recurring(&mut self, located: &Located, contract: &Contract) {
        let Some(Document::PriceBook(book)) = self.known.get(Kind::PriceBook, &contract.price_book) else { return };
        let skus: BTreeSet<&SkuId> = book.prices.iter().map(|price| &price.sku).collect();
        for fee in &contract.recurring {
            let prices_it = |sku: &&SkuId| {
                let Some(Document::Sku(sku)) = self.known.get(Kind::Sku, sku.as_str()) else { return true };
                let Some(meter) = self.known.meter(sku) else { return true };
                let is_item = |name: &str| meter.dimensions.get(name).is_some_and(|path| path == Recurring::ITEM);
                meter.event_type == fee.event_type
                    && sku.matches.iter().all(|(name, value)| is_item(name) && *value == fee.item)
                    && sku.above.is_empty()
                    && sku.up_to.is_empty()
            };
            if self.contents.broken || skus.iter().any(prices_it) {
                continue;
            }
            let (id, contract, book) = (&fee.id, contract.id.as_str(), &book.id);
            let message =
                format!("nothing in price book {book:?} prices item {:?} of recurring fee {id:?} of contract {contract:?}", fee.item);
            let remedy = format!(
                "add a meter with event_type = {:?}, value = {:?} and dimensions = {{ item = {:?} }}, a SKU that matches item = {:?}, and its price",
                fee.event_type,
                Recurring::QUANTITY,
                Recurring::ITEM,
                fee.item
            );
            self.findings.add(located.at("recurring"), message, remedy);
        }
    }
}

fn documents<'c, T: 'c>(
    contents: &'c Contents,
    pick: impl Fn(&'c Document) -> Option<&'c T>,
) -> impl Iterator<Item = (&'c Located, &'c T)> {
    contents.documents.iter().filter_map(move |located| pick(&located.document).map(|document| (located, document)))
}

fn billable_states(document: &Document) -> Option<&BillableStates> {
    if let Document::BillableStates(policy) = document { Some(policy) } else { None }
}

fn meter(document: &Document) -> Option<&Meter> {
    if let Document::Meter(meter) = document { Some(meter) } else { None }
}

fn sku(document: &Document) -> Option<&Sku> {
    if let Document::Sku(sku) = document { Some(sku) } else { None }
}

fn book(document: &Document) -> Option<&PriceBook> {
    if let Document::PriceBook(book) = document { Some(book) } else { None }
}

fn contract(document: &Document) -> Option<&Contract> {
    if let Document::Contract(contract) = document { Some(contract) } else { None }
}
