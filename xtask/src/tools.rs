//! Programs that are not Rust and that the tests need: found, or installed into `.tools`, which git ignores.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};

use crate::shell;

/// The pinned versions of foreign programs that the tests need.
const FOREIGN: &str = "tests/foreign/requirements.txt";

/// What was found or installed.
pub struct Tools {
    /// The Python of `.tools/py` with the packages of `tests/foreign/requirements.txt`.
    pub python: PathBuf,
    /// A folder with PostgreSQL's programs.
    pub postgres: PathBuf,
}

/// Finds or installs everything.
pub fn prepare() -> anyhow::Result<Tools> {
    let python = python()?;
    let postgres = postgres(&python)?;
    Ok(Tools { python, postgres })
}

/// A Python with stock DuckDB, and nothing else.
pub fn duckdb() -> anyhow::Result<PathBuf> {
    environment("duckdb", &["duckdb", "--constraint"], FOREIGN)
}

/// A Python with the engines that `bench rate` runs beside ours.
pub fn engines() -> anyhow::Result<PathBuf> {
    environment("engines", &["--requirement"], "benches/peers/requirements.txt")
}

/// A Python with every foreign program that PyPI has.
fn python() -> anyhow::Result<PathBuf> {
    environment("py", &["--requirement"], FOREIGN)
}

/// The folder of npm's packages of `tests/foreign/package-lock.json`, installed below `.tools/`.
pub fn node_modules() -> anyhow::Result<PathBuf> {
    let root = shell::root()?;
    let (pins, folder) = (root.join("tests/foreign"), root.join(".tools/node"));
    let wanted = std::fs::read_to_string(pins.join("package-lock.json"))?;
    let (modules, mark) = (folder.join("node_modules"), folder.join("installed.json"));
    if std::fs::read_to_string(&mark).ok().as_deref() == Some(wanted.as_str()) {
        return Ok(modules);
    }
    std::fs::create_dir_all(&folder)?;
    for file in ["package.json", "package-lock.json"] {
        std::fs::copy(pins.join(file), folder.join(file))?;
    }
    let install = ["ci", "--silent", "--ignore-scripts", "--no-audit", "--no-fund"];
    shell::run(Command::new("npm").args(install).current_dir(&folder))
        .context("Node 20 or later with npm is needed for foreign programs")?;
    std::fs::write(&mark, wanted)?;
    Ok(modules)
}

/// A virtual environment below `.tools/` with what pip installs by these arguments, which end before the file of pinned versions.
fn environment(name: &str, what: &[&str], pins: &str) -> anyhow::Result<PathBuf> {
    let root = shell::root()?;
    let folder = root.join(".tools").join(name);
    let python = folder.join("bin/python");
    let pins = root.join(pins);
    let wanted = std::fs::read_to_string(&pins).with_context(|| format!("could not read {}", pins.display()))?;
    let mark = folder.join("installed.txt");
    if std::fs::read_to_string(&mark).ok().as_deref() == Some(wanted.as_str()) {
        return Ok(python);
    }
    if !recent(&python) {
        let system = pythons().into_iter().find(|python| recent(python));
        let system = system.context("Python 3.12 or later is needed for foreign programs: install it with its venv module")?;
        shell::run(Command::new(system).args(["-m", "venv", "--clear"]).arg(&folder))?;
    }
    shell::run(Command::new(&python).args(["-m", "pip", "install", "--quiet"]).args(what).arg(&pins))?;
    std::fs::write(&mark, wanted)?;
    Ok(python)
}

/// Whether it is a Python that every verifier runs on.
fn recent(python: &Path) -> bool {
    shell::succeeds(Command::new(python).args(["-c", "import sys; sys.exit(sys.version_info < (3, 12))"]))
}

/// Where a Python may be: on the path, or among pyenv's versions.
fn pythons() -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = ["python3", "python3.12", "python3.13", "python"].map(PathBuf::from).into();
    let root = std::env::var_os("PYENV_ROOT").map(PathBuf::from);
    let root = root.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".pyenv")));
    if let Some(versions) = root.and_then(|root| std::fs::read_dir(root.join("versions")).ok()) {
        let mut versions: Vec<PathBuf> = versions.flatten().map(|version| version.path().join("bin/python3")).collect();
        versions.sort();
        found.extend(versions);
    }
    found
}

/// PostgreSQL: from the environment, Debian's folders, the path, or PyPI.
pub fn postgres(python: &Path) -> anyhow::Result<PathBuf> {
    if let Some(folder) = std::env::var_os("TALLY_PGBIN") {
        return Ok(PathBuf::from(folder));
    }
    let complete = |folder: &Path| folder.join("initdb").is_file() && folder.join("postgres").is_file();
    let mut folders: Vec<PathBuf> = Vec::new();
    if let Ok(versions) = std::fs::read_dir("/usr/lib/postgresql") {
        folders.extend(versions.flatten().map(|version| version.path().join("bin")));
        folders.sort();
        folders.reverse();
    }
    if let Some(path) = std::env::var_os("PATH") {
        folders.extend(std::env::split_paths(&path));
    }
    if let Some(found) = folders.into_iter().find(|folder| complete(folder)) {
        return Ok(found);
    }
    shell::run(Command::new(python).args(["-m", "pip", "install", "--quiet", "pgserver==0.1.4"]))?;
    let output = Command::new(python)
        .args(["-c", "import pathlib, pgserver; print(pathlib.Path(pgserver.__file__).parent / 'pginstall' / 'bin')"])
        .output()?;
    let folder = PathBuf::from(String::from_utf8(output.stdout)?.trim());
    if !complete(&folder) {
        bail!("no PostgreSQL was found and PyPI's pgserver holds none: install postgresql, or set TALLY_PGBIN");
    }
    Ok(folder)
}

/// `cargo deny`, installed beside the build if it is missing.
pub fn cargo_deny() -> anyhow::Result<PathBuf> {
    if shell::succeeds(Command::new("cargo-deny").arg("--version")) {
        return Ok(PathBuf::from("cargo-deny"));
    }
    let folder = shell::target_folder()?.join("tools");
    let program = folder.join("bin/cargo-deny");
    if !program.exists() {
        let mut install = shell::cargo()?;
        // It shares nothing with the workspace's build, so it has a target folder of its own, and no optimisation: it runs once.
        install.args(["install", "--quiet", "--locked", "--debug", "cargo-deny@0.20.2", "--root"]).arg(&folder);
        install.env("CARGO_TARGET_DIR", folder.join("build"));
        shell::run(&mut install)?;
        std::fs::remove_dir_all(folder.join("build"))?;
    }
    Ok(program)
}
