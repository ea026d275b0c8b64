//! Rules about Rust sources: lints, names and heads of files, floats, and what pure code may reach for.

use super::rust::{Kind, Token, attribute};
use super::workspace::{Finding, Workspace, finding};

/// Every package inherits the workspace's lints; an exception from a lint says why, and clippy is answered with `expect`.
pub fn lints(workspace: &Workspace) -> Vec<Finding> {
    let mut findings = Vec::new();
    let root: toml::Table = workspace.text("Cargo.toml").parse().unwrap_or_default();
    let unsafe_code = ["workspace", "lints", "rust"].iter().try_fold(&root, |table, key| table.get(*key)?.as_table());
    if unsafe_code.and_then(|lints| lints.get("unsafe_code")).and_then(toml::Value::as_str) != Some("forbid") {
        findings.push(finding("Cargo.toml", "does not forbid unsafe code", "set workspace.lints.rust.unsafe_code = \"forbid\""));
    }
    for package in &workspace.packages {
        let manifest: toml::Table = workspace.text(&package.manifest()).parse().unwrap_or_default();
        let inherits = manifest.get("lints").and_then(|lints| lints.get("workspace")).and_then(toml::Value::as_bool);
        if inherits != Some(true) {
            findings.push(finding(package.manifest(), "does not inherit the workspace's lints", "add `[lints] workspace = true`"));
        }
    }
    for source in &workspace.sources {
        for at in 0..source.tokens.len() {
            let Some(found) = attribute(&source.tokens, at) else { continue };
            let words: Vec<&str> = found.tokens.iter().filter_map(Token::word).collect();
            let Some(level) = words.iter().find(|word| ["allow", "expect"].contains(*word)) else { continue };
            if *level == "allow" && words.contains(&"clippy") {
                findings.push(finding(source.place(found.line), "allows a clippy lint", "use #[expect(clippy::…, reason = \"…\")]"));
            } else if !words.contains(&"reason") {
                findings.push(finding(source.place(found.line), format!("has an `{level}` without a reason"), "add reason = \"…\""));
            }
        }
    }
    findings
}

/// Names that say nothing about what a module is for.
const NOTHING: [&str; 9] = ["util", "utils", "common", "helper", "helpers", "misc", "manager", "managers", "mod"];

/// Every file opens with what it is; no module is a drawer; `rate.rs` stands beside `rate/`.
pub fn files(workspace: &Workspace) -> Vec<Finding> {
    let mut findings = Vec::new();
    for source in &workspace.sources {
        if !workspace.text(&source.path).starts_with("//!") {
            let remedy = "say what the file is and what it deliberately does not know";
            findings.push(finding(&source.path, "does not open with `//!`", remedy));
        }
        let stem = source.path.trim_end_matches(".rs").rsplit('/').next().unwrap_or_default();
        if NOTHING.contains(&stem) {
            findings.push(finding(&source.path, format!("is a module named `{stem}`"), "name it after its one reason to exist"));
        }
        for window in source.tokens.windows(3) {
            let named = window[1].word().filter(|name| window[0].word() == Some("mod") && window[2].is('{') && NOTHING.contains(name));
            if let Some(name) = named {
                findings.push(finding(
                    source.place(window[0].line),
                    format!("is a module named `{name}`"),
                    "name it after its one reason to exist",
                ));
            }
        }
    }
    findings
}

/// Where a float would be money, a quantity or their proof.
const EXACT: [&str; 7] =
    ["shared-types", "platform-usage", "platform-rating", "platform-ledger", "platform-billing", "platform-evidence", "platform-registry"];

/// No float type and no float literal from the event to the posting and its proof.
pub fn floats(workspace: &Workspace) -> Vec<Finding> {
    let mut findings = Vec::new();
    for source in &workspace.sources {
        if !source.package.as_deref().is_some_and(|package| EXACT.contains(&package)) {
            continue;
        }
        for token in &source.live {
            let float = match &token.kind {
                Kind::Word(word) => ["f16", "f32", "f64", "f128"].contains(&word.as_str()),
                Kind::Number(number) => number.contains('.') || number.ends_with("f32") || number.ends_with("f64"),
                Kind::Text(_) | Kind::Mark(_) => false,
            };
            // `0xf32` ends like a float and is none.
            let hexadecimal = matches!(&token.kind, Kind::Number(number) if number.starts_with("0x"));
            if float && !hexadecimal {
                findings.push(finding(source.place(token.line), "uses a float", "use Quantity, Price, Amount or an exact rational"));
            }
        }
    }
    findings
}

/// Code that is a function of its arguments.
const PURE: [&str; 3] = ["platform-usage", "platform-rating", "platform-billing"];

/// Files of other packages that are, with the modules below them.
const PURE_FILES: [&str; 1] = ["ingest/src/batch"];

/// No clock, randomness, environment or I/O where the same input must give the same bill.
pub fn purity(workspace: &Workspace) -> Vec<Finding> {
    let mut findings = Vec::new();
    for source in &workspace.sources {
        let in_file = PURE_FILES.iter().any(|file| source.path.strip_prefix(file).is_some_and(|rest| rest.starts_with(['.', '/'])));
        if !in_file && !source.package.as_deref().is_some_and(|package| PURE.contains(&package)) {
            continue;
        }
        for (line, what) in impure(&source.live) {
            findings.push(finding(source.place(line), format!("reaches for {what}"), "take it as an argument"));
        }
    }
    findings
}

/// What in the tokens is not a function of arguments, with its lines.
fn impure(tokens: &[Token]) -> Vec<(usize, String)> {
    let word = |at: usize| tokens.get(at).and_then(Token::word).unwrap_or_default();
    let path = |at: usize| tokens.get(at + 1).is_some_and(|token| token.is(':')) && tokens.get(at + 2).is_some_and(|token| token.is(':'));
    let mut found = Vec::new();
    for at in 0..tokens.len() {
        let line = tokens[at].line;
        match word(at) {
            name @ ("SystemTime" | "getrandom" | "rand" | "tokio") => found.push((line, name.to_owned())),
            name @ ("Instant" | "Timestamp" | "Zoned" | "Uuid")
                if path(at) && (word(at + 3) == "now" || word(at + 3).starts_with("new_v")) =>
            {
                found.push((line, format!("{name}::{}", word(at + 3))));
            }
            "std" if path(at) => {
                let group = tokens.get(at + 3).is_some_and(|token| token.is('{'));
                let end = if group { super::rust::closing(tokens, at + 3) } else { at + 4 };
                for module in (at + 3..end).map(word).filter(|module| ["fs", "env", "net", "process", "io"].contains(module)) {
                    found.push((line, format!("std::{module}")));
                }
            }
            _ => {}
        }
    }
    found
}
