//! The reference is true: `docs/reference/cli.md` is what the binary prints as help, command by command (`TALLY_WRITE_GOLDEN=1` rewrites it),
//! every stable error code of the sources has a section, and the operator's guide has every setting and every reason.

use std::collections::BTreeSet;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use crate::tally::{binary, err, out, root};

const PAGE: &str = "docs/reference/cli.md";

const HEAD: &str = "# Commands\n\n\
    What `tally --help` prints, command by command. This page is generated: `TALLY_WRITE_GOLDEN=1 cargo xtask test` rewrites it.\n\
    [The operator's guide](../guide/operator.md) shows each command with an example.\n";

/// The help of a command and of every command below it.
fn help(command: &[&str], page: &mut String) {
    let output = Command::new(binary())
        // Named as people call it, whatever the file is called; nothing of the caller's surroundings is shown.
        .arg0("tally")
        .args(command)
        .arg("--help")
        .env_remove("TALLY_HOME")
        .env_remove("COLUMNS")
        .output()
        .unwrap();
    assert!(output.status.success(), "{command:?}: {}", err(&output));
    let text = out(&output);
    let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    let depth = "#".repeat(command.len() + 2);
    let name = [&["tally"], command].concat().join(" ");
    page.push_str(&format!("\n{depth} `{name}`\n\n```text\n{}\n```\n", lines.join("\n").trim_end()));
    let below = lines.iter().skip_while(|line| **line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    for line in below {
        let Some(name) = line.split_whitespace().next().filter(|name| *name != "help") else { continue };
        help(&[command, &[name]].concat(), page);
    }
}

#[test]
fn the_page_of_commands_is_what_the_binary_prints() {
    let mut page = HEAD.to_owned();
    help(&[], &mut page);
    let path = root().join(PAGE);
    if std::env::var_os("TALLY_WRITE_GOLDEN").is_some() {
        std::fs::write(&path, &page).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(committed == page, "{PAGE} is not what the binary prints; TALLY_WRITE_GOLDEN=1 rewrites it:\n{page}");
}

/// Every stable code that a text names, such as `BUS-0004`: capitals, a dash, four digits.
fn codes(text: &str) -> BTreeSet<String> {
    let words = text.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '-');
    let is_code = |word: &&str| {
        word.split_once('-').is_some_and(|(owner, number)| {
            owner.len() >= 3
                && owner.bytes().all(|letter| letter.is_ascii_uppercase())
                && number.len() == 4
                && number.bytes().all(|digit| digit.is_ascii_digit())
        })
    };
    words.filter(is_code).map(ToOwned::to_owned).collect()
}

/// The codes of every source file below a folder.
fn codes_below(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && !name.starts_with('.') && !["target", "tests", "benches", "docs"].contains(&name.as_str()) {
            codes_below(&path, found);
        } else if name.ends_with(".rs") {
            found.extend(codes(&std::fs::read_to_string(&path).unwrap()));
        }
    }
}

#[test]
fn every_stable_code_has_its_section() {
    let mut used = BTreeSet::new();
    codes_below(&root(), &mut used);
    let page = std::fs::read_to_string(root().join("docs/reference/errors.md")).unwrap();
    let explained: BTreeSet<String> = page.lines().filter_map(|line| line.strip_prefix("### ")).map(ToOwned::to_owned).collect();
    assert!(used.len() > 30, "{used:?}");
    assert_eq!(explained, used, "sections of docs/reference/errors.md and codes of the sources");
}

#[test]
fn the_operators_guide_has_every_reason_and_every_setting() {
    let guide = std::fs::read_to_string(root().join("docs/guide/operator.md")).unwrap();
    let reasons = std::fs::read_to_string(root().join("ingest/usage/src/reason.rs")).unwrap();
    let codes: Vec<&str> =
        reasons.lines().filter_map(|line| line.trim().strip_suffix("\",")?.split_once(" = \"")).map(|(_, code)| code).collect();
    assert!(codes.len() > 10, "{codes:?}");
    for code in codes {
        assert!(guide.contains(&format!("| `{code}` |")), "docs/guide/operator.md does not explain {code}");
    }
    for (section, fields) in settings() {
        for field in fields {
            let variable = format!("TALLY_{section}_{field}").to_ascii_uppercase();
            let row = guide.lines().find(|line| line.starts_with(&format!("| `{section}.{field}` |")));
            assert!(
                row.is_some_and(|row| row.contains(&variable)),
                "docs/guide/operator.md does not explain {section}.{field} and {variable}"
            );
        }
    }
}

/// The sections of the settings and their fields, as the binary names them when it refuses one that does not exist.
fn settings() -> Vec<(&'static str, Vec<String>)> {
    let fields = |section: &str| {
        let variable = format!("TALLY_{section}_NOTHING").to_ascii_uppercase();
        let refused = crate::tally::Tally::empty().with(&variable, "1").run(&["init"]);
        let text = err(&refused);
        let (_, fields) = text.trim().rsplit_once("it has ").unwrap_or_else(|| panic!("no fields of {section}: {text}"));
        fields.split(", ").map(ToOwned::to_owned).collect()
    };
    ["serve", "access", "stream", "batch", "query", "evidence"].map(|section| (section, fields(section))).to_vec()
}
