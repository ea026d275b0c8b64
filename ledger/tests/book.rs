//! The book on both engines: what it refuses, what it answers, what `verify` finds when rows were damaged behind its triggers.

#[cfg(test)]
mod book {
    use platform_ledger::{
        AccountId, AppendError, Cause, Command, EntryGroup, FOLD, Kind, Posting, PostingKey, Receipt, Violation, append, balances,
        close_period, close_through, commands, entries, execute, head, open_for, posting::Sides, postings, verify,
    };
    use shared_db::{Database, DbError, Engine, Statement, Transaction, Value, cuts};
    use shared_testkit::{append_only_refusals, on_both_engines};
    use shared_types::{Amount, AssetId, BatchNo, ContractId, Digest, Month, OrganizationId, Quantity};

    const OWNERS: &[&str] = &["platform-ledger"];

    fn month(number: i32) -> Month {
        Month::from_number(number).unwrap()
    }

    /// `debit<credit amount asset` in accounting period 2026-11, about a key of acme's.
    fn posting(text: &str) -> Posting {
        posting_in(text, 202_611)
    }

    fn posting_in(text: &str, period: i32) -> Posting {
        let words: Vec<&str> = text.split([' ', '<']).collect();
        let [debit, credit, amount, asset] = words[..] else { panic!("{text}") };
        let account = |name: &str| AccountId::of(&name.split('/').collect::<Vec<_>>()).unwrap();
        let asset = AssetId::parse(asset).unwrap();
        let key = PostingKey {
            organization: OrganizationId::parse("acme").unwrap(),
            contract: ContractId::parse("acme-2026").unwrap(),
            contract_line: "gpu \"h200\"".to_owned(),
            service_period: month(202_610),
            currency: asset.clone(),
        };
        let sides = Sides { debit: account(debit), credit: account(credit) };
        let posting = Posting::new(sides, asset, Amount::parse(amount).unwrap(), month(period), month(202_610).start()).unwrap();
        posting.about(key, Quantity::parse("12345678901234567890.123456789").unwrap()).unwrap()
    }

    fn group(batches: [u64; 2], postings: &[&str]) -> EntryGroup {
        let [first, last] = batches.map(BatchNo);
        EntryGroup { first_batch: first, last_batch: last, postings: postings.iter().map(|text| posting(text)).collect() }
    }

    async fn post(db: &Database, group: &EntryGroup) -> Result<Option<Receipt>, AppendError> {
        let mut tx = db.begin().await?;
        open_for(&mut tx, group).await?;
        let receipt = append(&mut tx, group).await?;
        tx.commit().await?;
        Ok(receipt)
    }

    /// Two entries (sequence 1 to 3 over batches 1 and 2, 4 to 5 over batches 3 to 6) with a cut between them that posted nothing.
    async fn filled(db: &Database) {
        let first = group(
            [1, 2],
            &["org/acme/unbilled<revenue/gpu 10 USD", "org/beta/unbilled<revenue/gpu 2.5 USD", "org/acme/unbilled<revenue/gpu 7 EUR"],
        );
        post(db, &first).await.unwrap().unwrap();
        assert_eq!(post(db, &group([3, 4], &[])).await.unwrap(), None);
        let second = group([5, 6], &["revenue/gpu<org/acme/unbilled 0.000000001 USD", "org/acme/unbilled<revenue/token 3 USD"]);
        post(db, &second).await.unwrap().unwrap();
    }

    /// The refusal of the database, or a panic.
    fn refusal<T: std::fmt::Debug>(outcome: Result<T, AppendError>) -> String {
        match outcome {
            Err(AppendError::Store(DbError::Refused { text, .. })) => text,
            other => panic!("not refused: {other:?}"),
        }
    }

    #[tokio::test]
    async fn a_group_is_booked_once_and_read_back_as_it_was() {
        on_both_engines(OWNERS, |db| async move {
            filled(&db).await;
            let mut tx = db.read().await.unwrap();
            let booked = postings(&mut tx, 0, 100).await.unwrap();
            assert_eq!(booked.iter().map(|row| (row.seq, row.entry_no)).collect::<Vec<_>>(), [(1, 1), (2, 1), (3, 1), (4, 2), (5, 2)]);
            assert_eq!(booked[1].posting, posting("org/beta/unbilled<revenue/gpu 2.5 USD"));
            assert_eq!(postings(&mut tx, 3, 1).await.unwrap(), booked[3..4]);
            let entries = entries(&mut tx).await.unwrap();
            let batches = |first, last| Cause::Batches { first: BatchNo(first), last: BatchNo(last) };
            assert_eq!(entries.iter().map(|entry| entry.cause).collect::<Vec<_>>(), [batches(1, 2), batches(3, 6)]);
            assert_eq!((entries[0].previous, entries[1].previous), (Digest::ZERO, entries[0].digest));
            assert_eq!(head(&mut tx).await.unwrap().as_ref(), entries.last());
            let found: Vec<String> = balances(&mut tx)
                .await
                .unwrap()
                .iter()
                .map(|balance| {
                    format!("{} {} {} {} @{}", balance.account, balance.asset, balance.debits, balance.credits, balance.last_seq)
                })
                .collect();
            assert_eq!(
                found,
                [
                    "org/acme/unbilled EUR 7000000000 0 @3",
                    "org/acme/unbilled USD 13000000000 1 @5",
                    "org/beta/unbilled USD 2500000000 0 @3",
                    "revenue/gpu EUR 0 7000000000 @3",
                    "revenue/gpu USD 1 12500000000 @5",
                    "revenue/token USD 0 3000000000 @5",
                ]
            );
            assert_eq!(cuts(&mut tx, FOLD).await.unwrap().len(), 3);
            assert_eq!(verify(&mut tx).await.unwrap(), []);
        })
        .await;
    }

    /// A command about `subject` that posts an amount and its rounding.
    fn command(subject: &str) -> Command {
        let rounding = posting("org/acme/receivable<rounding 0.004 USD").of_kind(Kind::Rounding);
        Command::new("invoice", subject, vec![posting("org/acme/receivable<org/acme/unbilled 3.006 USD"), rounding]).unwrap()
    }

    async fn command_to(db: &Database, command: &Command) -> Result<Receipt, AppendError> {
        let mut tx = db.begin().await?;
        let receipt = execute(&mut tx, command).await?;
        tx.commit().await?;
        Ok(receipt)
    }

    #[tokio::test]
    async fn commands_stand_in_the_same_sequence_and_are_taken_once() {
        on_both_engines(OWNERS, |db| async move {
            let first = command_to(&db, &command("before any usage")).await.unwrap();
            assert_eq!((first.entry_no, first.first_seq, first.last_seq), (1, 1, 2));
            filled(&db).await;
            let second = command_to(&db, &command("a")).await.unwrap();
            assert_eq!((second.entry_no, second.first_seq), (4, 8));
            let again = command_to(&db, &command("a")).await;
            assert!(matches!(again, Err(AppendError::Repeated { entry_no: 4, .. })), "{again:?}");
            post(&db, &group([7, 7], &["org/acme/unbilled<revenue/gpu 1 USD"])).await.unwrap().unwrap();
            let mut tx = db.read().await.unwrap();
            let entries = entries(&mut tx).await.unwrap();
            assert_eq!(entries[3].cause, Cause::Command { digest: command("a").digest() });
            assert_eq!(entries[4].cause, Cause::Batches { first: BatchNo(7), last: BatchNo(7) });
            let found: Vec<_> =
                commands(&mut tx, 0, 10).await.unwrap().into_iter().map(|one| (one.entry_no, one.batch_no.0, one.command)).collect();
            assert_eq!(found, [(1, 0, command("before any usage")), (4, 6, command("a"))]);
            let booked = postings(&mut tx, 7, 2).await.unwrap();
            assert_eq!(booked.iter().map(|booked| booked.posting.clone()).collect::<Vec<_>>(), command("a").postings());
            assert_eq!(verify(&mut tx).await.unwrap(), []);
        })
        .await;
    }

    #[tokio::test]
    async fn rounding_from_batches_and_commands_without_their_entry_are_refused() {
        on_both_engines(OWNERS, |db| async move {
            filled(&db).await;
            let rounding = EntryGroup { postings: command("a").postings().to_vec(), ..group([7, 7], &[]) };
            assert!(refusal(post(&db, &rounding).await).contains("this kind of posting is not taken: platform_ledger_postings"));
            let alone = async |entry_no: &str| {
                let text: &'static str = Box::leak(
                    format!("INSERT INTO platform_ledger_commands SELECT {entry_no}, 'invoice', 'x', '{{}}', previous, 0 FROM platform_ledger_entries WHERE entry_no = 2")
                        .into_boxed_str(),
                );
                let mut tx = db.begin().await?;
                tx.execute(&Statement { name: "attempt", sqlite: text, postgres: text }, &[]).await?;
                tx.commit().await.map_err(AppendError::from)
            };
            refusal(alone("3").await); // no entry follows: a foreign key on one engine, a trigger on the other
            assert!(refusal(alone("2").await).contains("a command makes an entry of its own"));
        })
        .await;
    }

    #[tokio::test]
    async fn a_close_takes_every_month_before_it_and_opens_none_behind_it() {
        on_both_engines(OWNERS, |db| async move {
            filled(&db).await;
            let mut tx = db.begin().await.unwrap();
            assert_eq!(close_through(&mut tx, month(202_612)).await.unwrap(), [month(202_611), month(202_612)]);
            assert_eq!(close_through(&mut tx, month(202_612)).await.unwrap(), []);
            tx.commit().await.unwrap();
            let seventh = |period| EntryGroup { postings: vec![posting_in("a<b 1 USD", period)], ..group([7, 7], &[]) };
            for period in [202_611, 202_612] {
                assert!(refusal(post(&db, &seventh(period)).await).contains("the accounting period is closed or unknown"));
            }
            assert!(refusal(post(&db, &seventh(202_610)).await).contains("the accounting period lies before a closed one"));
            post(&db, &seventh(202_701)).await.unwrap().unwrap();
            assert_eq!(verify(&mut db.read().await.unwrap()).await.unwrap(), []);
        })
        .await;
    }

    #[tokio::test]
    async fn both_engines_give_the_same_digests() {
        let heads = std::sync::Mutex::new(Vec::new());
        on_both_engines(OWNERS, |db| {
            let heads = &heads;
            async move {
                filled(&db).await;
                let head = head(&mut db.read().await.unwrap()).await.unwrap().unwrap();
                heads.lock().unwrap().push(head);
            }
        })
        .await;
        let heads = heads.into_inner().unwrap();
        assert!(heads.iter().all(|head| *head == heads[0]));
    }

    #[tokio::test]
    async fn replayed_and_skipped_batches_are_refused() {
        on_both_engines(OWNERS, |db| async move {
            filled(&db).await;
            for batches in [[1, 2], [5, 6], [6, 7], [8, 9], [1, 7]] {
                for rows in [&["a<b 1 USD"][..], &[]] {
                    let outcome = post(&db, &group(batches, rows)).await;
                    assert!(matches!(outcome, Err(AppendError::Elsewhere { cursor: BatchNo(6), .. })), "{outcome:?}");
                }
            }
            for batches in [[7, 6], [0, 3]] {
                assert!(matches!(post(&db, &group(batches, &["a<b 1 USD"])).await, Err(AppendError::Cut { .. })));
            }
            post(&db, &group([7, 7], &["a<b 1 USD"])).await.unwrap().unwrap();
        })
        .await;
    }

    #[tokio::test]
    async fn unknown_accounts_assets_and_periods_and_closed_periods_are_refused() {
        on_both_engines(OWNERS, |db| async move {
            filled(&db).await;
            let unopened = async |group: EntryGroup| {
                let mut tx = db.begin().await.unwrap();
                append(&mut tx, &group).await
            };
            let seventh = |text, period| EntryGroup { postings: vec![posting_in(text, period)], ..group([7, 7], &[]) };
            let unknown = "the account is unknown in this asset: platform_ledger_postings";
            assert!(refusal(unopened(seventh("org/nobody/unbilled<revenue/gpu 1 USD", 202_611)).await).contains(unknown));
            assert!(refusal(unopened(seventh("revenue/gpu<org/nobody/unbilled 1 USD", 202_611)).await).contains(unknown));
            assert!(refusal(unopened(seventh("org/beta/unbilled<revenue/gpu 1 EUR", 202_611)).await).contains(unknown));
            assert!(refusal(unopened(seventh("org/beta/unbilled<revenue/gpu 1 GBP", 202_611)).await).contains(unknown));
            let closed = "the accounting period is closed or unknown: platform_ledger_postings";
            let valid = "org/beta/unbilled<revenue/gpu 1 USD";
            assert!(refusal(unopened(seventh(valid, 202_612)).await).contains(closed));

            let close = async |period| {
                let mut tx = db.begin().await?;
                close_period(&mut tx, month(period)).await?;
                tx.commit().await.map_err(AppendError::from)
            };
            refusal(close(202_701).await); // never opened
            close(202_611).await.unwrap();
            refusal(close(202_611).await); // closed for ever
            assert!(refusal(post(&db, &seventh(valid, 202_611)).await).contains(closed));
            post(&db, &seventh(valid, 202_612)).await.unwrap().unwrap();
            assert_eq!(verify(&mut db.read().await.unwrap()).await.unwrap(), []);
        })
        .await;
    }

    #[tokio::test]
    async fn a_balance_beyond_64_bits_is_exact_and_never_wraps() {
        on_both_engines(OWNERS, |db| async move {
            let huge = "org/acme/unbilled<revenue/gpu 9223372036.854775807 USD";
            post(&db, &group([1, 1], &[huge])).await.unwrap().unwrap();
            let both = post(&db, &group([2, 2], &["a<b 9223372036.854775807 USD", "a<b 0.000000001 USD"])).await;
            both.unwrap().unwrap();
            for batch in 3..6 {
                post(&db, &group([batch, batch], &[huge])).await.unwrap().unwrap();
            }
            let balances = balances(&mut db.read().await.unwrap()).await.unwrap();
            let unbilled = balances.iter().find(|balance| balance.account.as_str() == "org/acme/unbilled").unwrap();
            assert_eq!((unbilled.debits, unbilled.credits), (4 * i128::from(i64::MAX), 0));
            assert_eq!(verify(&mut db.read().await.unwrap()).await.unwrap(), []);
        })
        .await;
    }

    /// A writer that goes past this crate: the header and rows it would insert. Without changes they are accepted.
    #[derive(Clone)]
    struct Raw {
        entry: [Value; 7],
        rows: Vec<[Value; 9]>,
    }

    const RAW_ENTRY: Statement = Statement {
        name: "raw entry",
        sqlite: "INSERT INTO platform_ledger_entries VALUES ($1, $2, $3, $4, $5, $6, $7, NULL)",
        postgres: "INSERT INTO platform_ledger_entries VALUES ($1, $2, $3, $4::bigint, $5::bigint, $6, $7, NULL)",
    };

    /// On PostgreSQL all rows of a group are one statement, so they go through JSON as `append` does.
    const RAW_ROWS: Statement = Statement {
    name: "raw rows",
    sqlite: "INSERT INTO platform_ledger_postings (seq, entry_no, debit_account, credit_account, asset, amount, kind, ref_seq, accounting_period, effective_at)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, 0)",
    postgres: "INSERT INTO platform_ledger_postings (seq, entry_no, debit_account, credit_account, asset, amount, kind, ref_seq, accounting_period, effective_at)
        SELECT split_part(row, '|', 1)::bigint, split_part(row, '|', 2)::bigint, split_part(row, '|', 3), split_part(row, '|', 4),
            split_part(row, '|', 5), split_part(row, '|', 6)::bigint, split_part(row, '|', 7)::smallint,
            nullif(split_part(row, '|', 8), '')::bigint, split_part(row, '|', 9)::integer, 0
        FROM unnest(string_to_array($1, ';')) AS row",
};

    impl Raw {
        /// One posting after [`filled`]: sequence 6, entry 3, batch 7.
        async fn next(db: &Database) -> Self {
            let head = head(&mut db.read().await.unwrap()).await.unwrap().unwrap();
            Self {
                entry: [3.into(), 6.into(), 6.into(), 7.into(), 7.into(), head.digest.into(), Digest::of(b"any").into()],
                rows: vec![[
                    6.into(),
                    3.into(),
                    "org/acme/unbilled".into(),
                    "revenue/gpu".into(),
                    "USD".into(),
                    1.into(),
                    1.into(),
                    Value::Null,
                    202_611.into(),
                ]],
            }
        }

        async fn write_entry(&self, tx: &mut Transaction) -> Result<(), DbError> {
            tx.execute(&RAW_ENTRY, &self.entry).await.map(drop)
        }

        async fn write_rows(&self, tx: &mut Transaction) -> Result<(), DbError> {
            if self.rows.is_empty() {
                return Ok(());
            }
            match tx.engine() {
                Engine::Sqlite => {
                    for row in &self.rows {
                        tx.execute(&RAW_ROWS, row).await?;
                    }
                }
                Engine::Postgres => {
                    let cell = |value: &Value| match value {
                        Value::Integer(number) => number.to_string(),
                        Value::Text(text) => text.clone(),
                        _ => String::new(),
                    };
                    let row = |row: &[Value; 9]| row.iter().map(cell).collect::<Vec<_>>().join("|");
                    let rows = self.rows.iter().map(row).collect::<Vec<_>>().join(";");
                    tx.execute(&RAW_ROWS, &[rows.into()]).await?;
                }
            }
            Ok(())
        }

        async fn write(&self, db: &Database) -> Result<(), DbError> {
            let mut tx = db.begin().await?;
            match db.engine() {
                Engine::Sqlite => {
                    self.write_rows(&mut tx).await?;
                    self.write_entry(&mut tx).await?;
                }
                Engine::Postgres => {
                    self.write_entry(&mut tx).await?;
                    self.write_rows(&mut tx).await?;
                }
            }
            tx.commit().await
        }
    }

    fn refused(what: &str, outcome: Result<(), DbError>) -> String {
        match outcome {
            Err(DbError::Refused { text, .. }) => text,
            other => panic!("{what}: {other:?}"),
        }
    }

    #[tokio::test]
    async fn the_database_refuses_what_a_writer_past_this_crate_could_try() {
        on_both_engines(OWNERS, |db| async move {
            filled(&db).await;
            let good = Raw::next(&db).await;
            let entry = |column: usize, value: Value| {
                let mut raw = good.clone();
                raw.entry[column] = value;
                raw
            };
            let row = |column: usize, value: Value| {
                let mut raw = good.clone();
                raw.rows[0][column] = value;
                raw
            };
            let rows = |rows: usize| {
                let mut raw = good.clone();
                raw.rows = (0_i64..)
                    .take(rows)
                    .map(|at| {
                        let mut row = good.rows[0].clone();
                        row[0] = (6 + at).into();
                        row
                    })
                    .collect();
                raw
            };
            let attempts = [
                ("entry number skipped", entry(0, 4.into()), ""),
                ("entry number used", entry(0, 2.into()), ""),
                ("sequence skipped", entry(1, 7.into()), ""),
                ("sequence used", entry(1, 5.into()), ""),
                ("more rows promised", entry(2, 7.into()), "postings fill their entry exactly"),
                ("batches replayed", entry(3, 5.into()), ""),
                ("batches skipped", entry(3, 8.into()), ""),
                ("batches backwards", entry(4, 6.into()), ""),
                (
                    "no batches",
                    {
                        let mut raw = entry(3, Value::Null);
                        raw.entry[4] = Value::Null;
                        raw
                    },
                    "come_from_batches_or_a_command",
                ),
                ("no last batch", entry(4, Value::Null), "come_from_batches_or_a_command"),
                ("broken chain", entry(5, Digest::of(b"other").into()), "an entry continues the chain"),
                ("short digest", entry(6, vec![1_u8; 31].into()), ""),
                ("empty entry", rows(0), "postings fill their entry exactly"),
                ("more rows than promised", rows(2), "postings fill their entry exactly"),
                ("row out of sequence", row(0, 7.into()), "postings fill their entry exactly"),
                ("row of a sealed sequence", row(0, 5.into()), ""),
                ("row of another entry", row(1, 4.into()), "postings fill their entry exactly"),
                ("row of a sealed entry", row(1, 2.into()), ""),
                ("unbalanced: both sides one account", row(3, "org/acme/unbilled".into()), ""),
                ("unknown account", row(2, "org/nobody/unbilled".into()), "the account is unknown in this asset"),
                ("unknown credit account", row(3, "revenue/none".into()), "the account is unknown in this asset"),
                ("wrong asset", row(4, "GBP".into()), "the account is unknown in this asset"),
                ("amount of zero", row(5, 0.into()), ""),
                ("negative amount", row(5, (-1).into()), ""),
                ("hold", row(6, 2.into()), "this kind of posting is not taken"),
                ("close", row(6, 7.into()), "this kind of posting is not taken"),
                ("unknown kind", row(6, 8.into()), ""),
                ("reversal of nothing", row(6, 5.into()), ""),
                (
                    "reversal",
                    {
                        let mut raw = row(6, 5.into());
                        raw.rows[0][7] = 1.into();
                        raw
                    },
                    "this kind of posting is not taken",
                ),
                ("post that refers", row(7, 1.into()), ""),
                ("unknown period", row(8, 202_612.into()), "the accounting period is closed or unknown"),
            ];
            for (what, raw, text) in &attempts {
                let refusal = refused(what, raw.write(&db).await);
                assert!(refusal.contains(text), "{what}: {refusal}");
            }
            // rows without an entry, and the rows of an entry a second time
            let mut tx = db.begin().await.unwrap();
            let alone = match good.write_rows(&mut tx).await {
                Ok(()) => tx.commit().await,
                Err(error) => Err(error),
            };
            refused("rows alone", alone);
            good.write(&db).await.unwrap();
            let mut tx = db.begin().await.unwrap();
            refused("second fill", good.write_rows(&mut tx).await);
            drop(tx);
            let mut tx = db.begin().await.unwrap();
            refused("second fill with new numbers", rows(2).write_rows(&mut tx).await);
        })
        .await;
    }

    #[tokio::test]
    async fn amounts_that_are_no_64_bit_integers_are_refused() {
        on_both_engines(OWNERS, |db| async move {
        filled(&db).await;
        let text = "INSERT INTO platform_ledger_postings (seq, entry_no, debit_account, credit_account, asset, amount, kind, accounting_period, effective_at)
            VALUES (6, 3, 'org/acme/unbilled', 'revenue/gpu', 'USD', 9223372036854775808, 1, 202611, 0)";
        let mut tx = db.begin().await.unwrap();
        refused("65 bits", tx.execute(&Statement { name: "wide", sqlite: text, postgres: text }, &[]).await.map(drop));
    })
    .await;
    }

    #[tokio::test]
    async fn every_table_of_the_book_is_append_only_and_balances_only_grow() {
        on_both_engines(OWNERS, |db| async move {
            filled(&db).await;
            command_to(&db, &command("a")).await.unwrap();
            let mut tx = db.begin().await.unwrap();
            close_period(&mut tx, month(202_611)).await.unwrap();
            shared_db::enqueue(
                &mut tx,
                shared_db::OutboxEvent {
                    subject: "s".to_owned(),
                    event_type: "t".to_owned(),
                    version: 1,
                    correlation_id: "c".to_owned(),
                    payload: "{}".to_owned(),
                },
            )
            .await
            .unwrap();
            tx.commit().await.unwrap();
            let tables = append_only_refusals(&db).await.unwrap();
            for table in ["accounts", "assets", "entries", "period_closes", "periods", "postings"] {
                assert!(tables.contains(&format!("platform_ledger_{table}")), "{table}");
            }
            for text in [
                "UPDATE platform_ledger_balances SET debits = debits + 1",
                "UPDATE platform_ledger_balances SET debits = 0, last_seq = last_seq + 1",
                "DELETE FROM platform_ledger_balances",
            ] {
                let mut tx = db.begin().await.unwrap();
                refused(text, tx.execute(&Statement { name: "balances", sqlite: text, postgres: text }, &[]).await.map(drop));
            }
        })
        .await;
    }

    #[tokio::test]
    async fn a_transaction_that_dies_anywhere_leaves_the_book_as_it_was() {
        on_both_engines(OWNERS, |db| async move {
            filled(&db).await;
            let before = head(&mut db.read().await.unwrap()).await.unwrap();
            let next = group([7, 8], &["org/new/unbilled<revenue/gpu 1 USD", "org/acme/unbilled<revenue/gpu 1 USD"]);
            for steps in 0..3 {
                let mut tx = db.begin().await.unwrap();
                if steps > 0 {
                    open_for(&mut tx, &next).await.unwrap();
                }
                if steps > 1 {
                    append(&mut tx, &next).await.unwrap();
                }
                drop(tx);
                let mut tx = db.read().await.unwrap();
                assert_eq!(head(&mut tx).await.unwrap(), before);
                assert_eq!(shared_db::cursor(&mut tx, FOLD).await.unwrap(), BatchNo(6));
                assert_eq!(verify(&mut tx).await.unwrap(), []);
            }
            // a second fold that dies after the first one failed cannot commit half
            let mut tx = db.begin().await.unwrap();
            append(&mut tx, &group([1, 1], &["a<b 1 USD"])).await.unwrap_err();
            assert!(matches!(tx.commit().await, Err(DbError::Aborted { .. })));
            post(&db, &next).await.unwrap().unwrap();
            assert_eq!(verify(&mut db.read().await.unwrap()).await.unwrap(), []);
        })
        .await;
    }

    #[tokio::test]
    async fn a_copy_of_the_files_taken_inside_a_transaction_opens_with_the_book_before_it() {
        let folder = tempfile::tempdir().unwrap();
        let db = Database::open_sqlite(folder.path().join("books.db"), OWNERS).await.unwrap();
        filled(&db).await;
        let before = head(&mut db.read().await.unwrap()).await.unwrap();
        let mut tx = db.begin().await.unwrap();
        let next = EntryGroup { postings: vec![posting("org/acme/unbilled<revenue/gpu 1 USD"); 5_000], ..group([7, 8], &[]) };
        append(&mut tx, &next).await.unwrap();
        for suffix in ["", "-wal"] {
            std::fs::copy(folder.path().join(format!("books.db{suffix}")), folder.path().join(format!("copy.db{suffix}"))).unwrap();
        }
        tx.commit().await.unwrap();
        let copy = Database::open_sqlite(folder.path().join("copy.db"), OWNERS).await.unwrap();
        let mut tx = copy.read().await.unwrap();
        assert_eq!(head(&mut tx).await.unwrap(), before);
        assert_eq!(verify(&mut tx).await.unwrap(), []);
        drop(tx);
        post(&copy, &next).await.unwrap().unwrap();
        assert_eq!(head(&mut copy.read().await.unwrap()).await.unwrap(), head(&mut db.read().await.unwrap()).await.unwrap());
    }

    #[tokio::test]
    async fn two_writers_of_one_cut_cannot_both_commit() {
        on_both_engines(OWNERS, |db| async move {
            filled(&db).await;
            let next = group([7, 7], &["org/acme/unbilled<revenue/gpu 1 USD"]);
            let (first, second) = tokio::join!(post(&db, &next), post(&db, &next));
            assert!(first.is_ok() != second.is_ok(), "{first:?} {second:?}");
            assert_eq!(verify(&mut db.read().await.unwrap()).await.unwrap(), []);
        })
        .await;
    }

    #[tokio::test]
    async fn a_close_and_a_posting_into_its_period_do_not_pass_each_other() {
        on_both_engines(OWNERS, |db| async move {
            filled(&db).await;
            let next = group([7, 7], &["org/acme/unbilled<revenue/gpu 1 USD"]);
            let mut posting = db.begin().await.unwrap();
            append(&mut posting, &next).await.unwrap();
            let close = async || {
                let mut tx = db.begin().await?;
                close_period(&mut tx, month(202_611)).await?;
                tx.commit().await.map_err(AppendError::from)
            };
            let (closed, posted) = tokio::join!(close(), async {
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                posting.commit().await
            });
            posted.unwrap();
            // PostgreSQL: the close saw the book before the posting, waited for it and was then refused; again it succeeds
            if let Err(error) = closed {
                assert!(refusal::<()>(Err(error)).contains("a close covers all postings so far"));
                close().await.unwrap();
            }
            refusal(post(&db, &group([8, 8], &["org/acme/unbilled<revenue/gpu 1 USD"])).await);
            assert_eq!(verify(&mut db.read().await.unwrap()).await.unwrap(), []);
        })
        .await;
    }

    /// Damage done with the triggers gone, and one violation that must be among those found.
    fn damages() -> Vec<(&'static str, Violation)> {
        let digest = |entry_no, first_seq, last_seq| Violation::EntryDigest { entry_no, first_seq, last_seq };
        let chain = |entry_no, what| Violation::Chain { entry_no, what };
        let of_command = |entry_no, problem: &str| Violation::Command { entry_no, problem: problem.to_owned() };
        let unreadable = |row: &str, problem: &str| Violation::Unreadable { row: row.to_owned(), problem: problem.to_owned() };
        let balance = |account: &str, stored: &str, summed: &str| Violation::Balance {
            account: account.to_owned(),
            asset: "USD".to_owned(),
            stored: stored.to_owned(),
            summed: summed.to_owned(),
        };
        let acme = "13000000000 debit, 3006000001 credit";
        let token = "0 debit, 3000000000 credit";
        vec![
        ("UPDATE platform_ledger_postings SET amount = amount + 1 WHERE seq = 2", digest(1, 1, 3)),
        (
            "UPDATE platform_ledger_postings SET amount = amount + 1 WHERE seq = 5",
            balance("org/acme/unbilled", acme, "13000000001 debit, 3006000001 credit"),
        ),
        ("UPDATE platform_ledger_postings SET quantity = '1' WHERE seq = 4", digest(2, 4, 5)),
        ("UPDATE platform_ledger_postings SET quantity = '01' WHERE seq = 4", unreadable("posting 4", "quantity \"01\" is not written plainly")),
        ("UPDATE platform_ledger_postings SET organization = 'beta' WHERE seq = 1", digest(1, 1, 3)),
        ("UPDATE platform_ledger_postings SET service_period = 202609 WHERE seq = 1", digest(1, 1, 3)),
        ("UPDATE platform_ledger_postings SET effective_at = 0 WHERE seq = 5", digest(2, 4, 5)),
        ("UPDATE platform_ledger_postings SET kind = 2 WHERE seq = 5", unreadable("posting 5", "kind 2 is not taken by this book")),
        ("UPDATE platform_ledger_postings SET entry_no = 1 WHERE seq = 5", Violation::Stray { seq: 5, entry_no: 1 }),
        ("DELETE FROM platform_ledger_postings WHERE seq = 2", Violation::Missing { seq: 2 }),
        ("DELETE FROM platform_ledger_postings WHERE seq >= 4", Violation::Missing { seq: 4 }),
        ("DELETE FROM platform_ledger_postings WHERE seq = 5", digest(2, 4, 5)),
        (
            "INSERT INTO platform_ledger_postings (seq, entry_no, debit_account, credit_account, asset, amount, kind, accounting_period, effective_at)
             VALUES (8, 2, 'org/acme/unbilled', 'revenue/gpu', 'USD', 5, 1, 202611, 0)",
            Violation::Stray { seq: 8, entry_no: 2 },
        ),
        ("UPDATE platform_ledger_entries SET last_batch = 3 WHERE entry_no = 1", digest(1, 1, 3)),
        ("UPDATE platform_ledger_entries SET last_batch = 3 WHERE entry_no = 1", chain(2, "first_batch")),
        ("UPDATE platform_ledger_entries SET last_batch = 5 WHERE entry_no = 2", Violation::Cut { entry_no: 2, last_batch: 5 }),
        ("UPDATE platform_ledger_entries SET entry_no = 4 WHERE entry_no = 2", chain(3, "number")),
        ("UPDATE platform_ledger_entries SET first_seq = 5 WHERE entry_no = 2", chain(2, "first_seq")),
        (
            "UPDATE platform_ledger_entries SET digest = (SELECT previous FROM platform_ledger_entries WHERE entry_no = 1) WHERE entry_no = 1",
            chain(2, "previous"),
        ),
        (
            "UPDATE platform_ledger_entries SET previous = digest WHERE entry_no = 3",
            chain(3, "previous"),
        ),
        (
            "UPDATE platform_ledger_entries SET first_batch = NULL, last_batch = NULL, command = digest WHERE entry_no = 2",
            of_command(2, "is missing"),
        ),
        ("DELETE FROM platform_ledger_commands", of_command(3, "is missing")),
        ("UPDATE platform_ledger_commands SET subject = 'b'", of_command(3, "is unreadable: its kind, subject or digest is not that of its payload")),
        ("UPDATE platform_ledger_commands SET entry_no = 2", of_command(2, "has no entry that names it")),
        ("UPDATE platform_ledger_postings SET kind = 1 WHERE seq = 7", of_command(3, "does not say what posting 7 posts")),
        ("UPDATE platform_ledger_entries SET command = previous WHERE entry_no = 3", of_command(3, "is not the one that its entry names")),
        ("DELETE FROM platform_ledger_entries WHERE entry_no = 2", Violation::Stray { seq: 5, entry_no: 2 }),
        (
            "UPDATE platform_ledger_balances SET credits = credits + 1 WHERE account = 'revenue/token'",
            balance("revenue/token", "0 debit, 3000000001 credit", token),
        ),
        ("DELETE FROM platform_ledger_balances WHERE account = 'revenue/token'", balance("revenue/token", "absent", token)),
        (
            "DELETE FROM platform_ledger_accounts WHERE account = 'revenue/token'",
            Violation::Account { seq: 5, account: "revenue/token".to_owned(), asset: "USD".to_owned() },
        ),
        (
            "UPDATE platform_ledger_postings SET asset = 'EUR', currency = 'EUR' WHERE seq = 5",
            Violation::Account { seq: 5, account: "revenue/token".to_owned(), asset: "EUR".to_owned() },
        ),
        ("DELETE FROM platform_ledger_periods", Violation::Period { seq: 1, period: 202_611, what: "was not open" }),
        (
            "INSERT INTO platform_ledger_period_closes (period, last_seq) VALUES (202611, 4)",
            Violation::Period { seq: 5, period: 202_611, what: "had been closed" },
        ),
        ("DELETE FROM shared_db_cuts WHERE cut_no = 3", Violation::Cut { entry_no: 2, last_batch: 6 }),
        ("DELETE FROM shared_db_cuts WHERE cut_no = 2", Violation::Cursor { cut_no: 3 }),
        ("UPDATE shared_db_cursors SET batch_no = 4", Violation::Cursor { cut_no: 3 }),
    ]
    }

    /// All triggers of all tables, gone in this transaction.
    async fn disarm(tx: &mut Transaction) {
        let list = Statement {
            name: "triggers",
            sqlite: "SELECT name, tbl_name FROM sqlite_schema WHERE type = 'trigger'",
            postgres: "SELECT DISTINCT relname::text, relname::text FROM pg_trigger JOIN pg_class c ON c.oid = tgrelid
            WHERE NOT tgisinternal AND relnamespace = current_schema()::regnamespace",
        };
        for row in tx.query(&list, &[]).await.unwrap() {
            let name = row.text(0).unwrap();
            let sqlite = format!("DROP TRIGGER {name}").leak();
            let postgres = format!("ALTER TABLE {name} DISABLE TRIGGER USER").leak();
            tx.execute(&Statement { name: "disarm", sqlite, postgres }, &[]).await.unwrap();
        }
    }

    #[tokio::test]
    async fn verify_names_every_damaged_row() {
        on_both_engines(OWNERS, |db| async move {
            filled(&db).await;
            command_to(&db, &command("a")).await.unwrap();
            for (damage, expected) in damages() {
                let mut tx = db.begin().await.unwrap();
                disarm(&mut tx).await;
                assert_eq!(verify(&mut tx).await.unwrap(), [], "before {damage}");
                let changed = tx.execute(&Statement { name: "damage", sqlite: damage, postgres: damage }, &[]).await.unwrap();
                assert!(changed > 0, "{damage}");
                let found = verify(&mut tx).await.unwrap();
                assert!(found.contains(&expected), "{damage}\nexpected {expected}\nfound {found:#?}");
                tx.rollback().await.unwrap();
            }
            if db.engine() == Engine::Postgres {
                let mut tx = db.begin().await.unwrap();
                disarm(&mut tx).await;
                for text in [
                    "ALTER TABLE platform_ledger_accounts DROP CONSTRAINT platform_ledger_accounts_asset_fkey",
                    "DELETE FROM platform_ledger_assets WHERE asset = 'EUR'",
                ] {
                    tx.execute(&Statement { name: "damage", sqlite: text, postgres: text }, &[]).await.unwrap();
                }
                let expected = Violation::Asset { account: "revenue/gpu".to_owned(), asset: "EUR".to_owned() };
                assert!(verify(&mut tx).await.unwrap().contains(&expected));
            }
            assert_eq!(verify(&mut db.read().await.unwrap()).await.unwrap(), []);
        })
        .await;
    }

    #[tokio::test]
    async fn ten_thousand_postings_are_one_statement_and_verify_reads_past_one_page() {
        on_both_engines(OWNERS, |db| async move {
            let rows: Vec<Posting> =
                (0..10_001).map(|n| posting(&format!("org/o{}/unbilled<revenue/gpu 0.{} USD", n % 500, n + 1))).collect();
            let started = std::time::Instant::now();
            let receipt = post(&db, &EntryGroup { postings: rows, ..group([1, 1], &[]) }).await.unwrap().unwrap();
            eprintln!("{:?}: {} postings in {:?}", db.engine(), receipt.last_seq, started.elapsed());
            assert_eq!(receipt.last_seq, 10_001);
            assert_eq!(verify(&mut db.read().await.unwrap()).await.unwrap(), []);
            let mut tx = db.begin().await.unwrap();
            disarm(&mut tx).await;
            let damage = "UPDATE platform_ledger_postings SET effective_at = effective_at + 1 WHERE seq = 10001";
            tx.execute(&Statement { name: "damage", sqlite: damage, postgres: damage }, &[]).await.unwrap();
            assert_eq!(verify(&mut tx).await.unwrap(), [Violation::EntryDigest { entry_no: 1, first_seq: 1, last_seq: 10_001 }]);
        })
        .await;
    }
}
