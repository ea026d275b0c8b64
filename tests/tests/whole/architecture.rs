//! The architecture as tests: one for each rule, over `cargo metadata` and the files of the tree. It compiles no crate of the workspace,
//! runs offline, and does not know what the code computes. `TALLY_WRITE_GOLDEN=1` rewrites what is generated from the tree:
//! `tests/golden/dependencies.txt` and `docs/reference/ownership.md`.

#[path = "architecture/graph.rs"]
mod graph;
#[path = "architecture/ownership.rs"]
mod ownership;
#[path = "architecture/pages.rs"]
mod pages;
#[path = "architecture/planted.rs"]
mod planted;
#[path = "architecture/plants.rs"]
mod plants;
#[path = "architecture/rust.rs"]
mod rust;
#[path = "architecture/sources.rs"]
mod sources;
#[path = "architecture/sql.rs"]
mod sql;
#[path = "architecture/surface.rs"]
mod surface;
#[path = "architecture/tables.rs"]
mod tables;
#[path = "architecture/web.rs"]
mod web;
#[path = "architecture/workspace.rs"]
mod workspace;

use std::path::Path;

use workspace::{Finding, Workspace};

/// A rule, named as its test is.
struct Rule {
    name: &'static str,
    check: fn(&Workspace) -> Vec<Finding>,
}

/// A rule that is broken, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Violation {
    rule: &'static str,
    finding: Finding,
}

impl std::fmt::Display for Violation {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Finding { place, what, remedy } = &self.finding;
        write!(out, "{}: {place}: {what}; {remedy}", self.rule)
    }
}

macro_rules! rules {
    ($($name:ident = $check:path;)*) => {
        const RULES: &[Rule] = &[$(Rule { name: stringify!($name), check: $check }),*];

        $(
            #[test]
            fn $name() {
                let broken = violations(&checkout(stringify!($name)), |rule| rule == stringify!($name));
                assert!(broken.is_empty(), "\n{}", listed(&broken));
            }
        )*
    };
}

rules! {
    layers_import_downwards = graph::layers;
    every_edge_is_a_reviewed_line = graph::reviewed;
    the_verifier_imports_no_workspace_crate = graph::verifier;
    heavy_crates_stay_behind_their_gates = graph::gates;
    the_ledger_knows_no_usage_price_or_invoice = graph::ledger;
    only_wiring_imports_the_query_engine = graph::query;
    names_say_layer_and_place = graph::places;
    a_package_has_one_integration_test = graph::test_targets;
    sql_names_only_tables_of_its_owner = tables::prefixes;
    migrations_are_twins = tables::twins;
    route_modules_are_named_after_their_owner = surface::route_modules;
    previews_say_when_they_go = surface::previews;
    subjects_are_named_after_their_owner = surface::subjects;
    everything_is_owned = ownership::complete;
    the_ownership_page_is_rendered = ownership::rendered;
    shared_web_code_imports_no_product = web::shared_imports;
    lints_are_inherited_and_exceptions_have_reasons = sources::lints;
    files_say_what_they_are = sources::files;
    money_is_never_a_float = sources::floats;
    pure_code_reads_nothing_but_its_arguments = sources::purity;
    invariants_are_listed = pages::invariants;
    the_package_table_is_true = pages::package_table;
    the_steps_of_a_reading_name_files_that_exist = pages::steps;
    decisions_are_numbered_without_gaps = pages::decisions;
    the_top_level_stays_small = pages::top_level;
}

/// This checkout; what the rule holds against the tree is rewritten first where that was asked for.
fn checkout(rule: &str) -> Workspace {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let workspace = Workspace::read(root, workspace::files_of_git(root));
    let golden = GOLDEN.iter().find(|golden| golden.rule == rule).filter(|_| std::env::var_os("TALLY_WRITE_GOLDEN").is_some());
    match golden {
        Some(golden) => {
            golden.write(&workspace);
            Workspace::read(root, workspace::files_of_git(root))
        }
        None => workspace,
    }
}

/// A file that is generated from the tree, and the rule that holds it against it.
struct Golden {
    rule: &'static str,
    path: &'static str,
    text: fn(&Workspace) -> String,
}

const GOLDEN: [Golden; 2] = [
    Golden { rule: "every_edge_is_a_reviewed_line", path: graph::GOLDEN, text: graph::edges },
    Golden { rule: "the_ownership_page_is_rendered", path: ownership::PAGE, text: ownership::page },
];

impl Golden {
    fn write(&self, workspace: &Workspace) {
        let (path, text) = (workspace.root.join(self.path), (self.text)(workspace));
        if std::fs::read_to_string(&path).ok().as_deref() != Some(text.as_str()) {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, text).unwrap();
        }
    }
}

fn violations(workspace: &Workspace, wanted: impl Fn(&str) -> bool) -> Vec<Violation> {
    let rules = RULES.iter().filter(|rule| wanted(rule.name));
    rules.flat_map(|rule| (rule.check)(workspace).into_iter().map(|finding| Violation { rule: rule.name, finding })).collect()
}

fn listed(violations: &[Violation]) -> String {
    violations.iter().map(|violation| format!("{violation}\n")).collect()
}
