//! Terms that look at several months together in the real process: a promise for a quarter with its true-up and overage, tiers that carry on
//! from month to month, late usage that moves the months behind it, previews, forecasts and both verifiers.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::bundle::{differences, duckdb, number, verifier, verify};
use crate::documents::{list, units};
use crate::tally::{Server, Tally, err, out, python};

/// GPUs at 2.50 an hour, tokens at 3 a million, tickets at 10. From July on acme promises 1,000 of GPUs a quarter; its tokens are 10 % off beyond 100 a
/// quarter, its tickets always.
fn registry() -> String {
    let sold = r#"
[[meter]]
id = "gpu-hours"
event_type = "gpu"
aggregation = "sum"
value = "hours"
unit = "hour"
[[meter]]
id = "tokens"
event_type = "llm"
aggregation = "sum"
value = "tokens"
unit = "token"
[[meter]]
id = "tickets"
event_type = "ticket"
aggregation = "count"
unit = "ticket"
[[sku]]
id = "tickets"
family = "support"
meter = "tickets"
[[sku]]
id = "h100"
family = "gpu"
meter = "gpu-hours"
[[sku]]
id = "tokens"
family = "tokens"
meter = "tokens"
[[contract]]
id = "acme-2026"
organization = "acme"
price_book = "list"
effective_at = "2026-07-01T00:00:00Z"
billing_period = "month"
[[contract.term]]
id = "promise"
description = "Quarterly commitment"
kind = "commitment"
amount = "1000"
overage_factor = "1.2"
true_up = "owed"
families = ["gpu"]
months = 3
[[contract.term]]
id = "by-spend"
kind = "graduated_discount"
tiers = [{ up_to = "100", percent = "0" }, { percent = "10" }]
families = ["tokens"]
months = 3
[[contract.term]]
id = "off"
kind = "discount"
percent = "10"
skus = ["tickets"]
[[contract]]
id = "idle-2026"
organization = "idle"
price_book = "list"
effective_at = "2026-08-01T00:00:00Z"
billing_period = "month"
[[contract.term]]
id = "least"
kind = "minimum_spend"
amount = "90"
months = 2
"#;
    [units(&["hour", "token", "ticket"]), sold.to_owned(), list(&[("h100", "2.50"), ("tokens", "3/1000000"), ("tickets", "10")])].concat()
}

fn folder(tally: &Tally, text: &str) -> String {
    let folder = tally.scratch().join("months");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("registry.toml"), text).unwrap();
    folder.to_str().unwrap().to_owned()
}

/// Hours of a GPU, and millions of tokens, each where there are any.
fn send(server: &Server, id: &str, day: &str, hours: u64, millions: u64) {
    let event = |kind: &str, data: Value| {
        let id = format!("{id}-{kind}");
        let time = format!("{day}T12:00:00Z");
        json!({"specversion": "1.0", "id": id, "source": "gateway", "type": kind, "time": time, "organization": "acme", "data": data})
            .to_string()
    };
    let both = [(hours, event("gpu", json!({"hours": hours}))), (millions, event("llm", json!({"tokens": millions * 1_000_000})))];
    let events: Vec<String> = both.into_iter().filter(|(size, _)| *size > 0).map(|(_, event)| event).collect();
    let answer = server.client().events(&events).unwrap();
    assert_eq!(answer.status, 202, "{}", answer.text);
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned)
}

/// `service period term: amount of spend, behind spend before`, of the invoices of a month.
fn terms(tally: &Tally, organization: &str, period: u32) -> Vec<String> {
    let rows = tally.sql(&format!(
        "SELECT service_period, term, amount, spend, spend_before FROM billing.invoice_terms WHERE period = {period} AND organization = '{organization}' \
         ORDER BY number"
    ));
    let short = |row: &Value, name: &str| text(&row[name]).trim_end_matches('0').trim_end_matches('.').to_owned();
    let line = |row: &Value| {
        let name = format!("{} {}", text(&row["service_period"]), text(&row["term"]));
        format!("{name}: {} of {}, behind {}", short(row, "amount"), short(row, "spend"), short(row, "spend_before"))
    };
    rows.iter().map(line).collect()
}

/// A line of a term that an issuer writes otherwise.
type Edit = fn(&mut Vec<Value>);

#[test]
fn what_months_come_to_together_is_invoiced_month_by_month_and_follows_late_usage() {
    let tally = Tally::empty();
    tally.done(&["init"]);
    tally.done(&["registry", "publish", &folder(&tally, &registry())]);
    let server = tally.serve();
    send(&server, "july", "2026-07-03", 100, 20);
    tally.done(&["close", "2026-07"]);
    assert_eq!(terms(&tally, "acme", 202_607), ["202607 promise: 0 of 250, behind 0", "202607 by-spend: 0 of 60, behind 0"]);
    send(&server, "august", "2026-08-03", 100, 20);
    tally.done(&["close", "2026-08"]);
    assert_eq!(terms(&tally, "acme", 202_608), ["202608 promise: 0 of 250, behind 250", "202608 by-spend: -2 of 60, behind 60"]);
    // Who used nothing owes nothing yet: a line says how much of the minimum is spent.
    assert_eq!(terms(&tally, "idle", 202_608), ["202608 least: 0 of 0, behind 0"]);

    // 60 more of tokens in July: 20 of them beyond, and all of August's 60.
    send(&server, "late-july", "2026-07-30", 0, 20);
    send(&server, "september", "2026-09-03", 100, 0);
    // What a discount of one month comes to stays, when that month is looked at for an earlier one.
    let ticket = json!({
        "specversion": "1.0", "id": "ticket", "source": "gateway", "type": "ticket", "time": "2026-09-04T12:00:00Z", "organization": "acme", "data": {},
    });
    assert_eq!(server.client().events(&[ticket.to_string()]).unwrap().status, 202);
    server.stop();
    // What the last instant of September foresees, from what was rated by then.
    let foreseen: Value = serde_json::from_str(&tally.done(&["--format", "json", "forecast", "--as-of", "2026-09-30T23:59:59Z"])).unwrap();
    let of_terms = foreseen["terms"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|row| row["term"] != "off")
        .map(|row| ["organization", "term", "amount", "spend", "spend_before", "months"].map(|name| text(&row[name])).join(" "));
    assert_eq!(of_terms.collect::<Vec<_>>(), ["acme promise 250 250 500 3", "idle least 90 0 0 2"]);
    // Under a book that is dearer from August on, the months before are taken as it would have them.
    let dearer = |from: &str, price: &str| {
        let row = format!(
            "price = [\n    {{ sku = \"h100\", effective_at = \"{from}T00:00:00Z\", model = \"per_unit\", unit_price = \"{price}\" }},\n"
        );
        folder(&tally, &registry().replacen("price = [\n", &row, 1))
    };
    let book = dearer("2026-08-01", "3");
    let asked = ["--format", "json", "forecast", "--as-of", "2026-09-30T23:59:59Z", "--organization", "acme", "--book", &book];
    let foreseen: Value = serde_json::from_str(&tally.done(&asked)).unwrap();
    let promise = foreseen["terms"].as_array().unwrap().iter().find(|row| row["term"] == "promise").unwrap();
    assert_eq!(["amount", "spend", "spend_before"].map(|name| text(&promise[name])), ["150", "300", "550"], "{foreseen}");
    tally.done(&["close", "2026-09"]);
    let third = [
        "202607 promise: 0 of 250, behind 0",
        "202607 by-spend: -2 of 120, behind 0",
        "202608 promise: 0 of 250, behind 250",
        "202608 by-spend: -4 of 60, behind 120",
        "202609 off: -1 of 10, behind null",
        "202609 promise: 250 of 250, behind 500",
        "202609 by-spend: 0 of 0, behind 180",
    ];
    assert_eq!(terms(&tally, "acme", 202_609), third);
    assert_eq!(terms(&tally, "idle", 202_609), ["202609 least: 90 of 0, behind 0"]);
    let page = tally.done(&["invoice", "show", &number(&tally, "acme", 202_609)]);
    let words =
        "over 3 months together, 500.00 before and 250.00 in this one: 1,000.00 committed, 750.00 spent: the rest is owed; family gpu";
    assert!(page.contains(words), "{page}");
    let page = tally.done(&["invoice", "show", &number(&tally, "acme", 202_608)]);
    let words = "500.00 spent: what is missing then is owed with the last one";
    assert!(page.contains(words) && page.contains("Quarterly commitment"), "{page}");

    // 500 more of GPUs in August: 250 beyond the promise at a fifth more, and no true-up. First a preview of twice the price in September.
    let server = tally.serve();
    send(&server, "late-august", "2026-08-30", 200, 0);
    send(&server, "october", "2026-10-03", 10, 0);
    send(&server, "november", "2026-11-03", 2, 0);
    server.stop();
    let book = dearer("2026-09-01", "5");
    let preview: Value = serde_json::from_str(&tally.done(&["--format", "json", "rerate", "--preview", "--book", &book])).unwrap();
    let moved: Vec<String> = preview["invoices"][0]["terms"]
        .as_array()
        .unwrap()
        .iter()
        .map(|term| ["service_period", "term", "before", "after"].map(|name| text(&term[name])).join(" "))
        .collect();
    // In September 100 hours cost 250 more: all of it beyond the promise.
    assert_eq!(moved, ["2026-09 promise 50 100"], "{preview}");
    // September and October are on the next invoice, November is not.
    let sums = ["usage", "difference", "later"].map(|name| text(&preview["invoices"][0][name]));
    assert_eq!(sums, ["275", "325", "5"], "{preview}");
    tally.done(&["close", "2026-10"]);
    let fourth = [
        "202608 promise: 0 of 750, behind 250",
        "202608 by-spend: 0 of 60, behind 120",
        "202609 promise: -200 of 250, behind 1000",
        "202609 by-spend: 0 of 0, behind 180",
        "202610 promise: 0 of 25, behind 0",
        "202610 by-spend: 0 of 0, behind 0",
    ];
    assert_eq!(terms(&tally, "acme", 202_610), fourth);
    let line = tally
        .value("SELECT number AS value FROM billing.invoice_terms WHERE period = 202610 AND service_period = 202609 AND term = 'promise'");
    let explained = tally.done(&["explain", &format!("{}:{line}", number(&tally, "acme", 202_610))]);
    for words in
        ["spend in earlier months              1,000.00 USD", "1,000.00 committed, 1,250.00 spent: 250.00 beyond it at 1.2 times its price"]
    {
        assert!(explained.contains(words), "{explained}");
    }
    tally.check().unwrap();
    assert_eq!(tally.sql("SELECT * FROM sys.conservation"), Vec::<Value>::new());
    tally.done(&["drain"]);
    if let (Some(python), Some(program)) = (python(), verifier()) {
        proved(&tally, &python, &program);
    }
}

/// Both verifiers make the same of every invoice, alone and beside those before it; and what an issuer could write instead is found.
fn proved(tally: &Tally, python: &Path, program: &Path) {
    let key = tally.done(&["evidence", "key"]).trim().to_owned();
    let folder = |month: u32| tally.scratch().join(month.to_string());
    let beside = |month: u32| -> Vec<String> {
        let mut command = Command::new(program);
        command.arg(folder(month)).args(["--format", "json", "--log-key", &key]);
        for kept in 202_607..month {
            command.arg("--previous").arg(folder(kept));
        }
        let output = command.output().unwrap();
        let told: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}{}", out(&output), err(&output)));
        told["differences"].as_array().unwrap().iter().map(|found| format!("{} {}", text(&found["what"]), text(&found["row"]))).collect()
    };
    let kept: Vec<u32> = (202_607..=202_610).collect();
    let by_sql = |month: u32, earlier: bool| -> Vec<String> {
        let folders: Vec<String> =
            kept.iter().filter(|kept| **kept < month).map(|kept| folder(*kept).join("invoice.json").display().to_string()).collect();
        if !earlier || folders.is_empty() {
            return duckdb(python, &folder(month));
        }
        let program = "import duckdb, sys\ndb = duckdb.connect()\ndb.execute('SET enable_progress_bar = false')\n\
            db.execute(f'SET VARIABLE earlier = {sys.argv[1:]}')\n\
            for row in db.execute(open('verify.sql', encoding='utf-8').read()).fetchall(): print(*row)";
        let output = Command::new(python).args(["-c", program]).args(&folders).current_dir(folder(month)).output().unwrap();
        if output.status.success() { out(&output).lines().map(str::to_owned).collect() } else { vec![err(&output)] }
    };
    for month in &kept {
        let path = folder(*month);
        tally.done(&["evidence", "bundle", "--invoice", &number(tally, "acme", *month), "--out", path.to_str().unwrap()]);
        assert_eq!(by_sql(*month, false), Vec::<String>::new(), "{month}");
        assert_eq!(by_sql(*month, true), Vec::<String>::new(), "{month} beside");
        let verdict = verify(program, &path, &key);
        assert!(verdict.status.success(), "{month}: {}{}", out(&verdict), err(&verdict));
        assert_eq!(beside(*month), Vec::<String>::new(), "{month} beside");
    }
    // Lines of October's invoice: August's promise and discount, September's, October's. Who holds the keys could write these: the digests are not
    // looked at here. Alone and beside: how many findings of terms there must be at least.
    let edits: [(&str, Edit, bool); 7] = [
        ("what came before is more than the terms make of it", |terms| terms[2]["window"]["amount_before"] = json!("-50"), true),
        (
            "what was said before is another",
            |terms| {
                terms[2]["invoiced_before"] = json!("0");
                terms[2]["amount"] = json!("50");
            },
            false,
        ),
        (
            "more was spent in earlier months",
            |terms| {
                terms[0]["window"]["spend_before"] = json!("350");
                (terms[0]["term_amount"], terms[0]["amount"]) = (json!("20"), json!("20"));
                terms[2]["window"] = json!({"amount_before": "20", "months": "3", "spend_before": "1100"});
                (terms[2]["term_amount"], terms[2]["invoiced_before"], terms[2]["amount"]) = (json!("50"), json!("150"), json!("-100"));
            },
            false,
        ),
        ("the months do not follow from one another", |terms| terms[2]["window"]["spend_before"] = json!("1100"), true),
        (
            "more was spent in a month without leaves",
            |terms| {
                terms[2]["spend"] = json!("350");
                (terms[2]["term_amount"], terms[2]["invoiced_before"], terms[2]["amount"]) = (json!("70"), json!("150"), json!("-80"));
            },
            false,
        ),
        ("a credit in a later month is left out", |terms| drop(terms.remove(2)), true),
        ("it looks at more months", |terms| terms[4]["window"]["months"] = json!("12"), true),
    ];
    let path = folder(202_610).join("invoice.json");
    let honest = std::fs::read_to_string(&path).unwrap();
    for (what, edit, alone) in edits {
        let mut invoice: Value = serde_json::from_str(&honest).unwrap();
        let lines = invoice["lines"].as_array().unwrap().len();
        edit(invoice["terms"].as_array_mut().unwrap());
        for (number, line) in (lines + 1..).zip(invoice["terms"].as_array_mut().unwrap()) {
            line["number"] = json!(number.to_string());
        }
        std::fs::write(&path, invoice.to_string()).unwrap();
        let of_terms =
            |rows: Vec<String>| rows.into_iter().filter(|row| row.contains("of a term") || row.contains("window")).collect::<Vec<_>>();
        let sql = of_terms(by_sql(202_610, false));
        let ours = differences(program, &folder(202_610), &key);
        let ours: Vec<String> = ours.iter().filter(|found| text(&found["row"]).contains('#')).map(Value::to_string).collect();
        assert_eq!((sql.is_empty(), ours.is_empty()), (!alone, !alone), "{what}: {sql:#?} {ours:#?}");
        let (sql, ours) = (of_terms(by_sql(202_610, true)), beside(202_610));
        let ours: Vec<&String> = ours.iter().filter(|row| row.contains('#')).collect();
        assert!(!sql.is_empty() && !ours.is_empty(), "{what}: {sql:#?} {ours:#?}");
    }
    std::fs::write(&path, honest).unwrap();
}
