//! A month on its way from deltas to numbers, on both engines: each step once, whatever is asked again.

#[cfg(test)]
mod billing {
    use std::collections::BTreeMap;
    use std::num::NonZeroU16;
    use std::sync::Arc;

    use platform_billing::terms::{Over, Rule, Scope, Term, Termed};
    use platform_billing::{
        CloseError, Held, InvoiceId, KeyDelta, Policies, PriceSum, Rerated, Rounding, RoundingMode, STATEMENTS, ShardEnd, SkuText, Terms,
        close_of, closes, draft_organization, finish_drafts, fold, held, hold, invoice, invoices_after, issue, lines_hold, organizations,
        postings_of, record_opinion, totals, unissued,
    };
    use shared_db::{Database, DbError, Statement};
    use shared_testkit::{append_only_refusals, on_both_engines};
    use shared_types::{
        Amount, AssetId, BatchNo, ContractId, Digest, Instant, Month, OrganizationId, PriceId, Quantity, ShardId, SkuId, UnitId,
    };

    const OWNERS: &[&str] = &["platform-ledger", "platform-billing"];

    fn month(text: &str) -> Month {
        Month::parse(text).unwrap()
    }

    fn at(text: &str) -> Instant {
        Instant::parse(text).unwrap()
    }

    fn organization(text: &str) -> OrganizationId {
        OrganizationId::parse(text).unwrap()
    }

    /// `organization currency service accounting amount total log-size`: ten units in one reading.
    fn delta(text: &str) -> KeyDelta {
        let words: Vec<&str> = text.split(' ').collect();
        let [who, currency, service, accounting, amount, total, size] = words[..] else { panic!("{text}") };
        KeyDelta {
            organization: organization(who),
            contract: ContractId::parse("standard").unwrap(),
            contract_line: Arc::from("standard/gpu"),
            sku: SkuId::parse("gpu").unwrap(),
            service_period: month(service),
            currency: AssetId::parse(currency).unwrap(),
            family: Arc::from("gpu"),
            accounting_period: month(accounting),
            quantity: Quantity::parse("10").unwrap(),
            amount: Amount::parse(amount).unwrap().units().into(),
            readings: 1,
            total: Amount::parse(total).unwrap(),
            prices: vec![PriceSum {
                price_id: PriceId::parse("list:gpu:1").unwrap(),
                quantity: Quantity::parse("10").unwrap(),
                readings: 1,
            }],
            log_sizes: BTreeMap::from([(month(service), size.parse().unwrap())]),
            rerated: None,
        }
    }

    fn policies() -> Policies {
        let rounding = Rounding { mode: RoundingMode::HalfAwayFromZero, scale: 2 };
        Policies {
            roundings: ["USD", "EUR"].map(|currency| (AssetId::parse(currency).unwrap(), rounding)).into(),
            skus: [(SkuId::parse("gpu").unwrap(), SkuText { description: "GPU".to_owned(), unit: UnitId::parse("hour").unwrap() })].into(),
            terms: Terms::default(),
        }
    }

    /// `zulu`, which uses nothing, owes 100 dollars from October on; the default contract has a discount of 10 % from November on.
    fn terms() -> Terms {
        let termed = |contract: &str, from: &str, rule: Rule| Termed {
            contract: ContractId::parse(contract).unwrap(),
            currency: AssetId::parse("USD").unwrap(),
            from: month(from),
            until: None,
            over: Over::Everything,
            terms: vec![Term {
                id: "term".to_owned(),
                description: "a term".to_owned(),
                rule,
                months: NonZeroU16::MIN,
                scope: Scope::default(),
            }]
            .into(),
        };
        let least = Rule::MinimumSpend { amount: Amount::parse("100").unwrap() };
        let off = Rule::Discount { percent: Quantity::parse("10").unwrap() };
        let own = [(organization("zulu"), vec![termed("zulu-2026", "2026-10", least)])];
        Terms { own: own.into(), default: vec![termed("standard", "2026-11", off)], ..Terms::default() }
    }

    /// Shards of a batch, all of which have `oldest_open` as their oldest unclosed month.
    fn ends(shards: std::ops::Range<u8>, oldest_open: Option<&str>, batch_no: u64) -> Vec<ShardEnd> {
        let end = |shard| ShardEnd {
            shard: ShardId::new(shard).unwrap(),
            oldest_open: oldest_open.map(month),
            registry_version: Digest([9; 32]),
            batch_no: BatchNo(batch_no),
        };
        shards.map(end).collect()
    }

    /// Folds one batch as the role does: postings, totals and passes, months closed, all in one transaction. The months that closed.
    async fn take(db: &Database, batch: u64, deltas: &[&str], ends: &[ShardEnd]) -> Result<Vec<String>, CloseError> {
        let deltas: Vec<KeyDelta> = deltas.iter().map(|text| delta(text)).collect();
        let group = postings_of(BatchNo(batch), BatchNo(batch), at("2026-11-02T00:00:00Z"), &deltas).unwrap();
        let mut tx = db.begin().await?;
        platform_ledger::open_for(&mut tx, &group).await.unwrap();
        platform_ledger::append(&mut tx, &group).await.unwrap();
        let closed = fold(&mut tx, BatchNo(batch), &deltas, ends).await?;
        for period in &closed {
            platform_ledger::close_through(&mut tx, *period).await.unwrap();
        }
        tx.commit().await?;
        Ok(closed.iter().map(ToString::to_string).collect())
    }

    /// Drafts everything of a closed month, as the role does.
    async fn draft_all(db: &Database, period: &str) -> usize {
        draft_by(db, period, &policies()).await
    }

    async fn draft_by(db: &Database, period: &str, policies: &Policies) -> usize {
        let mut tx = db.begin().await.unwrap();
        let close = close_of(&mut tx, month(period)).await.unwrap();
        let mut drafted = 0;
        for organization in organizations(&mut tx, &close, &policies.terms, None, 100).await.unwrap() {
            drafted += draft_organization(&mut tx, &close, &organization, policies).await.unwrap();
            // Asked again, nothing is drafted twice.
            draft_organization(&mut tx, &close, &organization, policies).await.unwrap();
        }
        finish_drafts(&mut tx, &close).await.unwrap();
        tx.commit().await.unwrap();
        drafted
    }

    async fn issue_all(db: &Database, period: &str) -> Vec<(String, u64)> {
        let mut numbers = Vec::new();
        let drafts = unissued(&mut db.read().await.unwrap(), month(period), 100).await.unwrap();
        for invoice_id in drafts {
            let mut tx = db.begin().await.unwrap();
            let issued = issue(&mut tx, &invoice_id, "TALLY", at("2026-12-01T09:00:00Z")).await.unwrap();
            let again = issue(&mut tx, &invoice_id, "TALLY", at("2026-12-02T09:00:00Z")).await.unwrap();
            assert_eq!(issued, again, "an invoice is issued once");
            tx.commit().await.unwrap();
            numbers.push((invoice_id.to_string(), issued.number));
        }
        numbers
    }

    /// Organization, total and lines as `kind amount exact rounding quantity` of each invoice of a month, in order.
    async fn shown(db: &Database, period: &str) -> Vec<String> {
        let mut tx = db.read().await.unwrap();
        let mut invoices = invoices_after(&mut tx, "", 100).await.unwrap();
        invoices.retain(|stored| stored.invoice.period == month(period));
        invoices.sort_by(|a, b| (&a.invoice.organization, &a.invoice.currency).cmp(&(&b.invoice.organization, &b.invoice.currency)));
        let mut shown = Vec::new();
        for stored in invoices {
            assert!(lines_hold(&mut tx, &stored.invoice).await.unwrap());
            let invoice = stored.invoice;
            let logs: Vec<String> = invoice.logs.iter().map(|log| format!("{}[{}..{})", log.month, log.from, log.to)).collect();
            let mut text = format!("{} {} {} {}", invoice.organization, invoice.total, invoice.currency, logs.join(" "));
            for line in invoice.lines {
                text += &format!(
                    "; {} {}: {} exact {} rounding {} quantity {}",
                    line.service_period,
                    line.kind.name(),
                    line.amount,
                    line.exact,
                    line.rounding,
                    line.quantity
                );
            }
            shown.push(text);
        }
        shown
    }

    async fn balance(db: &Database, account: &str) -> i128 {
        let balances = platform_ledger::balances(&mut db.read().await.unwrap()).await.unwrap();
        balances.iter().filter(|balance| balance.account.as_str() == account).map(|balance| balance.debits - balance.credits).sum()
    }

    #[tokio::test]
    async fn every_statement_prepares_on_both_engines() {
        on_both_engines(OWNERS, |db| async move {
            for statement in &STATEMENTS {
                db.begin().await.unwrap().prepare(statement).await.unwrap();
            }
        })
        .await;
    }

    #[tokio::test]
    async fn a_month_closes_with_the_last_shard_and_late_usage_adjusts_the_next_invoice() {
        on_both_engines(OWNERS, |db| async move {
            let first =
                ["acme USD 2026-10 2026-10 1.004 1.004 1", "beta USD 2026-10 2026-10 2 2 1", "acme USD 2026-10 2026-10 0.5 1.504 2"];
            assert!(take(&db, 1, &first, &ends(0..64, None, 1)).await.unwrap().is_empty());
            // Half of the shards pass the close; November usage and October usage of shards that have not passed go on.
            assert!(take(&db, 2, &["beta EUR 2026-10 2026-10 7 7 2"], &ends(0..32, Some("2026-11"), 2)).await.unwrap().is_empty());
            assert!(matches!(close_of(&mut db.read().await.unwrap(), month("2026-10")).await, Err(CloseError::Open { .. })));
            let more = ["acme USD 2026-11 2026-11 3.006 3.006 1"];
            assert_eq!(take(&db, 3, &more, &ends(16..64, Some("2026-11"), 3)).await.unwrap(), ["2026-10"]);
            assert_eq!(draft_all(&db, "2026-10").await, 3);
            assert_eq!(
                shown(&db, "2026-10").await,
                [
                    "acme 1.5 USD 2026-10[0..2); 2026-10 usage: 1.5 exact 1.504 rounding -0.004 quantity 20",
                    "beta 7 EUR 2026-10[0..2); 2026-10 usage: 7 exact 7 rounding 0 quantity 10",
                    "beta 2 USD 2026-10[0..2); 2026-10 usage: 2 exact 2 rounding 0 quantity 10",
                ]
            );
            let numbers = issue_all(&db, "2026-10").await;
            assert_eq!(numbers.iter().map(|(_, number)| *number).collect::<Vec<_>>(), [1, 2, 3]);
            assert_eq!(balance(&db, "org/acme/unbilled").await, 3_006_000_000);
            assert_eq!(balance(&db, "org/acme/receivable").await, 1_500_000_000);
            assert_eq!(balance(&db, "rounding").await, 4_000_000);

            // October usage that comes late stands in November's books and adjusts its invoice.
            let late = ["acme USD 2026-10 2026-11 0.002 1.506 3", "acme USD 2026-11 2026-11 1 4.006 2"];
            assert!(take(&db, 4, &late, &ends(0..64, Some("2026-11"), 4)).await.unwrap().is_empty());
            assert_eq!(take(&db, 5, &[], &ends(0..64, Some("2026-12"), 5)).await.unwrap(), ["2026-11"]);
            assert_eq!(draft_all(&db, "2026-11").await, 1);
            assert_eq!(
                shown(&db, "2026-11").await,
                ["acme 4.02 USD 2026-10[2..3) 2026-11[0..2); 2026-10 adjustment: 0.01 exact 0.002 rounding 0.008 quantity 10; \
                     2026-11 usage: 4.01 exact 4.006 rounding 0.004 quantity 20"]
            );
            issue_all(&db, "2026-11").await;
            assert_eq!(balance(&db, "org/acme/unbilled").await, 0);
            assert_eq!(balance(&db, "org/acme/receivable").await, 5_520_000_000);
            let mut tx = db.read().await.unwrap();
            assert_eq!(platform_ledger::verify(&mut tx).await.unwrap(), []);
            assert_eq!(totals(&mut tx).await.unwrap().len(), 5);
        })
        .await;
    }

    /// `period term: amount of spend, before, after` of the lines of terms of a month's invoices.
    async fn shown_terms(db: &Database, period: &str) -> Vec<String> {
        let mut shown = Vec::new();
        for stored in invoices_after(&mut db.read().await.unwrap(), "", 100).await.unwrap() {
            let invoice = stored.invoice;
            assert!(lines_hold(&mut db.read().await.unwrap(), &invoice).await.unwrap());
            for term in invoice.terms.iter().filter(|_| invoice.period == month(period)) {
                let (of, amount, before, after) = (term.contract_line(), term.amount, term.invoiced_before, term.term_amount);
                shown.push(format!(
                    "{} {} {of}: {amount} of {}, {before} to {after}",
                    invoice.organization, term.service_period, term.spend
                ));
            }
        }
        shown.sort();
        shown
    }

    #[tokio::test]
    async fn terms_are_owed_without_usage_move_with_late_usage_and_are_booked_beside_it() {
        on_both_engines(OWNERS, |db| async move {
            let policies = Policies { terms: terms(), ..policies() };
            take(&db, 1, &["acme USD 2026-10 2026-10 10 10 1"], &ends(0..64, Some("2026-11"), 1)).await.unwrap();
            let close = close_of(&mut db.read().await.unwrap(), month("2026-10")).await.unwrap();
            let mut tx = db.read().await.unwrap();
            for (after, limit, expected) in [(None, 1, "acme"), (Some("acme"), 1, "zulu"), (Some("acme"), 9, "zulu"), (Some("zulu"), 9, "")]
            {
                let after = after.map(organization);
                let found = organizations(&mut tx, &close, &policies.terms, after.as_ref(), limit).await.unwrap();
                assert_eq!(found.iter().map(|id| id.as_str()).collect::<Vec<_>>().join(" "), expected);
            }
            drop(tx);
            assert_eq!(draft_by(&db, "2026-10", &policies).await, 2);
            assert_eq!(shown_terms(&db, "2026-10").await, ["zulu 2026-10 zulu-2026#term: 100 of 0, 0 to 100"]);
            issue_all(&db, "2026-10").await;
            assert_eq!(balance(&db, "org/zulu/receivable").await, 100_000_000_000);
            assert_eq!(balance(&db, "terms/minimum_spend").await, -100_000_000_000);

            // A discount of 10 % from November on; late usage of October has none.
            let november = ["acme USD 2026-10 2026-11 5 15 2", "acme USD 2026-11 2026-11 20 20 1"];
            take(&db, 2, &november, &ends(0..64, Some("2026-12"), 2)).await.unwrap();
            assert_eq!(draft_by(&db, "2026-11", &policies).await, 2);
            assert_eq!(
                shown_terms(&db, "2026-11").await,
                ["acme 2026-11 standard#term: -2 of 20, 0 to -2", "zulu 2026-11 zulu-2026#term: 100 of 0, 0 to 100"]
            );
            issue_all(&db, "2026-11").await;
            // Late usage of November: only what moved is on the next invoice. December's own spend is first spoken of there.
            let december = ["acme USD 2026-11 2026-12 5 25 2"];
            take(&db, 3, &december, &ends(0..64, Some("2027-01"), 3)).await.unwrap();
            draft_by(&db, "2026-12", &policies).await;
            assert_eq!(
                shown_terms(&db, "2026-12").await,
                ["acme 2026-11 standard#term: -0.5 of 25, -2 to -2.5", "zulu 2026-12 zulu-2026#term: 100 of 0, 0 to 100"]
            );
            issue_all(&db, "2026-12").await;
            assert_eq!(balance(&db, "terms/discount").await, 2_500_000_000);
            assert_eq!(balance(&db, "org/acme/receivable").await, 37_500_000_000);
            assert_eq!(balance(&db, "org/acme/unbilled").await, 0);
            assert_eq!(platform_ledger::verify(&mut db.read().await.unwrap()).await.unwrap(), []);
        })
        .await;
    }

    #[tokio::test]
    async fn two_closes_in_one_cut_are_two_months() {
        on_both_engines(OWNERS, |db| async move {
            let mut both = ends(0..64, Some("2026-10"), 1);
            both.extend(ends(0..64, Some("2026-11"), 2));
            let deltas = ["acme USD 2026-09 2026-09 1 1 1", "acme USD 2026-10 2026-10 2 2 1"];
            assert_eq!(take(&db, 1, &deltas, &both).await.unwrap(), ["2026-09", "2026-10"]);
            assert_eq!(draft_all(&db, "2026-09").await, 1);
            assert_eq!(draft_all(&db, "2026-10").await, 1);
            assert_eq!(shown(&db, "2026-09").await, ["acme 1 USD 2026-09[0..1); 2026-09 usage: 1 exact 1 rounding 0 quantity 10"]);
            assert_eq!(shown(&db, "2026-10").await, ["acme 2 USD 2026-10[0..1); 2026-10 usage: 2 exact 2 rounding 0 quantity 10"]);
        })
        .await;
    }

    #[tokio::test]
    async fn a_month_is_provisional_until_the_second_engine_agrees() {
        on_both_engines(OWNERS, |db| async move {
            take(&db, 1, &["acme USD 2026-10 2026-10 1 1 1"], &ends(0..64, Some("2026-11"), 1)).await.unwrap();
            let mut tx = db.begin().await.unwrap();
            let october = month("2026-10");
            assert!(close_of(&mut tx, october).await.unwrap().provisional());
            assert!(matches!(
                record_opinion(&mut tx, month("2026-11"), true, "{}", at("2026-12-01T00:00:00Z")).await,
                Err(CloseError::Open { .. })
            ));
            for (agrees, provisional) in [(false, true), (true, false), (false, true)] {
                record_opinion(&mut tx, october, agrees, "{}", at("2026-12-01T00:00:00Z")).await.unwrap();
                assert_eq!(close_of(&mut tx, october).await.unwrap().provisional(), provisional);
            }
            assert_eq!(closes(&mut tx).await.unwrap().len(), 1);
        })
        .await;
    }

    /// The statement must be refused with these words.
    async fn refused(db: &Database, text: &'static str, words: &str) {
        let mut tx = db.begin().await.unwrap();
        let outcome = match tx.execute(&Statement { name: "attempt", sqlite: text, postgres: text }, &[]).await {
            Ok(_) => tx.commit().await.map(|()| 0),
            Err(error) => Err(error),
        };
        assert!(matches!(&outcome, Err(DbError::Refused { text, .. }) if text.contains(words)), "{text}: {outcome:?}");
    }

    #[tokio::test]
    async fn the_database_itself_refuses_early_late_and_changed_rows() {
        on_both_engines(OWNERS, |db| async move {
            take(&db, 1, &["acme USD 2026-10 2026-10 1 1 1"], &ends(0..64, Some("2026-11"), 1)).await.unwrap();
            let mut tx = db.begin().await.unwrap();
            let late = fold(&mut tx, BatchNo(2), &[delta("acme USD 2026-10 2026-10 1 2 2")], &[]).await.unwrap_err();
            let said = format!("{:?}", late);
            assert!(said.contains("the accounting period is closed: platform_billing_totals") || said.contains("only grow"), "{said}");
            drop(tx);
            refused(&db, "UPDATE platform_billing_totals SET amount = 2", "totals of an open month only grow: platform_billing_totals")
                .await;
            refused(&db, "DELETE FROM platform_billing_totals", "totals are never removed").await;
            refused(&db, "INSERT INTO platform_billing_drafts (period, invoices) VALUES (202610, 1)", "drafts are counted").await;
            let early = "INSERT INTO platform_billing_closes SELECT 202611, registry_version, 1 FROM platform_billing_closes";
            refused(&db, early, "a month closes when all shards have passed it").await;
            // One with usage, one that owes a minimum without.
            assert_eq!(draft_by(&db, "2026-10", &Policies { terms: terms(), ..policies() }).await, 2);
            let late = "INSERT INTO platform_billing_invoices \
                        SELECT 'other', period, 'beta', currency, total, content, registry_version, 0 FROM platform_billing_invoices \
                        JOIN platform_billing_closes USING (period)";
            refused(&db, late, "the drafts of the month are complete").await;
            let gap = "INSERT INTO platform_billing_issues SELECT 'TALLY', 2, invoice_id, NULL, 0 FROM platform_billing_invoices";
            refused(&db, gap, "numbers have no gap").await;
            issue_all(&db, "2026-10").await;
            let mut tx = db.begin().await.unwrap();
            record_opinion(&mut tx, month("2026-10"), true, "{}", at("2026-12-01T00:00:00Z")).await.unwrap();
            let event = shared_db::OutboxEvent {
                subject: "platform.billing.test".to_owned(),
                event_type: "test".to_owned(),
                version: 1,
                correlation_id: "test".to_owned(),
                payload: "{}".to_owned(),
            };
            shared_db::enqueue(&mut tx, event).await.unwrap();
            let by = Rerated { batch_no: BatchNo(2), registry_version: Digest([7; 32]) };
            let again = KeyDelta { rerated: Some(by), ..delta("acme USD 2026-10 2026-11 1 1 1") };
            fold(&mut tx, BatchNo(2), &[again], &[]).await.unwrap();
            let left = Held { organization: "beta".parse().unwrap(), period: month("2026-10"), problem: "too much".to_owned() };
            hold(&mut tx, &left).await.unwrap();
            assert_eq!(held(&mut tx).await.unwrap(), [left]);
            tx.commit().await.unwrap();
            let tables = append_only_refusals(&db).await.unwrap();
            for table in ["passes", "closes", "invoices", "lines", "term_lines", "drafts", "issues", "opinions", "reratings", "held"] {
                let table = format!("platform_billing_{table}");
                assert!(tables.contains(&table), "{table} in {tables:?}");
            }
            assert!(tables.contains(&"platform_ledger_commands".to_owned()), "{tables:?}");
            let missing = invoice(&mut db.read().await.unwrap(), "inv-nothing").await.unwrap_err();
            assert!(missing.to_string().contains("inv-nothing"), "{missing}");
            assert_eq!(InvoiceId::named("x").to_string(), "x");
        })
        .await;
    }
}
