//! Rules about SQL: whose tables a statement or migration names, and that migrations are twins.

use std::collections::{BTreeMap, BTreeSet};

use super::sql;
use super::workspace::{Finding, Package, Workspace, finding};

/// Where migrations lie, for each engine.
pub const MIGRATIONS: [&str; 2] = ["sql/migrations/sqlite", "sql/migrations/postgres"];

/// The package that a `.sql` file speaks for: the owner in a migration's name, or the package in whose `src` it lies.
pub fn speaker<'a>(workspace: &'a Workspace, path: &str) -> Option<&'a Package> {
    match migration(path) {
        Some(name) => owner_of_table(workspace, name.split_once('_').map_or("", |(_, rest)| rest)),
        None => workspace.owner(path).filter(|package| path.starts_with(&package.path("src/"))),
    }
}

/// A migration's file name.
pub fn migration(path: &str) -> Option<&str> {
    MIGRATIONS.iter().find_map(|folder| path.strip_prefix(folder)?.strip_prefix('/'))
}

/// The package whose prefix a table carries; the longest one, as one name may begin another.
pub fn owner_of_table<'a>(workspace: &'a Workspace, table: &str) -> Option<&'a Package> {
    let carries = |package: &&Package| prefixes_of(package).iter().any(|prefix| table.starts_with(prefix));
    workspace.packages.iter().filter(carries).max_by_key(|package| package.name.len())
}

fn prefixes_of(package: &Package) -> Vec<String> {
    let own = format!("{}_", package.snake());
    if package.name == "shared-lake" { vec![own, "ducklake_".to_owned()] } else { vec![own] }
}

/// Tables by name, with the file that creates each first.
pub fn created(workspace: &Workspace) -> BTreeMap<String, String> {
    let mut tables = BTreeMap::new();
    for path in statements(workspace) {
        for table in sql::created(&workspace.text(path)) {
            tables.entry(table).or_insert_with(|| path.clone());
        }
    }
    tables
}

/// What customers are given to run in a database of their own; every other `.sql` file is run in ours.
const FOR_CUSTOMERS: [&str; 1] = ["evidence/src/bundle/verify.sql"];

/// Migrations, and the `.sql` files of packages' sources.
fn statements(workspace: &Workspace) -> impl Iterator<Item = &String> {
    let in_source =
        |path: &str| !FOR_CUSTOMERS.contains(&path) && workspace.owner(path).is_some_and(|package| path.starts_with(&package.path("src/")));
    workspace.files.iter().filter(move |path| path.ends_with(".sql") && (migration(path).is_some() || in_source(path)))
}

/// A domain's SQL names only tables with its prefix. Statements of libraries that stand in Rust are held to it as well.
pub fn prefixes(workspace: &Workspace) -> Vec<Finding> {
    let owned: BTreeSet<String> = created(workspace).into_keys().collect();
    let remedy = "read other domains through their interface, a read model or an event";
    let mut findings = Vec::new();
    for path in statements(workspace) {
        let Some(speaker) = speaker(workspace, path) else {
            findings.push(finding(path, "speaks for no package", "name a migration NNNN_owner_subject.sql after a package"));
            continue;
        };
        let text = workspace.text(path);
        let is_own = |name: &str| prefixes_of(speaker).iter().any(|prefix| name.starts_with(prefix));
        let placed = sql::tables(&text).into_iter().filter(|(_, name)| !is_own(name));
        // A table can also stand where only its name gives it away: as a type, in a cast, in a function's arguments.
        let elsewhere = sql::words(&text).into_iter().filter(|(_, word)| owned.contains(word) && !is_own(word));
        for (line, name) in placed.chain(elsewhere).collect::<BTreeSet<_>>() {
            findings.push(finding(format!("{path}:{line}"), format!("{} names the table {name}", speaker.name), remedy));
        }
    }
    for source in &workspace.sources {
        let Some(package) = source.package.as_deref().and_then(|name| workspace.package(name)).filter(|package| !package.is_wiring())
        else {
            continue;
        };
        for token in &source.live {
            let named = token.text().map(sql::tables).unwrap_or_default();
            for (_, name) in named.into_iter().filter(|(_, name)| owned.contains(name)) {
                if !prefixes_of(package).iter().any(|prefix| name.starts_with(prefix)) {
                    findings.push(finding(source.place(token.line), format!("{} names the table {name}", package.name), remedy));
                }
            }
        }
    }
    findings
}

/// The same migrations for both engines, each number once.
pub fn twins(workspace: &Workspace) -> Vec<Finding> {
    let names = |folder: &str| -> BTreeSet<&str> { workspace.files_below(folder, "").filter_map(|path| migration(path)).collect() };
    let [sqlite, postgres] = MIGRATIONS.map(names);
    let mut findings = Vec::new();
    for name in sqlite.symmetric_difference(&postgres) {
        let (has, lacks) = if sqlite.contains(name) { (MIGRATIONS[0], MIGRATIONS[1]) } else { (MIGRATIONS[1], MIGRATIONS[0]) };
        findings.push(finding(format!("{has}/{name}"), format!("has no twin in {lacks}"), "write both, or neither"));
    }
    let mut numbers: BTreeMap<&str, &str> = BTreeMap::new();
    for name in &sqlite {
        let number = name.split('_').next().unwrap_or_default();
        if let Some(other) = numbers.insert(number, name) {
            findings.push(finding(format!("{}/{name}", MIGRATIONS[0]), format!("has the number of {other}"), "take the next free number"));
        }
    }
    findings
}
