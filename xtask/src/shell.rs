//! Running programs: always shown, always checked.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail};

/// The root of the checkout.
pub fn root() -> anyhow::Result<PathBuf> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    Ok(here.parent().context("xtask lies in no folder")?.to_owned())
}

/// Where cargo puts what it builds.
pub fn target_folder() -> anyhow::Result<PathBuf> {
    Ok(match std::env::var_os("CARGO_TARGET_DIR") {
        Some(folder) => PathBuf::from(folder),
        None => root()?.join("target"),
    })
}

/// Cargo, in the checkout.
pub fn cargo() -> anyhow::Result<Command> {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root()?);
    // What cargo set for xtask itself must not leak into other builds: it would rebuild everything.
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        if name.starts_with("CARGO_PKG_") || name == "CARGO_MANIFEST_DIR" || name == "CARGO_MANIFEST_PATH" {
            command.env_remove(name);
        }
    }
    Ok(command)
}

/// Shows a command, runs it, and fails when it fails.
pub fn run(command: &mut Command) -> anyhow::Result<()> {
    eprintln!("$ {}", shown(command));
    let status = command.status().with_context(|| format!("could not start {}", shown(command)))?;
    if !status.success() {
        bail!("{} ended with {status}", shown(command));
    }
    Ok(())
}

/// Whether a command can be started and succeeds, without showing it.
pub fn succeeds(command: &mut Command) -> bool {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

fn shown(command: &Command) -> String {
    let mut text = command.get_program().to_string_lossy().into_owned();
    for argument in command.get_args() {
        text.push(' ');
        text.push_str(&argument.to_string_lossy());
    }
    text
}

/// Builds `tally-verify`, which shares no crate with the rest, and answers where it lies.
pub fn build_verify() -> anyhow::Result<PathBuf> {
    run(&mut build("tally-verify")?)?;
    Ok(target_folder()?.join("debug/tally-verify"))
}

/// Builds `tally` in the one profile that everything shares; with `plant`, the bugs that crash campaigns must find are compiled in.
///
/// Both binaries are copied aside, because one build replaces the other.
pub fn build_tally(plant: bool) -> anyhow::Result<PathBuf> {
    let mut build = build("tally")?;
    if plant {
        build.args(["--features", "server/plant"]);
    }
    run(&mut build)?;
    let target = target_folder()?;
    let kept = target.join(if plant { "tally-planted" } else { "tally" });
    // A running copy cannot be written over; a fresh file can take its name.
    let fresh = kept.with_extension("new");
    std::fs::copy(target.join("debug/tally"), &fresh)?;
    std::fs::rename(&fresh, &kept)?;
    Ok(kept)
}

/// The build of one program. Of the whole workspace, though only what the program needs is built: then features are resolved as the tests
/// resolve them, and no dependency is compiled twice.
fn build(program: &str) -> anyhow::Result<Command> {
    let mut build = cargo()?;
    build.args(["build", "--workspace", "--bin", program]);
    Ok(build)
}
