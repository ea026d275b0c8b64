//! The registry's tables on both engines.

use platform_registry::store::{self, Closed, Published};
use platform_registry::{Control, ControlBody, SourceFile, Verdict, Version, drafts};
use shared_db::{Database, DbError, OutboxEvent, Statement};
use shared_testkit::{append_only_refusals, on_both_engines};
use shared_types::{BatchNo, ControlNo, Digest, Instant, Month};

use crate::levels;

pub(crate) const OWNERS: &[&str] = &["platform-registry"];

fn at(text: &str) -> Instant {
    Instant::parse(text).unwrap()
}

/// A small registry whose GPU hour costs `price`.
fn version(price: &str) -> Version {
    let text = format!(
        r#"
        [[unit]]
        id = "second"
        description = "tab\t, newline\n, quote \" and \\ ü"
        [[meter]]
        id = "gpu"
        event_type = "gpu.lease"
        aggregation = "sum"
        value = "seconds"
        unit = "second"
        [[sku]]
        id = "gpu"
        family = "gpu-cloud"
        meter = "gpu"
        [[rounding]]
        asset = "USD"
        scale = 2
        [[price_book]]
        id = "list"
        currency = "USD"
        [[price_book.price]]
        sku = "gpu"
        effective_at = "2026-01-01T00:00:00Z"
        model = "per_unit"
        unit_price = "{price}"
        [[contract]]
        id = "standard"
        default = true
        price_book = "list"
        effective_at = "2026-01-01T00:00:00Z"
        "#
    );
    Version::check(&[SourceFile { name: "all.toml".to_owned(), text }]).unwrap_or_else(|problems| panic!("{problems}"))
}

async fn publish(db: &Database, version: &Version) -> Published {
    let mut tx = db.begin().await.unwrap();
    let published = store::publish(&mut tx, version, false, at("2026-11-24T10:00:00Z")).await.unwrap();
    tx.commit().await.unwrap();
    published
}

#[tokio::test]
async fn versions_are_published_once_and_read_back() {
    on_both_engines(OWNERS, |db| async move {
        let (first, second) = (version("1"), version("2"));
        let mut tx = db.read().await.unwrap();
        assert!(store::active(&mut tx).await.unwrap().is_none());
        assert!(store::version(&mut tx, first.address()).await.unwrap().is_none());
        assert!(store::controls_after(&mut tx, ControlNo(0)).await.unwrap().is_empty());
        tx.rollback().await.unwrap();

        let address = first.address();
        assert_eq!(publish(&db, &first).await, Published { control_no: ControlNo(1), address, changed: true });
        assert_eq!(publish(&db, &first).await, Published { control_no: ControlNo(1), address, changed: false });
        assert_eq!(publish(&db, &second).await.control_no, ControlNo(2));
        // Back to the first: recorded already, but a new control record.
        assert_eq!(publish(&db, &first).await, Published { control_no: ControlNo(3), address, changed: true });

        let mut tx = db.read().await.unwrap();
        assert_eq!(store::active(&mut tx).await.unwrap().unwrap().address(), address);
        let again = store::version(&mut tx, second.address()).await.unwrap().unwrap();
        assert_eq!(again.canonical(), second.canonical());
        assert!(again.documents().eq(second.documents()));
        let versions = store::versions(&mut tx).await.unwrap();
        let summary: Vec<_> = versions.iter().map(|version| (version.address, version.control_no.0)).collect();
        assert_eq!(summary, [(second.address(), 2), (address, 3)]);
        let controls = store::controls_after(&mut tx, ControlNo(1)).await.unwrap();
        let body = |version: &Version| ControlBody::Registry { version: version.address(), rerates: false };
        let expected = [(2, body(&second)), (3, body(&first))].map(|(number, body)| Control { control_no: ControlNo(number), body });
        assert_eq!(controls, expected);
    })
    .await;
}

#[tokio::test]
async fn documents_that_versions_share_are_kept_once() {
    on_both_engines(OWNERS, |db| async move {
        for price in ["1", "2", "3"] {
            publish(&db, &version(price)).await;
        }
        let count = Statement {
            name: "count",
            sqlite: "SELECT count(*) FROM platform_registry_documents",
            postgres: "SELECT count(*) FROM platform_registry_documents",
        };
        let mut tx = db.read().await.unwrap();
        // Three price books, and five documents that all versions share.
        assert_eq!(tx.query_one(&count, &[]).await.unwrap().integer(0).unwrap(), 8);
    })
    .await;
}

#[tokio::test]
async fn other_control_records_are_numbered_in_the_same_row() {
    on_both_engines(OWNERS, |db| async move {
        publish(&db, &version("1")).await;
        let mut tx = db.begin().await.unwrap();
        let now = at("2026-11-24T10:00:00Z");
        let tick = store::append(&mut tx, ControlBody::Tick { at: now }, now).await.unwrap();
        let close = ControlBody::Close { month: Month::from_number(202_610).unwrap() };
        let close = store::append(&mut tx, close, now).await.unwrap();
        tx.commit().await.unwrap();
        assert_eq!((tick.control_no, close.control_no), (ControlNo(2), ControlNo(3)));
        let mut tx = db.read().await.unwrap();
        assert_eq!(store::controls_after(&mut tx, ControlNo(1)).await.unwrap(), [tick, close]);
        assert_eq!(store::active(&mut tx).await.unwrap().unwrap().address(), version("1").address());
    })
    .await;
}

#[tokio::test]
async fn a_month_is_closed_once_and_with_all_before_it() {
    on_both_engines(OWNERS, |db| async move {
        publish(&db, &version("1")).await;
        let month = |text| Month::parse(text).unwrap();
        let now = at("2026-11-24T10:00:00Z");
        let mut tx = db.begin().await.unwrap();
        let october = store::close(&mut tx, month("2026-10"), now).await.unwrap();
        assert_eq!(october, Closed { control_no: ControlNo(2), month: month("2026-10"), changed: true });
        for again in ["2026-10", "2026-09"] {
            assert_eq!(store::close(&mut tx, month(again), now).await.unwrap(), Closed { changed: false, ..october });
        }
        let november = store::close(&mut tx, month("2026-11"), now).await.unwrap();
        let closes = store::closes(&mut tx).await.unwrap();
        assert_eq!(closes, [(october.control_no, october.month), (november.control_no, november.month)]);
    })
    .await;
}

/// A row in each append-only table that comes with every database: refusals are tried on rows.
async fn fill_shared_tables(db: &Database) {
    let mut tx = db.begin().await.unwrap();
    shared_db::advance(&mut tx, "test", BatchNo(0), BatchNo(1)).await.unwrap();
    let event = OutboxEvent {
        subject: "platform.registry.test".to_owned(),
        event_type: "test".to_owned(),
        version: 1,
        correlation_id: "test".to_owned(),
        payload: "{}".to_owned(),
    };
    shared_db::enqueue(&mut tx, event).await.unwrap();
    tx.commit().await.unwrap();
}

/// The statement must be refused with these words.
pub(crate) async fn check_refused(db: &Database, text: &'static str, words: &str) {
    let mut tx = db.begin().await.unwrap();
    let refused = tx.execute(&Statement { name: "attempt", sqlite: text, postgres: text }, &[]).await;
    assert!(matches!(&refused, Err(DbError::Refused { text, .. }) if text.contains(words)), "{text}: {refused:?}");
}

#[tokio::test]
async fn the_database_itself_refuses_gaps_and_changes() {
    on_both_engines(OWNERS, |db| async move {
        publish(&db, &version("1")).await;
        for text in [
            "INSERT INTO platform_registry_controls SELECT 3, kind, version, payload, digest, recorded_at FROM platform_registry_controls",
            "INSERT INTO platform_registry_controls SELECT -1, kind, version, payload, digest, recorded_at FROM platform_registry_controls",
        ] {
            check_refused(&db, text, "control records are numbered densely").await;
        }
        check_refused(
            &db,
            "INSERT INTO platform_registry_controls SELECT 2, 'registry', digest, payload, digest, recorded_at FROM platform_registry_controls",
            "", // a foreign key, in each engine's words
        )
        .await;
        check_refused(
            &db,
            "INSERT INTO platform_registry_controls SELECT 2, 'tick', version, payload, digest, recorded_at FROM platform_registry_controls",
            "",
        )
        .await;
        check_refused(
            &db,
            "INSERT INTO platform_registry_versions SELECT digest, '[\"00\"]', 0 FROM platform_registry_controls",
            "a version is made of recorded documents",
        )
        .await;
        fill_shared_tables(&db).await;
        let mut tx = db.begin().await.unwrap();
        let draft_no = drafts::propose(&mut tx, &version("2"), "alice", None, at("2026-11-24T10:00:00Z")).await.unwrap().draft_no;
        drafts::review(&mut tx, draft_no, Verdict::Approved, "bob", "agreed", at("2026-11-24T10:00:00Z")).await.unwrap();
        let (draft, second) = drafts::publishable(&mut tx, draft_no).await.unwrap();
        drafts::publish(&mut tx, &draft, &second, false, "carol", at("2026-11-24T10:00:00Z")).await.unwrap();
        drafts::retire(&mut tx, version("1").address(), "carol", "wrong", at("2026-11-24T10:00:00Z")).await.unwrap();
        levels::fill(&mut tx).await;
        tx.commit().await.unwrap();
        let tables = append_only_refusals(&db).await.unwrap();
        for table in ["controls", "documents", "drafts", "level_ticks", "levels", "publications", "retirements", "reviews", "versions"] {
            assert!(tables.iter().any(|found| *found == format!("platform_registry_{table}")), "{tables:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn damage_is_noticed() {
    on_both_engines(OWNERS, |db| async move {
        publish(&db, &version("1")).await;
        // A version whose address is not the one of its documents.
        let text = "INSERT INTO platform_registry_versions SELECT digest, (SELECT documents FROM platform_registry_versions), 0 \
                    FROM platform_registry_controls";
        let mut tx = db.begin().await.unwrap();
        tx.execute(&Statement { name: "plant", sqlite: text, postgres: text }, &[]).await.unwrap();
        let control = Control { control_no: ControlNo(1), body: ControlBody::Registry { version: version("1").address(), rerates: false } };
        let error = store::version(&mut tx, control.digest()).await.unwrap_err();
        assert!(error.to_string().contains("have the address"), "{error}");
        // A control record whose payload is not the one that was hashed.
        let text = "INSERT INTO platform_registry_controls SELECT 2, kind, version, payload, digest, 0 FROM platform_registry_controls";
        tx.execute(&Statement { name: "plant", sqlite: text, postgres: text }, &[]).await.unwrap();
        let error = store::controls_after(&mut tx, ControlNo(1)).await.unwrap_err();
        assert_eq!(error.to_string(), "control record 2 is damaged");
        assert!(store::version(&mut tx, Digest::ZERO).await.unwrap().is_none());
    })
    .await;
}

#[tokio::test]
async fn a_large_registry_is_recorded_and_read_in_one_go() {
    let mut text = version("1").to_toml();
    for number in 0..3_000 {
        text += &format!("[[sku]]\nid = \"extra-{number}\"\nfamily = \"gpu-cloud\"\nmeter = \"gpu\"\n");
    }
    let large = Version::check(&[SourceFile { name: "large.toml".to_owned(), text }]).unwrap();
    on_both_engines(OWNERS, |db| {
        let large = large.clone();
        async move {
            publish(&db, &large).await;
            let mut tx = db.read().await.unwrap();
            assert_eq!(store::active(&mut tx).await.unwrap().unwrap().address(), large.address());
        }
    })
    .await;
}
