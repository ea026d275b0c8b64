//! Rules about what is written for readers: the architecture page, decision records, invariants, and the size of the top level.

use std::collections::{BTreeMap, BTreeSet};

use super::workspace::{Finding, Workspace, finding};

const ARCHITECTURE: &str = "ARCHITECTURE.md";
const DECISIONS: &str = "docs/decisions";
const INVARIANTS: &str = "docs/architecture/invariants.md";

/// Visible entries of the top level that a reader can still take in.
const TOP_LEVEL_MAX: usize = 26;

/// The lines of a page between a heading of the second level and the next, with their numbers.
fn section<'a>(text: &'a str, heading: &str) -> Vec<(usize, &'a str)> {
    let lines = text.lines().enumerate().map(|(at, line)| (at + 1, line));
    let after = lines.skip_while(|(_, line)| line.strip_prefix("## ") != Some(heading)).skip(1);
    after.take_while(|(_, line)| !line.starts_with("## ")).collect()
}

/// The cells of a table's row; nothing for its head and its ruler.
fn cells(line: &str) -> Option<Vec<&str>> {
    let cells: Vec<&str> = line.strip_prefix('|')?.strip_suffix('|')?.split('|').map(str::trim).collect();
    (!cells.iter().all(|cell| cell.trim_matches(['-', ':']).is_empty())).then_some(cells)
}

/// What stands between backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// The page's package table is `cargo metadata`.
pub fn package_table(workspace: &Workspace) -> Vec<Finding> {
    let text = workspace.text(ARCHITECTURE);
    let mut table: BTreeMap<&str, (usize, &str)> = BTreeMap::new();
    for (line, cells) in section(&text, "Packages").into_iter().filter_map(|(line, text)| Some((line, cells(text)?))).skip(1) {
        table.insert(cells[0], (line, cells.get(1).copied().unwrap_or_default()));
    }
    let mut findings = Vec::new();
    for package in &workspace.packages {
        match table.remove(package.name.as_str()) {
            Some((_, folder)) if folder == package.folder => {}
            Some((line, folder)) => {
                let what = format!("says that {} lies in {folder}", package.name);
                findings.push(finding(format!("{ARCHITECTURE}:{line}"), what, format!("it lies in {}", package.folder)));
            }
            None => findings.push(finding(ARCHITECTURE, format!("lacks the package {}", package.name), "add its row")),
        }
    }
    for (name, (line, _)) in table {
        findings.push(finding(format!("{ARCHITECTURE}:{line}"), format!("lists {name}, which is no package"), "remove the row"));
    }
    findings
}

/// The page shows where a reading goes, step by step, in files that exist.
pub fn steps(workspace: &Workspace) -> Vec<Finding> {
    let text = workspace.text(ARCHITECTURE);
    let steps = section(&text, "Where a reading goes, step by step");
    let mut findings = Vec::new();
    let mut named = 0;
    for (line, text) in steps {
        for path in quoted(text).filter(|path| path.contains('/')) {
            named += 1;
            let folder = format!("{}/", path.trim_end_matches('/'));
            if !workspace.files.contains(path) && !workspace.files.iter().any(|file| file.starts_with(&folder)) {
                findings.push(finding(
                    format!("{ARCHITECTURE}:{line}"),
                    format!("names {path}, which does not exist"),
                    "name the file of the step",
                ));
            }
        }
    }
    if named == 0 {
        findings.push(finding(ARCHITECTURE, "does not show where a reading goes, step by step", "add the steps with their files"));
    }
    findings
}

/// Decision records are numbered from 0001 without gaps, each number once.
pub fn decisions(workspace: &Workspace) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut numbers = Vec::new();
    for path in workspace.files_below(DECISIONS, ".md") {
        let name = path.rsplit('/').next().unwrap_or_default();
        match name.split_once('-').filter(|(number, _)| number.len() == 4).and_then(|(number, _)| number.parse::<usize>().ok()) {
            Some(number) => numbers.push((number, path)),
            None => findings.push(finding(path, "is not named NNNN-what-was-decided.md", "number it")),
        }
    }
    numbers.sort_unstable();
    for (at, (number, path)) in numbers.iter().enumerate() {
        if *number != at + 1 {
            findings.push(finding(path, format!("has number {number:04} where {:04} is due", at + 1), "number records without gaps"));
            break;
        }
    }
    findings
}

/// Three letters, a dash and a number that are no invariant.
const NO_CODES: [&str; 7] = ["AES", "CRC", "ISO", "MIT", "RFC", "SHA", "UTF"];

/// Codes of invariants in a text.
fn codes(text: &str) -> BTreeSet<String> {
    let words = text.split(|char: char| !(char.is_ascii_alphanumeric() || char == '-' || char == '_'));
    let codes = words.filter(|word| {
        word.split_once('-').is_some_and(|(letters, number)| {
            let is_number = (1..=2).contains(&number.len()) && number.bytes().all(|byte| byte.is_ascii_digit());
            letters.len() == 3 && letters.bytes().all(|byte| byte.is_ascii_uppercase()) && is_number && !NO_CODES.contains(&letters)
        })
    });
    codes.map(str::to_owned).collect()
}

/// Each code in the code stands in the table, each code of the table in the code, with two places that exist.
pub fn invariants(workspace: &Workspace) -> Vec<Finding> {
    let mut used: BTreeMap<String, String> = BTreeMap::new();
    let sources = workspace.files.iter().filter(|path| path.ends_with(".rs") || path.ends_with(".sql"));
    for path in sources.filter(|path| !path.starts_with("tests/")) {
        for code in codes(&workspace.text(path)) {
            used.entry(code).or_insert_with(|| path.clone());
        }
    }
    let text = workspace.text(INVARIANTS);
    let mut findings = Vec::new();
    for (at, cells) in text.lines().enumerate().filter_map(|(at, line)| Some((at + 1, cells(line)?))) {
        let Some(code) = codes(cells[0]).pop_first() else { continue };
        let place = format!("{INVARIANTS}:{at}");
        if used.remove(&code).is_none() {
            findings.push(finding(&place, format!("lists {code}, which no code names"), "name it where it is checked, or remove it"));
        }
        let checks: BTreeSet<&str> = cells.iter().skip(2).filter_map(|cell| quoted(cell).next()).collect();
        if checks.len() < 2 {
            findings.push(finding(&place, format!("{code} is checked in {} places", checks.len()), "check an invariant in two places"));
        }
        for path in checks.into_iter().filter(|path| !workspace.files.contains(*path)) {
            findings.push(finding(&place, format!("{code} names {path}, which does not exist"), "name the file that checks it"));
        }
    }
    for (code, path) in used {
        findings.push(finding(
            path,
            format!("names {code}, which {INVARIANTS} does not list"),
            "list it with the two places that check it",
        ));
    }
    findings
}

/// What a reader sees first stays small.
pub fn top_level(workspace: &Workspace) -> Vec<Finding> {
    let entries: BTreeSet<&str> =
        workspace.files.iter().filter_map(|path| path.split('/').next()).filter(|entry| !entry.starts_with('.')).collect();
    if entries.len() <= TOP_LEVEL_MAX {
        return Vec::new();
    }
    let what = format!("has {} visible entries: {}", entries.len(), entries.into_iter().collect::<Vec<_>>().join(" "));
    vec![finding("the top level", what, format!("keep it at {TOP_LEVEL_MAX}: move something below"))]
}
