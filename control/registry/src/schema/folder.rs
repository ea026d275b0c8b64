//! The schema of a file of documents, TOML read as JSON. It knows no canonical form.

use serde_json::{Value, json};

use super::{
    DIALECT, TERM_OPTIONAL, billable, by_dimension, id, list, name, object, path, price_places, quantity_places, recurring, term,
    term_rules, terms_over, text, words,
};
use crate::Kind;
use crate::document::{AppliesTo, Bucket, Clock, Each, RoundTo, RoundingMode, Term, Then, UniquePer, WindowTrueUp};
use crate::read::DIMENSIONS_MAX;

/// What a file of a registry folder may hold, TOML read as JSON.
pub fn folder_schema() -> Value {
    let documents = Kind::ALL.map(|kind| (kind.name(), list(&json!({"$ref": format!("#/$defs/{kind}")}))));
    let mut schema = object(documents, &Kind::ALL.map(Kind::name));
    let definitions = json!({
        "billable_states": states(),
        "contract": contract(),
        "meter": meter(),
        "price_book": object(
            [("id", name()), ("currency", id()), ("price", json!({"type": "array", "items": {"$ref": "#/$defs/price"}}))],
            &["price"],
        ),
        "price": price(),
        "rounding": object([("asset", id()), ("scale", scale()), ("mode", modes())], &["mode"]),
        "sku": object(
            [
                ("id", id()),
                ("family", name()),
                ("meter", id()),
                ("match", by_dimension(&text(), None)),
                ("above", by_dimension(&quantity(), None)),
                ("up_to", by_dimension(&quantity(), None)),
                ("description", text()),
            ],
            &["match", "above", "up_to", "description"],
        ),
        "unit": object([("id", id()), ("description", text()), ("scale", scale())], &["description", "scale"]),
    });
    if let Some(schema) = schema.as_object_mut() {
        schema.insert("$schema".to_owned(), DIALECT.into());
        schema.insert("title".to_owned(), "A file of registry documents: TOML read as JSON".into());
        schema.insert("$defs".to_owned(), definitions);
    }
    schema
}

/// Decimal places, a number without quotes.
fn scale() -> Value {
    json!({"type": "integer", "minimum": 0, "maximum": quantity_places()})
}

fn modes() -> Value {
    words([RoundingMode::HalfAwayFromZero, RoundingMode::HalfEven].map(RoundingMode::name))
}

/// A plain decimal number in quotes.
fn number(sign: &str, places: u32) -> Value {
    json!({"type": "string", "maxLength": 400, "pattern": format!("^{sign}[0-9]+([.][0-9]{{1,{places}}}0*)?$")})
}

fn quantity() -> Value {
    number("(-(?=.*[1-9]))?", quantity_places())
}

/// Zero or more.
fn counted() -> Value {
    number("", quantity_places())
}

/// More than zero: some digit is not zero.
fn above_zero() -> Value {
    json!({"allOf": [counted(), {"pattern": "[1-9]"}]})
}

fn money() -> Value {
    number("", price_places())
}

/// RFC 3339 with an offset.
fn instant() -> Value {
    let time = "([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]([.][0-9]{1,6}0*)?";
    json!({"type": "string", "pattern": format!("^[0-9]{{4}}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])[Tt ]{time}([Zz]|[-+]([01][0-9]|2[0-3]):[0-5][0-9])$")})
}

fn contract() -> Value {
    let organizations = json!({"type": "array", "minItems": 1, "uniqueItems": true, "items": id()});
    let mut schema = object(
        [
            ("id", id()),
            ("organization", id()),
            ("organizations", organizations),
            ("default", json!({"const": true})),
            ("price_book", text()),
            ("effective_at", instant()),
            ("billing_period", json!({"const": "month"})),
            ("recurring", list(&recurring(&instant(), &above_zero(), &["event_type", "from", "until"]))),
            ("term", list(&json!({"oneOf": terms()}))),
            ("terms_over", terms_over()),
        ],
        &["organization", "organizations", "default", "billing_period", "recurring", "term", "terms_over"],
    );
    // Nobody owes a fee of the contract for everyone else.
    let ways = [
        json!({"required": ["organization"]}),
        json!({"required": ["organizations"]}),
        json!({"required": ["default"], "properties": {"recurring": false}}),
    ];
    if let Some(schema) = schema.as_object_mut() {
        schema.insert("oneOf".to_owned(), json!(ways));
    }
    schema
}

/// A term by its kind.
fn terms() -> Vec<Value> {
    let rules = term_rules(&above_zero(), &above_zero(), &counted()).into_iter();
    let of_kind = |(kind, mut own): (&'static str, super::Members)| {
        if !matches!(kind, "discount" | "capacity") {
            own.push(("months", json!({"type": "integer", "minimum": Term::MONTHS.start(), "maximum": Term::MONTHS.end()})));
        }
        let optional = [&TERM_OPTIONAL[..], &["overage_factor", "months"]].concat();
        object(term().into_iter().chain([("kind", words([kind]))]).chain(own), &optional)
    };
    rules.map(of_kind).collect()
}

fn states() -> Value {
    let (states, billed) = billable(&counted(), &above_zero());
    let billed = object(billed, &["during", "increment", "rounding", "minimum", "each", "greater_of", "at_least"]);
    let members = states.into_iter().chain([("state", path()), ("spans", path()), ("meter", list(&billed))]);
    let optional = ["description", "start", "stop", "ready", "never_ready", "session", "split", "zone", "bands", "state", "spans"];
    let mut schema = object(members, &optional);
    // One state tells nothing of a lease's history.
    let history = json!({"start": false, "stop": false, "ready": false, "never_ready": false});
    let ways = [json!({"required": ["state"], "properties": history}), json!({"required": ["spans"]})];
    if let Some(schema) = schema.as_object_mut() {
        schema.insert("oneOf".to_owned(), json!(ways));
    }
    schema
}

fn meter() -> Value {
    let common = |aggregation: Value| {
        vec![
            ("id", id()),
            ("event_type", text()),
            ("aggregation", aggregation),
            ("unit", id()),
            ("dimensions", by_dimension(&path(), Some(DIMENSIONS_MAX))),
            ("negative", words(["quarantine", "accept"])),
        ]
    };
    // What counts has no value, so it is no part of a total either.
    let counting = |aggregation: &'static str, own: Vec<(&'static str, Value)>, optional: &[&str]| {
        object(common(words([aggregation])).into_iter().chain(own), &[&["dimensions", "negative"], optional].concat())
    };
    let valued = |aggregations: Value, own: Vec<(&'static str, Value)>, optional: &[&str]| {
        let value = [("value", path()), ("part_of", path())];
        object(common(aggregations).into_iter().chain(value).chain(own), &[&["dimensions", "negative", "part_of"], optional].concat())
    };
    let bucketed = |buckets: Vec<&'static str>| {
        vec![
            ("bucket", words(buckets)),
            ("each", words(Each::WORDS.iter().map(|(word, _)| *word))),
            ("then", words(Then::WORDS.iter().map(|(word, _)| *word))),
        ]
    };
    let zoned = |mut own: Vec<(&'static str, Value)>| {
        own.push(("zone", text()));
        own
    };
    let held = || words(["time_weighted", "prorated"]);
    // A level that is carried must be able to fall.
    let carried = |own: Vec<(&'static str, Value)>, optional: &[&str]| {
        let carried = [("negative", words(["accept"])), ("recurring_from", instant()), ("recurring_until", instant())];
        let members = common(held()).into_iter().chain([("value", path())]).chain(own).chain(carried);
        object(members, &[&["dimensions", "recurring_until"], optional].concat())
    };
    // Days and hours have a zone.
    json!({"oneOf": [
        valued(words(["sum", "max", "min", "average", "latest"]), vec![], &[]),
        counting("count", vec![], &[]),
        counting("unique", vec![("of", text()), ("per", words([UniquePer::Period.name()]))], &["per"]),
        counting("unique", zoned(vec![("of", text()), ("per", words([UniquePer::Day.name()]))]), &["zone"]),
        valued(held(), vec![("by", words([Clock::Microsecond.name()])), ("billable", name())], &["by", "billable"]),
        valued(held(), zoned(vec![("by", words([Clock::Day.name()]))]), &["zone"]),
        carried(vec![("by", words([Clock::Microsecond.name()]))], &["by"]),
        carried(zoned(vec![("by", words([Clock::Day.name()]))]), &["zone"]),
        valued(words(["bucketed"]), bucketed(vec![Bucket::FiveMinutes.name()]), &["each"]),
        valued(words(["bucketed"]), zoned(bucketed(vec![Bucket::Hour.name(), Bucket::Day.name()])), &["each", "zone"]),
    ]})
}

/// What is promised for each window of a price: money, or what a quantity costs.
fn window_commitment() -> Value {
    let amount = json!({"allOf": [money(), {"pattern": "[1-9]"}]});
    let promises = [("amount", amount), ("quantity", above_zero())];
    let ways = promises.map(|promise| {
        let true_up = words(WindowTrueUp::WORDS.iter().map(|(word, _)| *word));
        object([promise, ("overage_factor", above_zero()), ("true_up", true_up)], &["overage_factor"])
    });
    json!({"oneOf": ways})
}

fn price() -> Value {
    let convert = object(
        [
            ("multiply", above_zero()),
            ("divide", above_zero()),
            ("rounding", words(RoundTo::WORDS.iter().map(|(word, _)| *word))),
            ("places", json!({"type": "string", "pattern": "^(0*[0-9]|-0*(1[0-9]|[1-9]|20))$"})),
        ],
        &["multiply", "divide", "rounding", "places"],
    );
    let adjusting = || {
        let applies = words(AppliesTo::WORDS.iter().map(|(word, _)| *word));
        let commitment = window_commitment();
        vec![("convert", convert.clone()), ("free_units", counted()), ("applies_to", applies), ("window_commitment", commitment)]
    };
    let model = |models: Value, own: Vec<(&'static str, Value)>, adjusting: Vec<(&'static str, Value)>| {
        let common = [("id", id()), ("sku", id()), ("effective_at", instant()), ("model", models)];
        let percentages = ["fee", "least", "most", "free_readings", "free_value"];
        let optional = [&["id", "per"][..], &percentages, &["convert", "free_units", "applies_to", "window_commitment"]].concat();
        object(common.into_iter().chain(own).chain(adjusting), &optional)
    };
    let priced =
        |rate: &'static str| list(&object([("up_to", above_zero()), (rate, money()), ("flat_fee", money())], &["up_to", "flat_fee"]));
    let blocks = list(&object([("up_to", above_zero()), ("size", above_zero()), ("block_price", money())], &["up_to"]));
    let whole = json!({"type": "string", "pattern": "^[0-9]+([.]0+)?$"});
    json!({"oneOf": [
        model(words(["per_unit"]), vec![("per", above_zero()), ("unit_price", money())], adjusting()),
        model(words(["package"]), vec![("size", above_zero()), ("package_price", money())], adjusting()),
        model(words(["graduated", "volume"]), vec![("per", above_zero()), ("tiers", priced("unit_price"))], adjusting()),
        model(words(["blocks", "top_blocks"]), vec![("tiers", blocks)], adjusting()),
        model(
            words(["percentage"]),
            vec![
                ("rate", money()),
                ("fee", money()),
                ("least", money()),
                ("most", money()),
                ("free_readings", whole),
                ("free_value", counted()),
            ],
            vec![],
        ),
        model(words(["graduated_percentage"]), vec![("tiers", priced("rate"))], vec![]),
        model(words(["free"]), vec![("rule", name())], vec![]),
    ]})
}
