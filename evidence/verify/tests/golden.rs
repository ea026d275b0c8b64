//! The program itself, on the frozen bundle: what it says and with which exit status. That it finds attacks is shown by
//! `evidence/tests/foreign/attack_bundle.py`, beside the programs that are not ours.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that cannot go on fails")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden");

fn golden(name: &str) -> String {
    format!("{GOLDEN}/{name}")
}

fn run(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tally-verify")).args(arguments).output().unwrap()
}

/// The exit status, and everything that was said.
fn said(arguments: &[&str]) -> (i32, String) {
    let output = run(arguments);
    (output.status.code().unwrap(), [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat())
}

/// A copy of the frozen bundle, gone with the test.
struct Copy(PathBuf);

impl Copy {
    fn of_the_bundle(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("tally-verify-{name}-{}", std::process::id()));
        copy(Path::new(&golden("bundle")), &folder);
        Self(folder)
    }

    fn change(&self, path: &str, from: &str, to: &str) {
        let path = self.0.join(path);
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{from}");
        std::fs::write(path, text.replacen(from, to, 1)).unwrap();
    }

    /// What ours names: stage, file, row, what.
    fn found(&self, more: &[&str]) -> (i32, Vec<String>, Value) {
        let folder = self.0.to_str().unwrap();
        let output = run(&[&[folder, "--format", "json"], more].concat());
        let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
        let text = |finding: &Value| ["stage", "file", "row", "what"].map(|name| finding[name].as_str().unwrap().to_owned()).join(" | ");
        (output.status.code().unwrap(), answer["differences"].as_array().unwrap().iter().map(text).collect(), answer)
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

fn log_key() -> String {
    let manifest: Value = serde_json::from_slice(&std::fs::read(golden("bundle/manifest.json")).unwrap()).unwrap();
    manifest["predicate"]["log_key"].as_str().unwrap().to_owned()
}

#[test]
fn the_frozen_bundle_holds_beside_everything_that_was_kept() {
    let (bundle, before, log) = (golden("bundle"), golden("bundle_before"), golden("bundle_log"));
    let (key, checkpoint) = (log_key(), golden("bundle_before/log/checkpoint"));
    let outside = ["--log-key", &key, "--checkpoint", &checkpoint, "--log", &log, "--previous", &before];
    let (status, text) = said(&[&[bundle.as_str()][..], &outside].concat());
    assert!(status == 0 && text.starts_with("holds: invoice inv-acme-usd-202611 "), "{status} {text}");
    assert!(!text.contains("not judged"), "{text}");
    assert!(text.contains("log 202611: leaves 0 to ") && text.contains(" later ones are not"), "{text}");
    // Without anything from outside it says what it could not judge.
    let (status, text) = said(&[&bundle]);
    assert!(status == 0 && ["--log-key", "--previous", "--checkpoint"].iter().all(|name| text.contains(name)), "{status} {text}");
}

#[test]
fn what_cannot_be_judged_is_no_difference() {
    let (bundle, before, older) = (golden("bundle"), golden("bundle_before"), golden("bundle_before/log/checkpoint"));
    for (outside, said_of_it) in [
        (["--checkpoint", &older], "give the log's files with --log"),
        (["--checkpoint", &golden("bundle/keys/bundle.pem")], "the kept checkpoint is not signed by the log's key"),
        (["--previous", &golden("bundle_log")], "could not read"),
        (["--previous", &bundle], "is of 202611, which is not earlier"),
    ] {
        let (status, text) = said(&[&[bundle.as_str()][..], &outside].concat());
        assert!(status == 2 && text.contains(said_of_it), "{outside:?}: {status} {text}");
    }
    // A difference inside the bundle is told all the same.
    let copy = Copy::of_the_bundle("unjudged");
    copy.change("invoice.json", "\"unit\":\"gpu-second\"", "\"unit\":\"token\"");
    let (status, found, answer) = copy.found(&["--previous", &before, "--checkpoint", &older]);
    assert!(status == 1 && found.iter().any(|found| found.ends_with("standard/gpu.h100 202611 | unit")), "{found:?}");
    assert!(answer["unjudged"].to_string().contains("--log"), "{answer}");
}

#[test]
fn a_checkpoint_of_unreadable_files_is_not_judged() {
    let log = Copy(std::env::temp_dir().join(format!("tally-verify-log-{}", std::process::id())));
    copy(Path::new(&golden("bundle_log")), &log.0);
    let entries = log.0.join("tile/entries/000.p/6");
    let bytes = std::fs::read(&entries).unwrap();
    std::fs::write(&entries, bytes.get(..bytes.len() / 2).unwrap()).unwrap();
    let (bundle, older) = (golden("bundle"), golden("bundle_before/log/checkpoint"));
    let (status, text) = said(&[&bundle, "--checkpoint", &older, "--log", log.0.to_str().unwrap()]);
    assert!(status == 2 && text.contains("holds fewer than 6 entries"), "{status} {text}");
}

#[test]
fn stated_rows_units_and_origins_are_compared() {
    let copy = Copy::of_the_bundle("stated");
    copy.change("manifest.json", "\"rows\":\"603\"", "\"rows\":\"604\"");
    copy.change("provenance.json", "{\"digest\":{\"sha256\":\"", "{\"digest\":{\"sha256\":\"00");
    copy.change("invoice.json", "\"unit\":\"request\"", "\"unit\":\"token\"");
    let (status, found, _) = copy.found(&[]);
    assert_eq!(status, 1);
    for wanted in [
        "files | data/readings.parquet |  | rows",
        "files | provenance.json | data/events.parquet | dependency",
        "lines | invoice.json | line 2 standard/health 202610 | unit",
    ] {
        assert!(found.iter().any(|found| found == wanted), "{wanted}: {found:?}");
    }
}

#[test]
fn charging_again_what_an_earlier_invoice_charged_is_found_beside_it() {
    let copy = Copy::of_the_bundle("again");
    let before = Copy(std::env::temp_dir().join(format!("tally-verify-before-{}", std::process::id())));
    std::fs::create_dir_all(&before.0).unwrap();
    let text = std::fs::read_to_string(golden("bundle_before/invoice.json")).unwrap();
    // The kept invoice says that more was charged than this one counts as charged.
    std::fs::write(before.0.join("invoice.json"), text.replace("\"to\":\"140\"", "\"to\":\"141\"")).unwrap();
    let (status, found, _) = copy.found(&["--previous", before.0.to_str().unwrap()]);
    assert_eq!(status, 1);
    assert!(found.iter().any(|found| found == "lines | invoice.json | log 202610 | from, by the earlier invoices"), "{found:?}");
}
