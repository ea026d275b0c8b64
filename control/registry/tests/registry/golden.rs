//! Frozen folders: the address of a fixed registry, the report about a wrong one, TOML out and in again, the demo registry.

use std::path::{Path, PathBuf};

use platform_registry::{SourceFile, Version, compile, read_folder};
use proptest::prelude::*;
use shared_types::Instant;

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

fn demo() -> Version {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../datasets/registry/demo");
    Version::read(&folder).unwrap_or_else(|problems| panic!("{problems}"))
}

fn fixed() -> Version {
    Version::read(&golden("fixed")).unwrap_or_else(|problems| panic!("{problems}"))
}

/// Compares a text with a frozen file. `TALLY_WRITE_GOLDEN=1` writes the file anew.
pub(crate) fn check_frozen(name: &str, text: &str) {
    let path = golden(name);
    if std::env::var_os("TALLY_WRITE_GOLDEN").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    let frozen = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    pretty_eq(&frozen, text, name);
}

fn pretty_eq(expected: &str, found: &str, name: &str) {
    assert!(expected == found, "{name} differs; found:\n{found}");
}

#[test]
fn the_address_of_the_fixed_registry_is_frozen() {
    let version = fixed();
    check_frozen("fixed.canonical.json", &version.canonical());
    check_frozen("fixed.index.json", &version.index());
    check_frozen("fixed.address", &version.address().to_string());
    // A second opinion that shares no code beyond SHA-256: the address is the digest of the frozen index, whose digests are those of
    // the frozen documents.
    let index = std::fs::read(golden("fixed.index.json")).unwrap();
    assert_eq!(shared_types::Digest::of(&index), version.address());
    let content = std::fs::read(golden("fixed.canonical.json")).unwrap();
    let [index, content] = [index, content].map(|text| {
        let value: serde_json::Value = serde_json::from_slice(&text).unwrap();
        assert_eq!(shared_types::canonical_json(&value).unwrap().as_bytes(), text);
        value["documents"].as_array().unwrap().clone()
    });
    assert_eq!(index.len(), content.len());
    for (entry, document) in index.iter().zip(&content) {
        let digest = shared_types::Digest::of(shared_types::canonical_json(document).unwrap().as_bytes());
        assert_eq!((&entry["digest"], &entry["kind"]), (&serde_json::json!(digest), &document["kind"]));
    }
}

#[test]
fn the_same_registry_in_other_words_has_the_same_address() {
    let respelled = read_folder(&golden("respelled")).unwrap();
    let [file] = &respelled[..] else { panic!("one file expected") };
    let version = Version::check(&respelled).unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!(version.canonical(), fixed().canonical());
    assert_eq!(version.address(), fixed().address());
    let windows = SourceFile { name: "C:\\registry.toml".to_owned(), text: format!("\u{feff}{}", file.text.replace('\n', "\r\n")) };
    assert_eq!(Version::check(&[windows]).unwrap().address(), fixed().address());
}

#[test]
fn another_folder_gives_the_same_address() {
    let folder = tempfile::tempdir().unwrap();
    let deep = folder.path().join("Ünïcode folder/b");
    std::fs::create_dir_all(&deep).unwrap();
    for (number, file) in read_folder(&golden("fixed")).unwrap().into_iter().enumerate() {
        std::fs::write(deep.join(format!("{}.TOML", 9 - number)), file.text).unwrap();
    }
    std::fs::write(folder.path().join("README.md"), "not a document").unwrap();
    std::fs::write(folder.path().join(".hidden.toml"), "not a document").unwrap();
    assert_eq!(Version::read(folder.path()).unwrap().address(), fixed().address());
}

#[test]
fn a_meaningful_change_gives_another_address() {
    for (from, to) in
        [("2.5\"", "2.51\""), ("scale = 2", "scale = 3"), ("launch-promotion", "launch"), ("01-01T00:00:00Z", "01-02T00:00:00Z")]
    {
        let mut files = read_folder(&golden("fixed")).unwrap();
        let file = files.iter_mut().find(|file| file.name == "prices/list.toml").unwrap();
        assert!(file.text.contains(from), "{from}");
        file.text = file.text.replacen(from, to, 1);
        assert_ne!(Version::check(&files).unwrap().address(), fixed().address(), "{from} to {to}");
    }
}

#[test]
fn a_folder_of_wrong_documents_is_reported_in_full() {
    let problems = Version::read(&golden("wrong")).unwrap_err();
    check_frozen("wrong.report.txt", &format!("{problems}\n"));
    let whole: Vec<SourceFile> = read_folder(&golden("wrong")).unwrap().into_iter().filter(|file| file.name != "broken.toml").collect();
    check_frozen("wrong.without_broken.report.txt", &format!("{}\n", Version::check(&whole).unwrap_err()));
}

#[test]
fn documents_written_as_toml_read_back_to_the_same_address() {
    for (name, version) in [("fixed.shown.toml", fixed()), ("demo.shown.toml", demo())] {
        let text = version.to_toml();
        check_frozen(name, &text);
        let again = Version::check(&[SourceFile { name: name.to_owned(), text }]).unwrap_or_else(|problems| panic!("{problems}"));
        assert_eq!(again.address(), version.address());
    }
}

#[test]
fn the_demo_registry_prices_its_events() {
    let compiled = compile(&demo()).unwrap();
    assert!(platform_usage::MeterSet::new(compiled.meters.clone()).is_ok());
    let price = |meter: &str, dimension: Option<(&str, &str)>, at: &str| {
        let dimensions = platform_usage::Dimensions::new(dimension.map(|(name, value)| (name.into(), value.into())));
        let (organization, meter) = ("org-001".parse().unwrap(), meter.parse().unwrap());
        let resolved = compiled.plan.resolve(&organization, &meter, &dimensions, Instant::parse(at).unwrap());
        resolved.map(|resolved| resolved.price.id.to_string()).map_err(|reason| reason.code())
    };
    let output = |at| price("llm.tokens.output", Some(("model", "llama-70b")), at);
    assert_eq!(output("2026-10-14T23:59:59.999999Z"), Ok("list-usd:tokens.llama-70b.output:2026-01-01T00:00:00Z".to_owned()));
    assert_eq!(output("2026-10-15T00:00:00Z"), Ok("list-usd:tokens.llama-70b.output:2026-10-15T00:00:00Z".to_owned()));
    assert_eq!(output("2025-12-31T23:59:59Z"), Err("no_contract"));
    assert_eq!(price("gpu.seconds", Some(("gpu_model", "b300")), "2026-10-15T00:00:00Z"), Err("unpriced"));
    assert!(price("health.checks", None, "2026-10-15T00:00:00Z").is_ok());
    for sku in compiled.plan.books.iter().flat_map(|book| book.lines.values()).flatten() {
        assert!(!sku.prices.is_empty());
    }
}

/// The folder must be refused with these words.
#[track_caller]
fn check_refused(folder: &Path, words: &str) {
    let problems = Version::read(folder).unwrap_err().to_string();
    assert!(problems.contains(words), "{problems}");
}

#[test]
fn folders_that_cannot_be_read_say_so() {
    let folder = tempfile::tempdir().unwrap();
    check_refused(&folder.path().join("nowhere"), "the folder cannot be read");
    check_refused(folder.path(), "the folder holds no .toml file");
    let file = folder.path().join("a.toml");
    std::fs::write(&file, "# nothing\n").unwrap();
    check_refused(folder.path(), "there is no document");
    std::fs::write(&file, b"\xff").unwrap();
    check_refused(folder.path(), "a.toml: the file is not UTF-8");
    std::fs::write(&file, "#".repeat(8 * 1024 * 1024 + 1)).unwrap();
    check_refused(folder.path(), "a.toml: the file is larger than 8 MiB");
    std::os::unix::fs::symlink(folder.path(), folder.path().join("loop")).unwrap();
    check_refused(folder.path(), "loop: this is a link to a folder");
}

#[test]
fn too_many_files_are_refused() {
    let files: Vec<SourceFile> = (0..10_001).map(|number| SourceFile { name: format!("{number}.toml"), text: String::new() }).collect();
    assert!(Version::check(&files).unwrap_err().to_string().contains("more than 10000 files"));
}

proptest! {
    #[test]
    fn damaged_files_give_problems_and_never_a_panic(cut in 0_usize..2_000, insert in "[\\[\\]{}=\"'\\\\\n#,.a-z0-9\u{0}é]{0,6}", skip in 0_usize..40) {
        let mut files = read_folder(&golden("fixed")).unwrap();
        for file in &mut files {
            let characters: Vec<char> = file.text.chars().collect();
            let cut = cut.min(characters.len());
            let rest = characters.iter().skip(cut + skip);
            file.text = characters.iter().take(cut).chain(insert.chars().collect::<Vec<_>>().iter()).chain(rest).collect();
        }
        if let Err(problems) = Version::check(&files) {
            prop_assert!(!problems.0.is_empty());
            prop_assert!(problems.0.iter().all(|problem| !problem.message.is_empty() && !problem.remedy.is_empty()));
        }
    }
}

proptest! {
    #[test]
    fn however_documents_are_shuffled_and_cut_into_files_the_address_stays(
        order in Just((0..fixed().documents().len()).collect::<Vec<_>>()).prop_shuffle(),
        files in 1_usize..5,
        comment in "#[ a-zäé\"=\\[]{0,20}",
    ) {
        let documents: Vec<String> = fixed().documents().map(|document| document.to_toml()).collect();
        let mut sources: Vec<SourceFile> =
            (0..files).map(|number| SourceFile { name: format!("{}.toml", (number * 7) % files), text: String::new() }).collect();
        for (place, document) in order.into_iter().enumerate() {
            sources[place % files].text += &format!("{comment}\n{}\n", documents[document]);
        }
        prop_assert_eq!(Version::check(&sources).unwrap().address(), fixed().address());
    }
}
