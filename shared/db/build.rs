//! Lists the migrations under `sql/migrations/{sqlite,postgres}` so that a new pair of files is found without a line of code.
//! Refuses a file without its twin, a name that is not `NNNN_layer_name_subject.sql` and a number given twice.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs};

fn main() -> Result<(), String> {
    let crate_folder = env::var("CARGO_MANIFEST_DIR").map_err(|error| error.to_string())?;
    let folder = Path::new(&crate_folder).join("../../sql/migrations");
    let sqlite = names(&folder.join("sqlite"))?;
    let postgres = names(&folder.join("postgres"))?;
    if let Some(alone) = sqlite.symmetric_difference(&postgres).next() {
        return Err(format!("migration {alone} exists for one engine only: write its twin"));
    }
    let mut code = String::from("&[\n");
    let mut numbers = BTreeMap::new();
    for name in &sqlite {
        let (number, owner, subject) = parse(name).ok_or_else(|| format!("{name} is not NNNN_layer_name_subject.sql"))?;
        if let Some(other) = numbers.insert(number, name) {
            return Err(format!("{name} and {other} have the same number"));
        }
        let text = |engine: &str| absolute(&folder.join(engine).join(name));
        writeln!(
            code,
            "Migration {{ number: {number}, owner: {owner:?}, subject: {subject:?}, sqlite: include_str!({:?}), postgres: include_str!({:?}) }},",
            text("sqlite")?,
            text("postgres")?
        )
        .map_err(|error| error.to_string())?;
    }
    code.push_str("]\n");
    let out = PathBuf::from(env::var("OUT_DIR").map_err(|error| error.to_string())?).join("migrations.rs");
    fs::write(&out, code).map_err(|error| format!("cannot write {}: {error}", out.display()))
}

fn names(folder: &Path) -> Result<BTreeSet<String>, String> {
    println!("cargo:rerun-if-changed={}", folder.display());
    let failed = |error: std::io::Error| format!("cannot list {}: {error}", folder.display());
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        let name = name.to_str().ok_or_else(|| format!("{} holds a file whose name is not text", folder.display()))?;
        if name.ends_with(".sql") {
            names.insert(name.to_owned());
        }
    }
    Ok(names)
}

/// `0004_platform_ledger_books.sql` is number 4 of `platform-ledger` about `books`.
fn parse(name: &str) -> Option<(u32, String, String)> {
    let mut parts = name.strip_suffix(".sql")?.splitn(4, '_');
    let (number, layer, owner, subject) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let digits = number.len() == 4 && number.bytes().all(|byte| byte.is_ascii_digit());
    (digits && !subject.is_empty()).then_some(())?;
    Some((number.parse().ok()?, format!("{layer}-{owner}"), subject.to_owned()))
}

fn absolute(path: &Path) -> Result<String, String> {
    let path = path.canonicalize().map_err(|error| format!("cannot find {}: {error}", path.display()))?;
    path.to_str().map(str::to_owned).ok_or_else(|| format!("{} is not text", path.display()))
}
