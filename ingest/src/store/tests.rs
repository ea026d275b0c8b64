//! The batch log on both engines: what it takes, and what the database itself refuses.

use shared_db::Database;
use shared_testkit::{append_only_refusals, on_both_engines};

use super::*;
use crate::header::{FORMAT, TableFile};

const OWNERS: &[&str] = &["platform-ingest"];

fn at() -> Instant {
    Instant::parse("2026-11-24T00:00:00Z").unwrap()
}

fn shard(number: u8) -> ShardId {
    ShardId::new(number).unwrap()
}

/// A header over one range of a shard that continues its state.
fn header(epoch: WriterEpoch, head: (BatchNo, Digest), before: &ShardState, last: u64) -> Header {
    let incarnation = Incarnation(before.position.incarnation.0.max(1));
    Header {
        accepted_to: at(),
        batch_no: head.0.next().unwrap(),
        format: FORMAT,
        previous: head.1,
        ranges: vec![Range {
            control_no: before.control_no,
            first: Sequence(before.position.sequence.0 + 1),
            incarnation,
            last: Sequence(last),
            last_digest: Digest::of(&last.to_be_bytes()),
            oldest_open: None,
            registry_version: before.registry_version,
            shard: before.position.shard,
        }],
        tables: ["events", "charges", "totals"]
            .map(|table| TableFile {
                bytes: 1,
                path: format!("{table}/1/x.parquet"),
                row_digest: Digest::of(table.as_bytes()),
                rows: 1,
                table: table.to_owned(),
            })
            .to_vec(),
        writer_epoch: epoch,
    }
}

async fn state(db: &Database, number: u8) -> ShardState {
    shard_states(&mut db.read().await.unwrap()).await.unwrap()[usize::from(number)].clone()
}

async fn commit(db: &Database, header: &Header, before: &ShardState) -> Result<Digest, LogError> {
    let mut tx = db.begin().await.unwrap();
    let digest = append(&mut tx, header, std::slice::from_ref(before), at()).await?;
    tx.commit().await?;
    Ok(digest)
}

async fn opened(db: &Database) -> WriterEpoch {
    let mut tx = db.begin().await.unwrap();
    let epoch = open_epoch(&mut tx, "test", at()).await.unwrap();
    tx.commit().await.unwrap();
    epoch
}

async fn log_head(db: &Database) -> (BatchNo, Digest) {
    head(&mut db.read().await.unwrap()).await.unwrap()
}

#[tokio::test]
async fn batches_follow_each_other_and_are_read_back() {
    on_both_engines(OWNERS, |db| async move {
        let mut tx = db.begin().await.unwrap();
        for statement in STATEMENTS {
            tx.prepare(statement).await.unwrap();
        }
        tx.rollback().await.unwrap();
        let epoch = opened(&db).await;
        assert_eq!(shard_states(&mut db.read().await.unwrap()).await.unwrap().len(), 64);
        for last in [10, 11, 30] {
            let before = state(&db, 5).await;
            commit(&db, &header(epoch, log_head(&db).await, &before, last), &before).await.unwrap();
        }
        let mut tx = db.read().await.unwrap();
        let headers = batches_after(&mut tx, BatchNo(0), 10).await.unwrap();
        assert_eq!(headers.iter().map(|(header, _)| header.batch_no.0).collect::<Vec<_>>(), [1, 2, 3]);
        assert_eq!(batches_after(&mut tx, BatchNo(2), 10).await.unwrap(), headers[2..]);
        assert_eq!(ranges_of(&mut tx, BatchNo(3)).await.unwrap(), headers[2].0.ranges);
        for (sequence, batch_no) in [(1, Some(1)), (10, Some(1)), (11, Some(2)), (12, Some(3)), (30, Some(3)), (31, None)] {
            let position = Position { shard: shard(5), incarnation: Incarnation(1), sequence: Sequence(sequence) };
            assert_eq!(batch_of(&mut tx, position).await.unwrap(), batch_no.map(BatchNo), "{sequence}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_later_writer_fences_the_earlier_one() {
    on_both_engines(OWNERS, |db| async move {
        let first = opened(&db).await;
        let before = state(&db, 0).await;
        commit(&db, &header(first, log_head(&db).await, &before, 5), &before).await.unwrap();
        let stale = state(&db, 0).await;
        let second = opened(&db).await;
        assert_eq!(second, WriterEpoch(first.0 + 1));
        let refused = commit(&db, &header(first, log_head(&db).await, &stale, 9), &stale).await.unwrap_err();
        assert!(format!("{refused:?}").contains("fenced"), "{refused:?}");
        commit(&db, &header(second, log_head(&db).await, &stale, 9), &stale).await.unwrap();
        // The same records again, from a position that is no longer the shard's.
        let refused = commit(&db, &header(second, log_head(&db).await, &stale, 12), &stale).await.unwrap_err();
        assert!(matches!(refused, LogError::Database(_) | LogError::Fenced { .. }), "{refused:?}");
        assert_eq!(log_head(&db).await.0, BatchNo(2));
        assert_eq!(state(&db, 0).await.position.sequence, Sequence(9), "a refused batch leaves nothing behind");
    })
    .await;
}

#[tokio::test]
async fn gaps_forks_and_wrong_numbers_are_refused_by_the_database() {
    on_both_engines(OWNERS, |db| async move {
        let epoch = opened(&db).await;
        let before = state(&db, 1).await;
        let good = header(epoch, log_head(&db).await, &before, 5);
        let mut number = good.clone();
        number.batch_no = BatchNo(2);
        let mut fork = good.clone();
        fork.previous = Digest::of(b"another history");
        let mut gap = good.clone();
        gap.ranges[0].first = Sequence(2);
        let mut backwards = good.clone();
        backwards.ranges[0].last = Sequence(0);
        for (what, wrong) in [("number", number), ("fork", fork), ("gap", gap), ("backwards", backwards)] {
            assert!(commit(&db, &wrong, &before).await.is_err(), "{what}");
            assert_eq!(log_head(&db).await.0, BatchNo(0), "{what}");
        }
        let elsewhere = ShardState { digest: Digest::of(b"elsewhere"), ..before.clone() };
        assert!(matches!(commit(&db, &good, &elsewhere).await, Err(LogError::Fenced { moved: 0, wanted: 1 })));
        commit(&db, &good, &before).await.unwrap();
        // A new incarnation begins at 1, and nothing goes back to an old one.
        let before = state(&db, 1).await;
        let mut reborn = header(epoch, log_head(&db).await, &before, 3);
        reborn.ranges[0].incarnation = Incarnation(2);
        reborn.ranges[0].first = Sequence(1);
        commit(&db, &reborn, &before).await.unwrap();
        let before = state(&db, 1).await;
        let mut old = header(epoch, log_head(&db).await, &before, 9);
        old.ranges[0].incarnation = Incarnation(1);
        old.ranges[0].first = Sequence(6);
        assert!(commit(&db, &old, &before).await.is_err());
    })
    .await;
}

#[tokio::test]
async fn nothing_in_the_log_can_be_changed() {
    on_both_engines(OWNERS, |db| async move {
        let epoch = opened(&db).await;
        let before = state(&db, 1).await;
        commit(&db, &header(epoch, log_head(&db).await, &before, 5), &before).await.unwrap();
        let mut tx = db.begin().await.unwrap();
        let event = shared_db::OutboxEvent {
            subject: "platform.ingest.batch-committed".to_owned(),
            event_type: "platform.ingest.batch-committed".to_owned(),
            version: 1,
            correlation_id: "c".to_owned(),
            payload: "{}".to_owned(),
        };
        shared_db::enqueue(&mut tx, event).await.unwrap();
        shared_db::advance(&mut tx, "test", BatchNo(0), BatchNo(1)).await.unwrap();
        tx.commit().await.unwrap();
        let tables = append_only_refusals(&db).await.unwrap();
        for table in ["platform_ingest_batches", "platform_ingest_ranges", "platform_ingest_writer_epochs"] {
            assert!(tables.iter().any(|found| found == table), "{table} is append-only: {tables:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_damaged_header_is_named() {
    on_both_engines(OWNERS, |db| async move {
        if db.engine() != shared_db::Engine::Sqlite {
            return;
        }
        let epoch = opened(&db).await;
        let before = state(&db, 1).await;
        commit(&db, &header(epoch, log_head(&db).await, &before, 5), &before).await.unwrap();
        let mut tx = db.begin().await.unwrap();
        for sql in [
            "DROP TRIGGER platform_ingest_batches_append_only_update",
            "UPDATE platform_ingest_batches SET header = replace(header, '\"rows\":1', '\"rows\":2')",
        ] {
            tx.execute(&Statement { name: "damage", sqlite: sql, postgres: sql }, &[]).await.unwrap();
        }
        tx.commit().await.unwrap();
        let found = batches_after(&mut db.read().await.unwrap(), BatchNo(0), 10).await.unwrap_err();
        assert!(matches!(found, LogError::Header { batch_no: BatchNo(1), source: None }), "{found:?}");
    })
    .await;
}
