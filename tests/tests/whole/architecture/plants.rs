//! What is planted against each rule. A plant is a small, plausible change; where a reviewer could wave it through (a line of a golden file,
//! an entry of the ownership map, a row of the package table), that is part of it, so that only its own rule is left to stop it.

use super::ownership;
use super::planted::{Edit, Plant};

/// Crates that the lock file does not have.
pub const STAND_INS: [&str; 2] = ["polars", "async-nats"];

/// Every plant, in the order of the rules.
pub fn all() -> Vec<Plant> {
    [graph(), gates(), names(), sql(), surface(), owned(), sources(), pages()].into_iter().flatten().collect()
}

fn plant(rule: &'static str, place: &'static str, edits: impl IntoIterator<Item = Vec<Edit>>) -> Plant {
    Plant { rule, place, edits: edits.into_iter().flatten().collect(), compiles: true }
}

/// A plant that is not compiled beside the others.
fn alone(rule: &'static str, place: &'static str, edits: impl IntoIterator<Item = Vec<Edit>>) -> Plant {
    Plant { compiles: false, ..plant(rule, place, edits) }
}

fn append(file: &str, text: &str) -> Vec<Edit> {
    vec![Edit::Append { file: file.to_owned(), text: text.to_owned() }]
}

fn insert(file: &str, after: &str, text: &str) -> Vec<Edit> {
    vec![Edit::Insert { file: file.to_owned(), after: after.to_owned(), text: text.to_owned() }]
}

fn replace(file: &str, from: &str, to: &str) -> Vec<Edit> {
    vec![Edit::Replace { file: file.to_owned(), from: from.to_owned(), to: to.to_owned() }]
}

fn create(file: &str, text: &str) -> Vec<Edit> {
    vec![Edit::Create { file: file.to_owned(), text: text.to_owned() }]
}

fn own(owner: &str, kind: &'static str, name: &str) -> Vec<Edit> {
    vec![Edit::Own { owner: owner.to_owned(), kind, name: name.to_owned() }]
}

/// A place at the top level for what a plant adds there.
fn make_room() -> Vec<Edit> {
    vec![Edit::Remove { file: "CHANGELOG.md".to_owned() }]
}

/// An empty package, as a reviewer would want to see it: a member, with its row in the package table.
fn unowned_package(name: &str, folder: &str) -> Vec<Edit> {
    let manifest = format!(
        "[package]\nname = \"{name}\"\nversion.workspace = true\nedition.workspace = true\nrust-version.workspace = true\n\
         license.workspace = true\npublish.workspace = true\n\n[lints]\nworkspace = true\n\n[dependencies]\n"
    );
    [
        insert("Cargo.toml", "members = [\n", &format!("    \"{folder}\",\n")),
        insert("Cargo.toml", "[workspace.dependencies]\n", &format!("{name} = {{ path = \"{folder}\" }}\n")),
        insert("ARCHITECTURE.md", "| Package | Folder | What it is |\n|---|---|---|\n", &format!("| {name} | {folder} | planted |\n")),
        create(&format!("{folder}/Cargo.toml"), &manifest),
        create(&format!("{folder}/src/lib.rs"), "//! Planted.\n"),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn package(name: &str, folder: &str) -> Vec<Edit> {
    let mut edits = unowned_package(name, folder);
    edits.extend(own(name, "folder", folder));
    edits
}

/// A dependency with a use of it. `version` is `.workspace = true`, or what follows the name.
fn depend(folder: &str, name: &str, version: &str) -> Vec<Edit> {
    let root = if ["xtask", "evidence/verify"].contains(&folder) { "src/main.rs" } else { "src/lib.rs" };
    let mut edits = insert(&format!("{folder}/Cargo.toml"), "[dependencies]\n", &format!("{name}{version}\n"));
    edits.extend(append(&format!("{folder}/{root}"), &format!("\nuse {} as _;\n", name.replace('-', "_"))));
    edits
}

fn import(folder: &str, name: &str) -> Vec<Edit> {
    depend(folder, name, ".workspace = true")
}

/// A dependency of a package two folders deep on a crate that stands in.
fn stand_in(folder: &str, name: &str) -> Vec<Edit> {
    depend(folder, name, &format!(" = {{ path = \"../../../stand-ins/{name}\" }}"))
}

fn graph() -> Vec<Plant> {
    let layers = "layers_import_downwards";
    let reviewed = "every_edge_is_a_reviewed_line";
    let inventory = || package("gpuaas-inventory", "control/inventory");
    let feature = "serde_json = { workspace = true, features = [\"std\"] }";
    vec![
        plant(layers, "shared/bus/Cargo.toml", [import("shared/bus", "platform-usage")]),
        plant(layers, "ingest/usage/Cargo.toml", [import("ingest/usage", "datasets")]),
        plant(layers, "ingest/usage/Cargo.toml", [inventory(), import("ingest/usage", "gpuaas-inventory")]),
        plant(
            layers,
            "control/inventory/Cargo.toml",
            [inventory(), package("gpuaas-terminal", "control/terminal"), import("control/inventory", "gpuaas-terminal")],
        ),
        plant(
            layers,
            "ingest/gateway/Cargo.toml",
            [inventory(), package("tokenfactory-gateway", "ingest/gateway"), import("ingest/gateway", "gpuaas-inventory")],
        ),
        plant(layers, "xtask/Cargo.toml", [package("control", "control"), import("xtask", "control")]),
        plant(reviewed, super::graph::GOLDEN, [import("ingest/usage", "hex")]),
        plant(reviewed, super::graph::GOLDEN, [append(super::graph::GOLDEN, "platform-ledger -> platform-usage\n")]),
        plant(reviewed, super::graph::GOLDEN, [replace("ingest/usage/Cargo.toml", "serde_json.workspace = true", feature)]),
        // Not compiled: its engine would be built once more for it.
        alone("the_verifier_imports_no_workspace_crate", "evidence/verify/Cargo.toml", [import("evidence/verify", "shared-types")]),
        plant("the_ledger_knows_no_usage_price_or_invoice", "ledger/Cargo.toml", [import("ledger", "platform-usage")]),
        plant("only_wiring_imports_the_query_engine", "evidence/Cargo.toml", [import("evidence", "platform-query")]),
        plant(
            "a_package_has_one_integration_test",
            "ingest/usage/Cargo.toml",
            ["one", "two"].map(|name| create(&format!("ingest/usage/tests/{name}.rs"), "//! Planted.\n")),
        ),
    ]
}

fn gates() -> Vec<Plant> {
    let gates = "heavy_crates_stay_behind_their_gates";
    let agent = package("gpuaas-node-agent", "node-agent");
    vec![
        plant(gates, "rating/Cargo.toml", [import("rating", "datafusion")]),
        plant(gates, "ingest/usage/Cargo.toml", [stand_in("ingest/usage", "polars")]),
        plant(gates, "rating/Cargo.toml", [import("rating", "sqlx")]),
        plant(gates, "evidence/src/lib.rs:", [import("evidence", "sqlx")]),
        plant(gates, "rating/Cargo.toml", [import("rating", "axum")]),
        plant(gates, "ingest/usage/Cargo.toml", [stand_in("ingest/usage", "async-nats")]),
        plant(gates, "rating/Cargo.toml", [depend("rating", "object_store", " = \"0.13\"")]),
        plant(gates, "node-agent/Cargo.toml", [make_room(), agent, import("node-agent", "shared-db")]),
        alone(gates, "evidence/verify/Cargo.toml", [stand_in("evidence/verify", "async-nats")]),
    ]
}

fn names() -> Vec<Plant> {
    let places = "names_say_layer_and_place";
    vec![
        plant(places, "shared/provisioning/Cargo.toml", [package("gpuaas-provisioning", "shared/provisioning")]),
        plant(places, "rating/fees/Cargo.toml", [package("platform-fees", "rating/fees")]),
        plant(places, "drawer/Cargo.toml", [make_room(), package("drawer", "drawer")]),
    ]
}

/// A file for each engine.
fn twins(name: &str, text: &str) -> Vec<Edit> {
    super::tables::MIGRATIONS.iter().flat_map(|folder| create(&format!("{folder}/{name}"), text)).collect()
}

fn sql() -> Vec<Plant> {
    let prefixes = "sql_names_only_tables_of_its_owner";
    let twin = "migrations_are_twins";
    let foreign = "ledger/src/store/sqlite/planted.sql";
    let view = "CREATE VIEW platform_ledger_planted AS SELECT batch_no FROM platform_ingest_batches;\n";
    let constant = "\n/// Planted.\npub const PLANTED_SQL: &str = \"SELECT batch_no FROM platform_ingest_batches\";\n";
    vec![
        plant(prefixes, foreign, [create(foreign, "SELECT address FROM platform_registry_versions\n")]),
        plant(prefixes, foreign, [create(foreign, "SELECT count(*) FROM bookings\n")]),
        plant(prefixes, foreign, [create(foreign, "SELECT NULL::platform_registry_versions\n")]),
        plant(prefixes, "sql/migrations/sqlite/0097_platform_ledger_view.sql:1", [twins("0097_platform_ledger_view.sql", view)]),
        plant(prefixes, "ingest/usage/src/lib.rs:", [append("ingest/usage/src/lib.rs", constant)]),
        // The build script of shared-db refuses these two as well.
        alone(twin, "sql/migrations/sqlite/0099_", [create("sql/migrations/sqlite/0099_platform_ledger_planted.sql", "SELECT 1;\n")]),
        alone(twin, "sql/migrations/sqlite/0001_", [twins("0001_platform_ledger_planted.sql", "SELECT 1;\n")]),
    ]
}

/// A line of the server's router.
fn route(line: &str) -> Vec<Edit> {
    insert("server/src/routes.rs", ".route(\"/v1/health\", get(health))", &format!("\n        {line}"))
}

fn outbox_event(subject: &str, function: &str) -> Vec<Edit> {
    let text = format!(
        "\n/// Planted.\npub fn {function}() -> shared_db::OutboxEvent {{\n    shared_db::OutboxEvent {{ subject: {subject}.to_owned(), \
         event_type: String::new(), version: 1, correlation_id: String::new(), payload: String::new() }}\n}}\n"
    );
    append("ledger/src/lib.rs", &text)
}

fn surface() -> Vec<Plant> {
    let modules = "route_modules_are_named_after_their_owner";
    let previews = "previews_say_when_they_go";
    let subjects = "subjects_are_named_after_their_owner";
    let everything = [
        create("server/src/routes/everything.rs", "//! Planted.\n"),
        insert("server/src/routes.rs", "pub mod platform_registry;\n", "pub mod everything;\n"),
    ];
    vec![
        plant(modules, "server/src/routes/everything.rs", everything),
        plant(
            modules,
            "server/src/routes.rs:",
            [
                route(".route(\"/v1/registry/planted\", post(platform_ingest::accept_events))"),
                own("platform-registry", "routes", "POST /v1/registry/planted"),
            ],
        ),
        plant(
            previews,
            "server/src/routes.rs:",
            [route(".route(\"/v1/preview/planted\", get(health))"), own("server", "routes", "GET /v1/preview/planted")],
        ),
        plant(previews, ownership::MAP, [route(".route(\"/v1/lasting\", get(health))"), own("server", "previews", "GET /v1/lasting")]),
        plant(
            subjects,
            ownership::MAP,
            [
                outbox_event("\"platform.billing.planted\"", "planted_subject"),
                own("platform-ledger", "subjects", "platform.billing.planted"),
            ],
        ),
        plant(subjects, "ledger/src/lib.rs:", [outbox_event("\"planted\"", "planted_word"), own("platform-ledger", "subjects", "planted")]),
    ]
}

fn owned() -> Vec<Plant> {
    let complete = "everything_is_owned";
    let table = "CREATE TABLE platform_ledger_planted_rows (number INTEGER NOT NULL);\n";
    let model = "\n/// Planted.\npub fn planted(schema: arrow::datatypes::SchemaRef) -> Result<Description, CatalogError> {\n    \
                 Description::new(\"planted.rows\", \"platform-catalog\", \"Planted.\", Audience::Operator, schema, &[])\n}\n";
    let constant = "\n/// Planted.\npub const PLANTED_SUBJECT: &str = \"platform.usage.planted\";\n";
    let described = "\"ledger.postings\",\n        \"platform-ledger\",";
    vec![
        plant(complete, "sql/migrations/", [twins("0098_platform_ledger_rows.sql", table)]),
        plant(complete, "server/src/routes.rs:", [route(".route(\"/v1/unowned\", get(health))")]),
        plant(complete, "server/src/routes.rs:", [route(".route(&format!(\"/v1/{}\", \"made\"), get(health))")]),
        plant(complete, "ingest/usage/src/lib.rs:", [append("ingest/usage/src/lib.rs", constant)]),
        plant(complete, "ledger/src/lib.rs:", [outbox_event("String::new()", "planted_at_run_time")]),
        plant(complete, "query/catalog/src/lib.rs:", [append("query/catalog/src/lib.rs", model)]),
        plant(
            complete,
            "server/src/read_models/ledger.rs:",
            [replace("server/src/read_models/ledger.rs", described, &described.replace("-ledger", "-billing"))],
        ),
        plant(complete, "control/payments/Cargo.toml", [unowned_package("platform-payments", "control/payments")]),
        plant(complete, ownership::MAP, [own("platform-ledger", "tables", "platform_ledger_gone")]),
        plant(complete, ownership::MAP, [own("platform-billing", "tables", "platform_ledger_entries")]),
        plant("the_ownership_page_is_rendered", ownership::PAGE, [append(ownership::PAGE, "| planted | by hand |\n")]),
    ]
}

fn sources() -> Vec<Plant> {
    let (lints, files) = ("lints_are_inherited_and_exceptions_have_reasons", "files_say_what_they_are");
    let (floats, pure) = ("money_is_never_a_float", "pure_code_reads_nothing_but_its_arguments");
    let types = "shared/types/src/lib.rs";
    let web = "import { invoice } from '../../platform/finance/invoice';\n";
    let allow = "\n#[allow(clippy::panic, reason = \"planted\")]\n/// Planted.\npub fn planted_allow() {}\n";
    let float = "\n/// Planted.\npub fn planted_float(share: f64) -> f64 {\n    share\n}\n";
    let clock = "\n/// Planted.\npub fn planted_clock() -> std::time::SystemTime {\n    std::time::SystemTime::now()\n}\n";
    let instant = "\n/// Planted.\npub fn planted_instant() -> std::time::Instant {\n    std::time::Instant::now()\n}\n";
    let file = "\n/// Planted.\npub fn planted_file() -> std::io::Result<String> {\n    std::fs::read_to_string(\"planted\")\n}\n";
    let environment = "\n/// Planted.\npub fn planted_environment() -> Option<String> {\n    use std::{cmp, env};\n    \
                       cmp::max(env::var(\"PLANTED\").ok(), None)\n}\n";
    vec![
        plant(
            "shared_web_code_imports_no_product",
            "web/src/shared/ui/planted.ts:1",
            [make_room(), create("web/src/shared/ui/planted.ts", web)],
        ),
        plant(lints, "ingest/usage/Cargo.toml", [replace("ingest/usage/Cargo.toml", "[lints]\nworkspace = true\n", "")]),
        plant(lints, "Cargo.toml", [replace("Cargo.toml", "unsafe_code = \"forbid\"", "unsafe_code = \"deny\"")]),
        plant(lints, types, [append(types, "\n#[allow(dead_code)]\nfn planted_unreasoned() {}\n")]),
        plant(lints, types, [append(types, "\n#[expect(dead_code)]\nfn planted_expected() {}\n")]),
        plant(lints, types, [append(types, allow)]),
        plant(
            files,
            "shared/types/src/utils.rs",
            [create("shared/types/src/utils.rs", "//! Planted.\n"), append(types, "\npub mod utils;\n")],
        ),
        plant(
            files,
            "shared/types/src/planted/mod.rs",
            [create("shared/types/src/planted/mod.rs", "//! Planted.\n"), append(types, "\npub mod planted;\n")],
        ),
        plant(
            files,
            "shared/types/src/silent.rs",
            [create("shared/types/src/silent.rs", "/// Planted.\npub const SILENT: u8 = 1;\n"), append(types, "\npub mod silent;\n")],
        ),
        plant(files, "shared/types/src/lib.rs:", [append(types, "\npub mod helpers {}\n")]),
        plant(floats, types, [append(types, float)]),
        plant(floats, types, [append(types, "\n/// Planted.\npub const PLANTED_HALF: bool = 0.5 < 1.0;\n")]),
        plant(pure, "ingest/usage/src/lib.rs:", [append("ingest/usage/src/lib.rs", clock)]),
        plant(pure, "rating/src/lib.rs:", [append("rating/src/lib.rs", instant)]),
        plant(pure, "ingest/src/batch.rs:", [append("ingest/src/batch.rs", file)]),
        plant(pure, "ledger/billing/src/lib.rs:", [append("ledger/billing/src/lib.rs", environment)]),
    ]
}

fn pages() -> Vec<Plant> {
    let (invariants, table) = ("invariants_are_listed", "the_package_table_is_true");
    let page = "docs/architecture/invariants.md";
    let absent = "| absent | absent | not there |\n";
    vec![
        plant(invariants, "shared/types/src/lib.rs", [append("shared/types/src/lib.rs", "\n// LED-9: planted.\n")]),
        plant(invariants, page, [append(page, "| `LED-8` | Planted. | `Cargo.toml` | `Cargo.lock` |\n")]),
        plant(invariants, page, [replace(page, "`evidence/src/log.rs`", "`evidence/src/logs.rs`")]),
        plant(
            invariants,
            page,
            [replace(
                page,
                "`control/registry/src/reach.rs` refuses the publication that changes",
                "`rating/src/rate.rs` refuses what changes",
            )],
        ),
        plant(table, "ARCHITECTURE.md:", [replace("ARCHITECTURE.md", "| platform-rating | rating |", "| platform-rating | pricing |")]),
        plant(table, "ARCHITECTURE.md:", [insert("ARCHITECTURE.md", "| Package | Folder | What it is |\n|---|---|---|\n", absent)]),
        plant(
            "the_steps_of_a_reading_name_files_that_exist",
            "ARCHITECTURE.md:",
            [replace("ARCHITECTURE.md", "`rating/src/rate.rs`", "`rating/src/price.rs`")],
        ),
        plant("decisions_are_numbered_without_gaps", "docs/decisions/0099", [create("docs/decisions/0099-planted.md", "# Planted\n")]),
        plant(
            "the_top_level_stays_small",
            "the top level",
            (0..26).map(|number| create(&format!("planted-{number}/planted.txt"), "planted\n")),
        ),
    ]
}
