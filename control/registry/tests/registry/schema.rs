//! The JSON Schemas are what the code makes, and know every field that the reader knows. Whether they accept and refuse what they should is
//! for programs that we did not write: `tests/foreign/schemas.py`.

use std::collections::BTreeSet;
use std::path::Path;

use platform_registry::schema::{folder_schema, version_schema};
use platform_registry::{SourceFile, Version};
use serde_json::Value;

/// Compares a schema with the committed one. `TALLY_WRITE_GOLDEN=1` writes it anew.
fn check_committed(name: &str, schema: &Value) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../contracts/registry").join(name);
    let text = serde_json::to_string_pretty(schema).unwrap() + "\n";
    if std::env::var_os("TALLY_WRITE_GOLDEN").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &text).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    assert!(committed == text, "contracts/registry/{name} is not what the code makes; TALLY_WRITE_GOLDEN=1 writes it");
}

#[test]
fn the_committed_schemas_are_what_the_code_makes() {
    check_committed("folder.schema.json", &folder_schema());
    check_committed("version.schema.json", &version_schema());
}

/// The fields that the reader says a document has, by asking it with one that none has.
fn fields(document: &str) -> BTreeSet<String> {
    let file = SourceFile { name: "a.toml".to_owned(), text: format!("{document}\nno_such_field = true\n") };
    let problems = Version::check(&[file]).unwrap_err();
    let unknown = problems.0.iter().find(|problem| problem.message.starts_with("unknown field \"no_such_field\""));
    let remedy = &unknown.unwrap_or_else(|| panic!("{problems}")).remedy;
    let (_, fields) = remedy.split_once("the fields are ").unwrap();
    fields.split(", ").map(str::to_owned).collect()
}

fn members(schema: &Value) -> BTreeSet<String> {
    schema["properties"].as_object().unwrap().keys().cloned().collect()
}

/// The members of all of a schema's ways whose member has a word.
fn members_of(schema: &Value, member: &str, word: &str) -> BTreeSet<String> {
    let ways = schema["oneOf"].as_array().unwrap().iter();
    let named = ways.filter(|way| way["properties"][member]["enum"].as_array().unwrap().iter().any(|found| found == word));
    named.flat_map(members).collect()
}

/// The one of a schema's ways whose member has a word.
fn way<'s>(schema: &'s Value, member: &str, word: &str) -> &'s Value {
    let ways = schema["oneOf"].as_array().unwrap();
    let named = |way: &&Value| way["properties"][member]["enum"].as_array().unwrap().iter().any(|found| found == word);
    ways.iter().find(named).unwrap_or_else(|| panic!("no way for {word}"))
}

#[test]
fn the_schema_of_a_folder_knows_the_fields_that_the_reader_knows() {
    let schema = folder_schema();
    let of = |kind: &str| &schema["$defs"][kind];
    for kind in ["billable_states", "contract", "price_book", "rounding", "sku", "unit"] {
        assert_eq!(members(of(kind)), fields(&format!("[[{kind}]]")), "{kind}");
    }
    let words = |ways: &Value, member: &str| -> Vec<String> {
        let ways = ways["oneOf"].as_array().unwrap().iter();
        ways.flat_map(|way| way["properties"][member]["enum"].as_array().unwrap()).map(|word| word.as_str().unwrap().to_owned()).collect()
    };
    let aggregations: BTreeSet<String> = words(of("meter"), "aggregation").into_iter().collect();
    assert_eq!(aggregations.len(), 10, "{aggregations:?}");
    for aggregation in aggregations {
        let mut found = fields(&format!("[[meter]]\naggregation = \"{aggregation}\""));
        if ["count", "unique"].contains(&&*aggregation) {
            // The reader knows them and says that they would be ignored.
            found.remove("value");
            found.remove("part_of");
        }
        if !["time_weighted", "prorated"].contains(&&*aggregation) {
            // The reader knows it and says that only time is billed by states.
            found.remove("billable");
        }
        if !["unique", "time_weighted", "prorated", "bucketed"].contains(&&*aggregation) {
            // The reader knows it and says that neither days nor hours are counted.
            found.remove("zone");
        }
        assert_eq!(members_of(of("meter"), "aggregation", &aggregation), found, "{aggregation}");
    }
    let models = words(of("price"), "model");
    assert_eq!(models.len(), 9, "{models:?}");
    for model in models {
        let price = way(of("price"), "model", &model);
        assert_eq!(members(price), fields(&format!("[[price_book]]\n[[price_book.price]]\nmodel = \"{model}\"")), "{model}");
    }
}

#[test]
fn the_schema_of_a_version_knows_every_kind_and_member_of_canonical_documents() {
    let schema = version_schema();
    for folder in ["fixed", "models"] {
        let version = Version::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(folder)).unwrap();
        let content: Value = serde_json::from_str(&version.canonical()).unwrap();
        for document in content["documents"].as_array().unwrap() {
            let known = members(&schema["$defs"][document["kind"].as_str().unwrap()]);
            let unknown: Vec<&String> = document.as_object().unwrap().keys().filter(|member| !known.contains(*member)).collect();
            assert!(unknown.is_empty(), "{unknown:?} of {document}");
        }
    }
}
