//! JSON Schemas (draft 2020-12) of what a registry is written in and of what a version is: for editors and for programs that make documents.
//! They say what one document can show to be wrong; what only several show (names, references, order of tiers and bounds) is left to
//! [`Version::check`](crate::Version::check). They lie in `contracts/registry/`; a test compares them.

mod canonical;
mod folder;

use serde_json::{Map, Value, json};
use shared_types::{Price, Quantity};

use crate::document::{BilledDuring, ChargedAt, CutAt, Recurring, StepRounding, StepsOf, TermsOver, TrueUp};

pub use canonical::version_schema;
pub use folder::folder_schema;

const DIALECT: &str = "https://json-schema.org/draft/2020-12/schema";

/// Members of an object, each with its schema.
type Members = Vec<(&'static str, Value)>;

/// An object of exactly these members, of which these may be absent.
fn object<'a>(members: impl IntoIterator<Item = (&'a str, Value)>, optional: &[&str]) -> Value {
    let members: Map<String, Value> = members.into_iter().map(|(name, schema)| (name.to_owned(), schema)).collect();
    let required: Vec<&String> = members.keys().filter(|name| !optional.contains(&name.as_str())).collect();
    json!({"type": "object", "additionalProperties": false, "required": required, "properties": members})
}

/// One of these texts.
fn words(words: impl IntoIterator<Item = &'static str>) -> Value {
    json!({"enum": words.into_iter().collect::<Vec<_>>()})
}

fn text() -> Value {
    json!({"type": "string", "minLength": 1, "maxLength": 1024})
}

fn id() -> Value {
    json!({"type": "string", "pattern": "^[A-Za-z0-9._:/@-]{1,128}$"})
}

/// Names that end up in account names and price ids.
fn name() -> Value {
    json!({"type": "string", "pattern": "^[A-Za-z0-9._-]{1,64}$"})
}

/// Member names joined by dots.
fn path() -> Value {
    json!({"type": "string", "minLength": 1, "maxLength": 1024, "pattern": "^[^.]+([.][^.]+)*$"})
}

/// An object whose members have names of dimensions.
fn by_dimension(value: &Value, most: Option<usize>) -> Value {
    let names = json!({"type": "string", "minLength": 1, "maxLength": 128});
    let mut schema = json!({"type": "object", "propertyNames": names, "additionalProperties": value});
    if let (Some(most), Some(schema)) = (most, schema.as_object_mut()) {
        schema.insert("maxProperties".to_owned(), most.into());
    }
    schema
}

/// Texts by text.
fn texts(value: &Value) -> Value {
    json!({"type": "object", "additionalProperties": value})
}

fn states() -> Value {
    json!({"type": "array", "uniqueItems": true, "items": text()})
}

/// What billable states say beside how they are told, and what they bill of each meter, in the one form or the other of numbers.
fn billable(counted: &Value, above_zero: &Value) -> (Members, Members) {
    let times = json!({"type": "object", "propertyNames": {"pattern": "^([01][0-9]|2[0-3]):[0-5][0-9]$"}, "additionalProperties": text()});
    let policy = vec![
        ("id", name()),
        ("description", text()),
        ("states", json!({"type": "array", "minItems": 1, "uniqueItems": true, "items": text()})),
        ("start", states()),
        ("stop", states()),
        ("ready", states()),
        ("never_ready", text()),
        ("session", path()),
        ("split", words(CutAt::WORDS.iter().map(|(word, _)| *word))),
        ("zone", text()),
        ("bands", times),
    ];
    let meter = vec![
        ("meter", id()),
        ("rates", texts(&text())),
        ("during", words(BilledDuring::WORDS.iter().map(|(word, _)| *word))),
        ("increment", above_zero.clone()),
        ("rounding", words(StepRounding::WORDS.iter().map(|(word, _)| *word))),
        ("minimum", counted.clone()),
        ("each", words(StepsOf::WORDS.iter().map(|(word, _)| *word))),
        ("greater_of", texts(above_zero)),
        ("at_least", counted.clone()),
    ];
    (policy, meter)
}

/// A recurring fee, in the one form or the other of instants and numbers. Canonical ones name their event type.
fn recurring(instant: &Value, above_zero: &Value, optional: &[&str]) -> Value {
    let own = json!({"type": "string", "maxLength": 1024, "pattern": format!("^{}([.].+)?$", Recurring::EVENT_TYPE.replace('.', "[.]"))});
    let members = [
        ("id", name()),
        ("event_type", own),
        ("item", text()),
        ("quantity", above_zero.clone()),
        ("charged_at", words(ChargedAt::WORDS.iter().map(|(word, _)| *word))),
        ("from", instant.clone()),
        ("until", instant.clone()),
    ];
    object(members, optional)
}

/// What every term of a contract says beside its rule.
fn term() -> Members {
    let names = |item: Value| json!({"type": "array", "minItems": 1, "uniqueItems": true, "items": item});
    vec![("id", name()), ("description", text()), ("skus", names(id())), ("families", names(name()))]
}

/// Fields of a term that may be left out.
const TERM_OPTIONAL: [&str; 3] = ["description", "skus", "families"];

/// Each rule of a term with what it says, in the one form or the other of numbers.
fn term_rules(money_above_zero: &Value, above_zero: &Value, percent: &Value) -> Vec<(&'static str, Members)> {
    let true_up = words(TrueUp::WORDS.iter().map(|(word, _)| *word));
    let amount = || ("amount", money_above_zero.clone());
    vec![
        ("discount", vec![("percent", above_zero.clone())]),
        ("capacity", vec![]),
        (
            "graduated_discount",
            vec![("tiers", list(&object([("up_to", money_above_zero.clone()), ("percent", percent.clone())], &["up_to"])))],
        ),
        ("commitment", vec![amount(), ("overage_factor", above_zero.clone()), ("true_up", true_up)]),
        ("maximum_spend", vec![amount()]),
        ("minimum_spend", vec![amount()]),
    ]
}

fn terms_over() -> Value {
    words(TermsOver::WORDS.iter().map(|(word, _)| *word))
}

/// A list of at least one.
fn list(items: &Value) -> Value {
    json!({"type": "array", "minItems": 1, "items": items})
}

/// How many decimal places a kind of number has at most.
fn price_places() -> u32 {
    Price::SCALE
}

fn quantity_places() -> u32 {
    Quantity::SCALE
}
