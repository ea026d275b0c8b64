//! What follows from the batch log, damaged row by row: catalog, merges, buckets, evidence.

use super::*;

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
