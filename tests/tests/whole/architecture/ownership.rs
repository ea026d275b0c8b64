//! `contracts/ownership.toml`: the one map of who owns what, held against what the tree has. It says nothing about access at run time.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use super::workspace::{Finding, Workspace, finding};
use super::{surface, tables};

/// The map.
pub const MAP: &str = "contracts/ownership.toml";

/// The map as a page.
pub const PAGE: &str = "docs/reference/ownership.md";

/// What one package owns.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Owned {
    folder: String,
    tables: Vec<String>,
    /// `POST /v1/events`.
    pub routes: Vec<String>,
    /// Temporary routes, each with the condition under which it goes.
    pub previews: BTreeMap<String, String>,
    pub subjects: Vec<String>,
    read_models: Vec<String>,
}

/// The map by owner, or why it does not read.
pub fn read(workspace: &Workspace) -> Result<BTreeMap<String, Owned>, String> {
    toml::from_str(&workspace.text(MAP)).map_err(|error| error.to_string())
}

/// One kind of owned things: its title, what the map says and what the tree has, by name with owner or place.
struct Kind {
    title: &'static str,
    mapped: Vec<(String, String)>,
    found: Vec<(String, String)>,
}

fn kinds(workspace: &Workspace, owners: &BTreeMap<String, Owned>) -> Vec<Kind> {
    let mapped = |things: fn(&Owned) -> Vec<&String>| -> Vec<(String, String)> {
        let pairs = owners.iter().flat_map(|(owner, owned)| things(owned).into_iter().map(move |name| (name.clone(), owner.clone())));
        pairs.collect()
    };
    let routes = surface::routes(workspace).into_iter().map(|route| (route.name, route.place)).collect();
    let subjects = surface::published(workspace).into_iter().map(|subject| (subject.name, subject.place)).collect();
    let models = surface::read_models(workspace).into_iter().map(|model| (model.name, model.place)).collect();
    vec![
        Kind {
            title: "package",
            mapped: owners.iter().map(|(owner, owned)| (format!("{owner} in {}", owned.folder), owner.clone())).collect(),
            found: workspace
                .packages
                .iter()
                .map(|package| (format!("{} in {}", package.name, package.folder), package.manifest()))
                .collect(),
        },
        Kind {
            title: "table",
            mapped: mapped(|owned| owned.tables.iter().collect()),
            found: tables::created(workspace).into_iter().collect(),
        },
        Kind { title: "route", mapped: mapped(|owned| owned.routes.iter().chain(owned.previews.keys()).collect()), found: routes },
        Kind { title: "subject", mapped: mapped(|owned| owned.subjects.iter().collect()), found: subjects },
        Kind { title: "read model", mapped: mapped(|owned| owned.read_models.iter().collect()), found: models },
    ]
}

/// Everything that the tree has is owned once, and nothing is owned that it does not have.
pub fn complete(workspace: &Workspace) -> Vec<Finding> {
    let owners = match read(workspace) {
        Ok(owners) => owners,
        Err(error) => return vec![finding(MAP, error, "correct the map")],
    };
    let mut findings = Vec::new();
    for kind in kinds(workspace, &owners) {
        let mut by_name: BTreeMap<&str, &str> = BTreeMap::new();
        for (name, owner) in &kind.mapped {
            if let Some(other) = by_name.insert(name, owner) {
                let what = format!("the {} {name} is owned by {other} and by {owner}", kind.title);
                findings.push(finding(MAP, what, "let one domain own it"));
            }
        }
        let found: BTreeSet<&str> = kind.found.iter().map(|(name, _)| name.as_str()).collect();
        for (name, place) in kind.found.iter().filter(|(name, _)| !by_name.contains_key(name.as_str())) {
            findings.push(finding(place, format!("nobody owns the {} {name}", kind.title), format!("name its owner in {MAP}")));
        }
        for (name, owner) in by_name.iter().filter(|(name, _)| !found.contains(**name)) {
            findings.push(finding(MAP, format!("{owner} owns the {} {name}, which does not exist", kind.title), "remove the line"));
        }
    }
    findings.extend(disagreements(workspace, &owners));
    findings.extend(surface::unseen(workspace));
    findings
}

/// Owners that the code itself states: a table's prefix, a read model's description.
fn disagreements(workspace: &Workspace, owners: &BTreeMap<String, Owned>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (owner, table) in owners.iter().flat_map(|(owner, owned)| owned.tables.iter().map(move |table| (owner, table))) {
        if tables::owner_of_table(workspace, table).is_none_or(|package| package.name != *owner) {
            findings.push(finding(MAP, format!("{owner} owns the table {table}"), "a table carries its owner's name as prefix"));
        }
    }
    for model in surface::read_models(workspace) {
        let mapped = owners.iter().find(|(_, owned)| owned.read_models.contains(&model.name)).map(|(owner, _)| owner);
        if let (Some(stated), Some(mapped)) = (&model.owner, mapped)
            && stated != mapped
        {
            let what = format!("the read model {} is {stated}'s here and {mapped}'s in {MAP}", model.name);
            findings.push(finding(model.place, what, "say the same in both"));
        }
    }
    findings
}

/// The page is the map.
pub fn rendered(workspace: &Workspace) -> Vec<Finding> {
    if workspace.text(PAGE) == page(workspace) {
        return Vec::new();
    }
    vec![finding(PAGE, format!("is not what {MAP} says"), "TALLY_WRITE_GOLDEN=1 rewrites it")]
}

/// The map as a page for readers; empty while the map does not read.
pub fn page(workspace: &Workspace) -> String {
    let Ok(owners) = read(workspace) else { return String::new() };
    let mut text = format!(
        "# Ownership\n\nWho owns what: rendered from `{MAP}`, which the test `architecture` holds against the tree. \
         Rewritten with `TALLY_WRITE_GOLDEN=1`.\n"
    );
    text.push_str("\n## Packages\n\n| Package | Folder |\n|---|---|\n");
    for (owner, owned) in &owners {
        text.push_str(&format!("| {owner} | {} |\n", owned.folder));
    }
    for (title, column, things) in [
        ("Tables", "Table", (|owned| &owned.tables) as fn(&Owned) -> &Vec<String>),
        ("Routes", "Route", |owned| &owned.routes),
        ("Subjects", "Subject", |owned| &owned.subjects),
        ("Read models", "Read model", |owned| &owned.read_models),
    ] {
        let mut rows: Vec<(&String, &String)> =
            owners.iter().flat_map(|(owner, owned)| things(owned).iter().map(move |name| (name, owner))).collect();
        rows.sort_unstable();
        text.push_str(&format!("\n## {title}\n\n| {column} | Owner |\n|---|---|\n"));
        for (name, owner) in rows {
            text.push_str(&format!("| `{name}` | {owner} |\n"));
        }
    }
    text.push_str("\n## Previews\n\n| Route | Owner | Goes |\n|---|---|---|\n");
    for (owner, owned) in &owners {
        for (name, condition) in &owned.previews {
            text.push_str(&format!("| `{name}` | {owner} | {condition} |\n"));
        }
    }
    text
}
