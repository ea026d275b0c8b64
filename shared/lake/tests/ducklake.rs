//! The catalog on both engines: what we read back, and what stock DuckDB (PyPI) reads, follows, time-travels and compacts.
//! DuckDB's part is skipped loudly where `.tools/py` lacks its packages, and fails then when `TALLY_REQUIRE_TOOLS=1`.

#[cfg(test)]
mod ducklake {
    use std::path::{Path, PathBuf};
    use std::process::{Child, Command, Stdio};
    use std::sync::Arc;
    use std::time::{Duration, Instant as Clock};

    use arrow::array::{
        ArrayRef, BinaryArray, BooleanArray, Decimal128Array, FixedSizeBinaryArray, Int32Array, Int64Array, RecordBatch, StringArray,
        TimestampMicrosecondArray,
    };
    use arrow::datatypes::{DataType, Schema, SchemaRef, TimeUnit};
    use serde_json::json;
    use shared_db::{Database, DbError};
    use shared_lake::ducklake::replace::{expire, paths, replace, scheduled, shown, unschedule, waiting};
    use shared_lake::ducklake::{append, create_tables, files, latest, snapshots};
    use shared_lake::{
        Catalog, Contents, Expired, FileMeta, LakeCommit, LakeError, RealFiles, Replacement, SnapshotId, TableReplacement, TableSpec,
        attach_statements, describe_file, field, write_file,
    };
    use shared_testkit::{Postgres, Schema as PostgresSchema};
    use shared_types::Instant;

    const OWNERS: [&str; 1] = ["shared-lake"];
    const ROWS: i64 = 100;
    const HOUR: i64 = 3_600_000_000;
    /// 2026-10-01T00:00:00Z.
    const START: i64 = 1_790_812_800_000_000;
    const SCALE: u32 = 9;

    fn readings_schema() -> SchemaRef {
        Arc::new(Schema::new(vec![
            field("identity", DataType::FixedSizeBinary(16), false, 1),
            field("shard", DataType::Int32, false, 2),
            field("sequence", DataType::Int64, false, 3),
            field("organization", DataType::Utf8, false, 4),
            field("quantity", DataType::Decimal128(38, 9), false, 5),
            field("amount", DataType::Decimal128(19, 9), true, 6),
            field("price", DataType::Decimal128(18, 9), false, 7),
            field("start_at", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), false, 8),
            field("raw", DataType::Binary, true, 9),
            field("late", DataType::Boolean, true, 12),
        ]))
    }

    fn totals_schema() -> SchemaRef {
        Arc::new(Schema::new(vec![field("rows", DataType::Int64, false, 1), field("quantity", DataType::Decimal128(38, 9), false, 2)]))
    }

    fn tables() -> [TableSpec; 2] {
        [TableSpec { name: "readings".into(), schema: readings_schema() }, TableSpec { name: "totals".into(), schema: totals_schema() }]
    }

    fn quantity(n: i64) -> i128 {
        (i128::from(n) - 150) * 1_000_000_000_000_000_000_001
    }

    fn amount(n: i64) -> Option<i128> {
        (n % 10 > 0).then(|| i128::from(n) * 1_000_000_007)
    }

    /// Reading number n: start, quantity and amount are functions of n, so sums need no database.
    fn readings(numbers: std::ops::Range<i64>) -> RecordBatch {
        let all = || numbers.clone();
        let decimal = |values: Decimal128Array, precision| Arc::new(values.with_precision_and_scale(precision, 9).unwrap());
        let columns: Vec<ArrayRef> = vec![
            Arc::new(FixedSizeBinaryArray::try_from_iter(all().map(|n| u128::from(n as u64).to_be_bytes())).unwrap()),
            Arc::new(Int32Array::from_iter_values(all().map(|n| (n % 64) as i32))),
            Arc::new(Int64Array::from_iter_values(all())),
            Arc::new(StringArray::from_iter_values(all().map(|n| format!("org-{:03}", n % 7)))),
            decimal(Decimal128Array::from_iter_values(all().map(quantity)), 38),
            decimal(all().map(amount).collect(), 19),
            decimal(Decimal128Array::from_iter_values(all().map(i128::from)), 18),
            Arc::new(TimestampMicrosecondArray::from_iter_values(all().map(start)).with_timezone("UTC")),
            Arc::new(all().map(|n| (n % 5 == 0).then(|| n.to_be_bytes())).collect::<BinaryArray>()),
            Arc::new(all().map(|n| (n % 2 == 0).then_some(n % 4 == 0)).collect::<BooleanArray>()),
        ];
        RecordBatch::try_new(readings_schema(), columns).unwrap()
    }

    /// Batch k covers hour k.
    fn start(n: i64) -> i64 {
        START + n / ROWS * HOUR + n % ROWS * 1_000_123
    }

    fn committed_at(number: i64) -> Instant {
        Instant::from_micros(START + number * 2_000_000 + 5).unwrap()
    }

    fn decimal_text(value: i128) -> String {
        let (whole, fraction) = (value.unsigned_abs() / 10_u128.pow(SCALE), value.unsigned_abs() % 10_u128.pow(SCALE));
        format!("{}{whole}.{fraction:09}", if value < 0 { "-" } else { "" })
    }

    /// Count, sum of quantities and sum of amounts of the first n readings.
    fn sums(n: i64) -> serde_json::Value {
        let quantities: i128 = (0..n).map(quantity).sum();
        let amounts: i128 = (0..n).filter_map(amount).sum();
        json!([n, decimal_text(quantities), decimal_text(amounts)])
    }

    /// A lake in the making: database, folder and how many commits it has.
    struct Lake {
        db: Database,
        folder: PathBuf,
        commits: i64,
    }

    impl Lake {
        async fn create(db: Database, folder: PathBuf) -> Self {
            let mut tx = db.begin().await.unwrap();
            create_tables(&mut tx, &folder, &tables(), committed_at(0)).await.unwrap();
            tx.commit().await.unwrap();
            Self { db, folder, commits: 0 }
        }

        fn write(&self, path: &str, schema: &SchemaRef, batch: RecordBatch, statistics: &[&str]) -> (String, FileMeta) {
            let table = path.split('/').next().unwrap().to_owned();
            let contents = Contents { schema, batches: &[batch], metadata: &[], statistics };
            (table, write_file(&RealFiles, &self.folder, path, &contents).unwrap())
        }

        /// Batch k: two files of readings and one of totals in one snapshot.
        async fn commit(&mut self) -> SnapshotId {
            let k = self.commits;
            let (from, middle, to) = (k * ROWS, k * ROWS + ROWS / 4, (k + 1) * ROWS);
            let pruning = ["shard", "organization", "start_at", "quantity"];
            let total: i128 = (from..to).map(quantity).sum();
            let totals: Vec<ArrayRef> = vec![
                Arc::new(Int64Array::from(vec![ROWS])),
                Arc::new(Decimal128Array::from(vec![total]).with_precision_and_scale(38, 9).unwrap()),
            ];
            let written = vec![
                self.write(&format!("readings/1/{k}-a.parquet"), &readings_schema(), readings(from..middle), &pruning),
                self.write(&format!("readings/1/{k}-b.parquet"), &readings_schema(), readings(middle..to), &pruning),
                self.write(&format!("totals/1/{k}.parquet"), &totals_schema(), RecordBatch::try_new(totals_schema(), totals).unwrap(), &[]),
                self.write(&format!("totals/1/{k}-none.parquet"), &totals_schema(), RecordBatch::new_empty(totals_schema()), &[]),
            ];
            let commit = LakeCommit {
                author: "lake's fold".into(),
                message: format!("batches {}", k + 1),
                extra_info: Some(format!("{{\"batch\": {}}}", k + 1)),
                at: committed_at(k + 1),
                files: written,
            };
            let mut tx = self.db.begin().await.unwrap();
            let snapshot = append(&mut tx, &commit).await.unwrap();
            tx.commit().await.unwrap();
            self.commits += 1;
            snapshot
        }

        /// What DuckDB must answer. Snapshot 0 is empty, 1 has the tables, 1 + k has k batches.
        fn expected(&self) -> serde_json::Value {
            let n = self.commits * ROWS;
            let then = |k: i64| json!({"at": committed_at(k).to_string(), "readings": sums(k * ROWS)});
            let snapshots: serde_json::Map<_, _> = [1, 2, self.commits - 1].into_iter().map(|k| ((k + 1).to_string(), then(k))).collect();
            let hour = |k: i64| Instant::from_micros(START + k * HOUR).unwrap();
            json!({
                "readings": sums(n),
                "totals": [n, decimal_text((0..n).map(quantity).sum())],
                "snapshots": snapshots,
                "files": self.commits * 2,
                "types": [
                    ["identity", "BLOB"], ["shard", "INTEGER"], ["sequence", "BIGINT"], ["organization", "VARCHAR"],
                    ["quantity", "DECIMAL(38,9)"], ["amount", "DECIMAL(19,9)"], ["price", "DECIMAL(18,9)"],
                    ["start_at", "TIMESTAMP WITH TIME ZONE"], ["raw", "BLOB"], ["late", "BOOLEAN"],
                ],
                "first_row": [
                    "\\x00".repeat(16), "0", "0", "org-000", decimal_text(quantity(0)), null, "0.000000000", "2026-10-01 00:00:00+00",
                    "\\x00".repeat(8), "true",
                ],
                "nulls_and_bounds": [n / 5, n / 2, "org-000", duckdb_time(start(n - 1))],
                "last_commit": ["lake's fold", format!("batches {}", self.commits), format!("{{\"batch\": {}}}", self.commits)],
                // rows, files
                "pruned": {
                    (format!("start_at >= TIMESTAMPTZ '{}' AND start_at < TIMESTAMPTZ '{}'", hour(3), hour(5))): [2 * ROWS, 4],
                    (format!("start_at < TIMESTAMPTZ '{}'", hour(1))): [ROWS, 2],
                    (format!("quantity < {}", decimal_text(quantity(10)))): [10, 1],
                    "organization = 'org-9'": [0, 0],
                },
            })
        }
    }

    fn duckdb_time(micros: i64) -> String {
        let text = Instant::from_micros(micros).unwrap().to_string().replace('T', " ");
        format!("{}+00", text.trim_end_matches('Z').trim_end_matches('0'))
    }

    /// The Python of `.tools/py` with DuckDB in it; `None`, loudly, where it is missing.
    fn python() -> Option<PathBuf> {
        let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.tools/py/bin/python");
        let probe = Command::new(&python).arg(script()).arg("probe").output();
        if probe.as_ref().is_ok_and(|probe| probe.status.success()) {
            return Some(python);
        }
        let message = "no DuckDB 1.5.5: python3 -m venv .tools/py && .tools/py/bin/pip install -r tests/foreign/requirements.txt";
        assert!(std::env::var_os("TALLY_REQUIRE_TOOLS").is_none_or(|value| value != "1"), "{message}: {probe:?}");
        eprintln!("\n*** SKIPPED: {message} ***\n");
        None
    }

    fn script() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/foreign/ducklake.py")
    }

    fn duckdb(python: &Path, arguments: &[&Path]) -> String {
        let output = Command::new(python).arg(script()).args(arguments).output().unwrap();
        let (text, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{arguments:?}\n{text}\n{errors}");
        eprintln!("{text}");
        text.into_owned()
    }

    /// Where a test's lake lies and how DuckDB attaches it.
    enum Home {
        Sqlite(tempfile::TempDir),
        Postgres {
            folder: tempfile::TempDir,
            /// The server runs as long as this lives.
            _server: Postgres,
            schema: PostgresSchema,
        },
    }

    impl Home {
        /// Both engines, or SQLite alone where there is no PostgreSQL.
        fn both() -> Vec<Self> {
            let mut homes = vec![Self::Sqlite(tempfile::tempdir().unwrap())];
            if let Some(server) = Postgres::start() {
                let schema = server.fresh_schema();
                homes.push(Self::Postgres { folder: tempfile::tempdir().unwrap(), _server: server, schema });
            }
            homes
        }

        fn path(&self) -> &Path {
            match self {
                Self::Sqlite(folder) | Self::Postgres { folder, .. } => folder.path(),
            }
        }

        async fn open(&self) -> Database {
            match self {
                Self::Sqlite(folder) => Database::open_sqlite(folder.path().join("lake.db"), &OWNERS).await.unwrap(),
                Self::Postgres { schema, .. } => Database::open_postgres(&schema.url, &schema.name, &OWNERS).await.unwrap(),
            }
        }

        /// Writes the attach statements down.
        fn attach(&self) -> PathBuf {
            let folder = self.path().join("lake");
            let text = match self {
                Self::Sqlite(home) => attach_statements(Catalog::Sqlite(&home.path().join("lake.db")), &folder),
                Self::Postgres { schema, .. } => {
                    let (start, socket) = schema.url.split_once("@localhost/tally?host=").unwrap();
                    let user = start.strip_prefix("postgres://").unwrap();
                    let connection = format!("host={socket} user={user} dbname=tally");
                    attach_statements(Catalog::Postgres { connection: &connection, schema: &schema.name }, &folder)
                }
            };
            self.note("attach.sql", &text.unwrap())
        }

        fn note(&self, name: &str, text: &str) -> PathBuf {
            let path = self.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        }

        async fn lake(&self, commits: i64) -> Lake {
            let mut lake = Lake::create(self.open().await, self.path().join("lake")).await;
            for _ in 0..commits {
                lake.commit().await;
            }
            lake
        }
    }

    #[tokio::test]
    async fn what_was_appended_is_listed_as_of_every_snapshot() {
        for home in Home::both() {
            let mut lake = home.lake(0).await;
            assert_eq!(lake.commit().await, SnapshotId(2));
            assert_eq!(lake.commit().await, SnapshotId(3));
            let mut tx = lake.db.read().await.unwrap();
            assert_eq!(latest(&mut tx).await.unwrap(), SnapshotId(3));
            for (snapshot, count) in [(0, 0), (1, 0), (2, 2), (3, 4)] {
                let found = files(&mut tx, "readings", Some(SnapshotId(snapshot))).await.unwrap();
                assert_eq!(found.len(), count);
            }
            let found = files(&mut tx, "readings", None).await.unwrap();
            let described = describe_file(&RealFiles, &lake.folder, "readings/1/1-b.parquet").unwrap();
            let last = found.last().unwrap();
            assert_eq!((&last.path, last.rows, last.bytes), (&described.path, described.rows, described.bytes));
            assert_eq!((last.begin_snapshot, &last.statistics), (SnapshotId(3), &described.statistics));
            assert_eq!(files(&mut tx, "totals", None).await.unwrap().len(), 2, "the file without rows is left out");
            assert!(matches!(files(&mut tx, "readings", Some(SnapshotId(4))).await, Err(LakeError::NoSnapshot { .. })));
            assert!(matches!(files(&mut tx, "nothing", None).await, Err(LakeError::NoTable { .. })));

            let log = snapshots(&mut tx, None, 100).await.unwrap();
            let changes: Vec<&str> = log.iter().map(|snapshot| snapshot.changes.as_str()).collect();
            let tables = "created_table:\"main\".\"readings\",created_table:\"main\".\"totals\"";
            let inserted = "inserted_into_table:1,inserted_into_table:2";
            assert_eq!(changes, ["created_schema:\"main\"", tables, inserted, inserted]);
            assert_eq!(log[3].at, committed_at(2));
            assert_eq!((log[3].author.as_deref(), log[3].message.as_deref()), (Some("lake's fold"), Some("batches 2")));
            let later = snapshots(&mut tx, Some(SnapshotId(1)), 1).await.unwrap();
            assert_eq!(later, log[2..3]);
        }
    }

    #[tokio::test]
    async fn tables_are_created_once_and_never_silently_changed() {
        for home in Home::both() {
            let lake = home.lake(1).await;
            let create = async |data_path: &str, tables: &[TableSpec]| {
                let mut tx = lake.db.begin().await.unwrap();
                create_tables(&mut tx, Path::new(data_path), tables, committed_at(9)).await?;
                tx.commit().await.unwrap();
                Ok::<(), LakeError>(())
            };
            create("/elsewhere", &tables()).await.unwrap();
            let third = TableSpec { name: "third".into(), schema: totals_schema() };
            let [readings, totals] = tables();
            create("/elsewhere", &[totals, third.clone(), readings]).await.unwrap();
            let mut tx = lake.db.read().await.unwrap();
            assert_eq!(latest(&mut tx).await.unwrap(), SnapshotId(3), "one snapshot for the third table, none for the repeated call");
            assert_eq!(files(&mut tx, "third", None).await.unwrap(), []);
            drop(tx);

            let other = TableSpec { name: "totals".into(), schema: readings_schema() };
            assert!(matches!(create("/elsewhere", &[other]).await, Err(LakeError::Schema { .. })));
            for name in ["", "Totals", "a/b", "1a", "a\"b", "a-b"] {
                let bad = TableSpec { name: name.into(), schema: totals_schema() };
                assert!(matches!(create("/elsewhere", &[bad]).await, Err(LakeError::Name { .. })), "{name:?}");
            }
            let twice = TableSpec { name: "fourth".into(), schema: totals_schema() };
            assert!(matches!(create("/elsewhere", &[twice.clone(), twice]).await, Err(LakeError::Name { .. })));
        }
    }

    #[tokio::test]
    async fn an_append_is_all_or_nothing_and_takes_a_file_once() {
        for home in Home::both() {
            let lake = home.lake(1).await;
            let meta = describe_file(&RealFiles, &lake.folder, "readings/1/0-a.parquet").unwrap();
            let commit = |table: &str, path: &str| LakeCommit {
                author: "test".into(),
                message: String::new(),
                extra_info: None,
                at: committed_at(0),
                files: vec![(table.into(), FileMeta { path: path.into(), ..meta.clone() })],
            };
            let mut tx = lake.db.begin().await.unwrap();
            let again = append(&mut tx, &commit("readings", "readings/1/0-a.parquet")).await;
            assert!(matches!(again, Err(LakeError::Store(DbError::Refused { .. }))), "{again:?}");
            drop(tx);
            let mut tx = lake.db.begin().await.unwrap();
            for (table, path) in [("readings", "totals/1/x.parquet"), ("readings", "readings/"), ("readings", "readings//x")] {
                assert!(matches!(append(&mut tx, &commit(table, path)).await, Err(LakeError::Path { .. })), "{path}");
            }
            assert!(matches!(append(&mut tx, &commit("nothing", "nothing/x")).await, Err(LakeError::NoTable { .. })));
            // Rolled back: nothing of it is there. Its time lay before the last snapshot's and is raised to that.
            append(&mut tx, &commit("readings", "readings/1/x.parquet")).await.unwrap();
            assert_eq!(snapshots(&mut tx, Some(SnapshotId(2)), 9).await.unwrap()[0].at, committed_at(1));
            tx.rollback().await.unwrap();
            let mut tx = lake.db.read().await.unwrap();
            assert_eq!(latest(&mut tx).await.unwrap(), SnapshotId(2));
            assert_eq!(files(&mut tx, "readings", None).await.unwrap().len(), 2);
        }
    }

    #[tokio::test]
    async fn an_empty_database_has_no_lake() {
        for home in Home::both() {
            let db = home.open().await;
            let mut tx = db.begin().await.unwrap();
            assert!(matches!(latest(&mut tx).await, Err(LakeError::Missing)));
            let nothing =
                LakeCommit { author: String::new(), message: String::new(), extra_info: None, at: committed_at(0), files: vec![] };
            assert!(matches!(append(&mut tx, &nothing).await, Err(LakeError::Missing)));
        }
    }

    #[tokio::test]
    async fn duckdb_reads_every_row_prunes_files_and_travels_in_time() {
        let Some(python) = python() else { return };
        for home in Home::both() {
            let lake = home.lake(12).await;
            let (attach, expected) = (home.attach(), home.note("expected.json", &lake.expected().to_string()));
            duckdb(&python, &["read".as_ref(), &attach, &expected]);
            // And when no process of ours has the catalog open.
            lake.db.close().await;
            duckdb(&python, &["read".as_ref(), &attach, &expected]);
        }
    }

    #[tokio::test]
    async fn duckdb_reads_whole_commits_while_we_write() {
        let Some(python) = python() else { return };
        for home in Home::both() {
            let mut lake = home.lake(1).await;
            let stop = home.path().join("stop");
            let mut reader = follow(&python, &home.attach(), &stop);
            let mut slowest = Duration::ZERO;
            let deadline = Clock::now() + Duration::from_secs(4);
            while Clock::now() < deadline {
                let begun = Clock::now();
                lake.commit().await;
                slowest = slowest.max(begun.elapsed());
                tokio::time::sleep(Duration::from_millis(20)).await;
                assert!(reader.try_wait().unwrap().is_none(), "the reader has ended");
            }
            std::fs::write(&stop, "").unwrap();
            let output = reader.wait_with_output().unwrap();
            let text = String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
            eprintln!("{} commits, slowest {slowest:?}, {text}", lake.commits);
            let seen: serde_json::Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
            assert_eq!(seen["rows"], lake.commits * ROWS, "the last read sees everything");
            assert!(seen["states"].as_i64().unwrap() > 3, "{seen}");
        }
    }

    fn follow(python: &Path, attach: &Path, stop: &Path) -> Child {
        let mut command = Command::new(python);
        command.arg(script()).arg("follow").args([attach, stop]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// Merges the files of the commits `from..to` into one of each table.
    async fn replaced(lake: &Lake, from: i64, to: i64, at: Instant) -> SnapshotId {
        let mut tx = lake.db.begin().await.unwrap();
        let of = |path: &str, folder: &str| {
            let number = path.strip_prefix(folder).and_then(|path| path.split(['-', '.']).next()?.parse::<i64>().ok());
            number.is_some_and(|number| (from..to).contains(&number))
        };
        let pruning = ["shard", "organization", "start_at", "quantity"];
        let (_, merged) =
            lake.write(&format!("readings/1/m{from}-{to}.parquet"), &readings_schema(), readings(from * ROWS..to * ROWS), &pruning);
        let listed = files(&mut tx, "readings", None).await.unwrap();
        let ended = listed.into_iter().map(|file| file.path).filter(|path| of(path, "readings/1/")).collect();
        let change = TableReplacement { table: "readings".into(), ended, added: merged, gained: 0 };
        let replacement =
            Replacement { author: "lake's fold".into(), message: format!("merge {from} {to}"), extra_info: None, at, tables: vec![change] };
        let snapshot = replace(&mut tx, &replacement).await.unwrap();
        tx.commit().await.unwrap();
        snapshot
    }

    #[tokio::test]
    async fn a_replacement_shows_the_same_rows_and_the_past_stays_readable_until_it_expires() {
        for home in Home::both() {
            let mut lake = home.lake(6).await;
            let rows = async |snapshot| {
                let mut tx = lake.db.read().await.unwrap();
                let found = files(&mut tx, "readings", snapshot).await?;
                Ok::<_, LakeError>((found.len(), found.iter().map(|file| file.rows).sum::<u64>()))
            };
            let before = latest(&mut lake.db.read().await.unwrap()).await.unwrap();
            assert_eq!(rows(None).await.unwrap(), (12, 600));
            let merged = replaced(&lake, 1, 5, committed_at(6)).await;
            assert_eq!(rows(None).await.unwrap(), (5, 600));
            assert_eq!(rows(Some(before)).await.unwrap(), (12, 600));
            let log = snapshots(&mut lake.db.read().await.unwrap(), Some(before), 9).await.unwrap();
            assert_eq!((log[0].id, log[0].changes.as_str(), log[0].at), (merged, "compacted_table:1", committed_at(6)));

            let asked = ["readings/1/0-b.parquet", "readings/1/1-a.parquet", "readings/1/m1-5.parquet", "totals/1/0.parquet", "/elsewhere"]
                .map(str::to_owned);
            let listed = shown(&mut lake.db.read().await.unwrap(), "readings", &asked).await.unwrap();
            assert_eq!(listed, ["readings/1/0-b.parquet", "readings/1/m1-5.parquet"], "what ended and what is of others is not shown");

            // Nothing is old enough, then everything but the last is.
            let expire = async |at| {
                let mut tx = lake.db.begin().await.unwrap();
                let expired = expire(&mut tx, at, committed_at(100), 100).await.unwrap();
                tx.commit().await.unwrap();
                expired
            };
            assert_eq!(expire(committed_at(0)).await, Expired::default());
            let first = expire(committed_at(3)).await;
            assert_eq!((first.snapshots, first.files), (4, 0), "what is ended later is still named by a kept snapshot");
            assert!(matches!(rows(Some(SnapshotId(2))).await, Err(LakeError::Expired { first: SnapshotId(4), .. })));
            assert_eq!(rows(Some(SnapshotId(4))).await.unwrap(), (6, 300));
            assert_eq!(expire(committed_at(99)).await.files, 8);
            assert_eq!(rows(None).await.unwrap(), (5, 600));
            let mut tx = lake.db.begin().await.unwrap();
            assert_eq!(scheduled(&mut tx, committed_at(99), 100).await.unwrap(), [], "whoever reads has time");
            let waiting_now = waiting(&mut tx).await.unwrap();
            assert_eq!(
                waiting_now.iter().map(|of| (of.table.as_str(), of.ended, of.scheduled)).collect::<Vec<_>>(),
                [("readings", 0, 8), ("totals", 0, 0)]
            );
            let due = scheduled(&mut tx, committed_at(100), 100).await.unwrap();
            let mut due_paths: Vec<&str> = due.iter().map(|file| file.path.as_str()).collect();
            due_paths.sort_unstable();
            assert_eq!(due_paths[..2], ["readings/1/1-a.parquet", "readings/1/1-b.parquet"]);
            assert_eq!(paths(&mut tx).await.unwrap().len(), 5 + 8 + 6);
            unschedule(&mut tx, &due).await.unwrap();
            assert_eq!(paths(&mut tx).await.unwrap().len(), 5 + 6);
            assert_eq!(scheduled(&mut tx, committed_at(100), 100).await.unwrap(), []);
            tx.commit().await.unwrap();
            lake.commit().await;
            let mut tx = lake.db.read().await.unwrap();
            assert_eq!(files(&mut tx, "readings", None).await.unwrap().len(), 7);
        }
    }

    #[tokio::test]
    async fn a_replacement_is_kept_from_when_it_was_made_not_from_when_its_rows_were() {
        for home in Home::both() {
            let mut lake = home.lake(3).await;
            let merged = replaced(&lake, 0, 2, committed_at(50)).await;
            // What was accepted before is not shown as earlier than the replacement.
            let after = lake.commit().await;
            let mut tx = lake.db.begin().await.unwrap();
            let log = snapshots(&mut tx, Some(SnapshotId(merged.0 - 1)), 9).await.unwrap();
            let told: Vec<_> = log.iter().map(|snapshot| (snapshot.id, snapshot.at)).collect();
            assert_eq!(told, [(merged, committed_at(50)), (after, committed_at(50))]);
            expire(&mut tx, committed_at(50), committed_at(50), 100).await.unwrap();
            assert_eq!(files(&mut tx, "readings", Some(merged)).await.unwrap().len(), 3);
        }
    }

    #[tokio::test]
    async fn files_that_hold_other_rows_are_not_put_in_the_place_of_others() {
        for home in Home::both() {
            let lake = home.lake(2).await;
            let added = describe_file(&RealFiles, &lake.folder, "readings/1/0-a.parquet").unwrap();
            let added = |rows| FileMeta { path: format!("readings/1/new-{rows}.parquet"), rows, ..added.clone() };
            let all = ["readings/1/0-a.parquet", "readings/1/0-b.parquet"];
            for (why, ended, rows, gained) in [
                ("a row is missing", &all[..], 99, 0),
                ("a row is too many", &all[..], 101, 0),
                ("the gain is not there", &all[..], 100, 1),
                ("a file ends that is not listed", &["readings/1/0-a.parquet", "readings/1/9-a.parquet"][..], 25, 0),
            ] {
                let ended = ended.iter().map(|path| (*path).to_owned()).collect();
                let change = TableReplacement { table: "readings".into(), ended, added: added(rows), gained };
                let replacement = Replacement {
                    author: String::new(),
                    message: String::new(),
                    extra_info: None,
                    at: Instant::EPOCH,
                    tables: vec![change],
                };
                let mut tx = lake.db.begin().await.unwrap();
                let refused = replace(&mut tx, &replacement).await;
                assert!(matches!(refused, Err(LakeError::Replacement { .. })), "{why}: {refused:?}");
            }
        }
    }

    #[tokio::test]
    async fn duckdb_reads_the_same_before_and_after_a_replacement_and_travels_to_before_it() {
        let Some(python) = python() else { return };
        for home in Home::both() {
            let mut lake = home.lake(8).await;
            let attach = home.attach();
            let snapshots_before = lake.expected()["snapshots"].clone();
            let merged = replaced(&lake, 0, 6, committed_at(8)).await;
            let expected = |files: i64, snapshots: serde_json::Value| {
                let mut expected = lake.expected();
                expected["files"] = json!(files);
                expected["snapshots"] = snapshots;
                expected["pruned"] = json!({});
                expected["last_commit"] = json!(["lake's fold", "merge 0 6", null]);
                home.note("expected.json", &expected.to_string())
            };
            duckdb(&python, &["read".as_ref(), &attach, &expected(5, snapshots_before)]);
            // What expired is gone for DuckDB too, what it schedules is what we scheduled, and the rest is read on without the files.
            let mut tx = lake.db.begin().await.unwrap();
            expire(&mut tx, committed_at(99), committed_at(0), 100).await.unwrap();
            tx.commit().await.unwrap();
            let list = |db: Database| async move { scheduled(&mut db.read().await.unwrap(), committed_at(0), 100).await.unwrap() };
            let due = list(lake.db.clone()).await;
            assert_eq!(due.len(), 12);
            duckdb(
                &python,
                &["cleanup".as_ref(), &attach, &home.note("due.json", &json!({"files": 12, "folder": lake.folder}).to_string())],
            );
            for file in &due {
                std::fs::remove_file(lake.folder.join(&file.path)).unwrap();
            }
            let now = json!({merged.to_string(): {"readings": sums(8 * ROWS), "at": committed_at(8).to_string()}});
            duckdb(&python, &["read".as_ref(), &attach, &expected(5, now)]);
            lake.commit().await;
        }
    }

    #[tokio::test]
    async fn duckdb_compacts_a_copy_and_we_go_on() {
        let Some(python) = python() else { return };
        for home in Home::both() {
            let mut lake = home.lake(6).await;
            let (attach, expected) = (home.attach(), home.note("expected.json", &lake.expected().to_string()));
            duckdb(&python, &["merge".as_ref(), &attach, &expected]);
            let mut tx = lake.db.read().await.unwrap();
            let merged = files(&mut tx, "readings", None).await.unwrap();
            assert_eq!(merged.iter().map(|file| file.rows).sum::<u64>(), 600);
            assert!(merged.len() < 12, "{merged:?}");
            for file in &merged {
                assert!(lake.folder.join(&file.path).is_file(), "{file:?}");
            }
            // Its early states need a filter inside the merged file: refused, never wrong.
            let early = files(&mut tx, "readings", Some(SnapshotId(3))).await;
            assert!(matches!(early, Err(LakeError::Foreign { .. })), "{early:?}");
            drop(tx);
            lake.commit().await;
            let mut expected = lake.expected();
            expected["files"] = json!(merged.len() + 2);
            expected["pruned"] = json!({});
            let expected = home.note("expected.json", &expected.to_string());
            // Our next commit has the snapshot after the last one of the merge, so only the last two states are compared.
            duckdb_after_merge(&python, &attach, &expected);
        }
    }

    fn duckdb_after_merge(python: &Path, attach: &Path, expected: &Path) {
        let mut value: serde_json::Value = serde_json::from_slice(&std::fs::read(expected).unwrap()).unwrap();
        let states = value["snapshots"].as_object_mut().unwrap();
        states.retain(|snapshot, _| snapshot.parse::<i64>().unwrap() <= 3);
        std::fs::write(expected, value.to_string()).unwrap();
        duckdb(python, &["read".as_ref(), attach, expected]);
    }
}
