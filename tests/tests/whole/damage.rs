//! A check that is always green proves nothing: for each input of `tally check` one row is damaged, triggers dropped, and check names it.
//! It knows the tables as an attacker with the file would, and nothing of the crates.

#[path = "damage/books.rs"]
mod books;
#[path = "damage/derived.rs"]
mod derived;

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
