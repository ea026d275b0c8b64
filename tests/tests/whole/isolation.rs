//! Non-interference: two homes hold the same bytes of one organization and different data of all others. With a key of that organization
//! every question and every route is answered byte for byte alike in both: bodies, errors, headers. A server that forgets the filter, or
//! that shows positions in a shard, is found by the same comparison.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};

use crate::tally::{Client, Reply, Tally, request, root};

/// The organization that asks.
const OURS: &str = "acme";

/// What the other world must never show: names that stand in no question.
const CANARIES: [&str; 4] = ["zulu", "yankee", "secret-model", "hidden-project"];

fn planted() -> Option<PathBuf> {
    let binary = std::env::var_os("TALLY_PLANTED_BIN").map(PathBuf::from);
    if binary.is_none() {
        assert!(std::env::var_os("TALLY_REQUIRE_TOOLS").is_none(), "TALLY_PLANTED_BIN is not set");
        eprintln!("SKIPPED: TALLY_PLANTED_BIN is not set; run `cargo xtask test whole`");
    }
    binary
}

/// A home as it was before anything was sent: registry, organizations, a key of ours.
struct Seed {
    tally: Tally,
    key: String,
}

impl Seed {
    fn new(planted: PathBuf) -> Self {
        let tally = Tally::new().binary(planted);
        for organization in [OURS, "zulu-1"] {
            tally.done(&["organization", "add", organization]);
        }
        Self { key: tally.key(&["reader", "--role", "customer", "--organization", OURS]), tally }
    }

    /// A copy in which others do what `others` says between our own events.
    fn world(&self, planted: &std::path::Path, others: impl Fn(usize) -> Vec<String>) -> Tally {
        let mut world = Tally::empty().binary(planted.to_owned());
        assert!(Command::new("cp").arg("-a").arg(self.tally.home()).arg(world.home()).status().unwrap().success());
        for round in 0..3 {
            world = world.with("TALLY_CLOCK", &format!("2026-11-02T0{round}:00:00Z"));
            let server = world.serve();
            let client = server.client();
            let (ours, theirs) = (ours(round), others(round));
            // Ours lie between theirs, in one request and one batch.
            let middle = theirs.len() / 2;
            let mixed: Vec<String> = theirs[..middle].iter().chain(&ours).chain(&theirs[middle..]).cloned().collect();
            for part in mixed.chunks(5_000) {
                let answer = client.events(part).unwrap();
                assert_eq!(answer.status, 202, "{}", answer.text);
            }
            world.done(&["drain"]);
            server.stop();
            // The last round is late: it is in the books of another month, and on no invoice yet.
            if round == 1 {
                world.done(&["close", "2026-10"]);
            }
        }
        world
    }
}

fn event(id: &str, organization: &str, day: usize, input: usize, subject: &str) -> String {
    let time = format!("2026-10-{:02}T{:02}:20:00Z", 1 + day % 28, day % 24);
    let input = u64::try_from(input).unwrap();
    request(id, organization, &time, 100 + input, 40 * input)
        .replace("\"specversion\"", &format!("\"subject\":\"{subject}\",\"project\":\"chat\",\"specversion\""))
}

/// Our events of a round: good ones, a repeat, a conflict, one that no meter reads and one that cannot be read.
fn ours(round: usize) -> Vec<String> {
    let mut events: Vec<String> =
        (0..40).map(|at| event(&format!("{round}-{at}"), OURS, at, at * (round + 1), &format!("pod-{}", at % 3))).collect();
    events.push(events[3].clone());
    events.push(events[4].replace("\"project\":\"chat\"", "\"project\":\"other\""));
    events.push(event(&format!("{round}-odd"), OURS, 1, 1, "pod").replace("llm.request", "llm.nothing"));
    events.push(event(&format!("{round}-bad"), OURS, 1, 1, "pod").replace("\"input_tokens\":101", "\"input_tokens\":\"many\""));
    events
}

/// Others by name: many enough that some of them share our shard. They use our ids and our source, too.
fn others(prefix: &str, organizations: usize, events: usize, round: usize) -> Vec<String> {
    (0..events)
        .map(|at| {
            let organization = format!("{prefix}-{}", at % organizations);
            let id = if at % 5 == 0 { format!("{round}-{}", at % 40) } else { format!("{prefix}-{round}-{at}") };
            let event = event(&id, &organization, at, at % 977, "secret-model").replace("\"chat\"", "\"hidden-project\"");
            match at % 11 {
                7 => event.replace("llm.request", "llm.nothing"),
                _ => event,
            }
        })
        .collect()
}

/// The two worlds, and the key.
struct Worlds {
    one: Tally,
    two: Tally,
    key: String,
    /// Identity of an event that only the second world holds, and one that both hold for us.
    theirs: String,
    own: String,
}

impl Worlds {
    fn new(planted: &std::path::Path) -> Self {
        let seed = Seed::new(planted.to_owned());
        let one = seed.world(planted, |round| others("yankee", 90, 120, round));
        let two = seed.world(planted, |round| others("zulu", 300, 9_000, round));
        let identity = |organization: &str| {
            let sql = format!("SELECT identity FROM usage.charges WHERE organization = '{organization}' ORDER BY identity LIMIT 1");
            two.value(&sql)
        };
        let (theirs, own) = (identity("zulu-1"), identity(OURS));
        let shared = "SELECT count(DISTINCT organization) FROM usage.events WHERE shard = \
                      (SELECT max(shard) FROM usage.events WHERE organization = 'acme')";
        for world in [&one, &two] {
            let sharing: u32 = world.value(shared).parse().unwrap();
            assert!(sharing > 1, "somebody shares our shard");
        }
        Self { one, two, key: seed.key, theirs, own }
    }

    /// What differs between the two answers to each question, asked of servers of this binary with this plant.
    fn differences(&self, binary: PathBuf, plant: &str, questions: &[Question]) -> Vec<String> {
        let serve = |world: &Tally| world.beside(binary.clone(), "TALLY_PLANT", plant).serve();
        let (one, two) = (serve(&self.one), serve(&self.two));
        let (first, second) = (one.client(), two.client());
        let mut found = Vec::new();
        for question in questions {
            let (mine, other) = (question.ask(&first, &self.key), question.ask(&second, &self.key));
            let shown = question.shown();
            if mine != other {
                found.push(format!("{shown}\n--- one\n{}\n--- two\n{}", told(&mine), told(&other)));
            }
            let canaries = CANARIES.iter().filter(|canary| !shown.contains(**canary));
            let mut shows = canaries.filter_map(|canary| [&mine, &other].into_iter().find(|reply| reply.text().contains(canary)));
            if let Some(reply) = shows.find(|_| mine == other) {
                found.push(format!("{shown}\n--- names another organization\n{}", told(reply)));
            }
        }
        one.stop();
        two.stop();
        found
    }
}

fn told(reply: &Reply) -> String {
    let text: String = reply.text().chars().take(600).collect();
    format!("{} {:?}\n{text}", reply.status, reply.headers)
}

/// One question over HTTP.
enum Question {
    Get { path: String, accept: &'static str },
    Sql { sql: String, accept: &'static str, limits: Value },
}

const FORMATS: [&str; 5] = ["application/json", "text/csv", "application/x-ndjson", "application/vnd.apache.arrow.stream", "text/plain"];

impl Question {
    fn shown(&self) -> String {
        match self {
            Self::Get { path, accept } => format!("GET {path} ({accept})"),
            Self::Sql { sql, accept, limits } => format!("{sql} ({accept}, {limits})"),
        }
    }

    /// The answer without its date.
    fn ask(&self, client: &Client, key: &str) -> Reply {
        let client = client.with_key(Some(key));
        let mut reply = match self {
            Self::Get { path, accept } => client.reply("GET", path, &[("accept", accept)], b""),
            Self::Sql { sql, accept, limits } => {
                let body = json!({"sql": sql, "limits": limits}).to_string();
                let headers = [("content-type", "application/json"), ("accept", *accept)];
                client.reply("POST", "/v1/sql", &headers, body.as_bytes())
            }
        };
        reply.headers.retain(|(name, _)| name != "date");
        reply
    }
}

/// Tables that organizations see, the others, and one that is none.
const TABLES: [&str; 9] = [
    "usage.charges",
    "usage.events",
    "usage.quarantine",
    "usage.hours",
    "ledger.balances",
    "billing.invoices",
    "billing.invoice_lines",
    "billing.invoice_terms",
    "sys.batches",
];

const ABOUT_A_TABLE: [&str; 33] = [
    "SELECT * FROM {t}",
    "SELECT count(*) FROM {t}",
    "SELECT * FROM {t} LIMIT 3",
    "SELECT * FROM {t} LIMIT 5 OFFSET 2",
    "SELECT * FROM {t} WHERE organization = 'zulu-1'",
    "SELECT * FROM {t} WHERE organization <> 'acme'",
    "SELECT count(*) FROM {t} WHERE organization = 'acme' OR organization > 'a' OR true",
    "SELECT DISTINCT organization FROM {t}",
    "SELECT min(organization), max(organization), count(DISTINCT organization) FROM {t}",
    "SELECT organization, count(*) FROM {t} GROUP BY organization",
    "SELECT string_agg(organization, ',') FROM {t}",
    "SELECT first_value(organization), last_value(organization) FROM {t}",
    "SELECT a.organization, b.organization FROM {t} a JOIN {t} b ON a.organization <> b.organization OR true LIMIT 40",
    "SELECT count(*) FROM {t} a FULL JOIN {t} b ON a.organization = b.organization",
    "SELECT count(*) FROM {t} a LEFT JOIN (SELECT organization FROM {t} WHERE organization <> 'acme') b ON true",
    "SELECT organization FROM {t} UNION SELECT organization FROM usage.hours",
    "SELECT organization FROM {t} UNION ALL SELECT organization FROM {t}",
    "SELECT organization FROM {t} EXCEPT SELECT 'acme'",
    "SELECT organization FROM {t} INTERSECT SELECT organization FROM usage.hours",
    "WITH w AS (SELECT * FROM {t}) SELECT count(*), max(organization) FROM w",
    "WITH w AS (SELECT organization AS o FROM {t}), v AS (SELECT o FROM w WHERE o <> 'acme') SELECT count(*) FROM v",
    "SELECT (SELECT count(*) FROM {t}), (SELECT max(organization) FROM {t})",
    "SELECT count(*) FROM usage.hours h WHERE EXISTS (SELECT 1 FROM {t} t WHERE t.organization <> h.organization)",
    "SELECT count(*) FROM usage.hours WHERE organization NOT IN (SELECT organization FROM {t} WHERE organization IS NOT NULL)",
    "SELECT organization, row_number() OVER (), rank() OVER (ORDER BY organization) FROM {t} LIMIT 20",
    "EXPLAIN SELECT * FROM {t} WHERE organization > 'b'",
    "EXPLAIN VERBOSE SELECT count(*) FROM {t}",
    "EXPLAIN ANALYZE SELECT count(*) FROM {t}",
    "DESCRIBE {t}",
    "SELECT shard, incarnation, sequence FROM {t}",
    "SELECT organization FROM {t} ORDER BY sequence",
    "SELECT CAST(organization AS bigint) FROM {t}",
    "SELECT nothing FROM {t}",
];

const OTHERS: [&str; 42] = [
    "SHOW TABLES",
    "TABLE usage.hours",
    "SELECT * FROM information_schema.tables",
    "SELECT * FROM information_schema.columns",
    "SELECT * FROM information_schema.schemata",
    "SELECT * FROM pg_catalog.pg_tables",
    "SHOW COLUMNS FROM usage.charges",
    "SHOW ALL",
    "DESCRIBE sys.positions",
    "DESCRIBE ledger.postings",
    "SELECT * FROM sys.positions",
    "SELECT * FROM sys.folds",
    "SELECT * FROM sys.conservation",
    "SELECT * FROM ledger.postings",
    "SELECT * FROM ledger.entries",
    "SELECT * FROM registry.versions",
    "SELECT * FROM evidence.checkpoints",
    "SELECT * FROM platform_ledger_postings",
    "SELECT * FROM usage.totals",
    "SELECT * FROM 'lake/charges'",
    "SELECT * FROM read_parquet('lake/charges/1/x.parquet')",
    "SELECT version()",
    "SELECT now()",
    "SELECT current_user",
    "SET x = 1",
    "CREATE VIEW v AS SELECT 1",
    "COPY usage.charges TO '/tmp/x'",
    "SELECT",
    "SELECT 1; SELECT 2",
    "SELECT 1 / (count(*) - count(*)) FROM usage.events",
    "SELECT sum(amount) FROM usage.charges",
    "SELECT meter, sum(quantity), sum(amount), count(*) FROM usage.charges GROUP BY meter",
    "SELECT meter, unit, currency, sum(amount) FROM usage.hours GROUP BY ROLLUP (meter, unit, currency)",
    "SELECT e.event_id, e.subject, c.meter, c.amount FROM usage.events e JOIN usage.charges c ON e.identity = c.identity WHERE e.outcome = 'accepted' \
     LIMIT 30",
    "SELECT e.outcome, count(*) FROM usage.events e LEFT JOIN usage.quarantine q ON e.event_id = q.event_id GROUP BY e.outcome",
    "SELECT identity, lag(identity) OVER (ORDER BY log_month, log_seq) FROM usage.charges WHERE meter = 'requests'",
    "SELECT log_month, min(log_seq), max(log_seq), count(log_seq) FROM usage.charges GROUP BY log_month",
    "SELECT state_before, state_after, commitment, registry_version FROM usage.charges",
    "SELECT raw, detail, reason FROM usage.quarantine",
    "SELECT attributes FROM usage.events WHERE outcome = 'accepted'",
    "SELECT min(accepted_at), max(accepted_at) FROM usage.events",
    "EXPLAIN SELECT * FROM usage.charges a JOIN usage.events b ON a.identity = b.identity ORDER BY a.log_seq LIMIT 5",
];

/// Every question in SQL, formats and limits in turn.
fn sql_questions() -> Vec<Question> {
    let about = TABLES.iter().flat_map(|table| ABOUT_A_TABLE.iter().map(move |sql| sql.replace("{t}", table)));
    let all: BTreeSet<String> = about.chain(OTHERS.iter().map(|sql| (*sql).to_owned())).collect();
    assert!(all.len() >= 200, "{} questions", all.len());
    let limits = [json!({}), json!({"rows": 3}), json!({"bytes": 1500}), json!({"memory_bytes": 60_000}), json!({}), json!({})];
    let question =
        |(at, sql): (usize, String)| Question::Sql { sql, accept: FORMATS[at % FORMATS.len()], limits: limits[at % limits.len()].clone() };
    all.into_iter().enumerate().map(question).collect()
}

/// Routes whose answer is about the whole deployment by what it is, and is meant for everybody.
const PUBLIC: [&str; 2] = ["GET /v1/evidence/checkpoint", "GET /v1/evidence/tile/{*path}"];

/// Every GET route with arguments of ours, of others, and of nobody. A route that is not known here fails the test.
fn get_questions(worlds: &Worlds) -> Vec<Question> {
    let map: toml::Table = std::fs::read_to_string(root().join("contracts/ownership.toml")).unwrap().parse().unwrap();
    let routes = map.values().filter_map(|owned| owned.get("routes")?.as_array()).flatten().filter_map(toml::Value::as_str);
    let month = "from=2026-10-01&to=2026-11-01";
    let version = worlds.one.value("SELECT version FROM registry.versions ORDER BY control_no DESC LIMIT 1");
    let of = |organization: &str| {
        worlds
            .two
            .value(&format!("SELECT invoice_id FROM billing.invoices WHERE organization = '{organization}' ORDER BY invoice_id LIMIT 1"))
    };
    let (invoice, foreign) = (of(OURS), of("zulu-1"));
    let mut paths: Vec<String> = Vec::new();
    for route in routes.filter(|route| route.starts_with("GET ") && !PUBLIC.contains(route)) {
        let path = route.trim_start_matches("GET ");
        let more: Vec<String> = match path {
            "/v1/usage" => ["hour", "day", "month", "total"]
                .iter()
                .flat_map(|bucket| {
                    [
                        "",
                        "&group=organization",
                        "&group=project,resource",
                        "&organization=zulu-1",
                        "&organization=acme&limit=3",
                        "&resource=secret-model",
                    ]
                    .map(|more| format!("{path}?{month}&bucket={bucket}{more}"))
                })
                .chain([format!("{path}?{month}&bucket=week"), path.to_owned()])
                .collect(),
            // Without an instant the answer says when it was given, and no two are given at one time.
            "/v1/forecast" => {
                ["", "&organization=acme", "&organization=zulu-1", "&organization=nobody", "&book=in-force", "&period=2026-09"]
                    .iter()
                    .flat_map(|more| ["2026-10-12", "2026-10-28T12:00:00Z"].map(|as_of| format!("{path}?as_of={as_of}{more}")))
                    .chain([format!("{path}?as_of=tomorrow"), format!("{path}?as_of=2026-10-12&period=October")])
                    .collect()
            }
            "/v1/balances" => ["", "?organization=acme", "?organization=zulu-1", "?organization=nobody", "?limit=1", "?limit=0"]
                .map(|more| format!("{path}{more}"))
                .to_vec(),
            "/v1/events/{id}/trace" => {
                [&worlds.own, &worlds.theirs, &"0".repeat(32), &"x".to_owned()].map(|id| format!("/v1/events/{id}/trace")).to_vec()
            }
            "/v1/events/trace" => {
                let ids = ["0-1", "0-3", "0-4", "0-odd", "0-bad", "zulu-0-1", "never"];
                let own = ids.iter().map(|id| format!("{path}?source=gateway&id={id}"));
                own.chain(["acme", "zulu-1", "nobody"].map(|who| format!("{path}?source=gateway&id=0-5&organization={who}"))).collect()
            }
            "/v1/charges/{id}/explain" => [&worlds.own, &worlds.theirs, &"0".repeat(32)]
                .iter()
                .flat_map(|id| [0, 1, 7].map(|ordinal| format!("/v1/charges/{id}:{ordinal}/explain")))
                .collect(),
            "/v1/invoices" => {
                ["", "?organization=acme", "?organization=zulu-1", "?period=2026-10", "?period=October", "?limit=0", "?page=inv-2"]
                    .map(|more| format!("{path}{more}"))
                    .to_vec()
            }
            "/v1/invoices/{invoice}" => [&invoice, &foreign, &"inv-0".to_owned(), &"TALLY-000001".to_owned()]
                .map(|invoice| format!("/v1/invoices/{invoice}"))
                .to_vec(),
            // Our own names the checkpoint, which commits to everybody: what is in it is looked at in `bundle::`.
            "/v1/evidence/bundles/{invoice}" => [&foreign, &"inv-0".to_owned(), &"TALLY-999999".to_owned()]
                .map(|invoice| format!("/v1/evidence/bundles/{invoice}"))
                .to_vec(),
            "/v1/invoices/{invoice}/changes" => [(&invoice, &invoice), (&invoice, &foreign), (&foreign, &invoice)]
                .map(|(invoice, since)| format!("/v1/invoices/{invoice}/changes?since={since}"))
                .to_vec(),
            "/v1/invoices/{invoice}/lines/{line}/explain" => [(&invoice, 1), (&invoice, 2), (&invoice, 99), (&foreign, 1)]
                .map(|(invoice, line)| format!("/v1/invoices/{invoice}/lines/{line}/explain"))
                .to_vec(),
            "/v1/registry/versions/{version}" => {
                [&version, &"0".repeat(64)].map(|version| format!("/v1/registry/versions/{version}")).to_vec()
            }
            "/v1/registry/drafts/{draft}" => vec!["/v1/registry/drafts/1".to_owned()],
            "/v1/registry/versions/{version}/diff/{other}" => {
                [&version, &"0".repeat(64)].map(|other| format!("/v1/registry/versions/{version}/diff/{other}")).to_vec()
            }
            "/v1/registry/price" => {
                // Without an instant the answer says when it was given, and no two are given at one time.
                ["as_of=2020-01-01", "as_of=2999-01-01"]
                    .iter()
                    .flat_map(|as_of| {
                        ["", "&organization=acme", "&organization=zulu-1", "&contract=everyone"].map(|more| format!("{as_of}{more}"))
                    })
                    .flat_map(|more| {
                        ["sku=input", "meter=tokens.input&dimensions=%7B%22model%22%3A%22m%22%7D", "sku=nothing"]
                            .map(|what| format!("{path}?{what}&at=2026-10-05&{more}"))
                    })
                    .chain([path.to_owned()])
                    .collect()
            }
            plain if !plain.contains('{') => vec![plain.to_owned()],
            unknown => panic!("{unknown} has parameters that this test does not know: add arguments of ours and of others"),
        };
        paths.extend(more);
    }
    // What a caller did is in its own audit: ask for that before anything is refused.
    paths.sort_by_key(|path| !path.contains("audit"));
    paths.push("/v1/evidence/tile/entries/000".to_owned());
    paths.push("/v1/nothing".to_owned());
    let mut questions: Vec<Question> = paths.into_iter().map(|path| Question::Get { path, accept: "*/*" }).collect();
    questions.push(Question::Get { path: format!("/v1/charges/{}:0/explain", worlds.own), accept: "text/plain" });
    questions.push(Question::Get { path: format!("/v1/invoices/{invoice}"), accept: "text/plain" });
    questions.push(Question::Get { path: format!("/v1/invoices/{invoice}"), accept: "text/csv" });
    questions.push(Question::Get { path: format!("/v1/registry/versions/{version}"), accept: "application/toml" });
    questions
}

#[test]
fn an_organization_is_answered_as_if_no_other_existed() {
    let Some(planted) = planted() else { return };
    let worlds = Worlds::new(&planted);
    let mut questions = get_questions(&worlds);
    questions.extend(sql_questions());
    let found = worlds.differences(crate::tally::binary(), "none", &questions);
    assert!(found.is_empty(), "{} of {} questions\n{}", found.len(), questions.len(), found.join("\n\n"));
    // The questions are worth something: they are answered, and they find what is planted.
    let server = worlds.one.beside(crate::tally::binary(), "TALLY_PLANT", "none").serve();
    let client = server.client();
    let answered = questions.iter().filter(|question| question.ask(&client, &worlds.key).status == 200).count();
    assert!(answered * 2 > questions.len(), "only {answered} of {} questions are answered", questions.len());
    server.stop();
    for plant in ["forget-scope", "show-positions"] {
        let found = worlds.differences(planted.clone(), plant, &questions);
        println!("{plant}: {} of {} questions show it", found.len(), questions.len());
        assert!(found.len() > 5, "the questions do not find the planted bug {plant}: {}", found.join("\n\n"));
    }
}
