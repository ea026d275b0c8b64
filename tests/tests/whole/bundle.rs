//! Bundles of real invoices: programs that share nothing with the server verify them, also once their batches were merged, and find what an
//! administrator changed below the server; the second engine's opinion of a whole month ends that it is provisional.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

use crate::tally::{Tally, err, out, python, request, root};

/// The second engine's program.
pub fn verifier() -> Option<PathBuf> {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
    let program = std::env::var_os("TALLY_VERIFY_BIN").map_or_else(|| target.join("debug/tally-verify"), PathBuf::from);
    if program.exists() {
        return Some(program);
    }
    assert!(std::env::var_os("TALLY_REQUIRE_TOOLS").is_none(), "{} is not built", program.display());
    eprintln!("SKIPPED: no tally-verify; run `cargo build --package platform-verify`");
    None
}

/// What stock DuckDB answers to the SQL that came with the bundle: its rows, or its error.
pub fn duckdb(python: &Path, folder: &Path) -> Vec<String> {
    // A slow machine would see a progress bar among the rows.
    let program = "import duckdb\ndb = duckdb.connect()\ndb.execute('SET enable_progress_bar = false')\n\
        for row in db.execute(open('verify.sql', encoding='utf-8').read()).fetchall(): print(*row)";
    let output = Command::new(python).args(["-c", program]).current_dir(folder).output().unwrap();
    if output.status.success() { out(&output).lines().map(str::to_owned).collect() } else { vec![err(&output)] }
}

pub fn verify(program: &Path, folder: &Path, key: &str) -> Output {
    Command::new(program).arg(folder).args(["--log-key", key]).output().unwrap()
}

/// What the second engine finds wrong.
pub fn differences(program: &Path, folder: &Path, key: &str) -> Vec<Value> {
    let output = Command::new(program).arg(folder).args(["--log-key", key, "--format", "json"]).output().unwrap();
    let mut verdict: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}{}", out(&output), err(&output)));
    serde_json::from_value(verdict["differences"].take()).unwrap()
}

/// A Parquet file with what a query makes of its rows `r`.
pub fn rewrite(python: &Path, file: &Path, query: &str) {
    let program = "import duckdb, sys\ndb = duckdb.connect()\ndb.execute(f\"CREATE TABLE r AS FROM '{sys.argv[1]}'\")\n\
        db.execute(f\"COPY ({sys.argv[2]}) TO '{sys.argv[1]}' (FORMAT parquet, COMPRESSION zstd)\")";
    let output = Command::new(python).args(["-c", program]).arg(file).arg(query).output().unwrap();
    assert!(output.status.success(), "{}", err(&output));
}

/// All files below a folder, by path.
pub fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(inner) = folders.pop() {
        for entry in std::fs::read_dir(inner).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.insert(path.strip_prefix(folder).unwrap().to_owned(), std::fs::read(&path).unwrap());
            }
        }
    }
    found
}

/// Organizations that share shards and batches, two months of usage closed, September usage after its close; decimals as numbers and as texts.
fn closed_home() -> Tally {
    let tally = Tally::new().with("TALLY_COMPACT_INTERVAL_S", "3600");
    let server = tally.serve();
    for (run, time) in [(1, "2026-09-20T10:00:00Z"), (2, "2026-10-05T10:00:00Z")] {
        // Each in a batch of its own, so that there is something to merge.
        for at in 0..8_u64 {
            let events: Vec<String> = (0..50)
                .map(|nth| request(&format!("{run}-{at}-{nth}"), &format!("org-{}", nth % 40), time, 1_000 + nth * 7, 10 + nth))
                .collect();
            assert_eq!(server.client().events(&events).unwrap().status, 202);
        }
        tally.done(&["drain"]);
    }
    tally.done(&["close", "2026-09"]);
    let late: Vec<String> =
        (0..80).map(|nth| request(&format!("3-{nth}"), &format!("org-{}", nth % 40), "2026-09-21T10:00:00Z", 500 + nth, 7)).collect();
    assert_eq!(server.client().events(&late).unwrap().status, 202);
    tally.done(&["close", "2026-10"]);
    tally.done(&["drain"]);
    server.stop();
    tally
}

/// The number of an organization's invoice of a month.
pub fn number(tally: &Tally, organization: &str, month: u32) -> String {
    tally.value(&format!("SELECT number AS value FROM billing.invoices WHERE organization = '{organization}' AND period = {month}"))
}

#[test]
fn bundles_of_real_invoices_are_verified_by_programs_that_are_not_ours_before_and_after_merging() {
    let (Some(python), Some(program)) = (python(), verifier()) else { return };
    let tally = closed_home();
    let key = tally.done(&["evidence", "key"]).trim().to_owned();
    let mut first = BTreeMap::new();
    for (organization, month) in [("org-3", 202_609), ("org-3", 202_610), ("org-17", 202_610)] {
        let folder = tally.scratch().join(format!("{organization}-{month}"));
        tally.done(&["evidence", "bundle", "--invoice", &number(&tally, organization, month), "--out", folder.to_str().unwrap()]);
        assert_eq!(duckdb(&python, &folder), Vec::<String>::new(), "{organization} {month}");
        let verdict = verify(&program, &folder, &key);
        assert!(verdict.status.success(), "{organization} {month}: {}{}", out(&verdict), err(&verdict));
        let found = files(&folder);
        let indexes = found.keys().filter(|path| path.starts_with("registry")).count() - 1;
        assert!(found.contains_key(Path::new("registry/documents.jsonl")) && found.len() == 15 + indexes, "{:?}", found.keys());
        first.insert((organization, month), found);
    }
    let again = tally.run(&[
        "evidence",
        "bundle",
        "--invoice",
        &number(&tally, "org-3", 202_609),
        "--out",
        tally.scratch().join("org-3-202609").to_str().unwrap(),
    ]);
    assert_eq!(again.status.code(), Some(1), "a folder that holds something is refused: {}", err(&again));

    let merged = tally.done(&["compact"]);
    assert_ne!(
        tally.value(
            "SELECT coalesce(sum(files), 0) AS value FROM sys.files WHERE table_name = 'charges' AND level IN ('part', 'hour', 'day')"
        ),
        "0",
        "{merged}"
    );
    for ((organization, month), before) in first {
        let folder = tally.scratch().join(format!("{organization}-{month}-merged"));
        tally.done(&["evidence", "bundle", "--invoice", &number(&tally, organization, month), "--out", folder.to_str().unwrap()]);
        assert_eq!(files(&folder), before, "the bundle of {organization} {month} does not depend on how files lie");
    }
}

#[test]
fn a_bundle_holds_nothing_of_another_organization() {
    let Some(python) = python() else { return };
    let tally = closed_home();
    let folder = tally.scratch().join("bundle");
    tally.done(&["evidence", "bundle", "--invoice", &number(&tally, "org-3", 202_610), "--out", folder.to_str().unwrap()]);
    // What is encoded or compressed is decoded: each value, and what Parquet says about its columns.
    let decode = "import duckdb, glob\nfor file in glob.glob('data/*.parquet'):\n  \
        for sql in (f\"FROM '{file}'\", f\"FROM parquet_metadata('{file}')\", f\"FROM parquet_kv_metadata('{file}')\"):\n    \
        print(duckdb.connect().execute(sql).fetchall())";
    let decoded = Command::new(&python).args(["-c", decode]).current_dir(&folder).output().unwrap();
    assert!(decoded.status.success(), "{}", err(&decoded));
    let mut texts: Vec<(String, String)> = files(&folder)
        .into_iter()
        .map(|(path, bytes)| (path.display().to_string(), String::from_utf8_lossy(&bytes).into_owned()))
        .collect();
    texts.push(("decoded".to_owned(), out(&decoded)));
    let mut named = BTreeSet::new();
    for (path, text) in &texts {
        for (at, _) in text.match_indices("org-") {
            let digits: String = text.get(at + 4..).unwrap_or("").chars().take_while(char::is_ascii_digit).collect();
            if !digits.is_empty() {
                assert_eq!(digits, "3", "{path} names org-{digits}");
                named.insert(path.clone());
            }
        }
    }
    assert!(named.contains("invoice.json"), "the search finds the organization itself: {named:?}");
    assert!(texts.iter().any(|(path, text)| path == "decoded" && text.contains("gateway")), "what is decoded is what was sent");
}

#[test]
fn a_customer_fetches_the_bundle_of_its_own_invoice_and_of_no_other() {
    let Some(python) = python() else { return };
    let tally = closed_home();
    tally.done(&["organization", "add", "org-3"]);
    let server = tally.serve();
    let key = tally.key(&["dev", "--role", "customer", "--organization", "org-3"]);
    let (ours, theirs) = (number(&tally, "org-3", 202_610), number(&tally, "org-17", 202_610));
    let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
    let fetch = |invoice: &str| {
        let url = format!("http://{}/v1/evidence/bundles/{invoice}", server.address());
        let mut answer = agent.get(url).header("Authorization", format!("Bearer {key}")).call().unwrap();
        let media = answer.headers().get("content-type").unwrap().to_str().unwrap().to_owned();
        (answer.status().as_u16(), media, answer.body_mut().read_to_vec().unwrap())
    };
    let (status, media, archive) = fetch(&ours);
    assert_eq!((status, media.as_str()), (200, "application/x-tar"));
    let file = tally.scratch().join("bundle.tar");
    std::fs::write(&file, archive).unwrap();
    let extract = Command::new(&python).args(["-m", "tarfile", "-e"]).arg(&file).arg(tally.scratch()).status().unwrap();
    assert!(extract.success());
    let folder = tally.scratch().join(&ours);
    assert_eq!(duckdb(&python, &folder), Vec::<String>::new());
    let made = tally.scratch().join("made");
    tally.done(&["evidence", "bundle", "--invoice", &ours, "--out", made.to_str().unwrap()]);
    assert_eq!(files(&folder), files(&made), "it is the one that the command makes");
    let (status, media, _) = fetch(&theirs);
    assert_eq!((status, media.as_str()), (404, "application/problem+json"));
}

#[test]
fn what_an_administrator_changes_below_the_server_is_found_by_check_and_by_the_bundle() {
    let (Some(python), Some(program)) = (python(), verifier()) else { return };
    let tally = closed_home();
    let key = tally.done(&["evidence", "key"]).trim().to_owned();
    let invoice = number(&tally, "org-3", 202_610);
    let honest = tally.scratch().join("honest");
    tally.done(&["evidence", "bundle", "--invoice", &invoice, "--out", honest.to_str().unwrap()]);

    // The customer's copy with one event more, as VERIFY.md invites to try.
    let changed = tally.scratch().join("changed");
    assert!(Command::new("cp").arg("-r").arg(&honest).arg(&changed).status().unwrap().success());
    let add = "import duckdb\ndb = duckdb.connect()\nfor table in ('events', 'readings'):\n  \
        db.execute(f\"CREATE TABLE t AS FROM 'data/{table}.parquet'\")\n  \
        db.execute(\"INSERT INTO t FROM t LIMIT 1\")\n  \
        db.execute(f\"COPY t TO 'data/{table}.parquet'\")\n  db.execute('DROP TABLE t')";
    let added = Command::new(&python).args(["-c", add]).current_dir(&changed).output().unwrap();
    assert!(added.status.success(), "{}", err(&added));
    assert!(!duckdb(&python, &changed).is_empty());
    let verdict = verify(&program, &changed, &key);
    assert_eq!(verdict.status.code(), Some(1), "{}{}", out(&verdict), err(&verdict));

    // Yesterday's usage, changed in the lake: one quantity of one charge, everything else of the file as it was.
    let alter = "import duckdb, glob, sys
for file in sorted(glob.glob(sys.argv[1] + '/lake/charges/*/*.parquet')):
    db = duckdb.connect()
    db.execute(f\"CREATE TABLE t AS FROM '{file}'\")
    row = db.execute(\"SELECT min(rowid) FROM t WHERE organization = 'org-3' AND fate = 'charged'\").fetchone()[0]
    if row is None: continue
    db.execute('UPDATE t SET quantity = quantity + 1 WHERE rowid = ?', [row])
    db.execute(f\"COPY t TO '{file}'\")
    print(file)
    break";
    let altered = Command::new(&python).args(["-c", alter]).arg(tally.home()).output().unwrap();
    assert!(altered.status.success(), "{}", err(&altered));
    let file = PathBuf::from(out(&altered).trim());
    let found = tally.check().unwrap_err();
    assert!(found.contains(&*file.file_stem().unwrap().to_string_lossy()), "{} is named: {found}", file.display());
    let out_of_it = tally.scratch().join("out-of-it");
    let refused = tally.run(&["evidence", "bundle", "--invoice", &invoice, "--out", out_of_it.to_str().unwrap()]);
    assert_ne!(refused.status.code(), Some(0), "a bundle of changed usage is not signed: {}", out(&refused));
}

#[test]
fn the_second_engine_s_opinion_of_a_month_ends_that_it_is_provisional() {
    let Some(program) = verifier() else { return };
    let tally = closed_home();
    assert!(tally.done(&["period", "list"]).contains("provisional"));
    tally.done(&["compact"]);
    for (month, late) in [("2026-09", false), ("2026-10", true)] {
        let folder = tally.scratch().join(month);
        tally.done(&["evidence", "export", "--period", month, "--out", folder.to_str().unwrap()]);
        let opinion = Command::new(&program).arg("--home-export").arg(&folder).arg(month).output().unwrap();
        assert!(opinion.status.success(), "{month}: {}{}", out(&opinion), err(&opinion));
        let verdict: Value = serde_json::from_slice(&opinion.stdout).unwrap();
        assert_eq!((&verdict["agrees"], verdict["readings"] != "0"), (&Value::Bool(true), true), "{verdict}");
        let wanted = tally.value(&format!(
            "SELECT count(*) AS value FROM usage.charges WHERE fate <> 'quarantined' AND accounting_period = {}",
            month.replace('-', "")
        ));
        let readings: u64 = verdict["readings"].as_str().unwrap().parse().unwrap();
        assert!(if late { readings > wanted.parse().unwrap() } else { readings == wanted.parse::<u64>().unwrap() }, "{verdict}");
        let file = tally.scratch().join(format!("{month}.json"));
        std::fs::write(&file, &opinion.stdout).unwrap();
        tally.done(&["period", "opinion", month, file.to_str().unwrap()]);
    }
    let periods = tally.done(&["period", "list"]);
    assert!(!periods.contains("provisional") && periods.contains("the second engine agrees"), "{periods}");

    // An export in which one amount was changed is disagreed with, and names the row.
    let folder = tally.scratch().join("2026-09");
    let export: Value = serde_json::from_slice(&std::fs::read(folder.join("export.json")).unwrap()).unwrap();
    assert!(export["revenue"].as_array().is_some_and(|sums| !sums.is_empty()), "{export}");
    let text = std::fs::read_to_string(folder.join("export.json")).unwrap();
    let revenue = export["revenue"][0]["amount"].as_str().unwrap();
    std::fs::write(folder.join("export.json"), text.replace(revenue, &format!("1{revenue}"))).unwrap();
    let opinion = Command::new(&program).arg("--home-export").arg(&folder).arg("2026-09").output().unwrap();
    assert_eq!(opinion.status.code(), Some(1), "{}{}", out(&opinion), err(&opinion));
    let verdict: Value = serde_json::from_slice(&opinion.stdout).unwrap();
    assert_eq!(verdict["agrees"], false);
    assert!(verdict["differences"].as_array().is_some_and(|found| !found.is_empty()), "{verdict}");
}
