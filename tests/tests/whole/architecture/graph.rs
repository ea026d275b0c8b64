//! Rules about packages and the edges between them. Every kind of edge counts: a test that imports too much couples as well as code does.

use std::collections::BTreeSet;

use super::workspace::{Edge, Finding, Layer, Package, Workspace, finding};

/// Where every edge stands.
pub const GOLDEN: &str = "tests/golden/dependencies.txt";

/// What other crates of their family may import.
const PORTS: [&str; 1] = ["gpuaas-node-tasks"];

/// shared imports shared; platform imports shared and platform; a product imports those and the ports of its family; libraries import no
/// wiring; `control` is imported by the server alone; `server`, `xtask`, `tests` and `benches` by nobody.
pub fn layers(workspace: &Workspace) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (from, _, to) in workspace.inner_edges() {
        let (Some(low), Some(high)) = (from.layer(), to.layer()) else { continue };
        let remedy = match (low, high) {
            (_, Layer::Wiring) if to.name == "datasets" && low == Layer::Wiring => continue,
            (_, Layer::Wiring) if to.name == "control" && from.name == "server" => continue,
            (_, Layer::Wiring) => "libraries are composed by wiring and never import it; move what is needed into a library",
            (Layer::Wiring, _) | (_, Layer::Shared) | (Layer::Platform | Layer::Product(_), Layer::Platform) => continue,
            (Layer::Product(left), Layer::Product(right)) if left == right && PORTS.contains(&to.name.as_str()) => continue,
            (Layer::Product(left), Layer::Product(right)) if left == right => "go through a port crate of the family",
            (Layer::Product(_), Layer::Product(_)) => "families meet only in wiring",
            (Layer::Shared, _) => "what shared crates know has no business words; turn the edge around or pass the value in",
            (Layer::Platform, Layer::Product(_)) => {
                "platform crates know no product; register the product's part at the platform's interface"
            }
        };
        findings.push(finding(from.manifest(), format!("{} imports {}", from.name, to.name), remedy));
    }
    findings
}

/// Each line of the golden file is an edge, each edge a line.
pub fn reviewed(workspace: &Workspace) -> Vec<Finding> {
    let lines = |text: &str| -> BTreeSet<String> {
        text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).map(str::to_owned).collect()
    };
    let (actual, golden) = (lines(&edges(workspace)), lines(&workspace.text(GOLDEN)));
    let remedy = "let the line be reviewed: TALLY_WRITE_GOLDEN=1 rewrites the file";
    let unknown = actual.difference(&golden).map(|line| finding(GOLDEN, format!("lacks `{line}`"), remedy));
    let stale = golden.difference(&actual).map(|line| finding(GOLDEN, format!("`{line}` is no edge of the graph"), remedy));
    unknown.chain(stale).collect()
}

/// The golden file as the graph would have it.
pub fn edges(workspace: &Workspace) -> String {
    let mut lines = BTreeSet::new();
    for package in &workspace.packages {
        lines.extend(package.edges.iter().map(|edge| line(package, edge)));
        for (feature, turns_on) in &package.features {
            lines.insert(format!("{} feature {feature} [{}]", package.name, turns_on.join(" ")));
        }
    }
    let head = "# Every edge of the graph, and every feature of our own: package -> dependency (kind) [features].\n\
                # Checked by `architecture::every_edge_is_a_reviewed_line`; rewritten with TALLY_WRITE_GOLDEN=1.\n\n";
    let mut text = head.to_owned();
    for line in lines {
        text.push_str(&line);
        text.push('\n');
    }
    text
}

fn line(package: &Package, edge: &Edge) -> String {
    let mut line = format!("{} -> {}", package.name, edge.to);
    let notes: Vec<String> =
        [edge.kind.clone(), edge.optional.then(|| "optional".to_owned()), edge.target.clone()].into_iter().flatten().collect();
    if !notes.is_empty() {
        line.push_str(&format!(" ({})", notes.join(", ")));
    }
    let mut features = edge.features.clone();
    features.sort();
    if !edge.default_features {
        features.insert(0, "-default".to_owned());
    }
    if !features.is_empty() {
        line.push_str(&format!(" [{}]", features.join(" ")));
    }
    line
}

/// `platform-verify` is the second opinion: it reads published formats with means of its own.
pub fn verifier(workspace: &Workspace) -> Vec<Finding> {
    let edges = workspace.inner_edges().filter(|(from, _, _)| from.name == "platform-verify");
    let remedy = "the second opinion reads the published formats by itself";
    edges.map(|(from, _, to)| finding(from.manifest(), format!("platform-verify imports {}", to.name), remedy)).collect()
}

/// A heavy crate with its family of names, and who may ask for it.
const GATES: [(&str, &[&str]); 6] = [
    ("datafusion", &["platform-query", "server"]),
    ("polars", &["platform-verify"]),
    ("sqlx", &["shared-db", "shared-lake"]),
    ("axum", &["server"]),
    ("async-nats", &["shared-bus"]),
    ("object_store", &["shared-lake"]),
];

/// What must not even be reached through other crates of the workspace.
const BANS: [(&str, &[&str]); 2] =
    [("gpuaas-node-agent", &["datafusion", "polars", "sqlx", "axum"]), ("platform-verify", &["datafusion", "sqlx", "axum", "async-nats"])];

/// Heavy crates: who may depend on them, in which modules `sqlx` may be spoken, and who must not reach them at all.
pub fn gates(workspace: &Workspace) -> Vec<Finding> {
    let mut findings = Vec::new();
    for package in &workspace.packages {
        for (heavy, edge) in package.edges.iter().filter_map(|edge| Some((heavy(&edge.to)?, edge))) {
            let allowed = GATES.iter().any(|(name, allowed)| *name == heavy && allowed.contains(&package.name.as_str()));
            let has_store = heavy == "sqlx" && workspace.files.iter().any(|path| is_store(package, path));
            if !allowed && !has_store {
                let what = format!("{} depends on {}", package.name, edge.to);
                findings.push(finding(package.manifest(), what, gate(heavy)));
            }
        }
    }
    for source in &workspace.sources {
        let Some(package) = source.package.as_deref().and_then(|name| workspace.package(name)) else { continue };
        if ["shared-db", "shared-lake"].contains(&package.name.as_str()) || is_store(package, &source.path) {
            continue;
        }
        for token in source.tokens.iter().filter(|token| token.word() == Some("sqlx")) {
            findings.push(finding(source.place(token.line), "speaks sqlx outside a module named `store`", gate("sqlx")));
        }
    }
    for (from, banned) in BANS {
        for (through, edge) in reached(workspace, from) {
            if heavy(&edge.to).is_some_and(|heavy| banned.contains(&heavy)) {
                let what = format!("{from} reaches {} through {}", edge.to, through.name);
                findings.push(finding(format!("{}/Cargo.toml", folder(workspace, from)), what, format!("{from} does without {}", edge.to)));
            }
        }
    }
    findings
}

/// The gate that a crate's name belongs to: `polars` and `polars-arrow` to `polars`.
fn heavy(name: &str) -> Option<&'static str> {
    let of = |gate: &&'static str| name.strip_prefix(*gate).is_some_and(|rest| rest.is_empty() || rest.starts_with(['-', '_']));
    GATES.iter().map(|(gate, _)| *gate).find(of)
}

fn gate(heavy: &str) -> String {
    let allowed = GATES.iter().find(|(name, _)| *name == heavy).map_or(String::new(), |(_, allowed)| allowed.join(", "));
    let store = if heavy == "sqlx" { " and modules named `store`" } else { "" };
    format!("{heavy} belongs to {allowed}{store}")
}

fn is_store(package: &Package, path: &str) -> bool {
    path == package.path("src/store.rs") || path.starts_with(&package.path("src/store/"))
}

fn folder<'a>(workspace: &'a Workspace, package: &str) -> &'a str {
    workspace.package(package).map_or("", |package| package.folder.as_str())
}

/// Every edge that a build of the package follows, dev edges of other packages left out.
fn reached<'a>(workspace: &'a Workspace, from: &str) -> Vec<(&'a Package, &'a Edge)> {
    let mut reached = Vec::new();
    let mut seen = BTreeSet::new();
    let mut open: Vec<&str> = vec![from];
    while let Some(name) = open.pop() {
        let Some(package) = workspace.package(name).filter(|package| seen.insert(package.name.clone())) else { continue };
        for edge in package.edges.iter().filter(|edge| name == from || edge.kind.as_deref() != Some("dev")) {
            reached.push((package, edge));
            open.push(&edge.to);
        }
    }
    reached
}

/// The ledger books postings; what they were charged for is `platform-billing`'s.
pub fn ledger(workspace: &Workspace) -> Vec<Finding> {
    let unknown = ["platform-usage", "platform-rating", "platform-registry", "platform-billing", "platform-ingest"];
    let edges = reached(workspace, "platform-ledger").into_iter().filter(|(_, edge)| unknown.contains(&edge.to.as_str()));
    let remedy = "platform-billing turns rated batches into postings";
    edges
        .map(|(through, edge)| {
            let what = format!("platform-ledger reaches {} through {}", edge.to, through.name);
            finding(format!("{}/Cargo.toml", folder(workspace, "platform-ledger")), what, remedy)
        })
        .collect()
}

/// Domains register read models in the catalog.
pub fn query(workspace: &Workspace) -> Vec<Finding> {
    let edges = workspace.inner_edges().filter(|(from, _, to)| to.name == "platform-query" && !from.is_wiring());
    let remedy = "register a read model in platform-catalog; the server composes";
    edges.map(|(from, _, _)| finding(from.manifest(), format!("{} imports platform-query", from.name), remedy)).collect()
}

/// The closed list of packages and their places. `platform-storage` and `gpuaas-storage` claim one place:
/// a decision record says which gets it.
const PLACES: [(&str, &str); 47] = [
    ("platform-usage", "ingest/usage"),
    ("platform-ingest", "ingest"),
    ("platform-rating", "rating"),
    ("platform-ledger", "ledger"),
    ("platform-billing", "ledger/billing"),
    ("platform-evidence", "evidence"),
    ("platform-audit", "evidence/audit"),
    ("platform-verify", "evidence/verify"),
    ("platform-query", "query"),
    ("platform-catalog", "query/catalog"),
    ("platform-registry", "control/registry"),
    ("platform-iam", "control/iam"),
    ("platform-auth", "control/auth"),
    ("platform-policy", "control/policy"),
    ("platform-secrets", "control/secrets"),
    ("platform-payments", "control/payments"),
    ("platform-notification", "control/notification"),
    ("platform-statusops", "control/statusops"),
    ("platform-artifacts", "control/artifacts"),
    ("platform-releases", "control/releases"),
    ("platform-storage", "control/storage"),
    ("gpuaas-inventory", "control/inventory"),
    ("gpuaas-provisioning", "control/provisioning"),
    ("gpuaas-terminal", "control/terminal"),
    ("gpuaas-storage", "control/storage"),
    ("gpuaas-node-agent", "node-agent"),
    ("gpuaas-node-tasks", "node-agent/tasks"),
    ("appplatform-catalog", "control/appplatform/catalog"),
    ("appplatform-runtime", "control/appplatform/runtime"),
    ("appplatform-artifacts", "control/appplatform/artifacts"),
    ("appplatform-sdk", "control/appplatform/sdk"),
    ("tokenfactory-gateway", "ingest/gateway"),
    ("tokenfactory-routing", "ingest/routing"),
    ("tokenfactory-analytics", "query/analytics"),
    ("shared-types", "shared/types"),
    ("shared-columns", "shared/columns"),
    ("shared-runtime", "shared/runtime"),
    ("shared-bus", "shared/bus"),
    ("shared-db", "shared/db"),
    ("shared-lake", "shared/lake"),
    ("shared-testkit", "shared/testkit"),
    ("control", "control"),
    ("server", "server"),
    ("datasets", "datasets"),
    ("benches", "benches"),
    ("tests", "tests"),
    ("xtask", "xtask"),
];

/// Layer = first word of the name, place = folder.
pub fn places(workspace: &Workspace) -> Vec<Finding> {
    let mut findings = Vec::new();
    for package in &workspace.packages {
        let name = package.name.as_str();
        match PLACES.iter().find(|(planned, _)| *planned == name) {
            Some((_, place)) if *place == package.folder => {}
            Some((_, place)) => {
                findings.push(finding(package.manifest(), format!("{name} lies in {}", package.folder), format!("its place is {place}")))
            }
            None => findings.push(finding(
                package.manifest(),
                format!("{name} is no package of the plan"),
                "take a name of the closed list, or add one with its place here and in a decision record",
            )),
        }
    }
    findings
}

/// Linking a test binary costs more than most tests.
pub fn test_targets(workspace: &Workspace) -> Vec<Finding> {
    let many = workspace.packages.iter().filter(|package| package.tests.len() > 1);
    let remedy = "make the others modules of one target (`[[test]]` with a path, or `autotests = false`)";
    many.map(|package| {
        let what = format!("{} has {} integration tests: {}", package.name, package.tests.len(), package.tests.join(", "));
        finding(package.manifest(), what, remedy)
    })
    .collect()
}
