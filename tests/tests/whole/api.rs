//! What is read over HTTP: SQL in every format and within its limits, usage by pages, the story of an event, an explanation, the registry,
//! balances and the tiled log. The command line tells the same story.

use serde_json::{Value, json};

use crate::tally::{Client, Reply, Tally, request, root};

const DAY: &str = "2026-10-05T10:00:00Z";

/// A home with a little usage of two organizations, everything folded.
fn world() -> Tally {
    let tally = Tally::new();
    let server = tally.serve();
    let mut events: Vec<String> = (0..30)
        .map(|at| {
            let time = format!("2026-10-{:02}T{:02}:10:00Z", 5 + at % 3, at % 5);
            request(&format!("e{at}"), if at % 2 == 0 { "acme" } else { "beta" }, &time, 100 + at, 300 * (at + 1))
                .replace("\"specversion\"", &format!("\"subject\":\"pod-{}\",\"specversion\"", at % 4))
        })
        .collect();
    events.push(events[0].clone());
    events.push(events[2].replace("\"input_tokens\":102", "\"input_tokens\":103"));
    events.push(request("wrong", "acme", DAY, 1, 1).replace("llm.request", "llm.nothing"));
    assert_eq!(server.client().events(&events).unwrap().status, 202);
    tally.done(&["drain"]);
    server.stop();
    tally
}

fn sql(client: &Client, sql: &str, accept: &str, limits: &Value) -> Reply {
    let body = json!({"sql": sql, "limits": limits}).to_string();
    client.reply("POST", "/v1/sql", &[("content-type", "application/json"), ("accept", accept)], body.as_bytes())
}

fn get(client: &Client, path: &str) -> Value {
    let reply = client.reply("GET", path, &[], b"");
    assert_eq!(reply.status, 200, "{path}: {}", reply.text());
    reply.json()
}

/// A problem document with the code, and nothing else.
fn problem(reply: &Reply, status: u16, code: &str) {
    assert_eq!((reply.status, reply.header("content-type")), (status, Some("application/problem+json")), "{}", reply.text());
    assert_eq!(reply.json()["code"], code, "{}", reply.text());
}

#[test]
fn sql_is_answered_in_every_format_and_within_its_limits() {
    let tally = world();
    let server = tally.serve();
    let client = server.client();
    let question = "SELECT identity, meter, amount FROM usage.charges WHERE organization = 'acme' ORDER BY identity, ordinal";
    let none = json!({});
    let reply = sql(&client, question, "application/json", &none);
    assert_eq!((reply.status, reply.header("tally-truncated")), (200, Some("false")), "{}", reply.text());
    let rows = reply.json()["rows"].as_array().unwrap().clone();
    assert_eq!(rows.len(), 45, "{}", reply.text());
    assert!(rows.iter().all(|row| row["amount"].is_string()), "decimals are texts");
    let csv = sql(&client, question, "text/csv", &none);
    assert_eq!((csv.header("content-type"), csv.text().lines().count()), (Some("text/csv; charset=utf-8"), 46));
    let lines = sql(&client, question, "application/x-ndjson", &none).text();
    let parsed: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(parsed, rows);
    let arrow = sql(&client, question, "application/vnd.apache.arrow.stream", &none);
    assert_eq!(arrow.body.get(..4), Some([255; 4].as_slice()), "an Arrow stream begins with a continuation mark");
    // Each limit cuts or fails, and says so.
    let cut = sql(&client, question, "application/json", &json!({"rows": 7}));
    assert_eq!((cut.json()["rows"].as_array().unwrap().len(), cut.header("tally-truncated")), (7, Some("true")));
    assert_eq!(cut.json()["truncated"], true);
    for accept in ["application/json", "text/csv", "application/x-ndjson", "application/vnd.apache.arrow.stream"] {
        let cut = sql(&client, question, accept, &json!({"bytes": 2000}));
        assert_eq!((cut.status, cut.header("tally-truncated")), (200, Some("true")), "{accept}");
        assert!(cut.body.len() <= 2000 && cut.body.len() > 500, "{accept}: {} bytes", cut.body.len());
    }
    let heavy = "SELECT a.identity, b.identity, c.identity FROM usage.charges a, usage.charges b, usage.charges c ORDER BY 1, 2, 3";
    problem(&sql(&client, heavy, "text/csv", &json!({"memory_bytes": 200_000})), 422, "QUERY-0008");
    // Each join streams through the next: time runs out before memory does.
    let endless = (0..5).fold("SELECT quantity AS q FROM usage.charges".to_owned(), |inner, at| {
        format!("SELECT a{at}.quantity + b{at}.q AS q FROM usage.charges a{at} CROSS JOIN ({inner}) b{at}")
    });
    let endless = &format!("SELECT count(*) FROM ({endless}) e WHERE q < 0");
    problem(&sql(&client, endless, "text/csv", &json!({"time_ms": 200})), 422, "QUERY-0009");
    // What is not answered says why.
    for (question, status, code) in [
        ("SELEC 1", 400, "QUERY-0001"),
        ("DROP TABLE usage.charges", 400, "QUERY-0002"),
        ("SELECT avg(amount) FROM usage.charges", 400, "QUERY-0002"),
        ("SELECT nothing FROM usage.charges", 400, "QUERY-0003"),
        ("SELECT 1 / 0", 422, "QUERY-0007"),
    ] {
        problem(&sql(&client, question, "*/*", &none), status, code);
    }
    problem(&sql(&client, &format!("SELECT '{}'", "x".repeat(40_000)), "*/*", &none), 413, "QUERY-0010");
    problem(&sql(&client, question, "text/html", &none), 406, "HTTP-0007");
    problem(&sql(&client, question, "*/*", &json!({"row": 1})), 422, "HTTP-0005");
    problem(&client.reply("GET", "/v1/sql", &[], b""), 405, "HTTP-0004");
}

#[test]
fn usage_adds_up_in_every_bucket_and_comes_in_pages() {
    let tally = world();
    let server = tally.serve();
    let client = server.client();
    let month = "from=2026-10-01&to=2026-11-01";
    let rows = |path: &str| get(&client, path)["usage"].as_array().unwrap().clone();
    let sums = |rows: &[Value], what: &str| -> f64 { rows.iter().map(|row| row[what].as_str().unwrap().parse::<f64>().unwrap()).sum() };
    let total = rows(&format!("/v1/usage?{month}&bucket=total&group="));
    assert_eq!(total.len(), 2, "one row for each unit and currency: {total:?}");
    for bucket in ["hour", "day", "month", "total"] {
        for group in ["", "organization", "project,meter", "resource", "organization,project,meter,resource"] {
            let found = rows(&format!("/v1/usage?{month}&bucket={bucket}&group={group}"));
            for what in ["quantity", "amount"] {
                assert!((sums(&found, what) - sums(&total, what)).abs() < 1e-9, "{bucket} {group} {what}");
            }
            assert_eq!(found.iter().map(|row| row["readings"].as_u64().unwrap()).sum::<u64>(), 90, "{bucket} {group}");
        }
    }
    let by_hour = format!("/v1/usage?{month}&bucket=hour&group=organization,meter,resource");
    let whole = rows(&by_hour);
    let mut paged = Vec::new();
    let mut next = String::new();
    loop {
        let page = get(&client, &format!("{by_hour}&limit=7{next}"));
        paged.extend(page["usage"].as_array().unwrap().clone());
        match page["next"].as_str() {
            Some(mark) => next = format!("&page={mark}"),
            None => break,
        }
    }
    assert_eq!(paged, whole);
    assert!(whole.len() > 30, "{}", whole.len());
    let pod = rows(&format!("/v1/usage?{month}&bucket=total&group=resource&resource=pod-1&meter=requests"));
    assert_eq!(pod.len(), 1);
    assert_eq!((pod[0]["resource"].as_str(), pod[0]["quantity"].as_str()), (Some("pod-1"), Some("8")));
    let quoted = rows(&format!("/v1/usage?{month}&resource=%27%20OR%20true%20--"));
    assert_eq!(quoted.len(), 0, "a text is a text");
    let day = rows("/v1/usage?from=2026-10-05T02:00:00Z&to=2026-10-06&bucket=month&organization=acme&meter=requests");
    assert_eq!((day[0]["from"].as_str(), day[0]["to"].as_str()), (Some("2026-10-05T02:00:00Z"), Some("2026-10-06T00:00:00Z")));
    for wrong in
        ["from=2026-10-01", "from=2026-10-01&to=2026-10-01", "from=yesterday&to=2026-11-01", "from=2026-10-01T00:30:00Z&to=2026-11-01"]
    {
        assert_eq!(client.reply("GET", &format!("/v1/usage?{wrong}"), &[], b"").status, 400, "{wrong}");
    }
    for wrong in ["bucket=week", "group=colour", "limit=0", "page=xyz", "colour=red"] {
        let reply = client.reply("GET", &format!("/v1/usage?{month}&{wrong}"), &[], b"");
        let name = wrong.split('=').next().unwrap();
        assert!(reply.status == 400 && reply.text().contains(name), "{wrong}: {}", reply.text());
    }
    let elsewhere = format!("/v1/usage?{month}&bucket=day&limit=7{next}");
    problem(&client.reply("GET", &elsewhere, &[], b""), 400, "CATALOG-0001");
}

#[test]
fn an_event_and_a_charge_tell_their_story_in_both_tongues() {
    let tally = world();
    let server = tally.serve();
    let client = server.client();
    let named = |id: &str| get(&client, &format!("/v1/events/trace?organization=acme&source=gateway&id={id}"));
    let trace = named("e2");
    assert_eq!(trace["outcome"], "accepted");
    let outcomes: Vec<&str> = trace["deliveries"].as_array().unwrap().iter().map(|found| found["outcome"].as_str().unwrap()).collect();
    assert_eq!(outcomes, ["accepted", "conflict"]);
    assert!(trace["deliveries"][0]["position"].is_string() && trace["deliveries"][0]["batch_no"].is_number(), "{trace}");
    let readings = trace["readings"].as_array().unwrap();
    assert_eq!(readings.len(), 3);
    assert!(readings.iter().all(|reading| reading["fate"] == "charged" && !reading["postings"].as_array().unwrap().is_empty()), "{trace}");
    let identity = trace["identity"].as_str().unwrap();
    assert_eq!(get(&client, &format!("/v1/events/{identity}/trace")), trace);
    assert_eq!(named("e0")["deliveries"][1]["outcome"], "duplicate");
    let wrong = named("wrong");
    assert_eq!((&wrong["outcome"], &wrong["deliveries"][0]["reason"]), (&json!("quarantined"), &json!("unknown_type")));
    let never = named("never");
    assert_eq!((&never["outcome"], &never["deliveries"], &never["readings"]), (&json!("not_received"), &json!([]), &json!([])));
    problem(&client.reply("GET", "/v1/events/xyz/trace", &[], b""), 400, "INGEST-0008");
    problem(&client.reply("GET", "/v1/events/trace?source=gateway&id=e2", &[], b""), 400, "INGEST-0008");

    let charge = readings[1]["charge"].as_str().unwrap();
    let path = format!("/v1/charges/{charge}/explain");
    let explained = get(&client, &path);
    assert_eq!((&explained["verdict"], &explained["amount"]), (&json!("charged"), &readings[1]["amount"]));
    let page = client.reply("GET", &path, &[("accept", "text/plain")], b"").text();
    assert_eq!(explained["text"], json!(page));
    assert_eq!(tally.done(&["explain", charge]), page, "the command line tells the same story");
    assert!(page.contains("T, F rounded once to 9 places") && page.contains(readings[1]["amount"].as_str().unwrap()), "{page}");
    let story = tally.done(&["explain", "--organization", "acme", "--source", "gateway", "--event", "e2"]);
    assert!(story.contains("accepted") && story.contains("conflict") && story.contains(&page), "{story}");
    assert_eq!(tally.done(&["explain", identity]), story);
    assert_eq!(tally.run(&["explain", "--organization", "acme", "--source", "gateway", "--event", "never"]).status.code(), Some(1));
    problem(&client.reply("GET", &format!("/v1/charges/{identity}:9/explain"), &[], b""), 404, "RATING-0001");
    problem(&client.reply("GET", "/v1/charges/x/explain", &[], b""), 404, "RATING-0001");
}

#[test]
fn registry_balances_and_the_tiled_log_are_what_the_home_holds() {
    let tally = world();
    let server = tally.serve();
    let client = server.client();
    let registry = get(&client, "/v1/registry");
    let version = registry["in_force"].as_str().unwrap();
    assert_eq!((registry["versions"].as_array().unwrap().len(), &registry["versions"][0]["version"]), (1, &json!(version)));
    let documents = get(&client, &format!("/v1/registry/versions/{version}"));
    assert_eq!((&documents["complete"], &documents["version"]), (&json!(true), &json!(version)));
    let toml = client.reply("GET", &format!("/v1/registry/versions/{version}"), &[("accept", "application/toml")], b"").text();
    let folder = tally.scratch().join("again");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("all.toml"), toml).unwrap();
    let checked = tally.done(&["--format", "json", "registry", "check", folder.to_str().unwrap()]);
    assert!(checked.contains(version), "the documents make the same version again: {checked}");
    problem(&client.reply("GET", &format!("/v1/registry/versions/{}", "0".repeat(64)), &[], b""), 404, "REGISTRY-0003");

    let balances = get(&client, "/v1/balances")["balances"].as_array().unwrap().clone();
    let sum: f64 = balances.iter().map(|balance| balance["balance"].as_str().unwrap().parse::<f64>().unwrap()).sum();
    assert!(sum.abs() < 1e-9 && balances.len() >= 3, "{balances:?}");
    let first = get(&client, "/v1/balances?limit=1");
    let next = first["next"].as_str().unwrap().replace(' ', "%20");
    let second = get(&client, &format!("/v1/balances?limit=1&page={next}"));
    assert_eq!((&first["balances"][0], &second["balances"][0]), (&balances[0], &balances[1]));
    let own = get(&client, "/v1/balances?organization=acme")["balances"].as_array().unwrap().clone();
    assert!(!own.is_empty() && own.iter().all(|balance| balance["organization"] == "acme"), "{own:?}");

    let published = std::fs::read(tally.home().join("tiles/checkpoint")).unwrap();
    assert_eq!(client.reply("GET", "/v1/evidence/checkpoint", &[], b"").body, published);
    let mut tiles = 0;
    for entry in std::fs::read_dir(tally.home().join("tiles/tile/0")).unwrap() {
        let path = entry.unwrap().path();
        for file in if path.is_dir() { std::fs::read_dir(&path).unwrap().map(|file| file.unwrap().path()).collect() } else { vec![path] } {
            let name = file.strip_prefix(tally.home().join("tiles/tile")).unwrap().to_str().unwrap().to_owned();
            assert_eq!(client.reply("GET", &format!("/v1/evidence/tile/{name}"), &[], b"").body, std::fs::read(&file).unwrap(), "{name}");
            tiles += 1;
        }
    }
    assert!(tiles > 0);
    for path in ["../checkpoint", "%2e%2e/checkpoint", "0/..%2f..%2f..%2fsecrets%2flog.key", "0/999"] {
        problem(&client.reply("GET", &format!("/v1/evidence/tile/{path}"), &[], b""), 404, "EVIDENCE-0101");
    }
    assert!(root().join("contracts/openapi/tallystick.yaml").is_file());
}

#[test]
fn an_invoice_and_each_of_its_lines_are_shown_and_explained() {
    let tally = world();
    tally.done(&["close", "2026-10"]);
    let server = tally.serve();
    let client = server.client();
    let list = get(&client, "/v1/invoices?period=2026-10")["invoices"].as_array().unwrap().clone();
    let owners: Vec<&str> = list.iter().map(|invoice| invoice["organization"].as_str().unwrap()).collect();
    assert!(owners.len() == 2 && owners.contains(&"acme") && owners.contains(&"beta"), "{list:?}");
    let first = get(&client, "/v1/invoices?limit=1");
    let second = get(&client, &format!("/v1/invoices?limit=1&page={}", first["next"].as_str().unwrap()));
    assert_eq!((&first["invoices"][0], &second["invoices"][0], &second["next"]), (&list[0], &list[1], &Value::Null));
    let own = get(&client, "/v1/invoices?organization=acme")["invoices"][0].clone();
    let id = own["invoice_id"].as_str().unwrap();
    let path = format!("/v1/invoices/{id}");
    let invoice = get(&client, &path);
    let shown: Value = serde_json::from_str(&tally.done(&["--format", "json", "invoice", "show", id])).unwrap();
    assert_eq!((&invoice["invoice"], &invoice["digest"]), (&shown["invoice"], &shown["digest"]));
    assert_eq!(invoice["invoice"]["total"], own["total"]);
    assert_eq!(client.reply("GET", &path, &[("accept", "text/plain")], b"").text(), tally.done(&["invoice", "show", id]));
    assert_eq!(client.reply("GET", &path, &[("accept", "text/csv")], b"").text(), tally.done(&["--format", "csv", "invoice", "show", id]));
    let changes = format!("{path}/changes?since={id}");
    let compared = get(&client, &changes);
    assert!(compared["difference"] == "0" && compared["lines"].as_array().unwrap().len() == 3, "{compared}");
    assert_eq!(client.reply("GET", &changes, &[("accept", "text/plain")], b"").text(), tally.done(&["invoice", "compare", id, id]));
    let other = list.iter().find(|other| other["invoice_id"] != id).unwrap()["invoice_id"].as_str().unwrap();
    problem(&client.reply("GET", &format!("{path}/changes?since={other}"), &[], b""), 422, "BILLING-0025");

    let lines = invoice["invoice"]["lines"].as_array().unwrap();
    assert_eq!(lines.len(), 3);
    for line in lines {
        let number = line["number"].as_str().unwrap();
        let explained = get(&client, &format!("{path}/lines/{number}/explain"));
        assert_eq!((&explained["line"]["amount"], &explained["line"]["key_total"]), (&line["amount"], &line["key_total"]), "{explained}");
        assert_eq!(explained["after"]["total"], line["key_total"], "F of the line's prices is its total");
        assert_eq!(tally.done(&["explain", &format!("{id}:{number}")]), explained["text"].as_str().unwrap());
    }
    let trace = get(&client, "/v1/events/trace?organization=acme&source=gateway&id=e2");
    for reading in trace["readings"].as_array().unwrap() {
        let line = &reading["invoice_line"];
        assert_eq!(line["invoice_id"], json!(id), "{trace}");
        let number = line["line"].as_u64().unwrap().to_string();
        let found = lines.iter().find(|line| line["number"] == json!(number)).unwrap();
        assert_eq!((&found["contract_line"], &found["amount"]), (&reading["contract_line"], &line["amount"]));
    }
    for wrong in ["/v1/invoices/inv-0", "/v1/invoices/TALLY-000099", &format!("{path}/lines/9/explain"), &format!("{path}/lines/x/explain")]
    {
        problem(&client.reply("GET", wrong, &[], b""), 404, "BILLING-0024");
    }
    for wrong in ["period=October", "limit=0", "organization=o%20r"] {
        problem(&client.reply("GET", &format!("/v1/invoices?{wrong}"), &[], b""), 400, "BILLING-0023");
    }
    assert_eq!(tally.run(&["explain", &format!("{id}:9")]).status.code(), Some(1));
}
