//! `cargo xtask test`: everything that must hold before a change lands.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, ensure};
use clap::ValueEnum;

use crate::{shell, tools};

/// A part of the tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// rustfmt.
    Format,
    /// clippy with warnings denied.
    Lint,
    /// Unit, property, golden and conformance tests of every crate, on SQLite and PostgreSQL.
    Crates,
    /// Whole-workspace tests against the built binary: architecture, end to end, crashes.
    Whole,
    /// Programs that we did not write check what we wrote.
    Foreign,
    /// Licences, sources and duplicate versions of dependencies.
    Deny,
}

/// All parts, the quick ones first.
const ALL: [Part; 6] = [Part::Format, Part::Lint, Part::Crates, Part::Whole, Part::Foreign, Part::Deny];

/// Runs the parts and says how long each took.
pub fn run(parts: &[Part]) -> anyhow::Result<()> {
    let parts = if parts.is_empty() { &ALL[..] } else { parts };
    let mut times = Vec::new();
    for part in parts {
        let started = Instant::now();
        match part {
            Part::Format => shell::run(shell::cargo()?.args(["fmt", "--all", "--check"]))?,
            Part::Lint => {
                shell::run(shell::cargo()?.args(["clippy", "--workspace", "--all-targets", "--quiet", "--", "--deny", "warnings"]))?;
            }
            Part::Crates => crates()?,
            Part::Whole => whole()?,
            Part::Foreign => foreign()?,
            Part::Deny => {
                let deny = tools::cargo_deny()?;
                shell::run(Command::new(deny).current_dir(shell::root()?).args(["check", "bans", "licenses", "sources"]))?;
            }
        }
        times.push((part, started.elapsed().as_secs()));
    }
    for (part, seconds) in times {
        eprintln!("{part:?}: {seconds} s");
    }
    Ok(())
}

/// cargo with what the tests look for in the environment. A missing tool is an error, never a skip.
fn tests() -> anyhow::Result<Command> {
    let tools = tools::prepare()?;
    let mut cargo = shell::cargo()?;
    if shell::succeeds(Command::new("cargo-nextest").args(["nextest", "--version"])) {
        cargo.args(["nextest", "run", "--no-fail-fast"]);
    } else {
        cargo.args(["test", "--no-fail-fast"]);
    }
    cargo.env("TALLY_REQUIRE_TOOLS", "1").env("TALLY_PGBIN", tools.postgres).env("TALLY_PYTHON", tools.python);
    Ok(cargo)
}

fn crates() -> anyhow::Result<()> {
    shell::run(tests()?.args(["--workspace", "--exclude", "tests"]))?;
    // What must not compile stands in documentation, which nextest does not run.
    shell::run(shell::cargo()?.args(["test", "--doc", "--workspace"]))
}

fn whole() -> anyhow::Result<()> {
    let planted = shell::build_tally(true)?;
    let tally = shell::build_tally(false)?;
    let verify = shell::build_verify()?;
    let mut tests = tests()?;
    tests.args(["--package", "tests"]).env("TALLY_BIN", tally).env("TALLY_PLANTED_BIN", planted).env("TALLY_VERIFY_BIN", verify);
    shell::run(&mut tests)
}

/// Each script is given the Python of `.tools` and exits non-zero when something does not hold.
const SCRIPTS: [&str; 6] = [
    "evidence/tests/foreign/verify_vectors.py",
    "evidence/tests/foreign/verify_bundle.py",
    "evidence/tests/foreign/attack_bundle.py",
    "evidence/audit/tests/foreign/vectors.py",
    "tests/foreign/openapi.py",
    "tests/foreign/schemas.py",
];

/// The registry versions that the schemas must accept: folders of documents, and a price map that is imported.
const VERSIONS: [&str; 5] = [
    "datasets/registry/demo",
    "tests/registry",
    "control/registry/tests/golden/fixed",
    "control/registry/tests/golden/models",
    "control/registry/tests/golden/litellm/excerpt.json",
];

fn foreign() -> anyhow::Result<()> {
    let tools = tools::prepare()?;
    let (verify, modules, versions) = (shell::build_verify()?, tools::node_modules()?, registry_versions()?);
    for script in SCRIPTS {
        let mut python = Command::new(&tools.python);
        python.current_dir(shell::root()?).arg(script).env("TALLY_VERIFY_BIN", &verify);
        shell::run(python.env("TALLY_NODE_MODULES", &modules).env("TALLY_REGISTRY_VERSIONS", &versions))?;
    }
    Ok(())
}

/// A file with the registry versions of the workspace, as TOML and as canonical content.
fn registry_versions() -> anyhow::Result<PathBuf> {
    let mut cargo = shell::cargo()?;
    cargo.args(["run", "--quiet", "--package", "platform-registry", "--example", "versions", "--"]).args(VERSIONS);
    let output = cargo.stderr(Stdio::inherit()).output().context("could not run cargo")?;
    ensure!(output.status.success(), "the registry versions of the workspace could not be made");
    let file = shell::target_folder()?.join("registry-versions.json");
    std::fs::write(&file, output.stdout)?;
    Ok(file)
}
