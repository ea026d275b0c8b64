//! The index against a map in memory: in order, over crashes, and with its files deleted, cut and garbled.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;

type Model = HashMap<(ShardId, IdentityHash), Entry>;

fn options() -> IndexOptions {
    // Small tables, so that a few thousand entries make many of them.
    IndexOptions { deployment: "d".to_owned(), cache_bytes: 1 << 20, memtable_bytes: 16 << 10 }
}

/// A random stream that needs no crate and gives the same on each run (splitmix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit.max(1)
    }
}

fn identity(number: u64) -> (ShardId, IdentityHash) {
    let Digest(digest) = Digest::of(&number.to_be_bytes());
    (ShardId::new(digest[31] % 64).unwrap(), IdentityHash::from_slice(&digest[..16]).unwrap())
}

fn entry(number: u64) -> Entry {
    let shard = identity(number).0;
    let position = Position { shard, incarnation: Incarnation(1), sequence: Sequence(number) };
    Entry::new(position, EntryOutcome::Accepted, &Digest::of(&number.to_le_bytes()))
}

/// Batch `no` (from 1) holds `size` identities that no other batch holds.
fn batch(no: u64, size: u64) -> Vec<(ShardId, IdentityHash, Entry)> {
    (0..size)
        .map(|at| {
            let number = no * 10_000 + at;
            let (shard, identity) = identity(number);
            (shard, identity, entry(number))
        })
        .collect()
}

fn digest_of(no: u64) -> Digest {
    if no == 0 { Digest::ZERO } else { Digest::of(format!("batch {no}").as_bytes()) }
}

fn apply(index: &Index, no: u64, size: u64) {
    index.apply(&batch(no, size), BatchNo(no), &digest_of(no)).unwrap();
}

fn model(sizes: &[u64], through: u64) -> Model {
    (1..=through).flat_map(|no| batch(no, sizes[no as usize - 1])).map(|(shard, identity, entry)| ((shard, identity), entry)).collect()
}

/// Every identity of `sizes` and some strangers: those of batches up to `through` are known, the others are not.
fn check(index: &Index, sizes: &[u64], through: u64) -> Result<(), IndexError> {
    let model = model(sizes, through);
    let last = sizes.len() as u64;
    let mut asked: Vec<_> = (1..=last).flat_map(|no| batch(no, sizes[no as usize - 1])).map(|(s, i, _)| (s, i)).collect();
    asked.extend((0..200).map(|number| identity(u64::MAX - number)));
    let answers = index.get_many(&asked)?;
    assert_eq!(answers.len(), asked.len());
    for (asked, answer) in asked.iter().zip(answers) {
        assert_eq!(answer, model.get(asked).copied(), "{asked:?} at batch {through}");
    }
    assert_eq!(index.entries(), model.len() as u64);
    Ok(())
}

/// What a process killed now would leave: the files as they are at one moment. The store's own threads may be merging tables;
/// then the copy is made again.
fn image(of: &Path) -> tempfile::TempDir {
    for _ in 0..200 {
        let target = tempfile::tempdir().unwrap();
        let before = listing(of);
        if copy(of, target.path()).is_ok() && listing(of).is_ok_and(|after| before.is_ok_and(|before| before == after)) {
            return target;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("the store does not come to rest");
}

fn listing(dir: &Path) -> io::Result<Vec<(PathBuf, u64, std::time::SystemTime)>> {
    files(dir).into_iter().map(|path| fs::metadata(&path).and_then(|metadata| Ok((path, metadata.len(), metadata.modified()?)))).collect()
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for item in fs::read_dir(from)? {
        let item = item?;
        let target = to.join(item.file_name());
        if item.metadata()?.is_dir() {
            copy(&item.path(), &target)?;
        } else {
            let bytes = fs::read(item.path())?;
            // Journals are preallocated; the zeros stay a hole.
            let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |at| at + 1);
            fs::write(&target, &bytes[..used])?;
            File::options().write(true).open(&target)?.set_len(bytes.len() as u64)?;
        }
    }
    Ok(())
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    // A folder that vanishes under way is noticed by the listing after it.
    for item in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = item.path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

#[test]
fn a_new_index_is_empty_and_remembers_over_a_clean_close_and_a_crash() {
    let dir = tempfile::tempdir().unwrap();
    let sizes = [5, 0, 700, 1];
    let opened = Index::open(dir.path(), &options()).unwrap();
    assert_eq!((opened.through, opened.digest, opened.rebuilt), (BatchNo(0), Digest::ZERO, false));
    let index = opened.index;
    check(&index, &sizes, 0).unwrap();
    for no in 1..=3 {
        apply(&index, no, sizes[no as usize - 1]);
        check(&index, &sizes, no).unwrap();
    }
    index.close().unwrap();
    assert!(seal(dir.path()).exists());

    let opened = Index::open(dir.path(), &options()).unwrap();
    assert_eq!((opened.through, opened.digest, opened.rebuilt), (BatchNo(3), digest_of(3), false));
    assert!(!seal(dir.path()).exists());
    check(&opened.index, &sizes, 3).unwrap();
    apply(&opened.index, 4, sizes[3]);

    let image = image(dir.path());
    let opened = Index::open(image.path(), &options()).unwrap();
    assert_eq!((opened.through, opened.rebuilt), (BatchNo(4), false));
    check(&opened.index, &sizes, 4).unwrap();
}

#[test]
fn batches_come_in_order_and_once() {
    let dir = tempfile::tempdir().unwrap();
    let index = Index::open(dir.path(), &options()).unwrap().index;
    apply(&index, 2, 1);
    for no in [1, 2] {
        let error = index.apply(&batch(no, 1), BatchNo(no), &digest_of(no)).unwrap_err();
        assert!(matches!(error, IndexError::Order { at: BatchNo(2), .. }));
    }
    apply(&index, 3, 1);
    assert_eq!(index.through(), (BatchNo(3), digest_of(3)));
}

#[test]
fn one_process_has_the_index() {
    let dir = tempfile::tempdir().unwrap();
    let first = Index::open(dir.path(), &options()).unwrap();
    assert!(matches!(Index::open(dir.path(), &options()), Err(IndexError::Busy { .. })));
    apply(&first.index, 1, 1);
    drop(first);
    assert_eq!(Index::open(dir.path(), &options()).unwrap().through, BatchNo(1));
}

#[test]
fn an_index_of_another_deployment_or_history_is_not_used() {
    let dir = tempfile::tempdir().unwrap();
    let index = Index::open(dir.path(), &options()).unwrap().index;
    apply(&index, 1, 10);
    index.close().unwrap();
    let other = IndexOptions { deployment: "e".to_owned(), ..options() };
    let opened = Index::open(dir.path(), &other).unwrap();
    assert_eq!((opened.through, opened.rebuilt), (BatchNo(0), true));
    check(&opened.index, &[10], 0).unwrap();
    apply(&opened.index, 1, 10);
    opened.index.discard().unwrap();
    let opened = Index::open(dir.path(), &other).unwrap();
    assert_eq!((opened.through, opened.rebuilt), (BatchNo(0), false));
}

#[test]
fn an_entry_that_vanished_from_the_store_is_noticed() {
    let sizes = [100, 100];
    for seal_it in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let index = Index::open(dir.path(), &options()).unwrap().index;
        apply(&index, 1, sizes[0]);
        apply(&index, 2, sizes[1]);
        // Planted: what a lost table or a journal cut in its middle would do.
        let (shard, identity, _) = batch(1, 100)[7];
        index.entries.remove(key(shard, &identity)).unwrap();
        if seal_it {
            index.close().unwrap();
            // The seal tells nothing here: it was written over the loss. Without it the scan decides.
            fs::remove_file(seal(dir.path())).unwrap();
        } else {
            drop(index);
        }
        let opened = Index::open(dir.path(), &options()).unwrap();
        assert_eq!((opened.through, opened.rebuilt), (BatchNo(0), true));
    }
}

#[test]
fn an_entry_that_changed_in_the_store_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let index = Index::open(dir.path(), &options()).unwrap().index;
    apply(&index, 1, 100);
    let (shard, identity, entry) = batch(1, 100)[7];
    index.entries.insert(key(shard, &identity), Entry { sequence: Sequence(1), ..entry }.encode()).unwrap();
    drop(index);
    assert!(Index::open(dir.path(), &options()).unwrap().rebuilt);
}

#[test]
fn an_open_that_keeps_dying_gives_up_the_folder() {
    let dir = tempfile::tempdir().unwrap();
    let index = Index::open(dir.path(), &options()).unwrap().index;
    apply(&index, 1, 100);
    drop(index);
    fs::write(attempts(dir.path()), "x").unwrap();
    assert!(!Index::open(dir.path(), &options()).unwrap().rebuilt);
    assert!(!attempts(dir.path()).exists());
    fs::write(attempts(dir.path()), "xx").unwrap();
    assert!(Index::open(dir.path(), &options()).unwrap().rebuilt);
}

#[test]
fn after_damage_nothing_is_answered_until_it_is_opened_again() {
    let dir = tempfile::tempdir().unwrap();
    let index = Index::open(dir.path(), &options()).unwrap().index;
    apply(&index, 1, 100);
    let (shard, identity, _) = batch(1, 100)[7];
    index.entries.insert(key(shard, &identity), [0_u8; 3]).unwrap();
    assert!(matches!(index.get_many(&[(shard, identity)]), Err(IndexError::Damaged { .. })));
    assert!(matches!(index.get_many(&[]), Err(IndexError::Damaged { .. })));
    assert!(matches!(index.apply(&[], BatchNo(2), &Digest::ZERO), Err(IndexError::Damaged { .. })));
    index.close().unwrap();
    assert!(!seal(dir.path()).exists());
    assert!(Index::open(dir.path(), &options()).unwrap().rebuilt);
}

/// Opens a damaged copy: every answer it gives must be right; after a refill it must be whole. Returns whether it was rebuilt.
fn recover(dir: &Path, sizes: &[u64], what: &str) -> bool {
    let last = sizes.len() as u64;
    let mut rebuilt = false;
    for _ in 0..3 {
        let opened = Index::open(dir, &options()).unwrap();
        rebuilt |= opened.rebuilt || opened.through == BatchNo(0);
        assert_eq!(opened.digest, digest_of(opened.through.0), "{what}");
        let through = opened.through.0;
        assert!(through <= last, "{what}");
        let refilled = check(&opened.index, sizes, through).and_then(|()| {
            for no in through + 1..=last {
                opened.index.apply(&batch(no, sizes[no as usize - 1]), BatchNo(no), &digest_of(no))?;
            }
            check(&opened.index, sizes, last)
        });
        match refilled {
            Ok(()) => return rebuilt,
            Err(IndexError::Damaged { .. }) => {}
            Err(error) => panic!("{what}: {error}"),
        }
    }
    panic!("{what}: damaged after it was opened again");
}

fn damage(random: &mut Random, dir: &Path) -> String {
    let files: Vec<PathBuf> = files(dir).into_iter().filter(|path| !path.ends_with("owner")).collect();
    let path = &files[random.below(files.len() as u64) as usize];
    let mut bytes = fs::read(path).unwrap();
    let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |at| at as u64 + 1);
    let name = path.strip_prefix(dir).unwrap().display().to_string();
    match random.below(4) {
        0 => {
            fs::remove_file(path).unwrap();
            format!("{name} deleted")
        }
        1 => {
            let to = random.below(used + 1);
            File::options().write(true).open(path).unwrap().set_len(to).unwrap();
            format!("{name} cut from {used} to {to}")
        }
        kind => {
            let mut at = 0;
            for _ in 0..if kind == 2 { 1 } else { 1 + random.below(64) } {
                at = random.below(used);
                if let Some(byte) = bytes.get_mut(at as usize) {
                    *byte = byte.wrapping_add(1 + random.below(255) as u8);
                }
            }
            fs::write(path, &bytes).unwrap();
            format!("{name} garbled at {at} of {used}")
        }
    }
}

/// Damages copies of an image and counts the rebuilds.
fn campaign(image: &Path, sizes: &[u64], seed: u64, rounds: u64) -> (u64, u64) {
    let (mut rebuilds, mut survivals) = (0, 0);
    for round in 0..rounds {
        let mut random = Random(seed + round);
        let dir = tempfile::tempdir().unwrap();
        copy(image, dir.path()).unwrap();
        let what = format!("seed {}: {}", seed + round, damage(&mut random, dir.path()));
        if recover(dir.path(), sizes, &what) { rebuilds += 1 } else { survivals += 1 }
    }
    (rebuilds, survivals)
}

fn rounds() -> u64 {
    std::env::var("TALLY_INDEX_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(30)
}

#[test]
fn a_closed_index_with_damaged_files_never_gives_a_wrong_answer() {
    let dir = tempfile::tempdir().unwrap();
    let sizes = [150; 20];
    let index = Index::open(dir.path(), &options()).unwrap().index;
    (1..=20).for_each(|no| apply(&index, no, 150));
    index.close().unwrap();
    assert!(files(dir.path()).len() > 8, "the image needs tables: {:?}", files(dir.path()));
    let (rebuilds, survivals) = campaign(dir.path(), &sizes, 1_000, rounds());
    println!("closed: {rebuilds} rebuilt, {survivals} survived");
    assert!(rebuilds > 0);
}

#[test]
fn a_crashed_index_with_damaged_files_never_gives_a_wrong_answer() {
    let dir = tempfile::tempdir().unwrap();
    let sizes = [150; 20];
    let index = Index::open(dir.path(), &options()).unwrap().index;
    (1..=20).for_each(|no| apply(&index, no, 150));
    let image = image(dir.path());
    drop(index);
    let (rebuilds, survivals) = campaign(image.path(), &sizes, 2_000, rounds());
    println!("crashed: {rebuilds} rebuilt, {survivals} survived");
    assert!(rebuilds > 0 && survivals > 0);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(12) })]
    /// Steps: apply a batch of that size, or (at the upper end) leave the index by a clean close or a crash and open it again.
    #[test]
    fn the_index_equals_a_map(steps in prop::collection::vec(0_u64..240, 1..40)) {
        let mut dir = tempfile::tempdir().unwrap();
        let mut index = Index::open(dir.path(), &options()).unwrap().index;
        let mut sizes: Vec<u64> = Vec::new();
        for step in steps {
            match step {
                0..200 => {
                    sizes.push(step);
                    apply(&index, sizes.len() as u64, step);
                }
                200..220 => {
                    index.close().unwrap();
                    let opened = Index::open(dir.path(), &options()).unwrap();
                    prop_assert_eq!((opened.through.0, opened.rebuilt), (sizes.len() as u64, false));
                    index = opened.index;
                }
                _ => {
                    let crashed = image(dir.path());
                    drop(index);
                    dir = crashed;
                    let opened = Index::open(dir.path(), &options()).unwrap();
                    prop_assert_eq!((opened.through.0, opened.rebuilt), (sizes.len() as u64, false));
                    index = opened.index;
                }
            }
            check(&index, &sizes, sizes.len() as u64).unwrap();
        }
    }
}
