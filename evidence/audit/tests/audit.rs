//! The audit on both engines: chains that another program computed alike, refusals of the database itself, and damage that is named.

#[cfg(test)]
mod audit {
    use std::collections::BTreeMap;

    use platform_audit::{Action, Chain, Outcome, Record, heads, heads_at, record, records_after, records_of, verify};
    use serde_json::Value as Json;
    use shared_db::{Database, DbError, OutboxEvent, Statement};
    use shared_testkit::{append_only_refusals, on_both_engines};
    use shared_types::{BatchNo, Instant, OrganizationId};

    const OWNERS: &[&str] = &["platform-audit"];

    fn acme() -> Chain {
        Chain::Organization(OrganizationId::parse("acme").unwrap())
    }

    /// The records of `foreign/vectors.py`.
    fn vectors() -> [Record; 3] {
        let at = |text: &str| Instant::parse(text).unwrap();
        let detail = |pairs: &[(&str, &str)]| pairs.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
        let key = "tally_0QqO9M6zhAV".to_owned();
        [
            Record {
                chain: acme(),
                action: Action::OrganizationAdd,
                outcome: Outcome::Done,
                principal: "local".to_owned(),
                role: Some("operator"),
                key: None,
                target: "acme".to_owned(),
                at: at("2026-11-25T10:00:00Z"),
                count: 1,
                detail: detail(&[("name", "Acme \"€\" \\ \u{1} Ltd")]),
            },
            Record {
                chain: Chain::Deployment,
                action: Action::KeyPresent,
                outcome: Outcome::Denied,
                principal: "unknown".to_owned(),
                role: None,
                key: None,
                target: String::new(),
                at: at("2026-11-25T10:00:01.5Z"),
                count: 12_345,
                detail: detail(&[("reason", "unknown"), ("route", "GET /v1/keys"), ("last_at", "2026-11-25T10:00:59Z")]),
            },
            Record {
                chain: acme(),
                action: Action::KeyRevoke,
                outcome: Outcome::Done,
                principal: "app".to_owned(),
                role: Some("customer"),
                key: Some(key.clone()),
                target: key,
                at: at("2026-11-25T10:00:02Z"),
                count: 1,
                detail: BTreeMap::new(),
            },
        ]
    }

    async fn write(db: &Database) {
        let mut tx = db.begin().await.unwrap();
        for entry in vectors() {
            record(&mut tx, &entry).await.unwrap();
        }
        tx.commit().await.unwrap();
    }

    fn statement(text: &'static str) -> Statement {
        Statement { name: "attempt", sqlite: text, postgres: text }
    }

    #[tokio::test]
    async fn records_and_heads_are_those_that_another_program_computed() {
        let golden: Json = serde_json::from_str(include_str!("golden/vectors.json")).unwrap();
        on_both_engines(OWNERS, |db| {
            let golden = golden.clone();
            async move {
                write(&db).await;
                let mut tx = db.read().await.unwrap();
                let stored = records_after(&mut tx, 0, 10).await.unwrap();
                let found: Vec<Json> =
                    stored.iter().map(|stored| serde_json::json!({"content": stored.content, "digest": stored.digest})).collect();
                assert_eq!(Json::Array(found), golden["records"]);
                let ends = heads(&mut tx).await.unwrap();
                assert_eq!((ends.head.chains, ends.head.records), (2, 3));
                assert_eq!(Json::String(ends.head.digest.to_string()), golden["head"]);
                assert_eq!(verify(&mut tx).await.unwrap(), []);
            }
        })
        .await;
    }

    #[tokio::test]
    async fn an_earlier_head_is_found_again_and_a_chain_is_read_alone() {
        on_both_engines(OWNERS, |db| async move {
            let mut tx = db.begin().await.unwrap();
            assert_eq!(heads(&mut tx).await.unwrap().head.chains, 0);
            let mut seen = Vec::new();
            for entry in vectors() {
                record(&mut tx, &entry).await.unwrap();
                seen.push(heads(&mut tx).await.unwrap());
            }
            for (at, expected) in seen.iter().enumerate() {
                assert_eq!(heads_at(&mut tx, u64::try_from(at + 1).unwrap()).await.unwrap(), *expected);
            }
            let own: Vec<u64> = records_of(&mut tx, &acme(), 0, 10).await.unwrap().iter().map(|stored| stored.seq).collect();
            assert_eq!(own, [1, 2]);
            assert_eq!(records_of(&mut tx, &acme(), 1, 10).await.unwrap().len(), 1);
        })
        .await;
    }

    #[tokio::test]
    async fn the_database_itself_refuses_gaps_forks_and_changes() {
        on_both_engines(OWNERS, |db| async move {
        write(&db).await;
        for (text, words) in [
            (
                "INSERT INTO platform_audit_records SELECT 5, chain, 3, content, digest, digest FROM platform_audit_records WHERE record_no = 3",
                "numbered densely",
            ),
            (
                "INSERT INTO platform_audit_records SELECT 4, chain, 4, content, digest, digest FROM platform_audit_records WHERE record_no = 3",
                "continues its chain",
            ),
            (
                "INSERT INTO platform_audit_records SELECT 4, chain, 3, content, previous, digest FROM platform_audit_records WHERE record_no = 3",
                "continues its chain",
            ),
            ("UPDATE platform_audit_heads SET seq = seq + 1", "only follows its chain"),
            ("DELETE FROM platform_audit_heads", "never removed"),
        ] {
            let mut tx = db.begin().await.unwrap();
            let refused = tx.execute(&statement(text), &[]).await;
            assert!(matches!(&refused, Err(DbError::Refused { text, .. }) if text.contains(words)), "{text}: {refused:?}");
        }
        let mut tx = db.begin().await.unwrap();
        shared_db::advance(&mut tx, "test", BatchNo(0), BatchNo(1)).await.unwrap();
        let event = OutboxEvent {
            subject: "platform.audit.test".to_owned(),
            event_type: "test".to_owned(),
            version: 1,
            correlation_id: "test".to_owned(),
            payload: "{}".to_owned(),
        };
        shared_db::enqueue(&mut tx, event).await.unwrap();
        tx.commit().await.unwrap();
        let tables = append_only_refusals(&db).await.unwrap();
        assert!(tables.iter().any(|table| table == "platform_audit_records"), "{tables:?}");
    })
    .await;
    }

    #[tokio::test]
    async fn texts_that_a_caller_chooses_are_cut() {
        on_both_engines(OWNERS, |db| async move {
            let mut tx = db.begin().await.unwrap();
            let long = "é".repeat(100_000);
            let [entry, ..] = vectors();
            let entry =
                Record { outcome: Outcome::Denied, target: long.clone(), detail: BTreeMap::from([("route".to_owned(), long)]), ..entry };
            let stored = record(&mut tx, &entry).await.unwrap();
            assert_eq!(stored.member("target").unwrap().chars().count(), 512);
            assert!(stored.content.len() < 4_096);
            assert_eq!(verify(&mut tx).await.unwrap(), []);
        })
        .await;
    }
}
