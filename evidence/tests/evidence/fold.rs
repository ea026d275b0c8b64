//! The fold on both engines: roots, refusals, replay, verification, published files.

use platform_evidence::{
    AuditHead, CutInput, Entry, FoldError, LeafInput, LedgerHead, LogError, PublishError, SaltKey, Signer, State, StateError, VerifyError,
    fold, leaf_hash, publish, tree, verify,
};
use shared_db::{Database, OutboxEvent, Statement};
use shared_testkit::{append_only_refusals, on_both_engines};
use shared_types::{AssetId, BatchNo, Digest, Instant, MeterId, Month, OrganizationId, Quantity, Sum, UnitId};

const OWNERS: &[&str] = &["platform-evidence"];

fn salts() -> SaltKey {
    SaltKey::from_bytes(&[3; 32])
}

fn signer() -> Signer {
    Signer::new("example.com/evidence", &[4; 32]).unwrap()
}

fn month(number: i32) -> Month {
    Month::from_number(number).unwrap()
}

fn leaf(log_seq: u64, at: Instant) -> LeafInput {
    LeafInput {
        log_seq,
        meter: MeterId::parse("tokens").unwrap(),
        unit: UnitId::parse("token").unwrap(),
        quantity: Quantity::from_units(i128::from(log_seq) * 1_500_000_000).unwrap(),
        start_at: at,
        end_at: None,
        registry_version: Digest::of(b"registry"),
        commitment: Digest::of(&log_seq.to_be_bytes()),
    }
}

/// Batch `no` as a cut of its own: organizations `org-0..=no % 5` get `no % 4 + 1` leaves each; `sizes` continues the logs.
fn cut(no: u64, sizes: &mut std::collections::BTreeMap<(OrganizationId, Month), u64>) -> CutInput {
    let of = month(if no.is_multiple_of(3) { 202_612 } else { 202_611 });
    let (mut leaves, mut sums) = (Vec::new(), Vec::new());
    for organization in 0..=no % 5 {
        let organization = OrganizationId::parse(&format!("org-{organization}")).unwrap();
        let size = sizes.entry((organization.clone(), of)).or_default();
        let new = (*size..*size + no % 4 + 1).map(|log_seq| leaf(log_seq, of.start())).collect();
        *size += no % 4 + 1;
        leaves.push((organization.clone(), of, new));
        sums.push((organization, AssetId::parse("USD").unwrap(), Sum::from_units(i128::from(no) * 7).unwrap()));
    }
    CutInput {
        first: BatchNo(no),
        last: BatchNo(no),
        last_digest: Digest::of(&no.to_be_bytes()),
        leaves,
        sums,
        organizations: vec![OrganizationId::parse("idle").unwrap()],
        ledger: LedgerHead { batch_no: BatchNo(no), seq: no, digest: Digest::of(&[no.to_be_bytes(), no.to_be_bytes()].concat()) },
        registry_version: Digest::of(b"registry"),
        audit: None,
        recorded_at: Instant::from_micros(1_800_000_000_000_000 + i64::try_from(no).unwrap()).unwrap(),
    }
}

fn cuts(count: u64) -> Vec<CutInput> {
    let mut sizes = std::collections::BTreeMap::new();
    (1..=count).map(|no| cut(no, &mut sizes)).collect()
}

async fn fold_all(db: &Database, cuts: &[CutInput]) -> Vec<platform_evidence::Checkpoint> {
    let mut checkpoints = Vec::new();
    for cut in cuts {
        let mut tx = db.begin().await.unwrap();
        checkpoints.extend(fold(&mut tx, cut, &salts(), &signer()).await.unwrap());
        tx.commit().await.unwrap();
    }
    checkpoints
}

async fn refused(db: &Database, cut: &CutInput) -> FoldError {
    let mut tx = db.begin().await.unwrap();
    fold(&mut tx, cut, &salts(), &signer()).await.unwrap_err()
}

#[tokio::test]
async fn a_replay_of_the_cuts_gives_every_checkpoint_its_root() {
    on_both_engines(OWNERS, async |db| {
        let cuts = cuts(20);
        let checkpoints = fold_all(&db, &cuts).await;
        assert_eq!(checkpoints.len(), cuts.len());
        let (mut state, mut entries) = (State::default(), Vec::new());
        for (cut, checkpoint) in cuts.iter().zip(&checkpoints) {
            state.apply(cut).unwrap();
            assert_eq!(checkpoint.entry.organizations, state.head(&salts()));
            entries.push(leaf_hash(checkpoint.entry.canonical().as_bytes()));
            assert_eq!(checkpoint.head, tree::Head { size: cut.last.0, root: tree::root(&entries) });
            assert_eq!(signer().key().open(&checkpoint.note).unwrap(), checkpoint.head);
        }
        let mut tx = db.read().await.unwrap();
        let verified = verify(&mut tx, &salts(), signer().key()).await.unwrap();
        assert_eq!(verified.state, state);
        assert_eq!((verified.batch_no, verified.head), (BatchNo(20), checkpoints.last().unwrap().head));
        assert_eq!(verified.organizations.size, 6);
        assert_eq!(shared_db::cuts(&mut tx, platform_evidence::FOLD).await.unwrap().len(), 20);
        assert_eq!(platform_evidence::latest(&mut tx).await.unwrap().as_ref(), checkpoints.last());
        assert_eq!(platform_evidence::checkpoints(&mut tx, 18, 9).await.unwrap(), checkpoints[18..]);
    })
    .await;
}

#[tokio::test]
async fn every_organization_has_a_proof_that_leads_to_the_signed_root() {
    on_both_engines(OWNERS, async |db| {
        fold_all(&db, &cuts(11)).await;
        let mut tx = db.read().await.unwrap();
        let state = verify(&mut tx, &salts(), signer().key()).await.unwrap().state;
        for organization in state.organizations() {
            let proof = platform_evidence::proof_of(&mut tx, organization, &salts()).await.unwrap().unwrap();
            assert_eq!(proof.leaf, state.leaf(organization, &salts()));
            let (entry, head) = (&proof.checkpoint.entry, proof.checkpoint.head);
            assert_eq!(signer().key().open(&proof.checkpoint.note).unwrap(), head);
            let organizations = entry.organizations;
            assert_eq!(
                tree::root_of_inclusion(proof.leaf.hash(), proof.index, organizations.size, &proof.path),
                Some(organizations.root),
                "{organization}"
            );
            assert_eq!(tree::root_of_inclusion(entry.hash(), head.size - 1, head.size, &proof.entry_path), Some(head.root));
        }
        assert!(platform_evidence::proof_of(&mut tx, &OrganizationId::parse("nobody").unwrap(), &salts()).await.unwrap().is_none());
    })
    .await;
}

#[tokio::test]
async fn the_first_checkpoint_may_be_that_of_an_empty_deployment() {
    on_both_engines(OWNERS, async |db| {
        let mut empty = cut(1, &mut Default::default());
        (empty.last, empty.last_digest) = (BatchNo(0), Digest::ZERO);
        (empty.leaves, empty.sums, empty.organizations) = (vec![], vec![], vec![]);
        let checkpoint = fold_all(&db, &[empty]).await.pop().unwrap();
        assert_eq!(checkpoint.entry.organizations, tree::Head { size: 0, root: Digest::of(b"") });
        verify(&mut db.read().await.unwrap(), &salts(), signer().key()).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn an_unchanged_state_appends_nothing_and_a_changed_head_does() {
    on_both_engines(OWNERS, async |db| {
        let cuts = cuts(2);
        fold_all(&db, &cuts).await;
        let idle = CutInput {
            first: BatchNo(3),
            leaves: vec![],
            sums: vec![],
            recorded_at: Instant::from_micros(1_900_000_000_000_000).unwrap(),
            ..cuts[1].clone()
        };
        assert_eq!(fold_all(&db, std::slice::from_ref(&idle)).await, []);
        let registry = CutInput { registry_version: Digest::of(b"next"), ..idle.clone() };
        let invoice = CutInput { ledger: LedgerHead { seq: 3, digest: Digest::of(b"invoice"), ..idle.ledger }, ..registry.clone() };
        let known = CutInput { organizations: vec![OrganizationId::parse("new").unwrap()], ..invoice.clone() };
        for (size, cut) in [(3, registry), (4, invoice.clone()), (5, known)] {
            let made = fold_all(&db, &[cut]).await;
            assert_eq!(made.iter().map(|made| made.head.size).collect::<Vec<_>>(), [size]);
        }
        let audited = |chains: u64| CutInput {
            audit: Some(AuditHead { chains, records: chains * 3, digest: Digest::of(&chains.to_be_bytes()) }),
            ..invoice.clone()
        };
        let made = fold_all(&db, &[audited(2)]).await;
        assert_eq!((made[0].head.size, made[0].entry.audit), (6, audited(2).audit));
        assert!(made[0].entry.canonical().ends_with("\"v\":\"2\"}"));
        for (head, wrong) in [
            ("audit", audited(1)),
            ("audit", invoice.clone()),
            ("ledger", CutInput { ledger: idle.ledger, ..invoice.clone() }),
            ("ledger", CutInput { ledger: LedgerHead { digest: Digest::ZERO, ..invoice.ledger }, ..invoice.clone() }),
            ("batch", CutInput { last_digest: Digest::ZERO, ..invoice.clone() }),
        ] {
            let error = refused(&db, &wrong).await;
            assert!(matches!(error, FoldError::Fork { head: found, tree_size: 6 } if found == head), "{error}");
        }
        let unbatched = CutInput { sums: cuts[1].sums.clone(), ..invoice };
        assert!(matches!(refused(&db, &unbatched).await, FoldError::Unbatched));
        verify(&mut db.read().await.unwrap(), &salts(), signer().key()).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn gaps_repeats_and_cuts_beyond_the_ledger_are_refused_and_leave_nothing_behind() {
    on_both_engines(OWNERS, async |db| {
        let cuts = cuts(4);
        fold_all(&db, &cuts[..2]).await;
        let before = verify(&mut db.read().await.unwrap(), &salts(), signer().key()).await.unwrap();
        for wrong in [&cuts[1], &cuts[3]] {
            assert!(matches!(refused(&db, wrong).await, FoldError::Range { cursor: BatchNo(2), .. }));
        }
        let mut behind = cuts[2].clone();
        behind.ledger.batch_no = BatchNo(2);
        assert!(matches!(refused(&db, &behind).await, FoldError::BeyondLedger { last: BatchNo(3), ledger: BatchNo(2) }));
        let mut gap = cuts[2].clone();
        gap.leaves[0].2.remove(0);
        assert!(matches!(refused(&db, &gap).await, FoldError::State(StateError::Log(LogError::Gap { expected: 0, found: 1, .. }))));
        let mut repeat = cuts[2].clone();
        let first = repeat.leaves[0].2[0].clone();
        repeat.leaves[0].2.insert(1, first);
        assert!(matches!(refused(&db, &repeat).await, FoldError::State(StateError::Log(LogError::Repeat { .. }))));
        let mut huge = cuts[2].clone();
        huge.sums[0].2 = Sum::parse("99999999999999999999999999999.999999999").unwrap();
        assert!(matches!(refused(&db, &huge).await, FoldError::State(StateError::Sum { .. })));
        assert_eq!(verify(&mut db.read().await.unwrap(), &salts(), signer().key()).await.unwrap(), before);
        fold_all(&db, &cuts[2..]).await;
        // The outbox is append-only too and must not be empty.
        let mut tx = db.begin().await.unwrap();
        let text = || "test".to_owned();
        let event = OutboxEvent { subject: text(), event_type: text(), version: 1, correlation_id: text(), payload: text() };
        shared_db::enqueue(&mut tx, event).await.unwrap();
        tx.commit().await.unwrap();
        let tables = append_only_refusals(&db).await.unwrap();
        for table in ["platform_evidence_checkpoints", "platform_evidence_nodes"] {
            assert!(tables.iter().any(|found| found == table), "{table}");
        }
    })
    .await;
}

/// Runs a statement against the triggers' will, as someone who owns the file would.
async fn tamper(db: &Database, statements: &[&'static str]) {
    let mut tx = db.begin().await.unwrap();
    for text in statements {
        tx.execute(&Statement { name: "tamper", sqlite: text, postgres: text }, &[]).await.unwrap();
    }
    tx.commit().await.unwrap();
}

#[tokio::test]
async fn verification_names_what_was_changed() {
    let drop = |table: &str, trigger: &str| format!("DROP TRIGGER {table}_{trigger}");
    let checkpoints = "platform_evidence_checkpoints";
    let cases: [(String, &'static str, &str); 9] = [
        (
            drop(checkpoints, "append_only_update"),
            "UPDATE platform_evidence_checkpoints SET root = zeroblob(32) WHERE tree_size = 3",
            "the root of checkpoint 3",
        ),
        (
            drop(checkpoints, "append_only_update"),
            "UPDATE platform_evidence_checkpoints SET note = (SELECT note FROM platform_evidence_checkpoints WHERE tree_size = 2) WHERE tree_size = 3",
            "the signed head of checkpoint 3",
        ),
        (
            drop(checkpoints, "append_only_update"),
            "UPDATE platform_evidence_checkpoints SET note = replace(note, 'example.com', 'example.net') WHERE tree_size = 4",
            "the note of checkpoint 4",
        ),
        (
            drop(checkpoints, "append_only_update"),
            "UPDATE platform_evidence_checkpoints SET entry = replace(entry, '\"batch_no\":\"2\"', '\"batch_no\":\"1\"') WHERE tree_size = 2",
            "the root of checkpoint 2",
        ),
        (
            drop(checkpoints, "append_only_delete"),
            "DELETE FROM platform_evidence_checkpoints WHERE tree_size = 2",
            "checkpoint 2 is missing",
        ),
        (
            drop("platform_evidence_nodes", "append_only_update"),
            "UPDATE platform_evidence_nodes SET hash = zeroblob(32) WHERE level = 1 AND node_no = 1",
            "node 1 of level 1",
        ),
        (
            drop("platform_evidence_logs", "grow"),
            "UPDATE platform_evidence_logs SET frontier = unhex(hex(substr(frontier, 1, 8)) || hex(randomblob(length(frontier) - 8))) WHERE organization = 'org-0'",
            "the leaf hash of org-0",
        ),
        (String::new(), "UPDATE platform_evidence_sums SET amount = amount + 1 WHERE organization = 'org-1'", "the leaf hash of org-1"),
        (
            drop("platform_evidence_organizations", "fixed"),
            "UPDATE platform_evidence_organizations SET salted = randomblob(32) WHERE organization = 'idle'",
            "the salted organization of idle",
        ),
    ];
    for (trigger, change, message) in cases {
        let folder = tempfile::tempdir().unwrap();
        let db = Database::open_sqlite(folder.path().join("evidence.db"), OWNERS).await.unwrap();
        fold_all(&db, &cuts(6)).await;
        if !trigger.is_empty() {
            tamper(&db, &[trigger.leak()]).await;
        }
        tamper(&db, &[change]).await;
        let error = verify(&mut db.read().await.unwrap(), &salts(), signer().key()).await.unwrap_err();
        assert!(error.to_string().contains(message), "{change}: {error}");
        db.close().await;
    }
    let folder = tempfile::tempdir().unwrap();
    let db = Database::open_sqlite(folder.path().join("evidence.db"), OWNERS).await.unwrap();
    fold_all(&db, &cuts(2)).await;
    let other = Signer::new("example.com/evidence", &[5; 32]).unwrap();
    let error = verify(&mut db.read().await.unwrap(), &salts(), other.key()).await.unwrap_err();
    assert!(matches!(error, VerifyError::Note { tree_size: 1, .. }));
}

#[tokio::test]
async fn published_files_are_a_tiled_log() {
    let folder = tempfile::tempdir().unwrap();
    let files = folder.path().join("log");
    std::fs::create_dir(&files).unwrap();
    let db = Database::open_sqlite(folder.path().join("evidence.db"), OWNERS).await.unwrap();
    let key = signer().key().clone();
    assert_eq!(publish(&mut db.read().await.unwrap(), &files, &key).await.unwrap().files, 0);
    // Heads alone change, so that many checkpoints cost little.
    let mut cut = cuts(1).remove(0);
    let mut entries = Vec::new();
    for seq in 1..=600_u64 {
        let mut tx = db.begin().await.unwrap();
        let made = fold(&mut tx, &cut, &salts(), &signer()).await.unwrap().unwrap();
        tx.commit().await.unwrap();
        entries.push(made.entry.canonical());
        if [1, 2, 255, 256, 300, 600].contains(&seq) {
            assert_eq!(publish(&mut db.read().await.unwrap(), &files, &key).await.unwrap().size, seq);
            assert_eq!(publish(&mut db.read().await.unwrap(), &files, &key).await.unwrap().files, 0);
            check_files(&files, &key, &entries);
        }
        (cut.first, cut.leaves, cut.sums) = (BatchNo(2), vec![], vec![]);
        cut.ledger = LedgerHead { seq: seq + 1, digest: Digest::of(&seq.to_be_bytes()), ..cut.ledger };
    }
    assert!(!files.join("tile/0/000.p").exists() && !files.join("tile/entries/001.p").exists());
    assert!(files.join("tile/entries/002.p/88").exists() && files.join("tile/1/000.p/2").exists());

    // Without its checkpoint the folder is written again over what is there.
    std::fs::remove_file(files.join("checkpoint")).unwrap();
    std::fs::remove_file(files.join("tile/0/001")).unwrap();
    assert_eq!(publish(&mut db.read().await.unwrap(), &files, &key).await.unwrap().files, 2);
    check_files(&files, &key, &entries);

    // A changed tile is never overwritten, a longer or other history never continued.
    std::fs::remove_file(files.join("checkpoint")).unwrap();
    std::fs::write(files.join("tile/0/001"), [0; 32]).unwrap();
    let error = publish(&mut db.read().await.unwrap(), &files, &key).await.unwrap_err();
    assert!(matches!(error, PublishError::Changed { .. }), "{error}");
    for head in [tree::Head { size: 601, root: Digest::ZERO }, tree::Head { size: 600, root: Digest::ZERO }] {
        std::fs::write(files.join("checkpoint"), signer().sign(head).unwrap()).unwrap();
        let error = publish(&mut db.read().await.unwrap(), &files, &key).await.unwrap_err();
        assert!(matches!(error, PublishError::Fork { stored: 600, .. }), "{error}");
    }
}

/// Reads the folder as tlog_tiles' client does: every tile is authenticated against the signed root.
fn check_files(folder: &std::path::Path, key: &platform_evidence::LogKey, entries: &[String]) {
    let head = key.open(&std::fs::read_to_string(folder.join("checkpoint")).unwrap()).unwrap();
    assert_eq!(usize::try_from(head.size).unwrap(), entries.len());
    let reader = Folder(folder.to_owned());
    let tiles = tlog_tiles::TileHashReader::new(head.size, tlog_tiles::Hash(head.root.0), &reader);
    for (index, text) in entries.iter().enumerate().filter(|(index, _)| index % 37 == 0 || index + 1 == entries.len()) {
        let index = u64::try_from(index).unwrap();
        let proof = tlog_tiles::prove_record(head.size, index, &tiles).unwrap();
        let hash = tlog_tiles::record_hash(text.as_bytes());
        tlog_tiles::check_record(&proof, head.size, tlog_tiles::Hash(head.root.0), index, hash).unwrap();
    }
    let mut read = Vec::new();
    for number in 0..entries.len().div_ceil(256) {
        let width = (entries.len() - number * 256).min(256);
        let partial = if width == 256 { String::new() } else { format!(".p/{width}") };
        let bytes = std::fs::read(folder.join(format!("tile/entries/{number:03}{partial}"))).unwrap();
        let mut rest = bytes.as_slice();
        while let Some((length, after)) = rest.split_first_chunk::<2>() {
            let (text, after) = after.split_at(u16::from_be_bytes(*length).into());
            Entry::parse(std::str::from_utf8(text).unwrap()).unwrap();
            read.push(String::from_utf8(text.to_vec()).unwrap());
            rest = after;
        }
    }
    assert_eq!(read, entries);
}

struct Folder(std::path::PathBuf);

impl tlog_tiles::TileReader for Folder {
    fn height(&self) -> u8 {
        8
    }

    fn read_tiles(&self, tiles: &[tlog_tiles::Tile]) -> Result<Vec<Vec<u8>>, tlog_tiles::Error> {
        let read = |tile: &tlog_tiles::Tile| std::fs::read(self.0.join(tile.path().replacen("tile/8/", "tile/", 1))).unwrap();
        Ok(tiles.iter().map(read).collect())
    }

    fn save_tiles(&self, _: &[tlog_tiles::Tile], _: &[Vec<u8>]) {}
}
