//! Each `golden/NAME.sql` is asked and compared with `golden/NAME.txt`; `UPDATE_GOLDEN=1` writes the answers.
//! A first line `-- as ORGANIZATION` asks for an organization instead of the operator.

use std::fs;
use std::path::Path;

use platform_catalog::Scope;
use platform_query::{Format, render};

use crate::world::{ask_as, organization};

fn answer(sql: &str) -> String {
    let scope = match sql.lines().next().and_then(|line| line.strip_prefix("-- as ")) {
        Some(id) => organization(id.trim()),
        None => Scope::Operator,
    };
    match ask_as(sql, &scope) {
        Ok(result) => String::from_utf8(render(&result, Format::Table).unwrap()).unwrap(),
        Err(error) => format!("{} {error}\n", error.code()),
    }
}

#[test]
fn answers_are_the_golden_ones() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut asked = 0;
    for entry in fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "sql") {
            continue;
        }
        let (found, golden) = (answer(&fs::read_to_string(&path).unwrap()), path.with_extension("txt"));
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            fs::write(&golden, &found).unwrap();
        }
        let expected = fs::read_to_string(&golden).unwrap_or_default();
        assert_eq!(found, expected, "{}", path.display());
        asked += 1;
    }
    assert!(asked >= 12, "only {asked} golden queries were found");
}
