//! The committed OpenAPI documents are what the binary makes, and have every owned route, under its owner; no other. `cargo xtask generate`
//! writes them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::tally::{Tally, root};

/// Every file below a folder by its path there.
fn files(folder: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(&next).unwrap_or_else(|error| panic!("{}: {error}", next.display())) {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.insert(path.strip_prefix(folder).unwrap().to_owned(), std::fs::read_to_string(&path).unwrap());
            }
        }
    }
    found
}

#[test]
fn the_openapi_documents_are_what_the_binary_makes() {
    let tally = Tally::empty();
    let made = tally.scratch().join("openapi");
    tally.done(&["openapi", "--out", made.to_str().unwrap()]);
    let (committed, made) = (files(&root().join("contracts/openapi")), files(&made));
    let names = |files: &BTreeMap<PathBuf, String>| files.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&committed), names(&made), "`cargo xtask generate` writes the documents");
    for (name, text) in &made {
        assert!(committed[name] == *text, "contracts/openapi/{} is not what the binary makes; run `cargo xtask generate`", name.display());
    }
}

/// `METHOD /path` of every operation with its tag.
fn documented() -> BTreeMap<String, String> {
    let text = std::fs::read_to_string(root().join("contracts/openapi/tallystick.json")).unwrap();
    let document: Value = serde_json::from_str(&text).unwrap();
    let paths = document["paths"].as_object().unwrap();
    let operations = paths.iter().flat_map(|(path, operations)| {
        let operations = operations.as_object().unwrap();
        operations.iter().map(move |(method, operation)| {
            (format!("{} {path}", method.to_uppercase()), operation["tags"][0].as_str().unwrap().to_owned())
        })
    });
    operations.collect()
}

#[test]
fn every_owned_route_is_documented_under_its_owner_and_no_other() {
    let map: toml::Table = std::fs::read_to_string(root().join("contracts/ownership.toml")).unwrap().parse().unwrap();
    let mut owned = BTreeMap::new();
    for (owner, things) in &map {
        for route in things.get("routes").and_then(toml::Value::as_array).into_iter().flatten() {
            // A parameter that takes the rest of a path has no other name in OpenAPI.
            owned.insert(route.as_str().unwrap().replace("{*", "{"), owner.clone());
        }
    }
    assert!(owned.len() > 8, "{owned:?}");
    assert_eq!(documented(), owned, "operations of contracts/openapi and routes of contracts/ownership.toml");
}

#[test]
fn operations_have_names_of_their_own_and_say_which_problems_they_answer() {
    let text = std::fs::read_to_string(root().join("contracts/openapi/tallystick.json")).unwrap();
    let document: Value = serde_json::from_str(&text).unwrap();
    let mut names = BTreeSet::new();
    for (path, operations) in document["paths"].as_object().unwrap() {
        for operation in operations.as_object().unwrap().values() {
            let name = operation["operationId"].as_str().unwrap();
            assert!(names.insert(name.to_owned()), "two operations are called {name}");
            for (status, response) in operation["responses"].as_object().unwrap() {
                let is_problem = response["content"].get("application/problem+json").is_some();
                assert_eq!(is_problem, status.as_str() >= "400", "{path} {status}: an error is a problem document, and nothing else is");
            }
        }
    }
}
