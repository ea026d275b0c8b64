//! Who may do what over HTTP: each route × role × own or another organization, with the answer that is expected; keys, limits, audit.
//! The routes are those of `contracts/ownership.toml`, which `architecture` holds against the router: no route is without a row.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::tally::{Answer, Client, Server, Tally, err, request, root};

const BATCH: &str = "application/cloudevents-batch+json";
const JSON: &str = "application/json";
const DAY: &str = "2026-10-05T10:00:00Z";

const ROLES: [&str; 5] = ["operator", "finance", "auditor", "customer", "agent"];

/// Whose things are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Whose {
    Own,
    Other,
}

/// What a route does, and with which answers.
struct Row {
    /// As in `contracts/ownership.toml`.
    route: &'static str,
    /// Its action, as in `docs/reference/access.md`.
    action: &'static str,
    /// The status for a role that may.
    done: u16,
    /// Whether the request names an organization; others answer about whatever the key may see.
    names: bool,
    /// Whether it is about all organizations at once: then a key of one organization may not.
    whole: bool,
}

const fn row(route: &'static str, action: &'static str, done: u16, names: bool) -> Row {
    Row { route, action, done, names, whole: false }
}

/// A route about the deployment as a whole.
const fn whole(route: &'static str, action: &'static str, done: u16) -> Row {
    Row { route, action, done, names: false, whole: true }
}

/// Every route but health, which asks for no key.
const ROWS: [Row; 40] = [
    row("DELETE /v1/keys/{key}", "iam.key.revoke", 200, true),
    row("GET /v1/audit/events", "audit.event.read", 200, false),
    row("GET /v1/balances", "ledger.balance.read", 200, false),
    row("GET /v1/charges/{id}/explain", "usage.reading.read", 404, false),
    row("GET /v1/events/trace", "usage.reading.read", 200, true),
    row("GET /v1/events/{id}/trace", "usage.reading.read", 200, false),
    row("GET /v1/evidence/bundles/{invoice}", "evidence.bundle.make", 404, false),
    row("GET /v1/evidence/checkpoint", "evidence.proof.read", 200, false),
    row("GET /v1/evidence/tile/{*path}", "evidence.proof.read", 404, false),
    row("GET /v1/forecast", "usage.reading.read", 200, true),
    row("GET /v1/invoices", "billing.invoice.read", 200, true),
    row("GET /v1/invoices/{invoice}", "billing.invoice.read", 404, false),
    row("GET /v1/invoices/{invoice}/changes", "billing.invoice.read", 404, false),
    row("GET /v1/invoices/{invoice}/lines/{line}/explain", "billing.invoice.read", 404, false),
    row("GET /v1/keys", "iam.key.read", 200, false),
    row("GET /v1/organizations", "iam.organization.read", 200, false),
    whole("GET /v1/periods", "billing.invoice.read", 200),
    whole("GET /v1/progress", "query.sql.ask", 200),
    row("GET /v1/projects", "iam.project.read", 200, false),
    row("GET /v1/registry", "registry.version.read", 200, false),
    whole("GET /v1/registry/drafts", "registry.draft.read", 200),
    whole("GET /v1/registry/drafts/{draft}", "registry.draft.read", 404),
    row("GET /v1/registry/price", "registry.version.read", 200, true),
    row("GET /v1/registry/versions/{version}", "registry.version.read", 404, false),
    row("GET /v1/registry/versions/{version}/diff/{other}", "registry.version.read", 404, false),
    row("GET /v1/sources", "iam.source.read", 200, false),
    row("GET /v1/usage", "usage.reading.read", 200, true),
    row("POST /v1/events", "ingest.event.send", 202, true),
    row("POST /v1/keys", "iam.key.create", 201, true),
    row("POST /v1/organizations", "iam.organization.add", 201, true),
    whole("POST /v1/periods/{period}/close", "billing.period.close", 422),
    whole("POST /v1/periods/{period}/opinion", "billing.opinion.record", 422),
    row("POST /v1/projects", "iam.project.add", 201, true),
    whole("POST /v1/registry/drafts", "registry.draft.propose", 409),
    whole("POST /v1/registry/drafts/{draft}/publish", "registry.version.publish", 404),
    whole("POST /v1/registry/drafts/{draft}/review", "registry.draft.review", 404),
    row("POST /v1/registry/versions", "registry.version.publish", 200, false),
    whole("POST /v1/registry/versions/{version}/retire", "registry.version.retire", 404),
    row("POST /v1/sources", "iam.source.enroll", 201, false),
    row("POST /v1/sql", "query.sql.ask", 200, false),
];

/// A served home with two organizations, a source of each, and a key of each role; customer and agent are acme's.
struct World {
    tally: Tally,
    server: Server,
    keys: BTreeMap<&'static str, String>,
}

impl World {
    fn new() -> Self {
        Self::with(Tally::new())
    }

    fn with(tally: Tally) -> Self {
        let server = tally.serve();
        for organization in ["acme", "other"] {
            tally.done(&["organization", "add", organization]);
            tally.done(&["source", "enroll", &format!("{organization}-gateway"), "--organization", organization]);
        }
        let mut keys = BTreeMap::new();
        for role in ROLES {
            let of: &[&str] = match role {
                "customer" => &["--organization", "acme"],
                "agent" => &["--source", "acme-gateway"],
                _ => &[],
            };
            keys.insert(role, tally.key(&[&[role, "--role", role], of].concat()));
        }
        Self { tally, server, keys }
    }

    fn client(&self, role: &str) -> Client {
        self.server.client().with_key(Some(&self.keys[role]))
    }

    /// Sends a row's request about acme's or the other organization's things.
    fn ask(&self, row: &Row, role: &str, whose: Whose) -> Answer {
        let organization = if whose == Whose::Own { "acme" } else { "other" };
        let (method, path) = row.route.split_once(' ').unwrap();
        let name = format!("{role}-{organization}");
        let mut path = path.to_owned();
        let body = match row.route {
            "DELETE /v1/keys/{key}" => {
                let fresh = self.tally.key(&[&format!("{organization}-app"), "--role", "customer", "--organization", organization]);
                path = format!("/v1/keys/{}", &fresh[..17]);
                String::new()
            }
            "POST /v1/events" => {
                let event = request(&name, organization, DAY, 1, 1);
                format!("[{}]", event.replace("\"gateway\"", &format!("\"{organization}-gateway\"")))
            }
            "POST /v1/keys" => json!({"principal": name, "role": "customer", "organization": organization}).to_string(),
            "POST /v1/organizations" => json!({"organization": organization, "name": organization}).to_string(),
            "POST /v1/projects" => json!({"organization": organization, "project": "chat", "name": "Chat"}).to_string(),
            "POST /v1/registry/drafts" | "POST /v1/registry/versions" => registry(),
            "GET /v1/registry/drafts/{draft}" => {
                path = "/v1/registry/drafts/9".to_owned();
                String::new()
            }
            "POST /v1/registry/drafts/{draft}/publish" => {
                path = "/v1/registry/drafts/9/publish".to_owned();
                "{}".to_owned()
            }
            "POST /v1/registry/drafts/{draft}/review" => {
                path = "/v1/registry/drafts/9/review".to_owned();
                json!({"verdict": "approved", "reason": "seen"}).to_string()
            }
            "POST /v1/registry/versions/{version}/retire" => {
                path = format!("/v1/registry/versions/{}/retire", "0".repeat(64));
                json!({"reason": "wrong"}).to_string()
            }
            "GET /v1/charges/{id}/explain" => {
                path = format!("/v1/charges/{}:0/explain", "0".repeat(32));
                String::new()
            }
            "GET /v1/events/trace" => {
                path = format!("/v1/events/trace?organization={organization}&source={organization}-gateway&id=x");
                String::new()
            }
            "GET /v1/events/{id}/trace" => {
                path = format!("/v1/events/{}/trace", "0".repeat(32));
                String::new()
            }
            "GET /v1/evidence/bundles/{invoice}" => {
                path = "/v1/evidence/bundles/inv-0".to_owned();
                String::new()
            }
            "GET /v1/evidence/tile/{*path}" => {
                path = "/v1/evidence/tile/7/999".to_owned();
                String::new()
            }
            "GET /v1/registry/price" => {
                path = format!("/v1/registry/price?sku=input&at=2026-10-05&organization={organization}");
                String::new()
            }
            "GET /v1/registry/versions/{version}/diff/{other}" => {
                path = format!("/v1/registry/versions/{0}/diff/{0}", "0".repeat(64));
                String::new()
            }
            "GET /v1/registry/versions/{version}" => {
                path = format!("/v1/registry/versions/{}", "0".repeat(64));
                String::new()
            }
            "GET /v1/invoices" => {
                path = format!("/v1/invoices?organization={organization}");
                String::new()
            }
            "GET /v1/invoices/{invoice}" => {
                path = "/v1/invoices/inv-0".to_owned();
                String::new()
            }
            "GET /v1/invoices/{invoice}/changes" => {
                path = "/v1/invoices/inv-0/changes?since=inv-1".to_owned();
                String::new()
            }
            "GET /v1/invoices/{invoice}/lines/{line}/explain" => {
                path = "/v1/invoices/inv-0/lines/1/explain".to_owned();
                String::new()
            }
            "GET /v1/forecast" => {
                path = format!("/v1/forecast?organization={organization}");
                String::new()
            }
            "GET /v1/usage" => {
                path = format!("/v1/usage?organization={organization}&from=2026-10-01T00:00:00Z&to=2026-11-01T00:00:00Z");
                String::new()
            }
            "POST /v1/periods/{period}/close" => {
                path = "/v1/periods/2999-12/close".to_owned();
                "{}".to_owned()
            }
            "POST /v1/periods/{period}/opinion" => {
                path = "/v1/periods/2999-12/opinion".to_owned();
                json!({"period": "2999-12", "agrees": true}).to_string()
            }
            "POST /v1/sql" => json!({"sql": "SELECT count(*) AS n FROM usage.charges"}).to_string(),
            "POST /v1/sources" => json!({"source": name, "organizations": [organization]}).to_string(),
            _ => String::new(),
        };
        let kind = if row.route == "POST /v1/events" { BATCH } else { JSON };
        self.client(role).ask(method, &path, kind, body.as_bytes()).unwrap()
    }
}

/// The tests' registry as a request to publish it.
fn registry() -> String {
    let text = std::fs::read_to_string(root().join("tests/registry/books.toml")).unwrap();
    json!({"files": [{"name": "books.toml", "text": text}]}).to_string()
}

/// The matrix as the page shows it: action → reach of each role.
fn matrix() -> BTreeMap<String, Vec<String>> {
    let page = std::fs::read_to_string(root().join("docs/reference/access.md")).unwrap();
    let cells = |line: &str| line.split('|').map(|cell| cell.trim().trim_matches('`').to_owned()).collect::<Vec<_>>();
    let rows = page.lines().filter(|line| line.starts_with("| `")).map(cells);
    rows.map(|cells| (cells[1].clone(), cells[3..8].to_vec())).collect()
}

/// What a role must be answered: from the matrix, and for whose things.
fn expected(row: &Row, reach: &str, role: &str, whose: Whose) -> u16 {
    match (reach, whose) {
        ("any", _) => row.done,
        ("own", _) if row.whole => 403,
        ("own", Whose::Own) => row.done,
        // A route that names no organization answers about the key's own.
        ("own", Whose::Other) if !row.names => row.done,
        // An agent is told that it may not report for somebody; a customer is not told whether anything is there.
        ("own", Whose::Other) => {
            if role == "agent" {
                403
            } else {
                404
            }
        }
        _ => 403,
    }
}

#[test]
fn each_route_answers_each_role_as_the_matrix_says() {
    let world = World::new();
    let matrix = matrix();
    let mut wrong = Vec::new();
    for row in &ROWS {
        for (role, reach) in ROLES.iter().zip(&matrix[row.action]) {
            for whose in [Whose::Own, Whose::Other] {
                let answer = world.ask(row, role, whose);
                let expected = expected(row, reach, role, whose);
                if answer.status != expected {
                    wrong.push(format!("{} as {role} ({whose:?}): {} instead of {expected}: {}", row.route, answer.status, answer.text));
                }
                if answer.status >= 400 {
                    assert_eq!(answer.content_type, "application/problem+json", "{} as {role}: {}", row.route, answer.text);
                    assert!(answer.status != 404 || !answer.text.contains("other"), "{}", answer.text);
                }
            }
        }
        let (method, path) = row.route.split_once(' ').unwrap();
        for key in [None, Some(&*format!("{}x", &world.keys["operator"][..65]))] {
            let answer = world.server.client().with_key(key).ask(method, &path.replace(['{', '}', '*'], ""), JSON, b"{}").unwrap();
            if answer.status != 401 {
                wrong.push(format!("{} with {key:?}: {} instead of 401", row.route, answer.status));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    world.server.stop();
    world.tally.check().unwrap();
}

#[test]
fn no_route_is_without_a_row() {
    #[derive(serde::Deserialize)]
    struct Owned {
        #[serde(default)]
        routes: BTreeSet<String>,
    }
    let map = std::fs::read_to_string(root().join("contracts/ownership.toml")).unwrap();
    let owners: BTreeMap<String, Owned> = toml::from_str(&map).unwrap();
    let routes: BTreeSet<&str> = owners.values().flat_map(|owned| owned.routes.iter().map(String::as_str)).collect();
    let mut rows: BTreeSet<&str> = ROWS.iter().map(|row| row.route).collect();
    rows.insert("GET /v1/health");
    assert_eq!(rows, routes);
}

#[test]
fn a_list_shows_a_customer_its_own_alone() {
    let world = World::new();
    for organization in ["acme", "other"] {
        world.tally.done(&["project", "add", organization, &format!("{organization}-chat")]);
        world.tally.key(&[&format!("{organization}-second"), "--role", "customer", "--organization", organization]);
    }
    for path in ["/v1/organizations", "/v1/projects", "/v1/keys", "/v1/audit/events"] {
        let answer = world.client("customer").ask("GET", path, JSON, b"").unwrap();
        assert!(answer.status == 200 && answer.text.contains("acme") && !answer.text.contains("other"), "{path}: {}", answer.text);
        let answer = world.client("operator").ask("GET", path, JSON, b"").unwrap();
        assert!(answer.text.contains("acme") && answer.text.contains("other"), "{path}: {}", answer.text);
    }
    assert!(!world.client("operator").ask("GET", "/v1/keys", JSON, b"").unwrap().text.contains(&world.keys["agent"][17..]));
}

#[test]
fn an_agent_sends_what_its_source_may_report_and_nothing_of_a_refused_body_is_stored() {
    let world = World::new();
    let agent = world.client("agent");
    let event =
        |id: &str, source: &str, organization: &str| request(id, organization, DAY, 1, 1).replace("\"gateway\"", &format!("\"{source}\""));
    let good = event("good", "acme-gateway", "acme");
    assert_eq!(agent.events(std::slice::from_ref(&good)).unwrap().status, 202);
    for bad in [
        event("a", "acme-gateway", "other"),
        event("b", "other-gateway", "other"),
        event("c", "nobody", "acme"),
        event("d", "acme-gateway", "acme").replace("\"source\":\"acme-gateway\",", ""),
        "7".to_owned(),
    ] {
        let answer = agent.events(&[event("beside", "acme-gateway", "acme"), bad.clone()]).unwrap();
        assert_eq!(answer.status, 403, "{bad}: {}", answer.text);
        assert!(answer.text.contains("ACCESS-0003"), "{}", answer.text);
    }
    world.server.stop();
    assert_eq!(world.tally.value("SELECT count(*) FROM usage.events WHERE outcome <> 'control'"), "1");
}

#[test]
fn a_revoked_key_is_refused_by_the_next_request() {
    let world = World::new();
    let client = world.client("finance");
    assert_eq!(client.ask("GET", "/v1/organizations", JSON, b"").unwrap().status, 200);
    world.tally.done(&["key", "revoke", &world.keys["finance"][..17]]);
    let answer = client.ask("GET", "/v1/organizations", JSON, b"").unwrap();
    assert!(answer.status == 401 && answer.text.contains("was revoked"), "{}", answer.text);
    let list = world.tally.done(&["key", "list"]);
    assert!(list.contains("revoked") && !list.contains(&world.keys["operator"][17..40]), "{list}");
}

#[test]
fn the_first_serve_shows_one_operator_key_and_the_log_shows_none() {
    let tally = Tally::new();
    let first = tally.with_log();
    let text = first.0.trim().to_owned();
    assert!(text.contains("operator key tally_"), "{text}");
    let key = text.split("operator key ").nth(1).unwrap()[..66].to_owned();
    assert!(!first.1.contains(&key[17..]), "{}", first.1);
    assert!(!tally.with_log().0.contains("operator key"));
    let everything = Command::new("grep").args(["-rl", &key[17..60]]).arg(tally.home()).output().unwrap();
    assert!(everything.stdout.is_empty(), "the key lies in {}", String::from_utf8_lossy(&everything.stdout));
}

#[test]
fn commands_beside_a_server_need_no_key_and_leave_the_name_local() {
    let world = World::new();
    let registry = root().join("tests/registry");
    world.tally.done(&["registry", "publish", registry.to_str().unwrap()]);
    let refused = world.tally.run(&["key", "create", "x", "--role", "customer"]);
    assert!(refused.status.code() == Some(1) && err(&refused).contains("role customer"), "{}", err(&refused));
    use std::os::unix::fs::PermissionsExt;
    let file = world.tally.home().join("local.key");
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    world.server.stop();
    assert!(!file.exists(), "the key of the OS user goes with the server");
    let who = world.tally.sql("SELECT DISTINCT principal FROM audit.events WHERE action = 'iam.source.enroll'");
    assert_eq!(who.len(), 1);
    assert_eq!(who[0]["principal"], "local");
}

#[test]
fn refusals_are_in_the_audit_of_whom_they_concern() {
    let world = World::new();
    let customer = world.client("customer");
    for _ in 0..5 {
        assert_eq!(customer.ask("GET", "/v1/sources", JSON, b"").unwrap().status, 403);
        assert_eq!(world.server.client().with_key(None).ask("GET", "/v1/keys", JSON, b"").unwrap().status, 401);
    }
    world.server.stop();
    let sql = "SELECT organization, action, principal, sum(count) AS refused, count(*) AS records FROM audit.events WHERE outcome = 'denied' \
               GROUP BY organization, action, principal ORDER BY action";
    let rows = world.tally.sql(sql);
    let found: Vec<(Option<&str>, &str, &str, String)> = rows
        .iter()
        .map(|row| {
            let text = |name: &str| row[name].as_str();
            let number = row["refused"].as_str().map_or_else(|| row["refused"].to_string(), ToOwned::to_owned);
            (text("organization"), text("action").unwrap(), text("principal").unwrap(), number)
        })
        .collect();
    let expected = [(None, "iam.key.present", "unknown", "5".to_owned()), (Some("acme"), "iam.source.read", "customer", "5".to_owned())];
    assert_eq!(found, expected);
    // One at once and one that counts the others; twice as many where a minute turned meanwhile.
    let few = |row: &Value| matches!(row["records"].to_string().trim_matches('"'), "2" | "3" | "4");
    assert!(rows.iter().all(few), "one at once, the others counted: {rows:?}");
    world.tally.check().unwrap();
}

#[test]
fn a_key_that_asks_too_much_is_told_when_to_come_again_and_others_are_not_held_up() {
    let tally = Tally::new().with("TALLY_ACCESS_REQUESTS_PER_SECOND", "1").with("TALLY_ACCESS_REQUESTS_BURST", "3");
    let world = World::with(tally);
    let statuses: Vec<u16> = (0..5).map(|_| world.client("finance").ask("GET", "/v1/organizations", JSON, b"").unwrap().status).collect();
    assert!(statuses.starts_with(&[200, 200, 200]) && statuses.ends_with(&[429]), "{statuses:?}");
    let over = world.client("finance").ask("GET", "/v1/organizations", JSON, b"").unwrap();
    assert!(over.status == 429 && over.retry_after.is_some() && over.text.contains("ACCESS-0005"), "{}", over.text);
    assert_eq!(world.client("customer").ask("GET", "/v1/organizations", JSON, b"").unwrap().status, 200);
    std::thread::sleep(Duration::from_millis(2_100));
    assert_eq!(world.client("finance").ask("GET", "/v1/organizations", JSON, b"").unwrap().status, 200);
}

#[test]
fn a_connection_that_sends_no_head_is_closed_and_others_are_served() {
    let tally = Tally::new().with("TALLY_SERVE_HEAD_MS_MAX", "300").with("TALLY_SERVE_CONNECTIONS_MAX", "2");
    let server = tally.serve();
    let idle: Vec<TcpStream> = (0..2)
        .map(|_| {
            let mut stream = TcpStream::connect(server.address()).unwrap();
            stream.write_all(b"GET /v1/health HTT").unwrap();
            stream
        })
        .collect();
    let started = Instant::now();
    assert_eq!(server.client().ask("GET", "/v1/health", JSON, b"").unwrap().status, 200);
    assert!(started.elapsed() >= Duration::from_millis(100), "both places were taken");
    for mut stream in idle {
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).unwrap();
    }
}

#[test]
fn every_error_is_a_problem_document() {
    let world = World::new();
    let operator = world.client("operator");
    for (method, path, body, status, code) in [
        ("PUT", "/v1/keys", "{}", 405, "HTTP-0004"),
        ("POST", "/v1/keys", "{", 400, "HTTP-0005"),
        ("POST", "/v1/keys", "{\"unknown\":1}", 422, "HTTP-0005"),
        ("POST", "/v1/registry/versions", "[]", 422, "HTTP-0005"),
        ("POST", "/v1/nothing", "{}", 404, "HTTP-0001"),
        ("GET", "/v1/audit/events?before=7", "", 400, "HTTP-0005"),
        ("DELETE", "/v1/keys/tally_00000000000", "", 404, "ACCESS-0004"),
    ] {
        let answer = operator.ask(method, path, JSON, body.as_bytes()).unwrap();
        let said: Value = serde_json::from_str(&answer.text).unwrap_or_default();
        let found = (answer.status, said["code"].as_str().unwrap_or_default(), answer.content_type.as_str());
        assert_eq!(found, (status, code, "application/problem+json"), "{method} {path}: {}", answer.text);
    }
}

#[test]
fn a_second_server_on_the_same_port_is_told_who_owns_the_home() {
    let tally = Tally::new();
    let server = tally.serve();
    let second = tally.run(&["serve", "--listen", server.address()]);
    assert_eq!(second.status.code(), Some(3), "{}", err(&second));
    let far = tally.run(&["serve", "--listen", "0.0.0.0:0"]);
    assert!(far.status.code() == Some(1) && err(&far).contains("--behind-tls"), "{}", err(&far));
}
