//! Terms of contracts in the real process: commitments with a true-up, minimum and maximum spend, discounts, on the invoices of two months
//! with usage that comes late in between, in the ledger, in words, and the same whoever is killed while they are drafted.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use datasets::Random;
use serde_json::{Value, json};

use crate::bundle::{differences, duckdb, verifier, verify};
use crate::documents::{list, units};
use crate::tally::{Server, Tally, err, out, python};

/// GPUs at 2.50 an hour, tokens at 3 a million, support at 20 a month. `promise` is what umbrella commits to spend on GPUs.
fn registry(promise: &str, more: &str) -> String {
    let contract = |id: &str, covers: &str, over: &str, rest: &str| {
        format!(
            "[[contract]]\nid = \"{id}\"\n{covers}\nprice_book = \"list\"\neffective_at = \"2026-09-01T00:00:00Z\"\nbilling_period = \"month\"\n{over}{rest}\n"
        )
    };
    let term = |id: &str, kind: &str, rest: &str| format!("[[contract.term]]\nid = \"{id}\"\nkind = \"{kind}\"\n{rest}\n");
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
id = "support"
event_type = "tallystick.recurring"
aggregation = "sum"
value = "quantity"
unit = "month"
dimensions = { item = "item" }
[[sku]]
id = "h100"
family = "gpu"
meter = "gpu-hours"
description = "H100 hours"
[[sku]]
id = "tokens"
family = "tokens"
meter = "tokens"
[[sku]]
id = "support"
family = "support"
meter = "support"
match = { item = "support" }
"#;
    let prices = list(&[("h100", "2.50"), ("tokens", "3/1000000"), ("support", "20")]);
    let commitment = format!("amount = \"{promise}\"\noverage_factor = \"1.2\"\ntrue_up = \"owed\"\nfamilies = [\"gpu\"]");
    let off = term("off", "discount", "percent = \"10\"") + &term("most", "maximum_spend", "amount = \"400\"\ndescription = \"Ceiling\"");
    let fee = "[[contract.recurring]]\nid = \"support\"\nitem = \"support\"\nquantity = \"1\"\ncharged_at = \"end\"\n";
    [
        units(&["hour", "token", "month"]),
        sold.to_owned(),
        prices,
        contract("umbrella", "organization = \"umbrella\"", "", &term("promise", "commitment", &commitment)),
        contract("idle", "organization = \"idle\"", "", &term("least", "minimum_spend", "amount = \"250\"")),
        contract("acme", "organization = \"acme\"", "", &off),
        contract(
            "initech",
            "organization = \"initech\"",
            "terms_over = \"usage\"\n",
            &(fee.to_owned() + &term("least", "minimum_spend", "amount = \"30\"")),
        ),
        contract("calm", "organization = \"calm\"", "", &term("most", "maximum_spend", "amount = \"1000\"")),
        contract("everyone", "default = true", "", ""),
        more.to_owned(),
    ]
    .concat()
}

fn folder(tally: &Tally, text: &str) -> String {
    let folder = tally.scratch().join("terms");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("registry.toml"), text).unwrap();
    folder.to_str().unwrap().to_owned()
}

fn publish(tally: &Tally, text: &str) -> std::process::Output {
    tally.run(&["registry", "publish", &folder(tally, text)])
}

fn home() -> Tally {
    let tally = Tally::empty();
    tally.done(&["init"]);
    let published = publish(&tally, &registry("1000", ""));
    assert!(published.status.success(), "{}", err(&published));
    tally
}

/// Hours of a GPU, or millions of tokens.
fn usage(id: &str, organization: &str, day: &str, hours: u64, millions: u64) -> String {
    let (kind, data) = if hours > 0 { ("gpu", json!({"hours": hours})) } else { ("llm", json!({"tokens": millions * 1_000_000})) };
    let time = format!("{day}T12:00:00Z");
    json!({"specversion": "1.0", "id": id, "source": "gateway", "type": kind, "time": time, "organization": organization, "data": data})
        .to_string()
}

fn send(server: &Server, events: &[String]) {
    let answer = server.client().events(events).unwrap();
    assert_eq!(answer.status, 202, "{}", answer.text);
}

fn september() -> Vec<String> {
    vec![
        usage("1", "umbrella", "2026-09-03", 280, 0),
        usage("2", "umbrella", "2026-09-04", 0, 2),
        usage("3", "acme", "2026-09-05", 100, 0),
        usage("4", "acme", "2026-09-06", 0, 70),
        usage("5", "initech", "2026-09-07", 10, 0),
        usage("6", "other", "2026-09-08", 10, 0),
        usage("9", "calm", "2026-09-09", 10, 0),
    ]
}

/// What comes late for September, and October.
fn october() -> Vec<String> {
    vec![
        usage("late-1", "umbrella", "2026-09-30", 60, 0),
        usage("late-2", "acme", "2026-09-30", 10, 0),
        usage("late-3", "idle", "2026-09-30", 4, 0),
        usage("late-4", "calm", "2026-09-30", 4, 0),
        usage("7", "umbrella", "2026-10-03", 500, 0),
        usage("8", "acme", "2026-10-05", 40, 0),
    ]
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned)
}

/// `organization service-period term: amount of spend` of the invoices of a month.
fn terms(tally: &Tally, period: u32) -> Vec<String> {
    let rows = tally.sql(&format!(
        "SELECT organization, service_period, term, amount, spend FROM billing.invoice_terms WHERE period = {period} ORDER BY organization, number"
    ));
    let short = |row: &Value, name: &str| text(&row[name]).trim_end_matches('0').trim_end_matches('.').to_owned();
    let line = |row: &Value| {
        let name = format!("{} {} {}", text(&row["organization"]), text(&row["service_period"]), text(&row["term"]));
        format!("{name}: {} of {}", short(row, "amount"), short(row, "spend"))
    };
    rows.iter().map(line).collect()
}

/// `organization total` of the invoices of a month.
fn totals(tally: &Tally, period: u32) -> Vec<String> {
    let rows = tally.sql(&format!("SELECT organization, total FROM billing.invoices WHERE period = {period} ORDER BY organization"));
    rows.iter().map(|row| format!("{} {}", text(&row["organization"]), text(&row["total"]).trim_end_matches("0000000"))).collect()
}

fn number(tally: &Tally, organization: &str, period: u32) -> String {
    tally.value(&format!("SELECT number AS value FROM billing.invoices WHERE organization = '{organization}' AND period = {period}"))
}

fn holds(tally: &Tally) {
    tally.check().unwrap();
    assert_eq!(tally.sql("SELECT * FROM sys.conservation"), Vec::<Value>::new());
    assert!(tally.done(&["rebuild", "ledger", "--compare"]).contains("equal"));
    let invoiced = tally.value("SELECT sum(total) AS value FROM billing.invoices");
    let receivable = tally.value(
        "SELECT sum(CASE WHEN debit_account LIKE 'org/%/receivable' THEN amount ELSE 0.000000000 - amount END) AS value \
         FROM ledger.postings WHERE debit_account LIKE 'org/%/receivable' OR credit_account LIKE 'org/%/receivable'",
    );
    assert_eq!(invoiced, receivable, "what is receivable is what was asked for");
    let lines = tally.value("SELECT sum(amount) AS value FROM billing.invoice_lines");
    let of_terms = tally.value("SELECT sum(amount) AS value FROM billing.invoice_terms");
    let units = |amount: &str| amount.replace('.', "").parse::<i128>().unwrap();
    assert_eq!(units(&lines) + units(&of_terms), units(&invoiced));
}

#[test]
fn commitments_minimums_maximums_and_discounts_are_invoiced_and_follow_late_usage() {
    let tally = home();
    let server = tally.serve();
    send(&server, &september());
    tally.done(&["close", "2026-09"]);
    // umbrella: 280 h × 2.50 = 700.00 of 1,000 promised for GPUs; its tokens do not count.
    // idle: nothing of 250. acme: 10 % off 250.00 and off 210.00 is 46.00; 414.00 is 14.00 too much.
    // initech: 25.00 of 30, its support of 20.00 left out. other has no terms.
    let first = [
        "acme 202609 off: -46 of 460",
        "acme 202609 most: -14 of 414",
        "calm 202609 most: 0 of 25",
        "idle 202609 least: 250 of 0",
        "initech 202609 least: 5 of 25",
        "umbrella 202609 promise: 300 of 700",
    ];
    assert_eq!(terms(&tally, 202_609), first);
    assert_eq!(totals(&tally, 202_609), ["acme 400.00", "calm 25.00", "idle 250.00", "initech 50.00", "other 25.00", "umbrella 1006.00"]);
    let list = tally.done(&["--format", "json", "invoice", "list", "--period", "2026-09"]);
    // What an instant before the end of September foresaw: nothing more is used in its last microsecond, so what comes again is little.
    let foreseen: Value = serde_json::from_str(&tally.done(&["--format", "json", "forecast", "--as-of", "2026-09-30T23:59:59Z"])).unwrap();
    let of_terms =
        |row: &Value| format!("{} {}: {} of {}", text(&row["organization"]), text(&row["term"]), text(&row["amount"]), text(&row["spend"]));
    let shown: Vec<String> = foreseen["terms"].as_array().unwrap().iter().map(of_terms).collect();
    let moved =
        ["acme off: -46 of 460", "acme most: -14 of 414", "idle least: 250 of 0", "initech least: 5 of 25", "umbrella promise: 300 of 700"];
    assert_eq!(shown, moved);
    let invoices: Vec<String> = foreseen["sums"]
        .as_array()
        .unwrap()
        .iter()
        .map(|sum| format!("{} {}", text(&sum["organization"]), text(&sum["invoice"])))
        .collect();
    assert_eq!(invoices, ["acme 400", "calm 25", "idle 250", "initech 50", "other 25", "umbrella 1006"]);

    send(&server, &october());
    tally.done(&["close", "2026-10"]);
    assert_eq!(tally.done(&["--format", "json", "invoice", "list", "--period", "2026-09"]), list, "an issued invoice never changes");
    // umbrella: 60 h came late: 850.00 spent, so 150.00 of the 300.00 were not owed; in October 1,250.00: 250.00 beyond cost a fifth more.
    // acme: 25.00 late: 2.50 off, and of 436.50 now 36.50 are too much: 22.50 more. October: 10.00 off 100.00, below the maximum.
    // calm: 10.00 late, and its maximum says nothing new. idle: 10.00 late makes the minimum 240.00; October owes all of it again. initech: no usage in October.
    let second = [
        "acme 202609 off: -2.5 of 485",
        "acme 202609 most: -22.5 of 436.5",
        "acme 202610 off: -10 of 100",
        "acme 202610 most: 0 of 90",
        "idle 202609 least: -10 of 10",
        "idle 202610 least: 250 of 0",
        "initech 202610 least: 30 of 0",
        "umbrella 202609 promise: -150 of 850",
        "umbrella 202610 promise: 50 of 1250",
    ];
    let shown: Vec<String> = terms(&tally, 202_610);
    assert_eq!(shown, second);
    assert_eq!(totals(&tally, 202_610), ["acme 90.00", "calm 10.00", "idle 250.00", "initech 50.00", "umbrella 1300.00"]);

    // The ledger: what terms add is credited to accounts of their own, what they take off is debited.
    let balances: Vec<String> = tally
        .sql("SELECT account, debits - credits AS balance FROM ledger.balances WHERE account LIKE 'terms/%' ORDER BY account")
        .iter()
        .map(|row| format!("{} {}", text(&row["account"]), text(&row["balance"]).trim_end_matches("0000000")))
        .collect();
    assert_eq!(balances, ["terms/commitment -200.00", "terms/discount 58.50", "terms/maximum_spend 36.50", "terms/minimum_spend -525.00"]);
    holds(&tally);

    // In words, for people and over HTTP.
    let (before, after) = (number(&tally, "umbrella", 202_609), number(&tally, "umbrella", 202_610));
    let page = tally.done(&["invoice", "show", &before]);
    assert!(page.contains("1,000.00 committed, 700.00 spent: the rest is owed; family gpu"), "{page}");
    assert!(page.contains("300.00") && page.contains("1,006.00"), "{page}");
    let page = tally.done(&["invoice", "show", &after]);
    assert!(page.contains("the spend moved: 150.00 now, 300.00 on earlier invoices"), "{page}");
    assert!(page.contains("1,000.00 committed, 1,250.00 spent: 250.00 beyond it at 1.2 times its price"), "{page}");
    let line = tally.value(&format!(
        "SELECT t.number AS value FROM billing.invoice_terms t JOIN billing.invoices i ON t.invoice_id = i.invoice_id \
         WHERE i.number = '{before}'"
    ));
    let explained = tally.done(&["explain", &format!("{before}:{line}")]);
    assert!(explained.contains("term promise (commitment) of contract umbrella, for organization umbrella in 2026-09"), "{explained}");
    assert!(explained.contains("because: 1,000.00 committed, 700.00 spent: the rest is owed"), "{explained}");
    let csv = tally.done(&["--format", "csv", "invoice", "show", &before]);
    assert!(csv.contains(",commitment,2026-09,,Commitment,,,,300.00,USD,300,0,0.00"), "{csv}");
    let client = server.client();
    let asked = client.reply("GET", &format!("/v1/invoices/{before}"), &[], b"").json();
    let term = &asked["invoice"]["terms"][0];
    assert_eq!((text(&asked["invoice"]["v"]), text(&term["term_amount"]), text(&term["spend"])), ("2".into(), "300".into(), "700".into()));
    let asked = client.reply("GET", &format!("/v1/invoices/{before}/lines/{line}/explain"), &[], b"").json();
    assert_eq!((text(&asked["subject"]), text(&asked["term"]["kind"])), ("term".to_owned(), "commitment".to_owned()));

    // Why the bill changed: to the cent, terms by themselves.
    let changes: Value = serde_json::from_str(&tally.done(&["--format", "json", "invoice", "compare", &before, &after])).unwrap();
    assert_eq!((text(&changes["difference"]), text(&changes["sums"]["terms"])), ("294".to_owned(), "-400".to_owned()));
    let page = tally.done(&["invoice", "compare", &before, &after]);
    assert!(
        page.contains("discounts, commitments, minimum and maximum spend of contracts") && page.contains("300.00, then -100.00"),
        "{page}"
    );

    // Both verifiers make the same of every contract, also of one that owes without usage and of one whose terms say nothing new.
    tally.done(&["drain"]);
    if let (Some(python), Some(program)) = (python(), verifier()) {
        let key = tally.done(&["evidence", "key"]).trim().to_owned();
        let folder = |organization: &str, month: u32| tally.scratch().join(format!("{organization}-{month}"));
        for organization in ["acme", "calm", "idle", "initech", "umbrella"] {
            for month in [202_609, 202_610] {
                let folder = folder(organization, month);
                tally.done(&["evidence", "bundle", "--invoice", &number(&tally, organization, month), "--out", folder.to_str().unwrap()]);
                assert_eq!(duckdb(&python, &folder), Vec::<String>::new(), "{organization}, {month}");
                let verdict = verify(&program, &folder, &key);
                assert!(verdict.status.success(), "{organization}, {month}: {}{}", out(&verdict), err(&verdict));
            }
            // What an earlier invoice said of a term is not said again.
            let kept = folder(organization, 202_609);
            let beside =
                |bundle: &Path| Command::new(&program).arg(bundle).args(["--log-key", &key, "--previous"]).arg(&kept).output().unwrap();
            let verdict = beside(&folder(organization, 202_610));
            assert!(verdict.status.success(), "{organization}: {}{}", out(&verdict), err(&verdict));
        }
        // What an issuer could write who holds the keys: the digests are not looked at here.
        let by_sql = |bundle: &Path| duckdb(&python, bundle).into_iter().filter(|row| row.contains("term")).collect::<Vec<_>>();
        let by_us = |bundle: &Path| differences(&program, bundle, &key).into_iter().filter(|found| found["stage"] == "lines").count();
        let beside = |bundle: &Path, kept: &Path| {
            let mut command = Command::new(&program);
            command.arg(bundle).args(["--format", "json", "--log-key", &key, "--previous"]).arg(kept);
            let told: Value = serde_json::from_slice(&command.output().unwrap().stdout).unwrap();
            let found = told["differences"].as_array().unwrap().iter().map(|found| text(&found["what"]));
            found.filter(|what| what.contains("by the earlier invoices")).collect::<Vec<_>>()
        };
        let forge = |organization: &str, edit: &dyn Fn(&mut Vec<Value>), total: &str| {
            let path = folder(organization, 202_610).join("invoice.json");
            let honest = std::fs::read_to_string(&path).unwrap();
            let mut invoice: Value = serde_json::from_str(&honest).unwrap();
            edit(invoice["terms"].as_array_mut().unwrap());
            invoice["total"] = json!(total);
            std::fs::write(&path, invoice.to_string()).unwrap();
            (path, honest)
        };
        let (bundle, kept) = (folder("idle", 202_610), folder("idle", 202_609));
        // Late usage took 10 of a minimum of 250 that September's invoice asked for without usage: asked for again, which alone holds, because no
        // earlier invoice covers a leaf of September, or not taken back. Beside the kept one neither holds.
        let again = |terms: &mut Vec<Value>| {
            terms[0]["amount"] = json!("240");
            terms[0]["invoiced_before"] = json!("0");
        };
        let kept_back = |terms: &mut Vec<Value>| {
            terms.remove(0);
            terms[0]["number"] = json!("2");
        };
        for (edit, total, what, alone) in [
            (&again as &dyn Fn(&mut Vec<Value>), "500", "invoiced_before, by the earlier invoices", 0),
            (&kept_back, "260", "line of the term, by the earlier invoices", 1),
        ] {
            let (path, honest) = forge("idle", edit, total);
            assert_eq!((by_sql(&bundle).len(), by_us(&bundle)), (alone, alone), "{what}");
            assert_eq!(beside(&bundle, &kept), [what]);
            std::fs::write(path, honest).unwrap();
        }
        // A month that was closed and has nothing new, one that is not over, none at all, and one in other digits.
        let bundle = folder("initech", 202_610);
        for (month, before, alone) in [("202609", "5", true), ("202611", "0", false), ("202613", "0", false), ("0202610", "0", false)] {
            let edit = |terms: &mut Vec<Value>| {
                let mut line = terms[0].clone();
                line["service_period"] = json!(month);
                line["amount"] = json!(if before == "5" { "25" } else { "30" });
                line["invoiced_before"] = json!(before);
                terms.insert(0, line);
                for (number, line) in (1_u64..).zip(terms.iter_mut()) {
                    line["number"] = json!(number.to_string());
                }
            };
            let (path, honest) = forge("initech", &edit, if before == "5" { "75" } else { "80" });
            if alone {
                assert!(
                    beside(&bundle, &folder("initech", 202_609)).contains(&"service period, by the earlier invoices".to_owned()),
                    "{month}"
                );
            } else {
                assert!(!by_sql(&bundle).is_empty() && by_us(&bundle) > 0, "{month}");
            }
            std::fs::write(path, honest).unwrap();
        }
    }
    server.stop();
}

#[test]
fn what_is_beyond_64_bits_is_booked_and_invoiced_and_what_no_invoice_holds_holds_up_nobody_else() {
    let tally = home();
    let greedy = "[[contract]]\nid = \"greedy\"\norganization = \"greedy\"\nprice_book = \"list\"\neffective_at = \"2026-09-01T00:00:00Z\"\n\
                  [[contract.term]]\nid = \"promise\"\nkind = \"commitment\"\namount = \"1\"\noverage_factor = \"1000\"\ntrue_up = \"none\"\n";
    let published = publish(&tally, &registry("1000", greedy));
    assert!(published.status.success(), "{}", err(&published));
    let server = tally.serve();
    // 9,000,000,000.00 for GPUs and as much for tokens: one account of one entry gets more than a 64-bit integer counts, and so does the invoice.
    let (hours, millions) = (3_600_000_000, 3_000_000_000);
    send(
        &server,
        &[
            usage("1", "rich", "2026-09-03", hours, 0),
            usage("2", "rich", "2026-09-03", 0, millions),
            usage("3", "other", "2026-09-04", 10, 0),
            usage("4", "greedy", "2026-09-05", hours, 0),
        ],
    );
    server.stop();
    // The forecast says so too, and foresees everyone else's.
    let foreseen: Value = serde_json::from_str(&tally.done(&["--format", "json", "forecast", "--as-of", "2026-09-30T23:59:59Z"])).unwrap();
    let invoice = |organization: &str| {
        let sum = foreseen["sums"].as_array().unwrap().iter().find(|sum| sum["organization"] == organization);
        sum.unwrap_or_else(|| panic!("{organization} is not foreseen"))["invoice"].clone()
    };
    assert_eq!((invoice("greedy"), invoice("other")), (Value::Null, Value::from("25")));
    let server = tally.serve();
    let closed = tally.run(&["close", "2026-09"]);
    assert_eq!(closed.status.code(), Some(1), "{}{}", out(&closed), err(&closed));
    let said = err(&closed);
    assert!(
        said.contains("2026-09 is closed and everyone else is invoiced, but organization greedy is not since 2026-09: the terms of greedy"),
        "{said}"
    );
    assert_eq!(totals(&tally, 202_609), ["idle 250.00", "initech 50.00", "other 25.00", "rich 18000000000.00", "umbrella 1000.00"]);
    let page = tally.done(&["invoice", "show", &number(&tally, "rich", 202_609)]);
    assert!(page.contains("18,000,000,000.00"), "{page}");
    server.stop();
    // Without a server, and at the next close: the same, and everyone else goes on.
    let server = tally.serve();
    send(&server, &[usage("5", "rich", "2026-10-03", 1, 0), usage("6", "greedy", "2026-10-03", 1, 0)]);
    server.stop();
    let closed = tally.run(&["close", "2026-10"]);
    assert!(err(&closed).contains("organization greedy is not since 2026-09"), "{}{}", out(&closed), err(&closed));
    assert_eq!(totals(&tally, 202_610), ["idle 250.00", "initech 50.00", "rich 2.50", "umbrella 1000.00"]);
    tally.done(&["drain"]);
    tally.check().unwrap();
    assert!(tally.done(&["rebuild", "ledger", "--compare"]).contains("equal"));
}

#[test]
fn terms_of_closed_months_are_not_changed_and_the_next_contract_is() {
    let tally = home();
    tally.done(&["close", "2026-09"]);
    let changed = publish(&tally, &registry("2000", ""));
    assert_eq!(changed.status.code(), Some(1));
    let said = err(&changed);
    assert!(
        said.contains("the terms of contract umbrella that organization umbrella has in 2026-09 would be others (term promise: "),
        "{said}"
    );
    let shown = tally.run(&["rerate", "--preview", "--book", &folder(&tally, &registry("2000", ""))]);
    assert_eq!((shown.status.code(), err(&shown).contains("would be others (term promise: ")), (Some(1), true), "{}", err(&shown));
    assert!(said.contains("write another contract with effective_at = \"2026-10-01T00:00:00Z\" or a later month"), "{said}");
    let next = "[[contract]]\nid = \"umbrella-2\"\norganization = \"umbrella\"\nprice_book = \"list\"\neffective_at = \"2026-10-01T00:00:00Z\"\n\
                [[contract.term]]\nid = \"promise\"\nkind = \"commitment\"\namount = \"2000\"\ntrue_up = \"owed\"\n";
    let published = publish(&tally, &registry("1000", next));
    assert!(published.status.success(), "{}", err(&published));
    tally.done(&["close", "2026-10"]);
    let of = |lines: Vec<String>| lines.into_iter().find(|line| line.starts_with("umbrella")).unwrap();
    assert_eq!(of(terms(&tally, 202_609)), "umbrella 202609 promise: 1000 of 0");
    assert_eq!(of(terms(&tally, 202_610)), "umbrella 202610 promise: 2000 of 0");
    holds(&tally);
}

#[test]
fn a_term_that_was_tampered_with_is_named() {
    let tally = home();
    tally.done(&["close", "2026-09"]);
    tally.check().unwrap();
    let row = "UPDATE platform_billing_term_lines SET term_amount = term_amount + 1 WHERE organization = 'umbrella'";
    let content = "replace(replace(content, '\"term_amount\":\"1000\"', '\"term_amount\":\"999\"'), '\"amount\":\"1000\",\"contract\"', \
                   '\"amount\":\"999\",\"contract\"')";
    let content = format!("replace({content}, '\"total\":\"1000\"', '\"total\":\"999\"')");
    let rewritten = format!(
        "UPDATE platform_billing_invoices SET content = {content}, digest = digest({content}), total = 999000000000 WHERE organization = 'umbrella'"
    );
    for (sql, rules) in
        [(row, vec!["invoice-lines"]), (&*rewritten, vec!["invoice-term", "umbrella#promise 202609", "is 999", "make it 1000"])]
    {
        let damaged = tally.copy();
        crate::damage::damage(damaged.home().join("db/books.db").to_str().unwrap(), sql);
        let found = damaged.check().unwrap_err();
        assert!(rules.iter().all(|rule| found.contains(rule)), "{sql}: {found}");
    }
}

#[test]
fn drafting_terms_across_kills_comes_to_drafting_them_once() {
    let members: Vec<String> = (0..300).map(|number| format!("\"member-{number}\"")).collect();
    let club = format!(
        "[[contract]]\nid = \"club\"\norganizations = [{}]\nprice_book = \"list\"\neffective_at = \"2026-08-01T00:00:00Z\"\n\
         [[contract.term]]\nid = \"least\"\nkind = \"minimum_spend\"\namount = \"7.50\"\n",
        members.join(", ")
    );
    let begin = || {
        let tally = Tally::empty();
        tally.done(&["init"]);
        assert!(publish(&tally, &registry("1000", &club)).status.success());
        let server = tally.serve();
        send(&server, &september());
        send(
            &server,
            &(0..20).map(|at| usage(&format!("m{at}"), &format!("member-{at}"), "2026-08-05", 1 + at % 4, 0)).collect::<Vec<_>>(),
        );
        server.stop();
        tally
    };
    // The content of every invoice, without when it got its number.
    let invoices = |tally: &Tally| tally.sql("SELECT number, content FROM billing.invoices ORDER BY number");
    let once = begin();
    once.done(&["close", "2026-09"]);
    let expected = invoices(&once);
    // 300 members, two months each: those of August that spent 10.00 owe nothing more.
    assert_eq!(expected.len(), 306);

    let mut random = Random::new(16);
    let mut kills = 0;
    for _ in 0..4 {
        let tally = begin();
        loop {
            let mut close = tally.spawn(&["close", "2026-09"]);
            std::thread::sleep(Duration::from_millis(20 + random.below(400)));
            if close.try_wait().unwrap().is_some_and(|status| status.success()) {
                break;
            }
            close.kill().unwrap();
            close.wait().unwrap();
            kills += 1;
            if tally.value("SELECT count(*) AS value FROM billing.periods WHERE stage = 'issued'") == "1" {
                break;
            }
        }
        tally.done(&["close", "2026-09"]);
        assert_eq!(invoices(&tally), expected);
        holds(&tally);
    }
    println!("{kills} kills");
    assert!(kills >= 4, "{kills} kills: too few to have hit anything");
}

#[test]
fn a_preview_says_what_terms_make_of_other_prices_and_the_next_invoice_says_the_same() {
    let tally = home();
    let server = tally.serve();
    send(&server, &september());
    server.stop();
    tally.done(&["close", "2026-09"]);
    let dearer = registry("1000", "").replacen("unit_price = \"2.50\"", "unit_price = \"3.00\"", 1);
    let book = folder(&tally, &dearer);
    let preview: Value = serde_json::from_str(&tally.done(&["--format", "json", "rerate", "--preview", "--book", &book])).unwrap();
    let mut shown = Vec::new();
    for invoice in preview["invoices"].as_array().unwrap() {
        shown.push(format!("{} {} of usage {}", text(&invoice["organization"]), text(&invoice["difference"]), text(&invoice["usage"])));
        for term in invoice["terms"].as_array().unwrap() {
            let figures = ["before", "after", "difference"].map(|name| text(&term[name])).join(" ");
            shown.push(format!("  {} {} {} {figures}", text(&term["service_period"]), text(&term["term"]), text(&term["kind"])));
        }
    }
    // acme: 10 % of 510 and what is above 400 then. initech's usage alone reaches its minimum. umbrella promised more than it spends.
    let expected = [
        "acme 0 of usage 50",
        "  2026-09 most maximum_spend -14 -59 -45",
        "  2026-09 off discount -46 -51 -5",
        "calm 5 of usage 5",
        "initech 0 of usage 5",
        "  2026-09 least minimum_spend 5 0 -5",
        "other 5 of usage 5",
        "umbrella 0 of usage 140",
        "  2026-09 promise commitment 300 160 -140",
    ];
    assert_eq!(shown, expected, "{preview}");
    let page = tally.done(&["rerate", "--preview", "--book", &book]);
    assert!(page.contains("2026-09  umbrella#promise (commitment)  USD 160 instead of 300: -140"), "{page}");
    assert!(
        page.contains("on the next invoice  USD 0: usage +140, the rest by terms") && page.contains("on the next invoice  USD +5\n"),
        "{page}"
    );

    tally.done(&["rerate", "--book", &book]);
    tally.done(&["close", "2026-10"]);
    let moved: Vec<String> = terms(&tally, 202_610).into_iter().filter(|term| term.contains(" 202609 ")).collect();
    let expected = [
        "acme 202609 off: -5 of 510",
        "acme 202609 most: -45 of 459",
        "initech 202609 least: -5 of 30",
        "umbrella 202609 promise: -140 of 840",
    ];
    assert_eq!(moved, expected);
    holds(&tally);
}
