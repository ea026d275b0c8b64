//! The schema of a version's content: canonical documents, every default written out. It knows no TOML.

use serde_json::{Value, json};

use super::{
    DIALECT, TERM_OPTIONAL, billable, by_dimension, id, list, name, object, path, price_places, quantity_places, recurring, term,
    term_rules, terms_over, text, words,
};
use crate::document::{AppliesTo, Bucket, Clock, Each, Meter, RoundTo, RoundingMode, Then, UniquePer, WindowTrueUp};
use crate::read::DIMENSIONS_MAX;

/// The content of a version: what [`Version::canonical`](crate::Version::canonical) writes and the address covers, document by document.
pub fn version_schema() -> Value {
    let kinds = ["billable_states", "contract", "meter", "price_book", "rounding", "sku", "unit"];
    let any = kinds.map(|kind| json!({"$ref": format!("#/$defs/{kind}")}));
    let documents = list(&json!({"oneOf": any}));
    let mut schema = object([("documents", documents), ("format", words(["1"]))], &[]);
    let (states, billed) = billable(&counted(), &above_zero());
    let rules: Vec<Value> =
        term_rules(&above_zero(), &above_zero(), &counted()).into_iter().map(|(kind, own)| tagged(kind, object(own, &[]))).collect();
    let definitions = json!({
        "billable_states": document("billable_states", states.into_iter().chain([
            ("told", json!({"oneOf": [tagged("state", path()), tagged("spans", path())]})),
            ("meters", list(&object(billed, &["increment"]))),
        ]).collect(), &["description", "never_ready", "session"]),
        "contract": document("contract", vec![
            ("id", id()),
            ("covers", json!({"oneOf": [words(["default"]), object([("organizations", organizations())], &[])]})),
            ("price_book", text()),
            ("effective_at", instant()),
            ("billing_period", words(["month"])),
            ("recurring", list(&recurring(&instant(), &above_zero(), &["from", "until"]))),
            ("terms", list(&object(term().into_iter().chain([("months", months()), ("rule", json!({"oneOf": rules}))]), &[&TERM_OPTIONAL[..], &["months"]].concat()))),
            ("terms_over", terms_over()),
        ], &["recurring", "terms", "terms_over"]),
        "meter": document("meter", vec![
            ("id", id()),
            ("event_type", text()),
            ("aggregation", aggregation()),
            ("value", path()),
            ("unit", id()),
            ("dimensions", by_dimension(&path(), Some(DIMENSIONS_MAX))),
            ("negative", words(["quarantine", "accept"])),
            ("part_of", path()),
            ("billable", name()),
            ("zone", json!({"allOf": [text(), {"not": {"const": Meter::UTC}}]})),
            ("recurring_from", instant()),
            ("recurring_until", instant()),
        ], &["value", "part_of", "billable", "zone", "recurring_from", "recurring_until"]),
        "price_book": document("price_book", vec![
            ("id", name()),
            ("currency", id()),
            ("prices", json!({"type": "array", "items": {"$ref": "#/$defs/price"}})),
        ], &[]),
        "rounding": document("rounding", vec![
            ("asset", id()),
            ("scale", places()),
            ("mode", words([RoundingMode::HalfAwayFromZero, RoundingMode::HalfEven].map(RoundingMode::name))),
        ], &[]),
        "sku": document("sku", vec![
            ("id", id()),
            ("family", name()),
            ("meter", id()),
            ("match", by_dimension(&text(), None)),
            ("above", by_dimension(&quantity(), None)),
            ("up_to", by_dimension(&quantity(), None)),
            ("description", text()),
        ], &["above", "up_to", "description"]),
        "unit": document("unit", vec![("id", id()), ("description", text()), ("scale", places())], &["description"]),
        "price": object([("id", id()), ("sku", id()), ("effective_at", instant()), ("model", json!({"$ref": "#/$defs/model"}))], &[]),
        "model": model(),
    });
    if let Some(schema) = schema.as_object_mut() {
        schema.insert("$schema".to_owned(), DIALECT.into());
        schema.insert("title".to_owned(), "The content of a registry version: canonical documents".into());
        schema.insert("$defs".to_owned(), definitions);
    }
    schema
}

fn document(kind: &'static str, members: Vec<(&'static str, Value)>, optional: &[&str]) -> Value {
    object(std::iter::once(("kind", words([kind]))).chain(members), optional)
}

fn organizations() -> Value {
    json!({"type": "array", "minItems": 1, "uniqueItems": true, "items": id()})
}

/// An object of one member: a name with what belongs to it.
fn tagged(name: &'static str, of: Value) -> Value {
    object([(name, of)], &[])
}

/// Plain decimals without exponent, leading or trailing zeros.
fn number(sign: &str, places: u32) -> Value {
    let fraction = places.saturating_sub(1);
    json!({"type": "string", "pattern": format!("^{sign}(0|[1-9][0-9]*)([.][0-9]{{0,{fraction}}}[1-9])?$")})
}

fn quantity() -> Value {
    number("-?", quantity_places())
}

fn counted() -> Value {
    number("", quantity_places())
}

fn above_zero() -> Value {
    json!({"allOf": [counted(), {"not": {"const": "0"}}]})
}

fn money() -> Value {
    number("", price_places())
}

/// 2 to 120.
fn months() -> Value {
    json!({"type": "string", "pattern": "^([2-9]|[1-9][0-9]|1[01][0-9]|120)$"})
}

fn places() -> Value {
    json!({"type": "string", "pattern": "^[0-9]$"})
}

/// UTC, with six decimal places where there is a fraction.
fn instant() -> Value {
    let pattern = "^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]([.][0-9]{6})?Z$";
    json!({"type": "string", "pattern": pattern})
}

fn aggregation() -> Value {
    let by = || words(Clock::WORDS.iter().map(|(word, _)| *word));
    json!({"oneOf": [
        words(["sum", "count", "max", "min", "average", "latest"]),
        tagged("unique", object([("of", text()), ("per", words(UniquePer::WORDS.iter().map(|(word, _)| *word)))], &[])),
        tagged("time_weighted", object([("by", by())], &[])),
        tagged("prorated", object([("by", by())], &[])),
        tagged("bucketed", object([
            ("bucket", words(Bucket::WORDS.iter().map(|(word, _)| *word))),
            ("each", words(Each::WORDS.iter().map(|(word, _)| *word))),
            ("then", words(Then::WORDS.iter().map(|(word, _)| *word))),
        ], &[])),
    ]})
}

/// A model, or one that is applied to a converted or partly free quantity, or to windows with commitments: never two of one of those.
fn model() -> Value {
    let tiers = || list(&object([("up_to", above_zero()), ("unit_price", money()), ("flat_fee", money())], &["up_to"]));
    let blocks = || list(&object([("up_to", above_zero()), ("size", above_zero()), ("block_price", money())], &["up_to"]));
    let adjustable = vec![
        tagged("per_unit", object([("per", above_zero()), ("unit_price", money())], &[])),
        tagged("package", object([("size", above_zero()), ("package_price", money())], &[])),
        tagged("graduated", object([("per", above_zero()), ("tiers", tiers())], &[])),
        tagged("volume", object([("per", above_zero()), ("tiers", tiers())], &[])),
        tagged("blocks", object([("tiers", blocks())], &[])),
        tagged("top_blocks", object([("tiers", blocks())], &[])),
    ];
    let convert = object(
        [
            ("multiply", above_zero()),
            ("divide", above_zero()),
            ("rounding", words(RoundTo::WORDS.iter().map(|(word, _)| *word))),
            ("places", json!({"type": "string", "pattern": "^(-?[1-9]|0|-1[0-9]|-20)$"})),
        ],
        &[],
    );
    let adjusted = object(
        [
            ("convert", convert),
            ("free_units", counted()),
            ("applies_to", words(AppliesTo::WORDS.iter().map(|(word, _)| *word))),
            ("model", json!({"oneOf": adjustable.clone()})),
        ],
        &["convert"],
    );
    let promised =
        json!({"oneOf": [tagged("amount", json!({"allOf": [money(), {"not": {"const": "0"}}]})), tagged("quantity", above_zero())]});
    let commitment = object(
        [("promised", promised), ("overage_factor", above_zero()), ("true_up", words(WindowTrueUp::WORDS.iter().map(|(word, _)| *word)))],
        &[],
    );
    let of_windows = adjustable.iter().cloned().chain([tagged("adjusted", adjusted.clone())]).collect::<Vec<_>>();
    let committed = object([("commitment", commitment), ("model", json!({"oneOf": of_windows}))], &[]);
    let percentage = object(
        [
            ("rate", money()),
            ("fee", money()),
            ("least", money()),
            ("most", money()),
            ("free_readings", json!({"type": "string", "pattern": "^(0|[1-9][0-9]*)$"})),
            ("free_value", counted()),
        ],
        &["least", "most"],
    );
    let all = adjustable.into_iter().chain([
        tagged("percentage", percentage),
        tagged("graduated_percentage", object([("tiers", tiers())], &[])),
        tagged("free", object([("rule", name())], &[])),
        tagged("adjusted", adjusted),
        tagged("committed", committed),
    ]);
    json!({"oneOf": all.collect::<Vec<_>>()})
}
