//! A check that is always green proves nothing: for each input of `tally check` one row is damaged, triggers dropped, and check names it.
//! It knows the tables as an attacker with the file would, and nothing of the crates.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::tally::{Tally, err, out, python, request};

/// Changes one row of a database in SQL; the triggers that would refuse it are dropped first. SQL has `sha256(text)` in hex and `digest(text)` in bytes.
const DAMAGE: &str = r#"
import hashlib, sqlite3, sys
db = sqlite3.connect(sys.argv[1])
db.create_function("sha256", 1, lambda text: hashlib.sha256(text.encode()).hexdigest())
db.create_function("digest", 1, lambda text: hashlib.sha256(text.encode()).digest())
for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
    db.execute(f'DROP TRIGGER "{name}"')
rows = db.execute(sys.argv[2]).rowcount
assert rows == 1, f"{rows} rows instead of one: {sys.argv[2]}"
db.commit()
"#;

/// The only value of an answer in SQL.
const ASK: &str = r#"
import sqlite3, sys
print(sqlite3.connect(sys.argv[1]).execute(sys.argv[2]).fetchone()[0])
"#;

/// Rewrites a Parquet file with DuckDB, one row changed.
const REWRITE: &str = r#"
import duckdb, os, sys
path, sql = sys.argv[1:]
db = duckdb.connect()
db.execute(f"CREATE TABLE rows AS SELECT * FROM '{path}'")
rows = db.execute(sql).fetchone()[0]
assert rows == 1, f"{rows} rows instead of one: {sql}"
db.execute(f"COPY rows TO '{path}.new' (FORMAT parquet)")
os.replace(f"{path}.new", path)
"#;

fn script(python: &Path, script: &str, arguments: &[&str]) -> String {
    let output = Command::new(python).args(["-c", script]).args(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", err(&output));
    out(&output).trim().to_owned()
}

/// Changes one row of a database file, with every trigger dropped.
pub fn damage(database: &str, sql: &str) {
    script(Path::new("python3"), DAMAGE, &[database, sql]);
}

/// One finding of `tally check`.
#[derive(Debug)]
struct Finding {
    check: String,
    subject: String,
    detail: String,
}

/// A home that is copied for each case.
struct Template {
    tally: Tally,
}

impl Template {
    /// Several batches, two months, every outcome, all folds behind.
    fn new() -> Self {
        Self::with(&[100, 200, 300])
    }

    /// The input tokens of each round's events: another number is another charge.
    fn with(tokens: &[u64]) -> Self {
        let tally = Tally::new();
        Self::post(&tally, tokens);
        Self { tally }
    }

    fn post(tally: &Tally, tokens: &[u64]) {
        let server = tally.serve();
        let client = server.client();
        for (round, tokens) in tokens.iter().enumerate() {
            let time = if round % 2 == 0 { "2026-10-05T10:00:00Z" } else { "2026-11-05T11:30:00Z" };
            let mut events: Vec<String> =
                (0..20).map(|at| request(&format!("{round}-{at}"), &format!("org-{}", at % 3), time, tokens + at, 10)).collect();
            events.push(events[0].clone());
            events.push(events[1].replace("\"output_tokens\":10", "\"output_tokens\":11"));
            events.push(
                events[2].replace("\"output_tokens\":10", "\"output_tokens\":\"x\"").replace(&format!("{round}-2"), &format!("{round}-x")),
            );
            let answer = client.events(&events).unwrap();
            assert_eq!(answer.status, 202, "{}", answer.text);
            tally.done(&["drain"]);
        }
        server.stop();
    }

    fn copy(&self) -> Damaged {
        let tally = Tally::empty();
        let done = Command::new("cp").arg("-a").arg(self.tally.home()).arg(tally.home()).status().unwrap();
        assert!(done.success());
        Damaged { tally }
    }

    /// Damages a copy for each case; the check must end with 1 and say the rule and the subject.
    fn check(&self, cases: &[Case<'_>]) {
        self.copy().tally.check().expect("an undamaged copy passes");
        let mut missed = Vec::new();
        for (name, check, damage) in cases {
            let copy = self.copy();
            let subject = damage(&copy);
            let output = copy.tally.run(&["--format", "json", "check"]);
            if output.status.code() != Some(1) {
                missed.push(format!("{name}: check ended with {:?}\n  {}{}", output.status.code(), out(&output), err(&output)));
                continue;
            }
            let findings = findings(&out(&output));
            let named = |finding: &Finding| finding.check == *check && format!("{} {}", finding.subject, finding.detail).contains(&subject);
            if !findings.iter().any(named) {
                missed.push(format!("{name}: nothing of {check} names {subject:?}: {findings:#?}"));
            }
        }
        assert!(missed.is_empty(), "{} of {} cases were missed\n{}", missed.len(), cases.len(), missed.join("\n"));
    }
}

/// What is damaged, the rule that must find it, and the damage, which answers what must be named.
type Case<'a> = (&'a str, &'a str, Box<dyn Fn(&Damaged) -> String + 'a>);

/// A row changed in SQL; `named` is what must be named.
fn row<'a>(name: &'a str, check: &'a str, store: &'a str, sql: &'a str, named: &'a str) -> Case<'a> {
    (
        name,
        check,
        Box::new(move |home| {
            home.sql(store, sql);
            named.to_owned()
        }),
    )
}

/// Something done to a home, which answers what must be named.
fn case<'a>(name: &'a str, check: &'a str, damage: impl Fn(&Damaged) -> String + 'a) -> Case<'a> {
    (name, check, Box::new(damage))
}

fn findings(text: &str) -> Vec<Finding> {
    let said: Value = serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"));
    let text = |row: &Value, field: &str| row[field].as_str().unwrap().to_owned();
    let finding = |row: &Value| Finding { check: text(row, "check"), subject: text(row, "subject"), detail: text(row, "detail") };
    said["violations"].as_array().unwrap().iter().map(finding).collect()
}

/// A copy of the template, to be damaged.
struct Damaged {
    tally: Tally,
}

impl Damaged {
    fn database(&self, store: &str) -> String {
        self.tally.home().join(format!("db/{store}.db")).to_str().unwrap().to_owned()
    }

    /// Changes one row.
    fn sql(&self, store: &str, sql: &str) {
        damage(&self.database(store), sql);
    }

    /// Asks for one value.
    fn ask(&self, store: &str, sql: &str) -> String {
        script(Path::new("python3"), ASK, &[&self.database(store), sql])
    }

    /// The path of a batch's file below the lake.
    fn path(&self, table: &str, batch_no: u64) -> String {
        let tables = format!(
            "SELECT value ->> 'path' FROM platform_ingest_batches, json_each(header -> 'tables') WHERE batch_no = {batch_no} AND value ->> 'table' = '{table}'"
        );
        self.ask("log", &tables)
    }

    fn file(&self, path: &str) -> PathBuf {
        self.tally.home().join("lake").join(path)
    }
}

#[test]
fn a_damaged_batch_log_is_named() {
    let template = Template::new();
    let last = template.copy().ask("log", "SELECT max(batch_no) FROM platform_ingest_batches");
    let shard = template.copy().ask("log", "SELECT shard FROM platform_ingest_ranges WHERE batch_no = 2 LIMIT 1");
    let (shard_name, in_batch) = (format!("shard {shard}"), format!("batch_no = 2 AND shard = {shard}"));
    let batch = |name, check, set: &str, named| {
        let sql = format!("UPDATE platform_ingest_batches SET {set} WHERE batch_no = 2");
        case(name, check, move |home| {
            home.sql("log", &sql);
            String::from(named)
        })
    };
    let range = |name, set: &str| {
        let sql = format!("UPDATE platform_ingest_ranges SET {set} WHERE {in_batch}");
        case(name, "range", move |home| {
            home.sql("log", &sql);
            "batch 2".to_owned()
        })
    };
    let position = |name, change: &str| {
        let sql = format!("{change} WHERE shard = {shard}");
        let shard_name = &shard_name;
        case(name, "shard-position", move |home| {
            home.sql("log", &sql);
            shard_name.clone()
        })
    };
    let zeros = "printf('%064d', 7)";
    template.check(&[
        batch("a header's text", "batch-header", "header = json_set(header, '$.writer_epoch', 7)", "batch 2"),
        batch("a header that is none", "batch-header", "header = '{}'", "batch 2"),
        batch("a header's digest", "batch-header", &format!("digest = {zeros}"), "batch 2"),
        batch("a digest that is none", "batch-header", "digest = replace(printf('%064d', 0), '0', 'z')", "batch 2"),
        batch("the previous digest", "batch-header", &format!("previous = {zeros}"), "batch 2"),
        batch("the writer epoch", "batch-header", "writer_epoch = 7", "batch 2"),
        batch(
            "a header and its digest",
            "batch-chain",
            "header = json_set(header, '$.writer_epoch', 7), digest = sha256(json_set(header, '$.writer_epoch', 7)), writer_epoch = 7",
            "batch 3",
        ),
        row("a missing batch", "batch-chain", "log", "DELETE FROM platform_ingest_batches WHERE batch_no = 2", "batch 3"),
        case("the last batch", "shard-position", |home| {
            home.sql("log", &format!("DELETE FROM platform_ingest_batches WHERE batch_no = {last}"));
            "shard ".to_owned()
        }),
        range("the end of a range", "last = last + 1"),
        range("the digest of a range", &format!("last_digest = {zeros}")),
        range("the control number of a range", "control_no = control_no + 1"),
        range("the registry version of a range", &format!("registry_version = {zeros}")),
        range("a digest of a range that is none", "last_digest = replace(printf('%064d', 0), '0', 'z')"),
        range("the month of a range", "oldest_open = 202601"),
        case("a missing range", "range", |home| {
            home.sql("log", &format!("DELETE FROM platform_ingest_ranges WHERE {in_batch}"));
            "batch 2".to_owned()
        }),
        case("an added range", "range", |home| {
            let values = "SELECT 2, shard, 9, 1, 1, last_digest, control_no, registry_version, oldest_open FROM platform_ingest_ranges";
            home.sql("log", &format!("INSERT INTO platform_ingest_ranges {values} WHERE {in_batch}"));
            "batch 2".to_owned()
        }),
        position("a position behind", "UPDATE platform_ingest_positions SET sequence = sequence - 1"),
        position("a position ahead", "UPDATE platform_ingest_positions SET sequence = sequence + 1"),
        position("a position in another life", "UPDATE platform_ingest_positions SET incarnation = incarnation + 1"),
        position("the digest of a position", &format!("UPDATE platform_ingest_positions SET digest = {zeros}")),
        position(
            "a digest of a position that is none",
            "UPDATE platform_ingest_positions SET digest = replace(printf('%064d', 0), '0', 'z')",
        ),
        position("the control number of a position", "UPDATE platform_ingest_positions SET control_no = control_no + 1"),
        position("the registry version of a position", &format!("UPDATE platform_ingest_positions SET registry_version = {zeros}")),
        position("the month of a position", "UPDATE platform_ingest_positions SET oldest_open = 202601"),
        position("a missing position", "DELETE FROM platform_ingest_positions"),
    ]);
}

#[test]
fn a_damaged_file_is_named() {
    let template = Template::new();
    // A home with the same rows but for one charge: its files are whole in themselves.
    let liar = Template::with(&[101, 200, 300]).copy();
    let mut cases = Vec::new();
    for table in ["events", "charges", "totals"] {
        cases.push(case("a flipped byte", "file", move |home| {
            let path = home.path(table, 2);
            let mut bytes = fs::read(home.file(&path)).unwrap();
            let middle = bytes.len() / 3;
            bytes[middle] ^= 1;
            fs::write(home.file(&path), bytes).unwrap();
            path
        }));
        cases.push(case("a file cut off", "file", move |home| {
            let path = home.path(table, 2);
            let bytes = fs::read(home.file(&path)).unwrap();
            fs::write(home.file(&path), &bytes[..bytes.len() / 2]).unwrap();
            path
        }));
        cases.push(case("a missing file", "file", move |home| {
            let path = home.path(table, 2);
            fs::remove_file(home.file(&path)).unwrap();
            path
        }));
        cases.push(case("the file of another batch", "file-rows", move |home| {
            let path = home.path(table, 2);
            fs::copy(home.file(&home.path(table, 3)), home.file(&path)).unwrap();
            path
        }));
        cases.push(case("the file of another table", "file", move |home| {
            let path = home.path(table, 2);
            let other = if table == "events" { "totals" } else { "events" };
            fs::copy(home.file(&home.path(other, 2)), home.file(&path)).unwrap();
            path
        }));
        let liar = &liar;
        cases.push(case("a file of another home", "file-rows", move |home| {
            let path = home.path(table, 2);
            fs::copy(liar.file(&liar.path(table, 2)), home.file(&path)).unwrap();
            path
        }));
        cases.push(case("a published header", "lake-header", move |home| {
            let path = home.file("headers/00000000000000000002.json");
            let text = fs::read_to_string(&path).unwrap();
            fs::write(&path, text.replacen(table, "tables", 1)).unwrap();
            "00000000000000000002.json".to_owned()
        }));
    }
    cases.push(case("the charges of another home add up to other totals", "charges-totals", |home| {
        fs::copy(liar.file(&liar.path("charges", 2)), home.file(&home.path("charges", 2))).unwrap();
        "org-0".to_owned()
    }));
    cases.push(case("a second batch that does not read", "file", |home| {
        let path = home.path("charges", 4);
        fs::remove_file(home.file(&home.path("events", 2))).unwrap();
        fs::remove_file(home.file(&path)).unwrap();
        let text = out(&home.tally.run(&["check"]));
        assert!(text.contains("batch 2 does not read: what follows from it was not compared") && text.contains("2 violations"), "{text}");
        path
    }));
    cases.push(case("a missing published header", "lake-header", |home| {
        fs::remove_file(home.file("headers/00000000000000000002.json")).unwrap();
        "00000000000000000002.json".to_owned()
    }));
    template.check(&cases);
}

#[test]
fn a_row_of_a_file_that_was_rewritten_is_named() {
    let Some(python) = python() else { return };
    let template = Template::new();
    let rewritten = |name, check, table: &'static str, sql: &'static str, named: &'static str| {
        let python = python.clone();
        case(name, check, move |home: &Damaged| {
            let path = home.path(table, 2);
            script(&python, REWRITE, &[home.file(&path).to_str().unwrap(), sql]);
            if named.is_empty() { path } else { named.to_owned() }
        })
    };
    let text = |set: &str| {
        format!("UPDATE rows SET {set} WHERE organization = 'org-1' AND rowid = (SELECT min(rowid) FROM rows WHERE organization = 'org-1')")
    };
    let amount: &'static str = text("amount = amount + 0.000000001").leak();
    let total: &'static str = text("total = total + 0.000000001").leak();
    let period: &'static str = text("accounting_period = 202601").leak();
    let family: &'static str = text("family = ''").leak();
    let unreadable: &'static str = text("organization = 'no one'").leak();
    let removed: &'static str = "DELETE FROM rows WHERE rowid = 0";
    template.check(&[
        // DuckDB cannot write the fixed-size binaries of these two: the file is refused for its columns.
        rewritten("a changed event", "file", "events", text("outcome = 'duplicate'").leak(), ""),
        rewritten("a changed charge", "file", "charges", text("amount = 0").leak(), ""),
        rewritten("a changed amount by its file", "file-rows", "totals", amount, ""),
        rewritten("a changed amount", "charges-totals", "totals", amount, "org-1"),
        rewritten("a changed running total", "running-total", "totals", total, "org-1"),
        rewritten("a changed accounting period", "charges-totals", "totals", period, "org-1"),
        rewritten("a changed text that nothing adds up", "file-rows", "totals", family, ""),
        rewritten("an id that is none", "file-rows", "totals", unreadable, ""),
        rewritten("a removed row", "file-rows", "totals", removed, ""),
        rewritten("a removed row in the catalog", "lake", "totals", removed, ""),
    ]);
}

#[test]
fn a_damaged_audit_is_named_and_so_is_who_may_do_what_without_having_been_allowed() {
    let tally = Tally::new();
    tally.done(&["organization", "add", "acme"]);
    tally.done(&["organization", "add", "other"]);
    tally.done(&["project", "add", "acme", "chat"]);
    tally.done(&["source", "enroll", "gateway", "--organization", "acme"]);
    let agent = tally.key(&["agent", "--role", "agent", "--source", "gateway", "--scope", "ingest.event.send"]);
    let customer = tally.key(&["app", "--role", "customer", "--organization", "acme", "--expires-at", "2099-01-01T00:00:00Z"]);
    let (agent, customer) = (&agent[..17], &customer[..17]);
    tally.done(&["key", "revoke", agent]);
    let template = Template { tally };
    let last = template.copy().ask("books", "SELECT max(record_no) FROM platform_audit_records");
    let record = |name, change: &str, named: &str| {
        let (sql, named) = (change.to_owned(), named.to_owned());
        case(name, "audit", move |home| {
            home.sql("books", &sql);
            named.clone()
        })
    };
    let decision = |name, change: &str, named: &str| {
        let (sql, named) = (change.to_owned(), named.to_owned());
        case(name, "iam", move |home| {
            home.sql("books", &sql);
            named.clone()
        })
    };
    let text = "content = replace(content, 'local', 'nobody')";
    template.check(&[
        record("the text of a record", &format!("UPDATE platform_audit_records SET {text} WHERE record_no = 2"), "audit record 2 "),
        record(
            "a text that is none",
            "UPDATE platform_audit_records SET content = '{', digest = digest('{') WHERE record_no = 2",
            "audit record 2 ",
        ),
        record(
            "the digest of a record",
            "UPDATE platform_audit_records SET digest = randomblob(32) WHERE record_no = 2",
            "audit record 2 ",
        ),
        record(
            "the text of a record and its digest",
            "UPDATE platform_audit_records SET content = replace(content, 'local', 'nobody'), \
             digest = digest(replace(content, 'local', 'nobody')) WHERE record_no = 2",
            "names ",
        ),
        record(
            "the text of the last record and its digest",
            &format!(
                "UPDATE platform_audit_records SET {text}, digest = digest(replace(content, 'local', 'nobody')) WHERE record_no = {last}"
            ),
            "audit chain deployment",
        ),
        record("the digest before", "UPDATE platform_audit_records SET previous = randomblob(32) WHERE record_no = 4", "audit record 4 "),
        record("the chain of a record", "UPDATE platform_audit_records SET chain = 'organization/x' WHERE record_no = 2", "organization/x"),
        record("a missing record", "DELETE FROM platform_audit_records WHERE record_no = 2", "audit record 2"),
        record("the last record", &format!("DELETE FROM platform_audit_records WHERE record_no = {last}"), "audit chain deployment"),
        record("a head", "UPDATE platform_audit_heads SET seq = seq - 1 WHERE chain = 'deployment'", "audit chain deployment"),
        record("a missing head", "DELETE FROM platform_audit_heads WHERE chain = 'organization/acme'", "audit chain organization/acme"),
        record(
            "an added head",
            "INSERT INTO platform_audit_heads SELECT 'organization/x', seq, digest FROM platform_audit_heads LIMIT 1",
            "audit chain organization/x",
        ),
        decision(
            "an added key",
            "INSERT INTO platform_iam_keys SELECT 'tally_AAAAAAAAAAA', randomblob(32), last4, principal, scopes, created_at, expires_at \
             FROM platform_iam_keys LIMIT 1",
            "tally_AAAAAAAAAAA",
        ),
        decision("the hash of a key", &format!("UPDATE platform_iam_keys SET hash = randomblob(32) WHERE key = '{customer}'"), customer),
        decision("the scopes of a key", &format!("UPDATE platform_iam_keys SET scopes = NULL WHERE key = '{agent}'"), agent),
        decision("scopes that are none", &format!("UPDATE platform_iam_keys SET scopes = 'all' WHERE key = '{agent}'"), agent),
        decision("the expiry of a key", &format!("UPDATE platform_iam_keys SET expires_at = NULL WHERE key = '{customer}'"), customer),
        decision("a missing key", &format!("DELETE FROM platform_iam_keys WHERE key = '{customer}'"), customer),
        decision("a removed revocation", "DELETE FROM platform_iam_revocations", agent),
        decision("an added revocation", &format!("INSERT INTO platform_iam_revocations VALUES ('{customer}', 1)"), customer),
        decision("the role of a principal", "UPDATE platform_iam_principals SET role = 'operator' WHERE principal = 'agent'", agent),
        decision(
            "the organization of a principal",
            "UPDATE platform_iam_principals SET organization = 'other' WHERE principal = 'app'",
            customer,
        ),
        decision("an added source of a key", &format!("INSERT INTO platform_iam_key_sources VALUES ('{customer}', 'gateway')"), customer),
        decision("an added report", "INSERT INTO platform_iam_source_reports VALUES ('gateway', '*', 1)", "gateway"),
        decision("a removed report", "DELETE FROM platform_iam_source_reports", "gateway"),
        decision("whether a source is sequenced", "UPDATE platform_iam_sources SET sequenced = 1", "gateway"),
        decision("the name of an organization", "UPDATE platform_iam_organizations SET name = 'x' WHERE organization = 'acme'", "acme"),
        decision("the name of a project", "UPDATE platform_iam_projects SET name = 'x'", "chat"),
    ]);
}

#[test]
fn a_damaged_ledger_is_named() {
    let template = Template::new();
    let posting = |name, check, set: &str, named: &str| {
        let (sql, named) = (format!("UPDATE platform_ledger_postings SET {set} WHERE seq = 2"), named.to_owned());
        case(name, check, move |home| {
            home.sql("books", &sql);
            named.clone()
        })
    };
    let of_entry = |name, check, sql: &'static str, named| row(name, check, "books", sql, named);
    let copy = template.copy();
    let owner = copy.ask("books", "SELECT organization FROM platform_ledger_postings WHERE seq = 2");
    let account = copy.ask("books", "SELECT debit_account FROM platform_ledger_postings WHERE seq = 2");
    let entry = format!("entry {}", copy.ask("books", "SELECT entry_no FROM platform_ledger_postings WHERE seq = 2"));
    let balance = |name, change: &str| {
        let (sql, account) = (format!("{change} WHERE account = '{account}'"), &account);
        case(name, "ledger", move |home| {
            home.sql("books", &sql);
            account.clone()
        })
    };
    template.check(&[
        posting("an amount", "ledger", "amount = amount + 1", &entry),
        posting("an amount and its balance", "ledger", "amount = amount + 1", &account),
        posting("an amount and its key", "totals-postings", "amount = amount + 1", &owner),
        posting("a debit account", "ledger", "debit_account = 'org/other/unbilled'", "org/other/unbilled"),
        posting("a credit account", "ledger", "credit_account = 'revenue/other'", "revenue/other"),
        posting("swapped accounts", "ledger", "debit_account = credit_account, credit_account = debit_account", &entry),
        posting("an organization", "totals-postings", "organization = 'other'", "other"),
        posting("an organization that is none", "ledger", "organization = 'no one'", "posting 2"),
        posting("a contract line", "totals-postings", "contract_line = 'other'", "other"),
        posting("a service period", "ledger", "service_period = 202601", &entry),
        posting("an accounting period", "ledger", "accounting_period = 202601", "posting 2"),
        posting("a quantity", "ledger", "quantity = '1'", &entry),
        posting("a quantity that is none", "ledger", "quantity = 'one'", "posting 2"),
        posting("an instant", "ledger", "effective_at = effective_at + 1", &entry),
        posting("a kind", "ledger", "kind = 2", &entry),
        posting("the entry of a posting", "ledger", "entry_no = 99", "posting 2"),
        posting("the asset of a posting", "ledger", "asset = 'EUR', currency = 'EUR'", "posting 2"),
        of_entry("a missing posting", "ledger", "DELETE FROM platform_ledger_postings WHERE seq = 2", "posting 2 is missing"),
        of_entry(
            "an added posting",
            "ledger",
            "INSERT INTO platform_ledger_postings SELECT (SELECT max(seq) + 1 FROM platform_ledger_postings), entry_no, debit_account, credit_account, asset, amount, kind, \
             ref_seq, accounting_period, organization, contract, contract_line, service_period, currency, quantity, effective_at FROM platform_ledger_postings WHERE seq = 2",
            "which does not cover it",
        ),
        of_entry("the digest of an entry", "ledger", "UPDATE platform_ledger_entries SET digest = randomblob(32) WHERE entry_no = 1", "entry 1"),
        of_entry("the digest of the last entry", "ledger", "UPDATE platform_ledger_entries SET digest = randomblob(32) WHERE entry_no = (SELECT max(entry_no) FROM platform_ledger_entries)", "does not have its digest"),
        of_entry("the previous digest of an entry", "ledger", "UPDATE platform_ledger_entries SET previous = randomblob(32) WHERE entry_no = 2", "entry 2"),
        of_entry("the batches of an entry", "ledger", "UPDATE platform_ledger_entries SET last_batch = last_batch + 100 WHERE entry_no = 1", "entry 1"),
        of_entry("the postings of an entry", "ledger", "UPDATE platform_ledger_entries SET last_seq = 10000 WHERE entry_no = 1", "entry 1"),
        of_entry("a missing entry", "ledger", "DELETE FROM platform_ledger_entries WHERE entry_no = 1", "entry 2"),
        balance("the debits of a balance", "UPDATE platform_ledger_balances SET debits = debits + 1"),
        balance("the credits of a balance", "UPDATE platform_ledger_balances SET credits = credits + 1"),
        balance("the account of a balance", "UPDATE platform_ledger_balances SET account = 'no account'"),
        balance("the asset of a balance", "UPDATE platform_ledger_balances SET asset = 'no asset'"),
        balance("a missing balance", "DELETE FROM platform_ledger_balances"),
        balance("a missing account", "DELETE FROM platform_ledger_accounts"),
        of_entry("an added balance", "ledger", "INSERT INTO platform_ledger_balances VALUES ('org/other/unbilled', 'USD', 1, 0, 1, 0, 0)", "org/other/unbilled"),
        of_entry("a missing asset", "ledger", "DELETE FROM platform_ledger_assets WHERE asset = 'USD'", "USD"),
        of_entry("a missing period", "ledger", "DELETE FROM platform_ledger_periods WHERE period = (SELECT accounting_period FROM platform_ledger_postings WHERE seq = 2)", "posting 2"),
        of_entry("the cursor", "cursor", "UPDATE shared_db_cursors SET batch_no = batch_no - 1", "ledger"),
        of_entry("a cursor beyond the log", "cursor", "UPDATE shared_db_cursors SET batch_no = 1000000", "ledger"),
        of_entry("a missing cut", "cursor", "DELETE FROM shared_db_cuts WHERE cut_no = 1", "ledger"),
    ]);
}

#[test]
fn a_damaged_close_is_named() {
    let template = Template::new();
    template.tally.done(&["close", "2026-10"]);
    let copy = template.copy();
    let invoice = copy.ask("books", "SELECT min(invoice_id) FROM platform_billing_invoices");
    let owner = copy.ask("books", "SELECT organization FROM platform_billing_invoices ORDER BY invoice_id");
    let of = |name, check, sql: &str, named: &str| {
        let (sql, named) = (sql.to_owned(), named.to_owned());
        case(name, check, move |home| {
            home.sql("books", &sql);
            named.clone()
        })
    };
    let one = format!("WHERE invoice_id = '{invoice}'");
    let total = format!("WHERE organization = '{owner}' AND accounting_period = 202610 AND sku = 'input'");
    template.check(&[
        of("an amount of a total", "billing-total", &format!("UPDATE platform_billing_totals SET amount = amount + 1 {total}"), &owner),
        of("a missing total", "billing-total", &format!("DELETE FROM platform_billing_totals {total}"), &owner),
        of("an added total", "billing-total", &format!("INSERT INTO platform_billing_totals SELECT 'other', contract, contract_line, sku, service_period, currency, accounting_period, quantity, amount, readings, total, prices, log_sizes FROM platform_billing_totals {total}"), "other"),
        of("the period of a total", "billing-total", &format!("UPDATE platform_billing_totals SET accounting_period = 202612 {total}"), "202612"),
        of("the T of a total", "billing", &format!("UPDATE platform_billing_totals SET total = total + 1 {total}"), "books"),
        of("the quantity of a total", "invoice", &format!("UPDATE platform_billing_totals SET quantity = '1' {total}"), &owner),
        of("the readings of a total", "invoice", &format!("UPDATE platform_billing_totals SET readings = readings + 1 {total}"), &owner),
        of("the prices of a total", "invoice", &format!("UPDATE platform_billing_totals SET prices = '[]' {total}"), &owner),
        of("the log sizes of a total", "invoice", &format!("UPDATE platform_billing_totals SET log_sizes = '{{\"202610\":\"1000\"}}' {total}"), &owner),
        of("the content of an invoice", "billing", &format!("UPDATE platform_billing_invoices SET content = replace(content, '\"v\":\"1\"', '\"v\":\"2\"') {one}"), "books"),
        of("the total of an invoice", "billing", &format!("UPDATE platform_billing_invoices SET total = total + 1 {one}"), "books"),
        of("the digest of an invoice", "billing", &format!("UPDATE platform_billing_invoices SET digest = randomblob(32) {one}"), "books"),
        of("a missing invoice", "invoice", &format!("DELETE FROM platform_billing_invoices {one}"), &owner),
        of("the amount of a line", "invoice-lines", &format!("UPDATE platform_billing_lines SET amount = amount + 1 {one} AND number = 1"), &invoice),
        of("a missing line", "invoice-lines", &format!("DELETE FROM platform_billing_lines {one} AND number = 1"), &invoice),
        of("the count of drafts", "invoice", "UPDATE platform_billing_drafts SET invoices = invoices + 1", "2026-10"),
        of("a number", "invoice-number", "UPDATE platform_billing_issues SET number = 99 WHERE number = 2", "TALLY 2"),
        of("a missing issue", "invoice-number", "DELETE FROM platform_billing_issues WHERE number = 1", "TALLY 1"),
        of("the last issue", "unbilled", "DELETE FROM platform_billing_issues WHERE number = (SELECT max(number) FROM platform_billing_issues)", "unbilled"),
        of("the entry of an issue", "invoice-entry", &format!("UPDATE platform_billing_issues SET entry_no = 99 {one}"), &invoice),
        of("the registry version of a close", "billing", "UPDATE platform_billing_closes SET registry_version = randomblob(32)", "2026-10"),
        of("the subject of a command", "ledger", "UPDATE platform_ledger_commands SET subject = 'x' WHERE entry_no = (SELECT max(entry_no) FROM platform_ledger_commands)", "is unreadable"),
        of("a missing command", "ledger", "DELETE FROM platform_ledger_commands WHERE entry_no = (SELECT max(entry_no) FROM platform_ledger_commands)", "is missing"),
    ]);
}

#[test]
fn a_damaged_catalog_is_named() {
    let template = Template::new();
    let file = |name, change: &str| {
        let change = change.to_owned();
        case(name, "lake", move |home: &Damaged| {
            let path = home.path("charges", 2);
            let name = path.rsplit('/').next().unwrap().to_owned();
            home.sql("lake", &format!("{change} WHERE path LIKE '%{name}'"));
            name
        })
    };
    let of_catalog = |name, check, sql: &'static str, named| row(name, check, "lake", sql, named);
    template.check(&[
        file("a missing file", "DELETE FROM ducklake_data_file"),
        file("a file that ended", "UPDATE ducklake_data_file SET end_snapshot = begin_snapshot + 1"),
        file("a number of rows", "UPDATE ducklake_data_file SET record_count = record_count + 1"),
        file("a number of bytes", "UPDATE ducklake_data_file SET file_size_bytes = file_size_bytes + 1"),
        file("a path", "UPDATE ducklake_data_file SET path = path || 'x'"),
        file("a file of another table", "UPDATE ducklake_data_file SET table_id = (SELECT min(table_id) FROM ducklake_table)"),
        file("a file twice", "INSERT INTO ducklake_data_file SELECT 100000, (SELECT min(table_id) FROM ducklake_table), begin_snapshot, end_snapshot, file_order, path, path_is_relative, file_format, record_count, file_size_bytes, footer_size, row_id_start, partition_id, encryption_key, mapping_id, partial_max FROM ducklake_data_file"),
        of_catalog("an added file", "lake", "INSERT INTO ducklake_data_file SELECT 100000, table_id, begin_snapshot, end_snapshot, file_order, 'added.parquet', path_is_relative, file_format, record_count, file_size_bytes, footer_size, row_id_start, partition_id, encryption_key, mapping_id, partial_max FROM ducklake_data_file LIMIT 1", "added.parquet"),
        case("a statistic by which readers skip a file", "lake", |home| {
            let path = home.path("charges", 2);
            let name = path.rsplit('/').next().unwrap().to_owned();
            let chosen = format!("SELECT data_file_id FROM ducklake_data_file WHERE path LIKE '%{name}'");
            home.sql("lake", &format!("UPDATE ducklake_file_column_stats SET max_value = 'org-1' WHERE max_value = 'org-2' AND data_file_id = ({chosen})"));
            name
        }),
        of_catalog("deleted rows", "lake", "INSERT INTO ducklake_delete_file SELECT 1, table_id, begin_snapshot, NULL, data_file_id, 'x', 1, 'parquet', 1, 1, 1, NULL, NULL FROM ducklake_data_file WHERE table_id = (SELECT table_id FROM ducklake_table WHERE table_name = 'charges') LIMIT 1", "charges"),
        of_catalog("a table's name", "lake", "UPDATE ducklake_table SET table_name = 'other' WHERE table_name = 'charges'", "charges"),
        of_catalog("the cursor", "cursor", "UPDATE shared_db_cursors SET batch_no = batch_no - 1", "lake"),
        of_catalog("a cursor beyond the log", "cursor", "UPDATE shared_db_cursors SET batch_no = 1000000", "lake"),
        of_catalog("a missing cut", "cursor", "DELETE FROM shared_db_cuts WHERE cut_no = 1", "lake"),
    ]);
}

#[test]
fn a_damaged_merge_is_named() {
    let template = Template::new();
    template.tally.done(&["compact"]);
    let merged = |home: &Damaged, table: &str| {
        let path = "SELECT value ->> 'path' FROM platform_ingest_merges, json_each(record -> 'tables')";
        home.ask("log", &format!("{path} WHERE value ->> 'table' = '{table}' ORDER BY merge_no DESC LIMIT 1"))
    };
    let zeros = "printf('%064d', 7)";
    let record = |name, set: &str| {
        let sql = format!("UPDATE platform_ingest_merges SET {set} WHERE merge_no = 1");
        case(name, "merge-record", move |home: &Damaged| {
            home.sql("log", &sql);
            "merge 1".to_owned()
        })
    };
    let resealed = |change: &str| format!("record = json_set(record, {change}), digest = sha256(json_set(record, {change}))");
    template.check(&[
        record("a record's text", "record = json_set(record, '$.writer_epoch', 9)"),
        record("a record that is none", "record = '{}'"),
        record("a record's digest", &format!("digest = {zeros}")),
        record("the batches of a merge", "last_batch = last_batch - 1"),
        record("the level of a merge", "level = 'day'"),
        record("the batch that a merge ends with", &resealed("'$.last_digest', printf('%064d', 7)")),
        record("the merge before", &format!("previous = {zeros}, {}", resealed("'$.previous', printf('%064d', 7)"))),
        case("a missing record", "lake", |home| {
            let path = merged(home, "events");
            home.sql("log", "DELETE FROM platform_ingest_merges");
            path
        }),
        case("the rows that a merge is recorded with", "merge-file", |home| {
            let path = merged(home, "charges");
            let change = "'$.tables[1].rows', 1";
            home.sql("log", &format!("UPDATE platform_ingest_merges SET {} WHERE merge_no = 1", resealed(change)));
            path
        }),
        case("the digest that a merge is recorded with", "merge-file", |home| {
            let path = merged(home, "totals");
            let change = "'$.tables[2].row_digest', printf('%064d', 7)";
            home.sql("log", &format!("UPDATE platform_ingest_merges SET {} WHERE merge_no = 1", resealed(change)));
            path
        }),
        case("a missing merged file", "file", |home| {
            let path = merged(home, "charges");
            fs::remove_file(home.file(&path)).unwrap();
            path
        }),
        case("a byte of a merged file", "file", |home| {
            let path = merged(home, "events");
            let mut bytes = fs::read(home.file(&path)).unwrap();
            let middle = bytes.len() / 3;
            bytes[middle] ^= 1;
            fs::write(home.file(&path), bytes).unwrap();
            path
        }),
        case("a published record", "lake-merge", |home| {
            let folder = home.file("merges");
            let path = fs::read_dir(folder).unwrap().next().unwrap().unwrap().path();
            fs::write(&path, "{}").unwrap();
            path.display().to_string()
        }),
        case("a batch's own file beside the merged one", "lake", |home| {
            let path = home.path("charges", 2);
            let name = path.rsplit('/').next().unwrap();
            home.sql("lake", &format!("UPDATE ducklake_data_file SET end_snapshot = NULL WHERE path LIKE '%{name}'"));
            path
        }),
        case("a merged file that ended", "lake", |home| {
            let merged = merged(home, "charges");
            let name = merged.rsplit('/').next().unwrap();
            home.sql("lake", &format!("UPDATE ducklake_data_file SET end_snapshot = begin_snapshot WHERE path LIKE '%{name}'"));
            home.path("charges", 2)
        }),
    ]);
    let Some(python) = python() else { return };
    let rewritten = |name, check, table: &'static str, sql: &'static str| {
        let python = python.clone();
        case(name, check, move |home: &Damaged| {
            let path = merged(home, table);
            script(&python, REWRITE, &[home.file(&path).to_str().unwrap(), sql]);
            path
        })
    };
    let changed: &'static str = "UPDATE rows SET quantity = quantity + 1 WHERE rowid = 0";
    let removed: &'static str = "DELETE FROM rows WHERE rowid = 0";
    template.check(&[
        // DuckDB cannot write the fixed-size binaries of charges: the file is refused for its columns.
        rewritten("a changed charge of a merged file", "file", "charges", changed),
        rewritten("a changed total of a merged file", "file-rows", "totals", changed),
        rewritten("a removed total of a merged file", "file-rows", "totals", removed),
        rewritten("a changed total by the digest of the whole", "merge-file", "totals", changed),
        rewritten(
            "an added total",
            "merge-file",
            "totals",
            "INSERT INTO rows SELECT * REPLACE (1000000 AS last_sequence) FROM rows WHERE rowid = 0",
        ),
    ]);
}

#[test]
fn a_damaged_hour_bucket_is_named() {
    let template = Template::new();
    let bucket = |name, set: &str, named| {
        let sql = format!(
            "UPDATE platform_catalog_hours SET {set} WHERE organization = 'org-1' AND meter = 'requests' AND hour = 1791194400000000"
        );
        case(name, "usage-hours", move |home| {
            home.sql("usage", &sql);
            String::from(named)
        })
    };
    let of_usage = |name, check, sql: &'static str, named| row(name, check, "usage", sql, named);
    template.check(&[
        bucket("a quantity", "quantity = quantity || '0'", "org-1"),
        bucket("a quantity that is none", "quantity = 'one'", "org-1"),
        bucket("an amount", "amount = '1'", "org-1"),
        bucket("a number of readings", "readings = readings + 1", "org-1"),
        bucket("an hour", "hour = hour + 3600000000", "org-1"),
        bucket("a meter", "meter = 'other'", "other"),
        bucket("a unit", "unit = 'other'", "other"),
        bucket("a currency", "currency = 'EUR'", "EUR"),
        bucket("a project", "project = 'other'", "other"),
        bucket("an organization", "organization = 'other'", "other"),
        bucket("an organization that is none", "organization = 'no one'", "no one"),
        of_usage(
            "a missing bucket",
            "usage-hours",
            "DELETE FROM platform_catalog_hours WHERE organization = 'org-1' AND meter = 'requests' AND hour = 1791194400000000",
            "org-1",
        ),
        of_usage(
            "an added bucket",
            "usage-hours",
            "INSERT INTO platform_catalog_hours VALUES ('other', '', 'requests', 'request', 'USD', 0, '0', '0', 1)",
            "other",
        ),
        of_usage("the cursor", "cursor", "UPDATE shared_db_cursors SET batch_no = batch_no - 1", "usage"),
        of_usage("a cursor beyond the log", "cursor", "UPDATE shared_db_cursors SET batch_no = 1000000", "usage"),
        of_usage("a missing cut", "cursor", "DELETE FROM shared_db_cuts WHERE cut_no = 1", "usage"),
    ]);
}

#[test]
fn damaged_evidence_is_named() {
    let template = Template::new();
    let of = |name, check, sql: &'static str, named| row(name, check, "evidence", sql, named);
    let month = "organization = 'org-1' AND month = 202610";
    let log = |name, change: &str| {
        let sql = format!("{change} WHERE {month}");
        case(name, "evidence", move |home| {
            home.sql("evidence", &sql);
            "org-1".to_owned()
        })
    };
    template.check(&[
        of("an entry", "evidence", "UPDATE platform_evidence_checkpoints SET entry = replace(entry, '\"v\":\"2\"', '\"v\":\"3\"') WHERE tree_size = 2", "checkpoint 2"),
        of("an entry that reads", "evidence", "UPDATE platform_evidence_checkpoints SET entry = replace(entry, '\"organizations\":\"3\"', '\"organizations\":\"4\"') WHERE tree_size = 2", "checkpoint 2"),
        of("a root", "evidence", "UPDATE platform_evidence_checkpoints SET root = randomblob(32) WHERE tree_size = 2", "checkpoint 2"),
        of("a note's text", "evidence", "UPDATE platform_evidence_checkpoints SET note = replace(note, char(10) || '2' || char(10), char(10) || '3' || char(10)) WHERE tree_size = 2", "checkpoint 2"),
        of("a note of another checkpoint", "evidence", "UPDATE platform_evidence_checkpoints SET note = (SELECT note FROM platform_evidence_checkpoints WHERE tree_size = 1) WHERE tree_size = 2", "checkpoint 2"),
        of("the batch of a checkpoint", "evidence", "UPDATE platform_evidence_checkpoints SET batch_no = batch_no + 1 WHERE tree_size = 2", "checkpoint 2"),
        of("the time of a checkpoint", "evidence", "UPDATE platform_evidence_checkpoints SET recorded_at = recorded_at + 1 WHERE tree_size = 2", "checkpoint 2"),
        of("a missing checkpoint", "evidence", "DELETE FROM platform_evidence_checkpoints WHERE tree_size = 1", "checkpoint 1"),
        of("the last checkpoint", "evidence", "DELETE FROM platform_evidence_checkpoints WHERE tree_size = (SELECT max(tree_size) FROM platform_evidence_checkpoints)", "more nodes"),
        of("a node", "evidence", "UPDATE platform_evidence_nodes SET hash = randomblob(32) WHERE level = 1 AND node_no = 0", "node 0 of level 1"),
        of("a missing node", "evidence", "DELETE FROM platform_evidence_nodes WHERE level = 0 AND node_no = 1", "node 1 of level 0"),
        of("an added node", "evidence", "INSERT INTO platform_evidence_nodes VALUES (5, 0, randomblob(32))", "level 5"),
        of("a salted organization", "evidence", "UPDATE platform_evidence_organizations SET salted = randomblob(32) WHERE organization = 'org-1'", "org-1"),
        of("a leaf hash", "evidence", "UPDATE platform_evidence_organizations SET leaf_hash = randomblob(32) WHERE organization = 'org-1'", "org-1"),
        of("a missing organization", "evidence", "DELETE FROM platform_evidence_organizations WHERE organization = 'org-1'", "org-1"),
        of("an added organization", "evidence", "INSERT INTO platform_evidence_organizations VALUES ('other', randomblob(32), randomblob(32))", "other"),
        log("the size of a log", "UPDATE platform_evidence_logs SET size = size + 1"),
        log("the frontier of a log", "UPDATE platform_evidence_logs SET frontier = CAST(substr(frontier, 1, 8) || randomblob(length(frontier) - 8) AS blob)"),
        log("a log of another month", "UPDATE platform_evidence_logs SET month = 202609"),
        log("a missing log", "DELETE FROM platform_evidence_logs"),
        of("a sum", "evidence", "UPDATE platform_evidence_sums SET amount = amount + 1 WHERE organization = 'org-1'", "org-1"),
        of("a missing sum", "evidence", "DELETE FROM platform_evidence_sums WHERE organization = 'org-1'", "org-1"),
        of("an added sum", "evidence", "INSERT INTO platform_evidence_sums VALUES ('org-1', 'EUR', 1)", "org-1"),
        of("the cursor", "cursor", "UPDATE shared_db_cursors SET batch_no = batch_no - 1", "evidence"),
        of("a cursor beyond the log", "cursor", "UPDATE shared_db_cursors SET batch_no = 1000000", "evidence"),
        of("a missing cut", "cursor", "DELETE FROM shared_db_cuts WHERE cut_no = 1", "evidence"),
    ]);
}

#[test]
fn a_book_that_was_rewritten_in_itself_is_named_by_the_signed_checkpoint() {
    let template = Template::new();
    let liar = Template::with(&[101, 200, 300]).copy();
    template.check(&[case("the book of another home", "evidence", |home| {
        for ending in ["", "-wal"] {
            fs::copy(liar.database("books") + ending, home.database("books") + ending).unwrap();
        }
        "ledger".to_owned()
    })]);
}

#[test]
fn a_damaged_registry_is_named() {
    let template = Template::new();
    let address = template.copy().ask("books", "SELECT lower(hex(address)) FROM platform_registry_versions");
    let of = |name, check, sql: &'static str, named| row(name, check, "books", sql, named);
    template.check(&[
        of(
            "a price",
            "registry",
            "UPDATE platform_registry_documents SET content = replace(content, '0.0001', '0.0002') WHERE kind = 'price_book'",
            &address,
        ),
        of(
            "a document that is none",
            "registry",
            "UPDATE platform_registry_documents SET content = '{}' WHERE kind = 'price_book'",
            &address,
        ),
        of("a missing document", "registry", "DELETE FROM platform_registry_documents WHERE kind = 'price_book'", &address),
        of(
            "the digest of a document",
            "registry",
            "UPDATE platform_registry_documents SET digest = randomblob(32) WHERE kind = 'price_book'",
            &address,
        ),
        of(
            "the documents of a version",
            "registry",
            "UPDATE platform_registry_versions SET documents = json_remove(documents, '$[0]')",
            &address,
        ),
        of("a missing version", "registry", "DELETE FROM platform_registry_versions", &address),
        of(
            "the payload of a control record",
            "registry-controls",
            "UPDATE platform_registry_controls SET payload = replace(payload, '1', '2')",
            "control record 1",
        ),
        of(
            "the payload of a control record that is none",
            "registry-controls",
            "UPDATE platform_registry_controls SET payload = ''",
            "control record 1",
        ),
        of(
            "the digest of a control record",
            "registry-controls",
            "UPDATE platform_registry_controls SET digest = randomblob(32)",
            "control record 1",
        ),
        of(
            "the version of a control record",
            "registry-controls",
            "UPDATE platform_registry_controls SET version = randomblob(32)",
            "control record 1",
        ),
        of(
            "the number of a control record",
            "registry-controls",
            "UPDATE platform_registry_controls SET control_no = 2",
            "control record 2",
        ),
        of("a missing control record", "registry-controls", "DELETE FROM platform_registry_controls", "control record 1"),
    ]);
}
