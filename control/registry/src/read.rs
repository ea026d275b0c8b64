//! From TOML text to documents with their places. Everything that one document can show to be wrong is found here.
//! It does not know other documents: references and names used twice are checked elsewhere.

mod band;
mod billable;
mod field;
mod meter;
mod price;
mod recurring;
mod term;
mod window;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use shared_types::{Instant, OrganizationId, PriceId, Quantity, SkuId};
use toml::de::{DeTable, DeValue};

use crate::Kind;
use crate::document::{
    Aggregation, BillingPeriod, Contract, Covers, Document, Meter, Negative, PriceBook, PriceRow, Rounding, RoundingMode, Sku, Unit,
};
use crate::problem::{At, Findings};
use field::type_name;

/// Most dimensions of a meter.
pub(crate) const DIMENSIONS_MAX: usize = 16;
/// Most syntax errors reported of one file: further ones are mostly echoes.
const SYNTAX_ERRORS_MAX: usize = 20;

/// A document and where its parts stand.
#[derive(Debug)]
pub(crate) struct Located {
    pub(crate) document: Document,
    at: At,
    places: Places,
}

/// Field and its number where it is repeated, else 0.
type Places = HashMap<(&'static str, usize), At>;

impl Located {
    /// Where a field stands; the document's head when it was left out.
    pub(crate) fn at(&self, field: &'static str) -> At {
        self.at_row(field, 0)
    }

    /// Where the n-th of a repeated field stands.
    pub(crate) fn at_row(&self, field: &'static str, row: usize) -> At {
        self.places.get(&(field, row)).copied().unwrap_or(self.at)
    }
}

/// What the files hold.
#[derive(Debug, Default)]
pub(crate) struct Contents {
    pub(crate) documents: Vec<Located>,
    /// Kind and id of documents that are wrong otherwise: a reference to them is no further problem.
    pub(crate) declared: BTreeSet<(Kind, String)>,
    /// Some file or table could not be read at all, so the target of a reference may lie there.
    pub(crate) broken: bool,
}

/// Reads every file; what is wrong goes to the findings.
pub(crate) fn read(findings: &mut Findings) -> Contents {
    let mut contents = Contents::default();
    let texts: Vec<Arc<str>> = findings.files.iter().map(|file| Arc::clone(&file.text)).collect();
    for (file, text) in texts.iter().enumerate() {
        let (root, errors) = DeTable::parse_recoverable(text);
        for error in errors.iter().take(SYNTAX_ERRORS_MAX) {
            findings.add(
                At { file, offset: error.span().map_or(0, |span| span.start) },
                format!("this is not TOML: {}", error.message()),
                "mend the line; texts and numbers stand in double quotes, the head of a document in [[double brackets]]",
            );
        }
        let found = findings.len();
        let mut reader = Reader { file, text, findings, contents: &mut contents };
        let documents = reader.documents(root.get_ref());
        if errors.is_empty() {
            contents.documents.extend(documents);
        } else {
            // The fields recovered from a broken file may be torn: nothing is said about them.
            findings.truncate(found);
            contents.broken = true;
        }
    }
    contents
}

/// Fields whose places the checks across documents ask for.
const FIELDS_WITH_PLACES: [&str; 13] = [
    "id",
    "unit",
    "meter",
    "match",
    "currency",
    "price_book",
    "effective_at",
    "asset",
    "dimensions",
    "of",
    "recurring",
    "billable",
    "recurring_from",
];
const ROW_FIELDS_WITH_PLACES: [(&str, &str); 3] = [("sku", "price.sku"), ("effective_at", "price.effective_at"), ("id", "price.id")];

/// A field that was read: left out, wrong (and said so), or good.
enum Field<T> {
    Absent,
    Wrong,
    Good(T, At),
}

/// One TOML table with its place and what to call it.
struct Table<'t, 'i> {
    members: &'t DeTable<'i>,
    at: At,
    name: String,
}

struct Reader<'r> {
    file: usize,
    text: &'r str,
    findings: &'r mut Findings,
    contents: &'r mut Contents,
}

impl Reader<'_> {
    fn documents(&mut self, root: &DeTable<'_>) -> Vec<Located> {
        let mut documents = Vec::new();
        for (key, value) in root.iter() {
            let at = self.at(key.span().start);
            let Some(kind) = Kind::ALL.into_iter().find(|kind| kind.name() == key.get_ref().as_ref()) else {
                self.unknown_kind(at, key.get_ref());
                continue;
            };
            let tables = match value.get_ref() {
                DeValue::Array(items) => items.iter().collect(),
                _ => Vec::new(),
            };
            if tables.is_empty() || tables.iter().any(|item| !matches!(item.get_ref(), DeValue::Table(_))) {
                self.contents.broken = true;
                self.findings.add(at, format!("{kind} is not a list of documents"), format!("begin each {kind} with a line [[{kind}]]"));
                continue;
            }
            for item in tables {
                let DeValue::Table(members) = item.get_ref() else { continue };
                documents.extend(self.document(kind, members, self.at(item.span().start)));
            }
        }
        documents
    }

    fn unknown_kind(&mut self, at: At, kind: &str) {
        let hint = self.findings.hint(kind, Kind::ALL.map(Kind::name));
        let known = Kind::ALL.map(Kind::name).join(", ");
        let remedy = match kind {
            "price" | "prices" => "write [[price_book.price]] below the [[price_book]] that it belongs to".to_owned(),
            _ => format!("{hint}the kinds are {known}"),
        };
        self.findings.add(at, format!("unknown kind of document {kind:?}"), remedy);
    }

    fn document(&mut self, kind: Kind, members: &DeTable<'_>, at: At) -> Option<Located> {
        let id_field = if kind == Kind::Rounding { "asset" } else { "id" };
        let id = match members.get(id_field).map(toml::Spanned::get_ref) {
            Some(DeValue::String(id)) => Some(id.to_string()),
            _ => None,
        };
        let name = id.as_ref().map_or_else(|| kind.to_string(), |id| format!("{kind} {id:?}"));
        let table = Table { members, at, name };
        let mut places = Places::new();
        for (key, value) in members.iter() {
            let field = FIELDS_WITH_PLACES.iter().find(|field| **field == key.get_ref().as_ref());
            places.extend(field.map(|field| ((*field, 0), self.at(value.span().start))));
        }
        let document = match kind {
            Kind::BillableStates => self.billable_states(&table, &mut places).map(Document::BillableStates),
            Kind::Contract => self.contract(&table, &mut places).map(Document::Contract),
            Kind::Meter => self.meter(&table).map(Document::Meter),
            Kind::PriceBook => self.price_book(&table, &mut places).map(Document::PriceBook),
            Kind::Rounding => self.rounding(&table).map(Document::Rounding),
            Kind::Sku => self.sku(&table, &mut places).map(Document::Sku),
            Kind::Unit => self.unit(&table).map(Document::Unit),
        };
        match (document, id) {
            (Some(document), _) => return Some(Located { document, at, places }),
            (None, Some(id)) => {
                self.contents.declared.insert((kind, id));
            }
            (None, None) => self.contents.broken = true,
        }
        None
    }

    fn unit(&mut self, table: &Table<'_, '_>) -> Option<Unit> {
        self.only(table, &["id", "description", "scale"]);
        let id = self.id(table, "id");
        let description = self.description(table);
        let scale = self.scale(table);
        let scale = self.or(scale, Quantity::SCALE);
        Some(Unit { id: id?, description: description?, scale: scale? })
    }

    fn meter(&mut self, table: &Table<'_, '_>) -> Option<Meter> {
        let id = self.id(table, "id");
        let event_type = self.required_text(table, "event_type", "name the CloudEvents type, for example event_type = \"llm.request\"");
        let (fields, aggregation) = self.aggregation(table);
        self.elsewhere(table, meter::RECURRING, "recurring_from");
        let common = ["id", "event_type", "aggregation", "value", "unit", "dimensions", "negative", "part_of", "billable", "zone"];
        self.only_but(table, &[&common[..], fields].concat(), meter::RECURRING);
        let value = self.text_field(table, "value");
        let value = self.path(table, "value", value);
        let value = match (aggregation.as_ref().map(Aggregation::counts), value) {
            (Some(false), Field::Absent) => {
                let remedy = "name the path inside data, for example value = \"input_tokens\"";
                self.required::<String>(table, Field::Absent, "value", remedy).map(Some)
            }
            (Some(true), Field::Good(_, at)) => {
                let what = if aggregation == Some(Aggregation::Count) { "events" } else { "different values of a dimension" };
                self.findings.add(at, format!("value of {} would be ignored: it counts {what}", table.name), "remove value, or sum it");
                None
            }
            (_, value) => self.optional(value),
        };
        let unit = self.id(table, "unit");
        let dimensions = self.texts(table, "dimensions").map(|texts| self.dimensions(table, texts));
        let words = [("quarantine", Negative::Quarantine), ("accept", Negative::Accept)];
        let negative = self.word(table, "negative", &words);
        let negative = self.or(negative, Negative::Quarantine);
        let part_of = self.part_of(table, aggregation.as_ref());
        let billable = self.billable(table, aggregation.as_ref());
        let zone = self.zone_of_meter(table, aggregation.as_ref());
        let recurring = self.recurring_level(table, aggregation.as_ref(), negative);
        let (recurring_from, recurring_until) = recurring?;
        Some(Meter {
            id: id?,
            event_type: event_type?,
            aggregation: aggregation?,
            value: value?,
            unit: unit?,
            dimensions: dimensions??,
            negative: negative?,
            part_of: part_of?,
            billable: billable?,
            zone: zone?,
            recurring_from,
            recurring_until,
        })
    }

    fn dimensions(&mut self, table: &Table<'_, '_>, texts: BTreeMap<String, (String, At)>) -> Option<BTreeMap<String, String>> {
        if texts.len() > DIMENSIONS_MAX {
            let message = format!("{} has more than {DIMENSIONS_MAX} dimensions", table.name);
            self.findings.add(table.at, message, "keep the ones that prices need");
        }
        let paths: Vec<(String, Field<String>)> =
            texts.into_iter().map(|(name, (path, at))| (name, self.path(table, "dimensions", Field::Good(path, at)))).collect();
        paths
            .into_iter()
            .map(|(name, path)| match path {
                Field::Good(path, _) => Some((name, path)),
                Field::Absent | Field::Wrong => None,
            })
            .collect()
    }

    fn sku(&mut self, table: &Table<'_, '_>, places: &mut Places) -> Option<Sku> {
        self.only(table, &["id", "family", "meter", "match", "above", "up_to", "description"]);
        let id = self.id(table, "id");
        let family = self.required_text(table, "family", "name the revenue family, for example family = \"token-factory\"");
        let family = family.and_then(|family| self.plain_name(table, "family", family));
        let meter = self.id(table, "meter");
        let matches = self.texts(table, "match").map(|texts| {
            for (row, (_, at)) in texts.values().enumerate() {
                places.insert(("match", row), *at);
            }
            texts.into_iter().map(|(name, (value, _))| (name, value)).collect()
        });
        let bands = self.bands(table);
        let description = self.description(table);
        let (above, up_to) = bands?;
        Some(Sku { id: id?, family: family?, meter: meter?, matches: matches?, above, up_to, description: description? })
    }

    fn price_book(&mut self, table: &Table<'_, '_>, places: &mut Places) -> Option<PriceBook> {
        self.only(table, &["id", "currency", "price"]);
        let id = self.required_text(table, "id", "give the price book a name, for example id = \"list-usd\"");
        let id = id.and_then(|id| self.plain_name(table, "id", id));
        let currency = self.id(table, "currency");
        let rows = self.tables(table, "price", "[[price_book.price]]");
        let book = id.clone().unwrap_or_default();
        let mut prices = Vec::new();
        for (members, at) in rows.unwrap_or_default() {
            let sku = match members.get("sku").map(toml::Spanned::get_ref) {
                Some(DeValue::String(sku)) => format!("the price of sku {sku:?}"),
                _ => "a price".to_owned(),
            };
            // A row that cannot be read is left out: the others are checked against other documents all the same.
            let Some(price) = self.price(&Table { members, at, name: sku }, &book) else { continue };
            let row = prices.len();
            prices.push(price);
            places.insert(("price", row), at);
            for (key, value) in members.iter() {
                let field = ROW_FIELDS_WITH_PLACES.iter().find(|(name, _)| *name == key.get_ref().as_ref());
                places.extend(field.map(|(_, field)| ((*field, row), self.at(value.span().start))));
            }
        }
        Some(PriceBook { id: id?, currency: currency?, prices })
    }

    fn price(&mut self, table: &Table<'_, '_>, book: &str) -> Option<PriceRow> {
        let sku: Option<SkuId> = self.id(table, "sku");
        let effective_at = self.instant(table, "effective_at");
        let id = self.price_id(table, book, sku.as_ref(), effective_at);
        let model = self.text_field(table, "model");
        let model = match model {
            Field::Good(model, at) => self.price_model(table, &model, at),
            Field::Absent => self.required(table, Field::Absent, "model", &format!("write model = one of {}", price::MODELS.join(", "))),
            Field::Wrong => None,
        };
        Some(PriceRow { id: id?, sku: sku?, effective_at: effective_at?, model: model? })
    }

    /// The given id, else `<book>:<sku>:<effective_at in UTC>`.
    fn price_id(&mut self, table: &Table<'_, '_>, book: &str, sku: Option<&SkuId>, effective_at: Option<Instant>) -> Option<PriceId> {
        if table.members.contains_key("id") {
            return self.id(table, "id");
        }
        let id = PriceId::parse(&format!("{book}:{}:{}", sku?, effective_at?));
        id.map_err(|error| self.findings.add(table.at, format!("the name made for {}: {error}", table.name), "give it an id")).ok()
    }

    fn contract(&mut self, table: &Table<'_, '_>, places: &mut Places) -> Option<Contract> {
        self.elsewhere(table, price::CONTRACT_TERMS, "a term");
        self.elsewhere(table, price::CONTRACT_PRICES, "part of a price");
        let covering = ["id", "organization", "organizations", "default"];
        let fields = [&covering[..], &["price_book", "effective_at", "billing_period", "recurring", "term", "terms_over"]].concat();
        self.only_but(table, &fields, &[price::CONTRACT_TERMS, price::CONTRACT_PRICES].concat());
        let id = self.id(table, "id");
        let covers = self.covers(table, places);
        let price_book = self.required_text(table, "price_book", "name the price book, for example price_book = \"list-usd\"");
        let effective_at = self.instant(table, "effective_at");
        let billing_period = match self.text_field(table, "billing_period") {
            Field::Good(period, at) if period != "month" => {
                let message = format!("billing_period {period:?} of {} is not supported", table.name);
                self.findings.add(at, message, "write billing_period = \"month\"");
                None
            }
            Field::Wrong => None,
            Field::Absent | Field::Good(..) => Some(BillingPeriod::Month),
        };
        let recurring = self.recurring(table, covers.as_ref());
        let terms = self.terms(table, covers.as_ref(), places);
        let (terms, terms_over) = terms?;
        Some(Contract {
            id: id?,
            covers: covers?,
            price_book: price_book?,
            effective_at: effective_at?,
            billing_period: billing_period?,
            recurring: recurring?,
            terms,
            terms_over,
        })
    }

    fn covers(&mut self, table: &Table<'_, '_>, places: &mut Places) -> Option<Covers> {
        const REMEDY: &str = "write one of organization = \"acme\", organizations = [\"acme\", \"globex\"] or default = true";
        let given = ["organization", "organizations", "default"].into_iter().filter(|field| table.members.contains_key(*field));
        let [field] = given.collect::<Vec<_>>()[..] else {
            self.findings.add(table.at, format!("{} must say whom it binds, in one way", table.name), REMEDY);
            return None;
        };
        let value = table.members.get(field)?;
        let at = self.at(value.span().start);
        let items: Vec<(&DeValue<'_>, At)> = match (field, value.get_ref()) {
            ("default", DeValue::Boolean(true)) => return Some(Covers::Default),
            ("organization", item @ DeValue::String(_)) => vec![(item, at)],
            ("organizations", DeValue::Array(items)) if !items.is_empty() => {
                items.iter().map(|item| (item.get_ref(), self.at(item.span().start))).collect()
            }
            _ => {
                self.findings.add(at, format!("{field} of {} has a value that it cannot have", table.name), REMEDY);
                return None;
            }
        };
        let mut organizations = BTreeSet::new();
        let mut good = true;
        for (item, at) in items {
            let id = match item {
                DeValue::String(text) => OrganizationId::parse(text).map_err(|error| error.to_string()),
                other => Err(format!("an organization is written as {}", type_name(other))),
            };
            let message = match id {
                Ok(id) if organizations.contains(&id) => format!("organization {id} is named twice in {}", table.name),
                Ok(id) => {
                    organizations.insert(id);
                    continue;
                }
                Err(message) => message,
            };
            good = false;
            self.findings.add(at, message, "write each organization once, in quotes");
        }
        places.insert(("organizations", 0), at);
        good.then_some(Covers::Organizations(organizations))
    }

    fn rounding(&mut self, table: &Table<'_, '_>) -> Option<Rounding> {
        self.only(table, &["asset", "scale", "mode"]);
        let asset = self.id(table, "asset");
        let scale = self.scale(table);
        let scale = self.required(table, scale, "scale", "say how many decimal places an invoice line has, for example scale = 2");
        let words = [("half_away_from_zero", RoundingMode::HalfAwayFromZero), ("half_even", RoundingMode::HalfEven)];
        let mode = self.word(table, "mode", &words);
        let mode = self.or(mode, RoundingMode::HalfAwayFromZero);
        Some(Rounding { asset: asset?, scale: scale?, mode: mode? })
    }
}
