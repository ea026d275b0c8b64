//! Questions about what is not booked, in the real process: usage of the past under a draft, in SQL, and what a running month will come to. Each answer is
//! held against what booking it, or living through the month, then comes to.

use serde_json::{Value, json};

use crate::recurring;
use crate::rerate::{TEN_TIMES, book, holds, home, send};
use crate::tally::{Answer, Client, Tally, err, request};

/// Rows of an answer that a book was named for.
fn under(tally: &Tally, book: &str, sql: &str) -> Vec<Value> {
    let answer: Value = serde_json::from_str(&tally.done(&["--format", "json", "sql", "--book", book, sql])).unwrap();
    answer["rows"].as_array().cloned().unwrap_or_else(|| answer.as_array().unwrap().clone())
}

fn ask(client: &Client, sql: &str, book: &str) -> Answer {
    client.ask("POST", "/v1/sql", "application/json", json!({"sql": sql, "book": book}).to_string().as_bytes()).unwrap()
}

/// What every key owes, as a question about a table.
fn owed(table: &str) -> String {
    format!(
        "SELECT organization, contract_line, service_period, currency, sum(quantity) AS quantity, sum(amount) AS amount FROM {table} \
         GROUP BY organization, contract_line, service_period, currency ORDER BY organization, contract_line, service_period"
    )
}

#[test]
fn usage_of_the_past_is_asked_under_a_draft_and_is_booked_to_the_same_digit() {
    let tally = home(TEN_TIMES);
    let server = tally.serve();
    let mut events = Vec::new();
    for organization in ["acme", "globex"] {
        for (at, time) in
            ["2026-09-09T23:59:59Z", "2026-09-10T00:00:00Z", "2026-09-12T10:00:00Z", "2026-10-14T20:00:00Z"].iter().enumerate()
        {
            events.push(request(&format!("{organization}-{at}"), organization, time, 1_000_001, 1_500));
        }
    }
    send(&server, &events);
    tally.done(&["drain"]);
    server.stop();
    let mended = book(&tally, "mended", "3");
    let mended = mended.to_str().unwrap();
    let rows = tally.value("SELECT count(*) FROM usage.charges");

    let as_booked = under(&tally, "in-force", &owed("what_if.charges"));
    assert_eq!(as_booked, tally.sql(&owed("usage.charges")), "under the book in force everything is as it stands");
    let expected = under(&tally, mended, &owed("what_if.charges"));
    assert_ne!(expected, as_booked);
    let difference = "SELECT w.organization, w.amount - u.amount AS difference FROM \
                      (SELECT organization, sum(amount) AS amount FROM what_if.charges WHERE sku_id = 'input' GROUP BY organization) w JOIN \
                      (SELECT organization, sum(amount) AS amount FROM usage.charges WHERE sku_id = 'input' GROUP BY organization) u \
                      ON w.organization = u.organization ORDER BY 1";
    let found = under(&tally, mended, difference);
    assert_eq!(
        found,
        [json!({"organization": "acme", "difference": "-54.000054000"}), json!({"organization": "globex", "difference": "-54.000054000"})]
    );
    let ranged = "SELECT organization, count(*) AS readings, sum(amount) AS amount FROM what_if.charges WHERE organization = 'acme' AND sku_id = 'input' \
                  AND start_at >= '2026-09-10' AND start_at < '2026-10-01' GROUP BY organization";
    assert_eq!(under(&tally, mended, ranged), [json!({"organization": "acme", "readings": 2, "amount": "6.000006000"})]);
    let changed = "SELECT count(*) AS readings, count(DISTINCT registry_version) AS books, count(log_seq) AS places FROM what_if.charges WHERE supersedes IS NOT NULL";
    assert_eq!(under(&tally, mended, changed), [json!({"readings": 4, "books": 1, "places": 0})]);

    // A draft says the same as the folder that it was made of, also over HTTP, and nothing was written by any of these questions.
    tally.done(&["registry", "propose", mended]);
    assert_eq!(under(&tally, "draft-1", &owed("what_if.charges")), expected);
    let server = tally.serve();
    let key = |name: &str, more: &[&str]| server.client().with_key(Some(&tally.key(&[&[name, "--role", name], more].concat())));
    tally.done(&["organization", "add", "acme"]);
    for client in [server.client(), key("finance", &[])] {
        let answer = ask(&client, &owed("what_if.charges"), "draft-1");
        assert_eq!(answer.status, 200, "{}", answer.text);
        assert_eq!(serde_json::from_str::<Value>(&answer.text).unwrap()["rows"].as_array().unwrap(), &expected);
        let missing = ask(&client, "SELECT 1", "draft-7");
        assert!(missing.status == 404 && missing.text.contains("REGISTRY-0007"), "{}", missing.text);
        let missing = ask(&client, "SELECT 1", "ffff");
        assert!(missing.status == 404 && missing.text.contains("REGISTRY-0003"), "{}", missing.text);
    }
    let customer = key("customer", &["--organization", "acme"]);
    let refused = ask(&customer, &owed("what_if.charges"), "draft-1");
    assert!(refused.status == 403 && refused.text.contains("ACCESS-0003"), "{}", refused.text);
    let unnamed = tally.run(&["sql", "SELECT * FROM what_if.charges"]);
    assert!(unnamed.status.code() == Some(1) && err(&unnamed).contains("what_if.charges"), "{}", err(&unnamed));
    let small = json!({"sql": owed("what_if.charges"), "book": "draft-1", "limits": {"memory_bytes": 10_000}}).to_string();
    let small = server.client().ask("POST", "/v1/sql", "application/json", small.as_bytes()).unwrap();
    assert!(small.status == 422 && small.text.contains("query.memory_bytes_max"), "{}", small.text);
    server.stop();
    assert_eq!(tally.value("SELECT count(*) FROM usage.charges"), rows);
    assert_eq!(tally.value("SELECT count(*) FROM registry.versions"), "1");

    // Meters that change are a re-reading of events; what rating again does not follow is refused by name, as booking it would be.
    let other = tally.scratch().join("other");
    std::fs::create_dir(&other).unwrap();
    let text = std::fs::read_to_string(std::path::Path::new(mended).join("books.toml")).unwrap();
    let of_meter = "SELECT count(*) AS n FROM what_if.charges WHERE meter = 'tokens.input' AND reason = 'missing_quantity'";
    let read = tally.value("SELECT count(*) FROM usage.charges WHERE meter = 'tokens.input'").parse::<u64>().unwrap();
    std::fs::write(other.join("books.toml"), text.replacen("value = \"input_tokens\"", "value = \"tokens\"", 1)).unwrap();
    assert_eq!(under(&tally, other.to_str().unwrap(), of_meter), [json!({"n": read})]);
    let value = "value = \"input_tokens\"\nunit = ";
    std::fs::write(other.join("books.toml"), text.replacen(&format!("{value}\"token\""), &format!("{value}\"request\""), 1)).unwrap();
    let refused = tally.run(&["sql", "--book", other.to_str().unwrap(), "SELECT * FROM what_if.charges"]);
    assert!(refused.status.code() == Some(1) && err(&refused).contains("tokens.input"), "{}", err(&refused));

    tally.done(&["rerate", "--book", mended]);
    assert_eq!(tally.sql(&owed("usage.charges")), expected, "what was shown is what is booked");
    assert_eq!(under(&tally, "in-force", "SELECT count(*) AS n FROM what_if.charges WHERE supersedes IS NOT NULL"), [json!({"n": 0})]);
    holds(&tally);
}

#[test]
fn a_draft_that_reaches_back_is_rated_again_with_four_eyes() {
    let tally = home(TEN_TIMES).with("TALLY_REGISTRY_REVIEW", "required");
    let server = tally.serve();
    send(
        &server,
        &[request("a", "acme", "2026-09-12T00:00:00Z", 1_000_000, 10), request("b", "acme", "2026-09-20T00:00:00Z", 1_000_000, 10)],
    );
    tally.done(&["drain"]);
    let client = |name: &str, role: &str| server.client().with_key(Some(&tally.key(&[name, "--role", role])));
    let (alice, bob) = (client("alice", "operator"), client("bob", "finance"));
    let post =
        |client: &Client, path: &str, body: Value| client.ask("POST", path, "application/json", body.to_string().as_bytes()).unwrap();
    let propose = |price: &str| {
        let text = std::fs::read_to_string(book(&tally, &format!("input-{price}"), price).join("books.toml")).unwrap();
        let answer = post(&alice, "/v1/registry/drafts", json!({"files": [{"name": "books.toml", "text": text}]}));
        assert_eq!(answer.status, 201, "{}", answer.text);
    };
    propose("3");
    let publish = "/v1/registry/drafts/1/publish";
    let early = post(&alice, publish, json!({"rerate": true}));
    assert!(early.status == 409 && early.text.contains("REGISTRY-0008"), "an unapproved draft is not rated again: {}", early.text);
    let own = post(&alice, "/v1/registry/drafts/1/review", json!({"verdict": "approved", "reason": "mine"}));
    assert!(own.status == 403 && own.text.contains("REGISTRY-0009"), "{}", own.text);
    assert_eq!(post(&bob, "/v1/registry/drafts/1/review", json!({"verdict": "approved", "reason": "as agreed"})).status, 200);
    let back = post(&alice, publish, json!({}));
    assert!(back.status == 422 && back.text.contains("REGISTRY-0001") && back.text.contains("--rerate"), "{}", back.text);
    let unread = post(&alice, publish, json!({"again": true}));
    assert!(unread.status == 400 && unread.text.contains("REGISTRY-0004"), "{}", unread.text);
    let preview = tally.done(&["rerate", "--book", "draft-1", "--preview"]);
    assert!(preview.contains("-27") && preview.contains("nothing is booked"), "{preview}");
    let published = post(&alice, publish, json!({"rerate": true}));
    assert!(published.status == 200 && published.text.contains("\"changed\":true"), "{}", published.text);
    let again = post(&alice, publish, json!({"rerate": true}));
    assert!(again.status == 200 && again.text.contains("\"changed\":false"), "{}", again.text);
    tally.done(&["drain"]);
    let input = "SELECT sum(amount) FROM usage.charges WHERE sku_id = 'input'";
    assert_eq!(tally.value(input), "6.000000000");

    // The same with a command, without a server.
    propose("6");
    assert_eq!(post(&bob, "/v1/registry/drafts/2/review", json!({"verdict": "approved", "reason": "as agreed"})).status, 200);
    let audit = alice.ask("GET", "/v1/audit/events", "application/json", b"").unwrap().text;
    assert!(audit.contains("\"rerates\":\"true\"") && audit.contains("\"draft\":\"1\""), "{audit}");
    server.stop();
    let refused = tally.run(&["registry", "publish", "draft-2"]);
    assert!(refused.status.code() == Some(1) && err(&refused).contains("--rerate"), "{}", err(&refused));
    assert!(tally.done(&["registry", "publish", "draft-2", "--rerate"]).contains("is in force"));
    assert_eq!(tally.value(input), "9.000000000");
    holds(&tally);
}

/// The forecast's lines, each as `organization sku so_far + fees + usage = at_end`.
fn lines(forecast: &Value) -> Vec<String> {
    let text = |line: &Value, name: &str| line[name].as_str().unwrap().to_owned();
    let stage = |line: &Value, name: &str| line[name]["amount"].as_str().unwrap().to_owned();
    let line = |line: &Value| {
        let [so_far, fees, usage] = ["so_far", "fees", "usage"].map(|name| stage(line, name));
        format!("{} {} {so_far} + {fees} + {usage} = {}", text(line, "organization"), text(line, "sku"), text(line, "at_end"))
    };
    forecast["lines"].as_array().unwrap().iter().map(line).collect()
}

fn forecast(tally: &Tally, more: &[&str]) -> Value {
    serde_json::from_str(&tally.done(&[&["--format", "json", "forecast"], more].concat())).unwrap()
}

#[test]
fn a_month_that_repeats_its_weeks_comes_to_what_was_forecast() {
    let tally = home("3");
    let server = tally.serve();
    // Acme uses more on each day of the week than on the one before, the same each week; globex is new on the 17th.
    let mut events = Vec::new();
    for day in 1..=31_u64 {
        for organization in ["acme", "globex"].iter().filter(|organization| **organization == "acme" || day >= 17) {
            let (input, output) = if *organization == "acme" { (999_999 + day % 7, 3_333 * (day % 7)) } else { (10_001, 7) };
            events.push(request(&format!("{organization}-{day}"), organization, &format!("2026-10-{day:02}T08:30:00Z"), input, output));
        }
    }
    events.push(request("before", "acme", "2026-09-30T08:30:00Z", 1, 1));
    send(&server, &events);
    tally.done(&["drain"]);
    let actual = "SELECT organization, sku_id, sum(amount) AS amount, sum(quantity) AS quantity FROM usage.charges WHERE service_period = 202610 \
                  GROUP BY organization, sku_id ORDER BY organization, sku_id";
    let actual: Vec<Value> = tally.sql(actual);
    for as_of in ["2026-10-20", "2026-10-20T08:30:00Z", "2026-10-20T08:30:00.000001Z", "2026-10-31"] {
        let found = forecast(&tally, &["--as-of", as_of]);
        assert_eq!(found["period"], "2026-10");
        assert_eq!(found["lines"].as_array().unwrap().len(), actual.len());
        for (line, row) in found["lines"].as_array().unwrap().iter().zip(&actual) {
            assert_eq!((&line["organization"], &line["sku"]), (&row["organization"], &row["sku_id"]), "{as_of}");
            let amount = row["amount"].as_str().unwrap().trim_end_matches('0').trim_end_matches('.');
            assert_eq!(line["at_end"], amount, "{as_of}: {line} is not {row}");
        }
        assert_eq!(found, forecast(&tally, &["--as-of", as_of]), "the same home as of the same instant");
    }
    // As of the 20th globex has had three days, which come again four times; ten thousand tokens a day cost 3 cents and a bit.
    let globex = forecast(&tally, &["--as-of", "2026-10-20", "--organization", "globex"]);
    assert_eq!(globex["lines"][0]["days"], 3);
    assert_eq!(
        lines(&globex),
        [
            "globex input 0.090009 + 0 + 0.360036 = 0.450045",
            "globex output 0.0000126 + 0 + 0.0000504 = 0.000063",
            "globex request 0.0003 + 0 + 0.0012 = 0.0015"
        ]
    );
    let page = tally.done(&["forecast", "--as-of", "2026-10-20", "--organization", "globex"]);
    assert!(page.contains("0.360036 for the last 3 days again (120012 in 12 readings)") && page.contains("half to even"), "{page}");
    // Another book, by the same path.
    let dearer = book(&tally, "dearer", "6");
    let text = std::fs::read_to_string(dearer.join("books.toml")).unwrap();
    std::fs::write(dearer.join("books.toml"), text.replace("unit_price = \"3\"", "unit_price = \"6\"")).unwrap();
    let found = forecast(&tally, &["--as-of", "2026-10-20", "--organization", "globex", "--book", dearer.to_str().unwrap()]);
    assert_eq!(lines(&found)[0], "globex input 0.180018 + 0 + 0.720072 = 0.90009");

    let over = tally.run(&["forecast", "--as-of", "2026-10-20", "--period", "2026-09"]);
    assert!(over.status.code() == Some(1) && err(&over).contains("2026-09 is over"), "{}", err(&over));
    let client = server.client();
    let get = |client: &Client, path: &str| client.ask("GET", path, "application/json", b"").unwrap();
    let answer = get(&client, "/v1/forecast?as_of=2026-10-20&organization=globex");
    assert_eq!((answer.status, serde_json::from_str::<Value>(&answer.text).unwrap()), (200, globex));
    for (path, status, code) in [
        ("/v1/forecast?as_of=2026-10-20&period=2026-11", 422, "RATING-0004"),
        ("/v1/forecast?as_of=soon", 400, "RATING-0003"),
        ("/v1/forecast?period=10", 400, "RATING-0003"),
        ("/v1/forecast?book=draft-9", 404, "REGISTRY-0007"),
    ] {
        let refused = get(&client, path);
        assert!(refused.status == status && refused.text.contains(code), "{path}: {}", refused.text);
    }
    tally.done(&["organization", "add", "acme"]);
    let customer = client.with_key(Some(&tally.key(&["reader", "--role", "customer", "--organization", "acme"])));
    let own = get(&customer, "/v1/forecast?as_of=2026-10-20");
    assert!(own.status == 200 && own.text.contains("acme") && !own.text.contains("globex"), "{}", own.text);
    let drafts = get(&customer, "/v1/forecast?as_of=2026-10-20&book=in-force");
    assert!(drafts.status == 403 && drafts.text.contains("ACCESS-0003"), "{}", drafts.text);
    server.stop();
}

#[test]
fn recurring_fees_to_come_are_counted_from_the_schedule() {
    if recurring::planted().is_none() {
        return;
    }
    let tally = Tally::empty();
    tally.done(&["init"]);
    let october = recurring::at(&tally, "2026-10-20T00:00:00Z");
    let published = recurring::publish(&october, &recurring::registry("3", ""));
    assert!(published.status.success(), "{}", err(&published));
    october.done(&["drain"]);
    // The seats of October were charged at its start; support is charged at the end. Nothing of either comes twice.
    let found = forecast(&october, &[]);
    assert_eq!(found["as_of"], "2026-10-20T00:00:00Z");
    assert_eq!(lines(&found), ["acme premium-support 0 + 310 + 0 = 310", "acme seat 60 + 0 + 0 = 60"]);
    let sums = &found["sums"][0];
    assert_eq!((&sums["so_far"], &sums["at_end"]), (&json!("60"), &json!("370")));
    let november = recurring::at(&tally, "2026-11-01T00:00:00Z");
    november.done(&["drain"]);
    assert_eq!(november.value("SELECT sum(amount) FROM usage.charges WHERE service_period = 202610"), "370.000000000");
    // In November the seats are given back, and support goes on.
    assert_eq!(lines(&forecast(&november, &["--period", "2026-11"])), ["acme premium-support 0 + 310 + 0 = 310"]);
}

#[test]
fn recurring_fees_of_earlier_months_are_no_usage_that_comes_again() {
    if recurring::planted().is_none() {
        return;
    }
    let tally = Tally::empty();
    tally.done(&["init"]);
    let october = recurring::at(&tally, "2026-10-20T00:00:00Z");
    let tokens = "[[unit]]\nid = \"token\"\n[[meter]]\nid = \"tokens\"\nevent_type = \"llm.request\"\naggregation = \"sum\"\nvalue = \"input_tokens\"\n\
                  unit = \"token\"\n[[sku]]\nid = \"input\"\nfamily = \"tokens\"\nmeter = \"tokens\"\n";
    let price = "price = [\n{ sku = \"input\", effective_at = \"2026-01-01T00:00:00Z\", model = \"per_unit\", unit_price = \"0.000003\" },";
    let published = recurring::publish(&october, &format!("{tokens}{}", recurring::registry("3", "").replace("price = [", price)));
    assert!(published.status.success(), "{}", err(&published));
    october.done(&["drain"]);
    let server = october.serve();
    let million = |id: &str, time: &str| request(id, "acme", time, 1_000_000, 0);
    send(&server, &[million("a", "2026-10-18T08:30:00Z"), million("b", "2026-10-19T08:30:00Z")]);
    october.done(&["drain"]);
    let days = "SELECT DISTINCT service_period FROM usage.charges WHERE sku_id = 'premium-support' ORDER BY 1";
    assert_eq!(october.sql(days).len(), 2, "August and September hold fees");
    // The first usage is of the 18th: two days, which come again six times.
    let found = forecast(&october, &[]);
    assert_eq!((&found["lines"][0]["days"], &lines(&found)[0]), (&json!(2), &"acme input 6 + 0 + 36 = 42".to_owned()));
    // Usage of August makes a history: a week comes again, of which two days have usage.
    send(&server, &[million("late", "2026-08-20T08:30:00Z")]);
    october.done(&["drain"]);
    let found = forecast(&october, &[]);
    assert_eq!((&found["lines"][0]["days"], &lines(&found)[0]), (&json!(7), &"acme input 6 + 0 + 6 = 12".to_owned()));
    server.stop();
}
