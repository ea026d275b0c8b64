//! Draft, review, publication, retirement on both engines: in the code, and where somebody writes past it.

use platform_registry::drafts::{self, DraftNo};
use platform_registry::store;
use platform_registry::{DraftError, SourceFile, StoreError, Verdict, Version};
use shared_db::Database;
use shared_testkit::on_both_engines;
use shared_types::{ControlNo, Instant};

use crate::store::check_refused;

const OWNERS: &[&str] = &["platform-registry"];

fn at() -> Instant {
    Instant::parse("2026-11-24T10:00:00Z").unwrap()
}

/// A small registry whose GPU hour costs `price`, sold as `text`.
fn version(price: &str, text: &str) -> Version {
    let text = format!(
        r#"
        [[unit]]
        id = "second"
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
        description = "{text}"
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
        "#
    );
    Version::check(&[SourceFile { name: "all.toml".to_owned(), text }]).unwrap_or_else(|problems| panic!("{problems}"))
}

/// Proposes as alice, reviews as somebody, publishes as carol. The first error ends it.
async fn whole(db: &Database, version: &Version, reviewer: &str, verdict: Verdict) -> Result<ControlNo, DraftError> {
    let mut tx = db.begin().await.unwrap();
    let draft = drafts::propose(&mut tx, version, "alice", Some("cheaper"), at()).await?;
    assert_eq!((draft.state(), draft.version), ("proposed", version.address()));
    let draft = drafts::review(&mut tx, draft.draft_no, verdict, reviewer, "agreed in the meeting", at()).await?;
    assert_eq!(draft.state(), verdict.name());
    let (draft, found) = drafts::publishable(&mut tx, draft.draft_no).await?;
    assert_eq!(found.canonical(), version.canonical());
    let published = drafts::publish(&mut tx, &draft, &found, false, "carol", at()).await?;
    assert_eq!(drafts::draft(&mut tx, draft.draft_no).await?.state(), "published");
    tx.commit().await.unwrap();
    Ok(published.control_no)
}

#[tokio::test]
async fn a_draft_about_money_is_approved_by_another_person_and_then_published() {
    on_both_engines(OWNERS, |db| async move {
        let first = version("1", "GPU");
        let own = whole(&db, &first, "alice", Verdict::Approved).await.unwrap_err();
        assert_eq!(own.to_string(), "draft 1 is about money and was proposed by alice: another person has to approve it");
        let rejected = whole(&db, &first, "bob", Verdict::Rejected).await.unwrap_err();
        assert_eq!(rejected.to_string(), "draft 1 is rejected: it has to be approved before it is published");
        assert_eq!(whole(&db, &first, "bob", Verdict::Approved).await.unwrap(), ControlNo(1));
        // A description is no money: one person is enough.
        assert_eq!(whole(&db, &version("1", "one GPU"), "alice", Verdict::Approved).await.unwrap(), ControlNo(2));
        let own = whole(&db, &version("2", "one GPU"), "alice", Verdict::Approved).await.unwrap_err();
        assert!(matches!(own, DraftError::FourEyes { .. }), "{own}");
        let same = whole(&db, &version("1", "one GPU"), "bob", Verdict::Approved).await.unwrap_err();
        assert!(matches!(same, DraftError::Same(_)), "{same}");
        let mut tx = db.read().await.unwrap();
        let all = drafts::drafts(&mut tx).await.unwrap();
        let summary: Vec<_> = all.iter().map(|draft| (draft.draft_no.0, draft.state(), draft.money, draft.proposed_by.as_str())).collect();
        assert_eq!(summary, [(1, "published", true, "alice"), (2, "published", false, "alice")]);
        assert_eq!(store::active(&mut tx).await.unwrap().unwrap().address(), version("1", "one GPU").address());
    })
    .await;
}

#[tokio::test]
async fn what_is_published_is_what_was_reviewed() {
    on_both_engines(OWNERS, |db| async move {
        whole(&db, &version("1", "GPU"), "bob", Verdict::Approved).await.unwrap();
        let mut tx = db.begin().await.unwrap();
        let older = drafts::propose(&mut tx, &version("2", "GPU"), "alice", None, at()).await.unwrap().draft_no;
        drafts::review(&mut tx, older, Verdict::Approved, "bob", "yes", at()).await.unwrap();
        let again = drafts::review(&mut tx, older, Verdict::Rejected, "bob", "no", at()).await.unwrap_err();
        assert_eq!(again.to_string(), "draft 2 was approved by bob already: propose it again to have it reviewed again");
        tx.commit().await.unwrap();
        whole(&db, &version("3", "GPU"), "bob", Verdict::Approved).await.unwrap();
        let mut tx = db.begin().await.unwrap();
        let outdated = drafts::publishable(&mut tx, older).await.unwrap_err();
        assert!(outdated.to_string().contains("is not in force any more: propose it again"), "{outdated}");
        let unknown = drafts::review(&mut tx, DraftNo(9), Verdict::Approved, "bob", "yes", at()).await.unwrap_err();
        assert!(matches!(unknown, DraftError::NoDraft(DraftNo(9))), "{unknown}");
        let silent = drafts::review(&mut tx, older, Verdict::Approved, "bob", "  ", at()).await.unwrap_err();
        assert_eq!(silent.to_string(), "reason is 0 characters long: write 1 to 1000");
        // Published twice is published once.
        let (draft, version) = drafts::publishable(&mut tx, DraftNo(3)).await.unwrap();
        assert!(!drafts::publish(&mut tx, &draft, &version, false, "carol", at()).await.unwrap().changed);
    })
    .await;
}

#[tokio::test]
async fn a_retired_version_stays_and_is_not_put_in_force_again() {
    on_both_engines(OWNERS, |db| async move {
        let (first, second) = (version("1", "GPU"), version("2", "GPU"));
        whole(&db, &first, "bob", Verdict::Approved).await.unwrap();
        let mut tx = db.begin().await.unwrap();
        let in_force = drafts::retire(&mut tx, first.address(), "carol", "wrong", at()).await.unwrap_err();
        assert!(matches!(in_force, DraftError::InForce(_)), "{in_force}");
        let unknown = drafts::retire(&mut tx, second.address(), "carol", "wrong", at()).await.unwrap_err();
        assert!(matches!(unknown, DraftError::NoVersion(_)), "{unknown}");
        store::publish(&mut tx, &second, false, at()).await.unwrap();
        drafts::retire(&mut tx, first.address(), "carol", "wrong", at()).await.unwrap();
        let twice = drafts::retire(&mut tx, first.address(), "carol", "wrong", at()).await.unwrap_err();
        assert!(matches!(twice, DraftError::Retired(_)), "{twice}");
        let proposed = drafts::propose(&mut tx, &first, "alice", None, at()).await.unwrap_err();
        assert!(matches!(proposed, DraftError::Retired(_)), "{proposed}");
        let published = store::publish(&mut tx, &first, false, at()).await.unwrap_err();
        assert!(matches!(published, StoreError::Retired(_)), "{published}");
        tx.commit().await.unwrap();
        let mut tx = db.read().await.unwrap();
        assert_eq!(store::version(&mut tx, first.address()).await.unwrap().unwrap().canonical(), first.canonical());
        let retired = store::retirements(&mut tx).await.unwrap();
        assert_eq!(
            retired.iter().map(|retired| (retired.address, retired.retired_by.as_str())).collect::<Vec<_>>(),
            [(first.address(), "carol")]
        );
    })
    .await;
}

#[tokio::test]
async fn the_database_refuses_what_the_code_refuses() {
    on_both_engines(OWNERS, |db| async move {
        whole(&db, &version("1", "GPU"), "bob", Verdict::Approved).await.unwrap();
        let mut tx = db.begin().await.unwrap();
        drafts::propose(&mut tx, &version("2", "GPU"), "alice", None, at()).await.unwrap();
        store::publish(&mut tx, &version("3", "GPU"), false, at()).await.unwrap();
        drafts::retire(&mut tx, version("1", "GPU").address(), "carol", "wrong", at()).await.unwrap();
        tx.commit().await.unwrap();
        for (text, words) in [
            (
                "INSERT INTO platform_registry_reviews SELECT 2, 'approved', reason, 'alice', 0 FROM platform_registry_reviews",
                "whoever proposed it does not approve it",
            ),
            ("INSERT INTO platform_registry_publications SELECT 2, 2, published_by FROM platform_registry_publications", "what is published was approved"),
            (
                "INSERT INTO platform_registry_drafts SELECT 7, version, documents, base, 0, note, proposed_by, 0 FROM platform_registry_drafts WHERE draft_no = 2",
                "drafts are numbered densely",
            ),
            (
                "INSERT INTO platform_registry_drafts SELECT 3, version, '[\"00\"]', base, 0, note, proposed_by, 0 FROM platform_registry_drafts WHERE draft_no = 2",
                "a draft is made of recorded documents",
            ),
            (
                "INSERT INTO platform_registry_retirements SELECT version, 'x', 'x', 0 FROM platform_registry_controls WHERE control_no = 2",
                "the version in force is not retired",
            ),
            (
                "INSERT INTO platform_registry_controls SELECT 3, kind, version, payload, digest, 0 FROM platform_registry_controls WHERE control_no = 1",
                "a retired version is not put in force",
            ),
        ] {
            check_refused(&db, text, words).await;
        }
        // Rejecting is open to whoever proposed it.
        let mut tx = db.begin().await.unwrap();
        drafts::review(&mut tx, DraftNo(2), Verdict::Rejected, "alice", "withdrawn", at()).await.unwrap();
        tx.commit().await.unwrap();
        check_refused(
            &db,
            "INSERT INTO platform_registry_publications SELECT 2, 2, published_by FROM platform_registry_publications",
            "what is published was approved",
        )
        .await;
    })
    .await;
}
