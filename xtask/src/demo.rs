//! `cargo xtask demo`: `tally demo` in a fresh home, then what others say of the invoice that it made: `tally-verify` and stock DuckDB, of the
//! bundle as it is and of a copy with one figure changed; and the second opinion on the first month.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, bail};

use crate::{shell, tools};

/// The month whose second opinion is recorded: `tally demo` closes it first.
const MONTH: &str = "2026-09";

/// What VERIFY.md says for a Python with DuckDB; exit status 1 when a row comes back.
const DUCKDB: &str = include_str!("../../evidence/src/bundle/verify.py");

/// Runs the demo in `<target>/demo`, which is made anew.
pub fn run(arguments: &[String]) -> anyhow::Result<()> {
    let tally = shell::build_tally(false)?;
    let home = shell::target_folder()?.join("demo");
    if home.exists() {
        std::fs::remove_dir_all(&home)?;
    }
    shell::run(Command::new(&tally).arg("--home").arg(&home).arg("demo").args(arguments))?;
    let bundle = home.join("bundle");
    if bundle.is_dir() {
        verify(&tally, &home, &bundle)?;
    } else {
        println!("\nno bundle: so little usage left no invoice with late usage to prove");
    }
    Ok(())
}

fn verify(tally: &Path, home: &Path, bundle: &Path) -> anyhow::Result<()> {
    println!("\nNow what others say of it. tally-verify shares no code with tally and is built by itself; DuckDB comes from PyPI.");
    let verify = shell::build_verify()?;
    let python = tools::duckdb()?;
    let key = Command::new(tally).arg("--home").arg(home).args(["evidence", "key"]).output()?;
    let key = String::from_utf8(key.stdout)?.trim().to_owned();
    println!("\nThe bundle as it was sent");
    expect(true, Command::new(&verify).arg(bundle).args(["--log-key", &key]))?;
    expect(true, Command::new(&python).args(["-c", DUCKDB]).current_dir(bundle))?;

    let copy = home.join("bundle-changed");
    copy_folder(bundle, &copy)?;
    let changed = change_one_amount(&copy.join("invoice.json"))?;
    println!("\nA copy in which one amount reads {}, not {}", changed.1, changed.0);
    expect(false, Command::new(&verify).arg(&copy).args(["--log-key", &key]))?;
    expect(false, Command::new(&python).args(["-c", DUCKDB]).current_dir(&copy))?;

    println!("\nThe whole of {MONTH}, re-rated by the second engine");
    let (export, verdict) = (home.join(format!("export-{MONTH}")), home.join(format!("opinion-{MONTH}.json")));
    expect(true, Command::new(tally).arg("--home").arg(home).args(["evidence", "export", "--period", MONTH, "--out"]).arg(&export))?;
    let file = std::fs::File::create(&verdict)?;
    expect(true, Command::new(&verify).arg("--home-export").arg(&export).arg(MONTH).stdout(file))?;
    expect(true, Command::new(tally).arg("--home").arg(home).args(["period", "opinion", MONTH]).arg(&verdict))
}

/// Runs a command whose success or failure is known beforehand.
fn expect(success: bool, command: &mut Command) -> anyhow::Result<()> {
    let status = command.stdin(Stdio::null()).status().with_context(|| format!("could not start {}", command.get_program().display()))?;
    match (success, status.code()) {
        (true, Some(0)) | (false, Some(1)) => Ok(()),
        _ => bail!("{} ended with {status}, which is not what it should find", command.get_program().display()),
    }
}

fn copy_folder(from: &Path, to: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_folder(&entry.path(), &target)?;
        } else {
            std::fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

/// Raises the first digit of the first amount of an invoice's lines by one, or lowers a nine; what it was and is.
fn change_one_amount(invoice: &Path) -> anyhow::Result<(String, String)> {
    const BEFORE: &str = "\"amount\":\"";
    let text = std::fs::read_to_string(invoice)?;
    let (head, rest) = text.split_once(BEFORE).context("the invoice has no amount")?;
    let (amount, tail) = rest.split_once('"').context("the invoice's amount has no end")?;
    let at = amount.find(|sign: char| sign.is_ascii_digit()).context("the invoice's amount has no digit")?;
    let (sign, digits) = amount.split_at(at);
    let (first, others) = digits.split_at(1);
    let other = if first == "9" { 8 } else { first.parse::<u8>()?.saturating_add(1) };
    let changed = format!("{sign}{other}{others}");
    std::fs::write(invoice, format!("{head}{BEFORE}{changed}\"{tail}"))?;
    Ok((amount.to_owned(), changed))
}
