//! Bundles: what they hold and what they do not, what is refused, how large they are. That they verify is shown by programs that are
//! not ours: `foreign/verify_bundle.py` and `foreign/attack_bundle.py` read the frozen bundle that this file writes.

use std::path::Path;
use std::time::Instant as Clock;

use platform_evidence::bundle::{Bundle, BundleError, BundleReading, ENVELOPE, MANIFEST, Sealed};
use platform_evidence::tree::{self, Head};
use shared_types::Digest;

use crate::bundle_world::{World, world};

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/bundle");
const LOG: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/bundle_log");
const BEFORE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/bundle_before");
const FROZEN: (u64, usize) = (5, 160);

fn seal(world: &World) -> Bundle<Sealed> {
    Bundle::of(&world.input).unwrap().seal(&world.key, &world.log).unwrap()
}

fn write(bundle: &Bundle<Sealed>, folder: &Path) {
    if folder.exists() {
        std::fs::remove_dir_all(folder).unwrap();
    }
    for (path, file) in bundle.files() {
        let path = folder.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, &file.bytes).unwrap();
    }
}

/// The log that the bundle's checkpoint heads, as c2sp.org/tlog-tiles has it: fewer than 256 entries, so one partial tile and bundle.
fn write_log(world: &World, folder: &Path) {
    let hashes = world.entries.iter().flat_map(|entry| platform_evidence::leaf_hash(entry.as_bytes()).0);
    let entries =
        world.entries.iter().flat_map(|entry| [&u16::try_from(entry.len()).unwrap().to_be_bytes()[..], entry.as_bytes()].concat());
    let width = world.entries.len();
    let files = [
        (format!("tile/0/000.p/{width}"), hashes.collect::<Vec<u8>>()),
        (format!("tile/entries/000.p/{width}"), entries.collect()),
        ("checkpoint".to_owned(), world.input.proof.checkpoint.note.clone().into_bytes()),
    ];
    for (path, bytes) in files {
        let path = folder.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
}

/// What the customer kept of the bundle before: its invoice, and the checkpoint of then.
fn kept(world: &World) -> [(&'static str, String); 2] {
    let hashes: Vec<Digest> = world.entries.iter().take(3).map(|entry| platform_evidence::leaf_hash(entry.as_bytes())).collect();
    let head = Head { size: 3, root: tree::root(&hashes) };
    [("invoice.json", world.before.clone()), ("log/checkpoint", world.log.sign(head).unwrap())]
}

/// `TALLY_WRITE_GOLDEN=1` writes the folder anew. Parquet's bytes belong to the version of its writer, so a new writer freezes them anew;
/// the texts change only with the format.
#[test]
fn the_frozen_bundle_is_what_this_crate_makes() {
    let world = world(FROZEN.0, FROZEN.1);
    let made = seal(&world);
    if std::env::var_os("TALLY_WRITE_GOLDEN").is_some() {
        write(&made, Path::new(GOLDEN));
        write_log(&world, Path::new(LOG));
        std::fs::create_dir_all(Path::new(BEFORE).join("log")).unwrap();
        for (path, text) in kept(&world) {
            std::fs::write(Path::new(BEFORE).join(path), text).unwrap();
        }
    }
    for (path, file) in made.files() {
        let frozen = std::fs::read(Path::new(GOLDEN).join(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
        assert!(frozen == file.bytes, "{path} differs from the frozen one");
    }
    for (path, text) in kept(&world) {
        assert!(std::fs::read_to_string(Path::new(BEFORE).join(path)).unwrap() == text, "{path} of the bundle before differs");
    }
    let mut frozen = Vec::new();
    names(Path::new(GOLDEN), "", &mut frozen);
    frozen.sort();
    assert_eq!(frozen, made.files().map(|(path, _)| path.to_owned()).collect::<Vec<_>>(), "the frozen folder holds other files");
}

fn names(folder: &Path, below: &str, found: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let path = format!("{below}{}", entry.file_name().to_str().unwrap());
        if entry.file_type().unwrap().is_dir() {
            names(&entry.path(), &format!("{path}/"), found);
        } else {
            found.push(path);
        }
    }
}

#[test]
fn nothing_of_another_organization_is_in_the_bytes() {
    let world = world(FROZEN.0, FROZEN.1);
    let made = seal(&world);
    // Names, and what only the other organization's documents and readings say: its contract, book, price, salted id and sum.
    let salts = platform_evidence::SaltKey::from_bytes(&std::array::from_fn(|at| u8::try_from(at + 1).unwrap()));
    let others = ["globex", "idle", "initech"].map(|id| salts.salted_organization(&id.parse().unwrap()));
    let digests = others.iter().flat_map(|digest| [digest.0.to_vec(), digest.to_string().into_bytes()]);
    let texts = ["globex", "initech", "globex-own", "globex-usd", "globex-9", "0.000000777", "77.7"].map(|text| text.as_bytes().to_vec());
    let words: Vec<Vec<u8>> = digests.chain(texts).collect();
    let mut scanned = 0;
    for (path, file) in made.files() {
        for word in &words {
            assert!(!file.bytes.windows(word.len()).any(|window| window == word), "{path} holds {:?}", String::from_utf8_lossy(word));
        }
        scanned += file.bytes.len();
    }
    assert!(scanned > 50_000, "{scanned}");
    // Pages are compressed, so the same scan over what Parquet readers see.
    for table in ["data/readings.parquet", "data/events.parquet"] {
        let bytes = made.files().find(|(path, _)| *path == table).unwrap().1.bytes.clone();
        let reader = parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder::try_new(bytes::Bytes::from(bytes)).unwrap();
        for group in reader.metadata().row_groups() {
            assert!(
                group.columns().iter().all(|column| column.statistics().is_none() && column.column_index_offset().is_none()),
                "{table}"
            );
        }
        for batch in reader.build().unwrap() {
            let shown = format!("{:?}", batch.unwrap());
            assert!(["globex", "initech", "idle"].iter().all(|word| !shown.contains(word)), "{table}");
        }
    }
}

#[test]
fn inputs_that_would_not_verify_are_refused_by_name() {
    let refused = |change: fn(&mut World)| {
        let mut world = world(1, 40);
        change(&mut world);
        Bundle::of(&world.input).unwrap_err()
    };
    assert!(matches!(refused(|world| world.input.issue.digest = Digest::ZERO), BundleError::Invoice { .. }));
    assert!(matches!(refused(|world| world.input.issue.entry = Some((13, Digest::ZERO))), BundleError::Behind { entry: 13, reached: 12 }));
    assert!(matches!(refused(|world| drop(world.input.logs[0].readings.pop())), BundleError::Leaves { .. }));
    assert!(matches!(refused(|world| drop(world.input.logs.pop())), BundleError::Leaves { found: 0, .. }));
    assert!(matches!(refused(|world| world.input.logs[0].readings[3].event = 9_999), BundleError::Event { log_seq: 3, event: 9_999, .. }));
    let again = |change: fn(&mut Vec<BundleReading>, usize)| {
        let mut world = world(FROZEN.0, FROZEN.1);
        let readings = &mut world.input.logs[0].readings;
        let name = |at: usize| (readings[at].event, &readings[at].meter, readings[at].piece);
        let of_time = |at: usize| readings[at].meter.as_str().starts_with("lease");
        let back = (0..readings.len()).find(|at| !of_time(*at) && (0..*at).any(|before| name(before) == name(*at)));
        change(readings, back.unwrap());
        match Bundle::of(&world.input).unwrap_err() {
            BundleError::Again { problem, .. } => problem,
            other => panic!("{other}"),
        }
    };
    assert!(again(|readings, back| readings[back].quantity = readings[back + 1].quantity).contains("does not take back"));
    assert!(again(|readings, back| readings[back].price = "other".parse().unwrap()).contains("does not take back"));
    assert!(again(|readings, back| readings[back + 1].registry_version = readings[back].registry_version).contains("the same version"));
    assert!(again(|readings, back| readings.swap(back + 1, back + 2)).contains("does not follow"));
    assert!(again(|readings, back| readings[back + 1].meter = "other".parse().unwrap()).contains("nothing stands in its place"));
    assert!(matches!(refused(|world| world.input.logs[1].readings[5].quantity = "7.5".parse().unwrap()), BundleError::Log { .. }));
    assert!(matches!(refused(|world| world.input.events[2].id.push('x')), BundleError::Log { .. }));
    assert!(matches!(refused(|world| world.input.logs[1].later.truncate(2)), BundleError::Log { .. }));
    assert!(matches!(refused(|world| world.input.salt.0[0] ^= 1), BundleError::Path { what: "salted organization", .. }));
    assert!(matches!(
        refused(|world| world.input.proof.path[0] = Digest::ZERO),
        BundleError::Path { what: "leaf of the organization", .. }
    ));
    assert!(matches!(refused(|world| world.input.proof.entry_path[0] = Digest::ZERO), BundleError::Path { what: "entry", .. }));
    assert!(matches!(refused(|world| drop(world.input.registry.pop())), BundleError::Registry { .. }));
    assert!(matches!(refused(|world| world.input.documents.insert(Digest::of(b"{}"), "{}")), BundleError::Document { .. }));
    assert!(matches!(refused(|world| world.input.documents.insert(Digest::of(b"{}"), "{ }")), BundleError::Document { .. }));
    let lined = |world: &mut World| {
        let digest = Digest::of(b"{\n}");
        world.input.documents.insert(digest, "{\n}");
        let index = &mut world.input.registry[0].index;
        *index = index.replacen('[', &format!("[{{\"digest\":\"{digest}\",\"kind\":\"unit\"}},"), 1);
    };
    assert!(matches!(refused(lined), BundleError::Document { document } if document == Digest::of(b"{\n}")));
}

#[test]
fn a_sealed_bundle_lists_every_file_but_its_own_two() {
    let made = seal(&world(2, 30));
    let manifest = made.files().find(|(path, _)| *path == MANIFEST).unwrap().1.bytes.clone();
    let manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
    let listed: Vec<&str> = manifest["predicate"]["files"].as_array().unwrap().iter().map(|file| file["path"].as_str().unwrap()).collect();
    let files: Vec<&str> = made.files().map(|(path, _)| path).filter(|path| ![MANIFEST, ENVELOPE].contains(path)).collect();
    assert_eq!(listed, files);
}

#[test]
fn the_page_and_the_program_ask_duckdb_alike() {
    let asked = "duckdb.connect().execute(open('verify.sql', encoding='utf-8').read()).fetchall()";
    let (page, program) = (include_str!("../../src/bundle/VERIFY.md"), include_str!("../../src/bundle/verify.py"));
    assert!(page.contains(asked) && program.contains(asked));
}

/// The size is a promise, the time is only shown: `TALLY_BUNDLE_OUT=folder` keeps the bundle for the foreign verifiers' clocks.
#[test]
fn a_hundred_thousand_readings_cost_at_most_sixty_bytes_each() {
    let world = world(3, 46_000);
    let readings: usize = world.input.logs.iter().map(|log| log.readings.len()).sum();
    let started = Clock::now();
    let made = seal(&world);
    let elapsed = started.elapsed();
    let data: usize = made.files().filter(|(path, _)| path.starts_with("data/")).map(|(_, file)| file.bytes.len()).sum();
    let all: usize = made.files().map(|(_, file)| file.bytes.len()).sum();
    println!("{readings} readings of {} events: built in {elapsed:?}, data {data} bytes, all {all} bytes", world.input.events.len());
    assert!(readings > 100_000, "{readings}");
    assert!(all <= 60 * readings, "{all} bytes for {readings} readings");
    if let Some(folder) = std::env::var_os("TALLY_BUNDLE_OUT") {
        write(&made, Path::new(&folder));
    }
}
