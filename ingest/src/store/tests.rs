//! The batch log on both engines: what it takes, and what the database itself refuses.

use shared_db::Database;
use shared_testkit::{append_only_refusals, on_both_engines};

use super::*;
use crate::header::{FORMAT, TableFile};
use crate::merge::Level;

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

/// Commits so many batches of one record each to shard 5.
async fn committed(db: &Database, batches: u64) -> WriterEpoch {
    let epoch = opened(db).await;
    for _ in 0..batches {
        let before = state(db, 5).await;
        let next = before.position.sequence.0 + 1;
        commit(db, &header(epoch, log_head(db).await, &before, next), &before).await.unwrap();
    }
    epoch
}

/// Records a merge that follows the last one.
async fn record(db: &Database, epoch: WriterEpoch, (first, last): (u64, u64), level: Level) -> Result<Digest, LogError> {
    let mut tx = db.begin().await.unwrap();
    let (number, previous) = merge_head(&mut tx).await?;
    let merge = Merge {
        accepted_to: at(),
        first: BatchNo(first),
        format: crate::merge::FORMAT,
        last: BatchNo(last),
        last_digest: Digest::of(b"last"),
        level,
        merge_no: number + 1,
        previous,
        tables: Vec::new(),
        writer_epoch: epoch,
    };
    let digest = append_merge(&mut tx, &merge, at()).await?;
    tx.commit().await?;
    Ok(digest)
}

fn ranges(merges: &[Merge]) -> Vec<(u64, u64)> {
    merges.iter().map(|merge| (merge.first.0, merge.last.0)).collect()
}

#[tokio::test]
async fn the_newest_merges_say_where_rows_are() {
    on_both_engines(OWNERS, |db| async move {
        let live = async || {
            let found = merges_live(&mut db.read().await.unwrap()).await.unwrap();
            ranges(&found.into_iter().map(Result::unwrap).collect::<Vec<_>>())
        };
        let epoch = committed(&db, 20).await;
        assert_eq!(live().await, []);
        for range in [(11, 12), (2, 4), (5, 6)] {
            record(&db, epoch, range, Level::Part).await.unwrap();
        }
        assert_eq!(live().await, [(2, 4), (5, 6), (11, 12)]);
        record(&db, epoch, (2, 7), Level::Hour).await.unwrap();
        assert_eq!(live().await, [(2, 7), (11, 12)]);
        record(&db, epoch, (1, 12), Level::Day).await.unwrap();
        record(&db, epoch, (13, 20), Level::Hour).await.unwrap();
        assert_eq!(live().await, [(1, 12), (13, 20)]);
        let mut tx = db.read().await.unwrap();
        assert_eq!(ranges(&merges_within(&mut tx, BatchNo(2), BatchNo(12)).await.unwrap()), [(11, 12), (2, 4), (5, 6), (2, 7)]);
        let all = merges_after(&mut tx, 4, 10).await.unwrap();
        assert_eq!(all.iter().map(|(merge, _)| merge.merge_no).collect::<Vec<_>>(), [5, 6]);
        assert_eq!(merge_head(&mut tx).await.unwrap(), (6, all[1].1));
        assert_eq!(all[1].0.previous, all[0].1);
    })
    .await;
}

#[tokio::test]
async fn merges_that_cross_repeat_or_run_ahead_are_refused_by_the_database() {
    on_both_engines(OWNERS, |db| async move {
        let epoch = committed(&db, 10).await;
        record(&db, epoch, (3, 6), Level::Part).await.unwrap();
        for (why, range) in [
            ("crosses the beginning of another", (2, 4)),
            ("crosses the end of another", (5, 8)),
            ("lies within another", (4, 5)),
            ("begins with another and ends within it", (3, 5)),
            ("ends with another and begins within it", (4, 6)),
            ("is another again", (3, 6)),
            ("holds one batch", (8, 8)),
            ("runs backwards", (9, 8)),
            ("holds a batch that is not committed", (9, 11)),
        ] {
            assert!(record(&db, epoch, range, Level::Hour).await.is_err(), "a merge that {why}");
        }
        let later = opened(&db).await;
        let refused = record(&db, epoch, (1, 9), Level::Hour).await.unwrap_err();
        assert!(format!("{refused:?}").contains("fenced"), "{refused:?}");
        record(&db, later, (1, 9), Level::Hour).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn batches_in_which_a_stream_begins_another_life_are_known() {
    on_both_engines(OWNERS, |db| async move {
        let epoch = committed(&db, 3).await;
        for (number, incarnation) in [(9, 1), (5, 2), (5, 2), (9, 1), (9, 4), (5, 3)] {
            let before = state(&db, number).await;
            let same = before.position.incarnation.0 == incarnation;
            let first = if same { before.position.sequence.0 + 1 } else { 1 };
            let mut next = header(epoch, log_head(&db).await, &before, first);
            next.ranges[0].incarnation = Incarnation(incarnation);
            next.ranges[0].first = Sequence(first);
            commit(&db, &next, &before).await.unwrap();
        }
        let mut tx = db.read().await.unwrap();
        // Batch 4 begins the first life of shard 9: nothing of it lies before.
        assert_eq!(lives_begun(&mut tx, BatchNo(0)).await.unwrap(), [5, 8, 9].map(BatchNo));
        assert_eq!(lives_begun(&mut tx, BatchNo(5)).await.unwrap(), [8, 9].map(BatchNo));
    })
    .await;
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
        let before = state(&db, 1).await;
        commit(&db, &header(epoch, log_head(&db).await, &before, 6), &before).await.unwrap();
        record(&db, epoch, (1, 2), Level::Part).await.unwrap();
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
        let table = ["platform_ingest_batches", "platform_ingest_merges", "platform_ingest_ranges", "platform_ingest_writer_epochs"];
        for table in table {
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
