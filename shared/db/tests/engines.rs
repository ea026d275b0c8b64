//! shared-db on both engines: statements, transactions, migrations, folds, outbox.

#[cfg(test)]
mod engines {
    use shared_db::{
        Cut, Database, DbError, Engine, OutboxEvent, Statement, Transaction, Value, advance, cursor, cuts, enqueue, outbox_after,
    };
    use shared_testkit::{Postgres, append_only_refusals, on_both_engines};
    use shared_types::{BatchNo, Digest};

    const fn both(text: &'static str) -> Statement {
        Statement { name: "test", sqlite: text, postgres: text }
    }

    const CREATE: Statement = Statement {
        name: "create",
        sqlite: "CREATE TABLE sample (n INTEGER NOT NULL PRIMARY KEY, t TEXT, b BLOB, i INTEGER) STRICT",
        postgres: "CREATE TABLE sample (n bigint PRIMARY KEY, t text, b bytea, i int)",
    };
    const INSERT: Statement = Statement {
        name: "insert",
        sqlite: "INSERT INTO sample VALUES ($1, $2, $3, $4)",
        postgres: "INSERT INTO sample VALUES ($1, $2::text, $3::bytea, $4::bigint)",
    };
    const ALL: Statement = both("SELECT n, t, b, i FROM sample ORDER BY n");

    async fn sample(db: &Database) -> Transaction {
        let mut tx = db.begin().await.unwrap();
        tx.execute(&CREATE, &[]).await.unwrap();
        tx
    }

    fn batches(range: [u64; 2]) -> (BatchNo, BatchNo) {
        (BatchNo(range[0]), BatchNo(range[1]))
    }

    #[tokio::test]
    async fn values_come_back_as_they_went_in_and_null_fits_every_cast_column() {
        on_both_engines(&[], |db| async move {
            let mut tx = sample(&db).await;
            // the first binding of a statement fixes its types on PostgreSQL: NULLs first, then values, then NULLs
            let digest = Digest::of(b"x");
            let rows: [[Value; 4]; 3] = [
                [1.into(), Value::Null, Value::Null, Value::Null],
                [i64::MIN.into(), "tää\n".into(), digest.into(), (-5).into()],
                [i64::MAX.into(), None::<String>.into(), Some(vec![0_u8]).into(), Value::Null],
            ];
            for row in &rows {
                assert_eq!(tx.execute(&INSERT, row).await.unwrap(), 1);
            }
            let found = tx.query(&ALL, &[]).await.unwrap();
            assert_eq!(found[1].values(), rows[0]);
            assert_eq!((found[0].integer(0).unwrap(), found[0].text(1).unwrap(), found[0].digest(2).unwrap()), (i64::MIN, "tää\n", digest));
            assert_eq!(found[2].values(), rows[2]);
            let error = found[1].text(1).unwrap_err().to_string();
            assert_eq!(error, "column 1 (t) of test is NULL, not TEXT");
            let error = found[0].integer(2).unwrap_err().to_string();
            assert_eq!(error, "column 2 (b) of test is 32 BYTES, not INTEGER");
            assert!(found[0].unsigned(0).is_err() && found[0].integer(9).is_err());
            tx.commit().await.unwrap();
        })
        .await;
    }

    #[tokio::test]
    async fn a_wrong_number_of_values_and_an_uncast_null_are_refused_by_name() {
        on_both_engines(&[], |db| async move {
            let mut tx = sample(&db).await;
            let error = tx.execute(&INSERT, &[1.into()]).await.unwrap_err();
            assert_eq!(error.to_string(), "insert cannot take its values: 1 values for 4 placeholders");
            assert!(matches!(tx.commit().await, Err(DbError::Aborted { .. })));
            if db.engine() == Engine::Postgres {
                let mut tx = sample(&db).await;
                let error = tx.execute(&both("DELETE FROM sample WHERE t = $1"), &[Value::Null]).await.unwrap_err();
                assert!(error.to_string().contains("$1 is NULL but not cast"), "{error}");
            }
            assert!(Value::try_from(u64::MAX).is_err());
        })
        .await;
    }

    #[tokio::test]
    async fn errors_are_sorted_by_what_the_caller_does_next() {
        on_both_engines(&[], |db| async move {
            sample(&db).await.commit().await.unwrap();
            let refused = [
                both("INSERT INTO sample (n) VALUES (1), (1)"),
                both("INSERT INTO sample (n) VALUES ('x')"),
                Statement {
                    name: "overflowing",
                    sqlite: "INSERT INTO sample (n) SELECT 9223372036854775807 + 1",
                    postgres: "INSERT INTO sample (n) SELECT 9223372036854775807 + 1::bigint",
                },
                both("INSERT INTO sample (n) SELECT sum(x) FROM (SELECT 9223372036854775807 AS x UNION ALL SELECT 1) AS two"),
            ];
            for statement in refused {
                let mut tx = db.begin().await.unwrap();
                let error = tx.execute(&statement, &[]).await.unwrap_err();
                assert!(matches!(error, DbError::Refused { .. }), "{error}");
                assert!(matches!(tx.query(&ALL, &[]).await, Err(DbError::Aborted { .. })));
            }
            let mut tx = db.begin().await.unwrap();
            assert!(matches!(tx.query(&both("SELECT nothing FROM sample"), &[]).await, Err(DbError::Statement { .. })));
            drop(tx);
            let mut tx = db.begin().await.unwrap();
            assert!(matches!(tx.query_one(&ALL, &[]).await, Err(DbError::RowCount { found: 0, .. })));
            drop(tx);
            let mut tx = db.read().await.unwrap();
            assert!(matches!(tx.execute(&both("DELETE FROM sample"), &[]).await, Err(DbError::Refused { .. })));
        })
        .await;
    }

    #[tokio::test]
    async fn dropping_rolls_back_and_a_reader_sees_one_state() {
        on_both_engines(&[], |db| async move {
            let mut tx = sample(&db).await;
            tx.execute(&both("INSERT INTO sample (n) VALUES (1)"), &[]).await.unwrap();
            tx.commit().await.unwrap();
            let mut reader = db.read().await.unwrap();
            let mut tx = db.begin().await.unwrap();
            tx.execute(&both("INSERT INTO sample (n) VALUES (2)"), &[]).await.unwrap();
            drop(tx);
            let mut tx = db.begin().await.unwrap();
            assert_eq!(tx.query(&ALL, &[]).await.unwrap().len(), 1);
            tx.execute(&both("INSERT INTO sample (n) VALUES (3)"), &[]).await.unwrap();
            tx.commit().await.unwrap();
            assert_eq!(reader.query(&ALL, &[]).await.unwrap().len(), 1);
            reader.rollback().await.unwrap();
            assert_eq!(db.read().await.unwrap().query(&ALL, &[]).await.unwrap().len(), 2);
        })
        .await;
    }

    #[tokio::test]
    async fn a_cursor_moves_once_and_cuts_are_dense() {
        on_both_engines(&[], |db| async move {
            let mut tx = db.begin().await.unwrap();
            assert_eq!(cursor(&mut tx, "ledger").await.unwrap(), BatchNo(0));
            for range in [[0, 3], [3, 4], [4, 10]] {
                let (from, to) = batches(range);
                advance(&mut tx, "ledger", from, to).await.unwrap();
            }
            advance(&mut tx, "lake", BatchNo(0), BatchNo(1)).await.unwrap();
            tx.commit().await.unwrap();
            for range in [[0, 5], [3, 11], [9, 11], [11, 12]] {
                let (from, to) = batches(range);
                let mut tx = db.begin().await.unwrap();
                let error = advance(&mut tx, "ledger", from, to).await.unwrap_err();
                assert!(matches!(&error, DbError::CursorMoved { found: BatchNo(10), .. }), "{error}");
                assert!(matches!(tx.commit().await, Err(DbError::Aborted { .. })));
            }
            for range in [[10, 10], [10, 9]] {
                let (from, to) = batches(range);
                let mut tx = db.begin().await.unwrap();
                assert!(matches!(advance(&mut tx, "ledger", from, to).await, Err(DbError::Refused { .. })));
            }
            let mut tx = db.read().await.unwrap();
            let cut = |number, first, last| Cut { number, first: BatchNo(first), last: BatchNo(last) };
            assert_eq!(cuts(&mut tx, "ledger").await.unwrap(), [cut(1, 1, 3), cut(2, 4, 4), cut(3, 5, 10)]);
            drop(tx);
            for text in [
                "UPDATE shared_db_cursors SET batch_no = 3 WHERE fold = 'ledger'",
                "DELETE FROM shared_db_cursors",
                "INSERT INTO shared_db_cuts VALUES ('ledger', 5, 11, 12)",
                "INSERT INTO shared_db_cuts VALUES ('ledger', 4, 12, 12)",
                "INSERT INTO shared_db_cuts VALUES ('ledger', 4, 11, 12)",
            ] {
                let mut tx = db.begin().await.unwrap();
                assert!(matches!(tx.execute(&both(text), &[]).await, Err(DbError::Refused { .. })), "{text}");
            }
        })
        .await;
    }

    #[tokio::test]
    async fn two_folders_of_the_same_range_cannot_both_commit() {
        on_both_engines(&[], |db| async move {
            let mut first = db.begin().await.unwrap();
            advance(&mut first, "ledger", BatchNo(0), BatchNo(2)).await.unwrap();
            let second = async {
                let mut second = db.begin().await.unwrap();
                let outcome = advance(&mut second, "ledger", BatchNo(0), BatchNo(1)).await;
                (outcome, second)
            };
            let (outcome, committed) = tokio::join!(second, async {
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                first.commit().await
            });
            committed.unwrap();
            assert!(matches!(outcome.0, Err(DbError::CursorMoved { found: BatchNo(2), .. })), "{:?}", outcome.0);
        })
        .await;
    }

    fn event(number: u32) -> OutboxEvent {
        OutboxEvent {
            subject: "platform.ledger.entry_appended".to_owned(),
            event_type: "entry_appended".to_owned(),
            version: 1,
            correlation_id: format!("batch-{number}"),
            payload: "{}".to_owned(),
        }
    }

    #[tokio::test]
    async fn outbox_events_are_numbered_densely_in_the_order_of_commits() {
        on_both_engines(&[], |db| async move {
            let mut tx = db.begin().await.unwrap();
            assert_eq!(enqueue(&mut tx, event(1)).await.unwrap(), 1);
            drop(tx);
            let mut tasks = Vec::new();
            for number in 1..=6 {
                let db = db.clone();
                tasks.push(tokio::spawn(async move {
                    let mut tx = db.begin().await.unwrap();
                    let at = enqueue(&mut tx, event(number)).await.unwrap();
                    tokio::task::yield_now().await;
                    tx.commit().await.unwrap();
                    at
                }));
            }
            let mut numbers = Vec::new();
            for task in tasks {
                numbers.push(task.await.unwrap());
            }
            numbers.sort_unstable();
            assert_eq!(numbers, [1, 2, 3, 4, 5, 6]);
            let mut tx = db.read().await.unwrap();
            let rest = outbox_after(&mut tx, 4, 10).await.unwrap();
            assert_eq!(rest.iter().map(|(number, _)| *number).collect::<Vec<_>>(), [5, 6]);
        })
        .await;
    }

    #[tokio::test]
    async fn cuts_and_outbox_are_append_only() {
        on_both_engines(&[], |db| async move {
            assert!(append_only_refusals(&db).await.unwrap_err().to_string().contains("is empty"));
            let mut tx = db.begin().await.unwrap();
            advance(&mut tx, "ledger", BatchNo(0), BatchNo(2)).await.unwrap();
            enqueue(&mut tx, event(1)).await.unwrap();
            tx.commit().await.unwrap();
            assert_eq!(append_only_refusals(&db).await.unwrap(), ["shared_db_cuts", "shared_db_outbox"]);
            // the check itself: a trigger that says nothing is found out
            let mut tx = db.begin().await.unwrap();
            let drop_trigger = Statement {
                name: "damage",
                sqlite: "DROP TRIGGER shared_db_cuts_append_only_delete",
                postgres: "ALTER TABLE shared_db_cuts DISABLE TRIGGER shared_db_cuts_append_only_delete",
            };
            tx.execute(&drop_trigger, &[]).await.unwrap();
            tx.commit().await.unwrap();
            assert!(append_only_refusals(&db).await.unwrap_err().to_string().contains("shared_db_cuts has only"));
        })
        .await;
    }

    #[tokio::test]
    async fn a_changed_or_unknown_migration_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log.db");
        for _ in 0..2 {
            Database::open_sqlite(&path, &[]).await.unwrap().close().await;
        }
        assert!(matches!(Database::open_sqlite(&path, &["platform-nobody"]).await, Err(DbError::UnknownOwner { .. })));
        let db = Database::open_sqlite(&path, &[]).await.unwrap();
        let mut tx = db.begin().await.unwrap();
        tx.execute(&both("INSERT INTO shared_db_migrations VALUES (9999, 'platform-later', 'x', zeroblob(32), 0)"), &[]).await.unwrap();
        tx.commit().await.unwrap();
        db.close().await;
        assert!(matches!(Database::open_sqlite(&path, &[]).await, Err(DbError::MigrationUnknown { number: 9999, .. })));

        let path = folder.path().join("changed.db");
        let db = Database::open_sqlite(&path, &[]).await.unwrap();
        let mut tx = db.begin().await.unwrap();
        tx.execute(&both("UPDATE shared_db_migrations SET digest = zeroblob(32)"), &[]).await.unwrap();
        tx.commit().await.unwrap();
        db.close().await;
        assert!(matches!(Database::open_sqlite(&path, &[]).await, Err(DbError::MigrationChanged { number: 1, .. })));
    }

    #[tokio::test]
    async fn a_read_only_database_reads_what_another_owner_writes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log.db");
        assert!(Database::open_sqlite_read_only(&path).await.is_err());
        let owner = Database::open_sqlite(&path, &[]).await.unwrap();
        let reader = Database::open_sqlite_read_only(&path).await.unwrap();
        assert!(matches!(reader.begin().await, Err(DbError::ReadOnly)));
        let mut tx = owner.begin().await.unwrap();
        advance(&mut tx, "ledger", BatchNo(0), BatchNo(2)).await.unwrap();
        tx.commit().await.unwrap();
        assert_eq!(cursor(&mut reader.read().await.unwrap(), "ledger").await.unwrap(), BatchNo(2));
        reader.close().await;
        owner.close().await;
        let alone = Database::open_sqlite_read_only(&path).await.unwrap();
        assert_eq!(cursor(&mut alone.read().await.unwrap(), "ledger").await.unwrap(), BatchNo(2));
    }

    #[tokio::test]
    async fn sqlite_connections_carry_the_promised_settings() {
        let folder = tempfile::tempdir().unwrap();
        let db = Database::open_sqlite(folder.path().join("x.db"), &[]).await.unwrap();
        for tx in [db.begin().await.unwrap(), db.read().await.unwrap()] {
            let mut tx = tx;
            for (pragma, value) in [
                ("SELECT foreign_keys FROM pragma_foreign_keys", 1),
                ("SELECT recursive_triggers FROM pragma_recursive_triggers", 1),
                ("SELECT timeout FROM pragma_busy_timeout", 5000),
                ("SELECT synchronous FROM pragma_synchronous", 2),
            ] {
                assert_eq!(tx.query_one(&both(pragma), &[]).await.unwrap().integer(0).unwrap(), value, "{pragma}");
            }
        }
    }

    #[tokio::test]
    async fn schema_names_are_checked_and_urls_stay_out_of_errors() {
        for name in ["", "1a", "a b", "a\"b", "A"] {
            assert!(matches!(Database::open_postgres("postgres://", name, &[]).await, Err(DbError::SchemaName { .. })), "{name}");
        }
        let error = Database::open_postgres("postgres://u:hunter2@localhost:1/x?host=/nonexistent", "s", &[]).await.unwrap_err();
        assert!(!format!("{error:?} {error}").contains("hunter2"), "{error:?}");
        if let Some(server) = Postgres::start() {
            let schema = server.fresh_schema();
            let (first, second) = tokio::join!(
                Database::open_postgres(&schema.url, &schema.name, &[]),
                Database::open_postgres(&schema.url, &schema.name, &[])
            );
            first.unwrap();
            second.unwrap();
        }
    }
}
