//! `docs/reference/cli.md` is what the binary prints as help, command by command. `TALLY_WRITE_GOLDEN=1` rewrites it.

use std::os::unix::process::CommandExt;
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
