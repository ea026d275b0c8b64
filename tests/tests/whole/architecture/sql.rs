//! The tables that a piece of SQL names, for SQLite and PostgreSQL, PL/pgSQL bodies included. It knows no columns and checks no syntax.

use std::collections::BTreeSet;

/// A word or a mark, and the line it begins on.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Token {
    line: usize,
    /// As written; a quoted name without its quotes.
    text: String,
    is_word: bool,
}

impl Token {
    fn keyword(&self) -> String {
        if self.is_word { self.text.to_ascii_uppercase() } else { self.text.clone() }
    }
}

/// Names of tables where a table stands, with their lines. Names that the text itself makes (common table expressions, transition
/// tables), functions and the engines' own catalogs are left out.
pub fn tables(text: &str) -> Vec<(usize, String)> {
    let tokens = tokens(text);
    let local = local(&tokens);
    let found = placed(&tokens).into_iter().filter(|(_, name)| !local.contains(name) && !is_catalog(name));
    found.collect()
}

/// Tables that the text creates for good.
pub fn created(text: &str) -> Vec<String> {
    let tokens = tokens(text);
    let words: Vec<String> = tokens.iter().map(Token::keyword).collect();
    let mut names = Vec::new();
    for (at, pair) in words.windows(2).enumerate() {
        if pair[0] == "CREATE" && pair[1] == "TABLE" {
            let named = tokens[at + 2..].iter().find(|token| token.is_word && !["IF", "NOT", "EXISTS"].contains(&token.keyword().as_str()));
            names.extend(named.map(|token| token.text.to_ascii_lowercase()));
        }
    }
    names
}

/// Every word of the text, with its line.
pub fn words(text: &str) -> Vec<(usize, String)> {
    tokens(text).into_iter().filter(|token| token.is_word).map(|token| (token.line, token.text.to_ascii_lowercase())).collect()
}

fn is_catalog(name: &str) -> bool {
    ["pg_", "sqlite_", "information_schema."].iter().any(|prefix| name.starts_with(prefix))
}

fn tokens(text: &str) -> Vec<Token> {
    let chars: Vec<char> = text.chars().collect();
    let mut tokens = Vec::new();
    let (mut at, mut line) = (0, 1);
    while at < chars.len() {
        let begin = at;
        let next = chars.get(at + 1).copied();
        let mut token = None;
        match chars[at] {
            '-' if next == Some('-') => at += chars[at..].iter().take_while(|char| **char != '\n').count(),
            '/' if next == Some('*') => {
                at += 2;
                while at < chars.len() && (chars[at - 1], chars[at]) != ('*', '/') {
                    at += 1;
                }
                at += 1;
            }
            '\'' => at += 2 + chars[at + 1..].iter().take_while(|char| **char != '\'').count(),
            '"' => {
                let name: String = chars[at + 1..].iter().take_while(|char| **char != '"').collect();
                at += 2 + name.chars().count();
                token = Some((name, true));
            }
            // The marks around a PL/pgSQL body, and a parameter's number.
            '$' => at += 1 + chars[at + 1..].iter().take_while(|char| char.is_alphanumeric()).count(),
            char if char.is_alphanumeric() || char == '_' => {
                let word: String = chars[at..].iter().take_while(|char| char.is_alphanumeric() || **char == '_').collect();
                at += word.chars().count();
                token = Some((word, !char.is_ascii_digit()));
            }
            char => {
                at += 1;
                token = (!char.is_whitespace()).then(|| (char.to_string(), false));
            }
        }
        tokens.extend(token.map(|(text, is_word)| Token { line, text, is_word }));
        line += chars[begin..at.min(chars.len())].iter().filter(|char| **char == '\n').count();
    }
    tokens
}

/// Names made by the text: `WITH name AS (`, `WITH name (columns) AS (`, `REFERENCING NEW TABLE AS name`.
fn local(tokens: &[Token]) -> BTreeSet<String> {
    let words: Vec<String> = tokens.iter().map(Token::keyword).collect();
    let word = |at: usize| words.get(at).map_or("", String::as_str);
    let mut names = BTreeSet::new();
    for (at, token) in tokens.iter().enumerate().skip(1) {
        if word(at - 1) == "AS" && at >= 2 && word(at - 2) == "TABLE" {
            names.insert(token.text.to_ascii_lowercase());
        }
        if !(token.is_word && matches!(word(at - 1), "WITH" | "RECURSIVE" | ",")) {
            continue;
        }
        let mut next = at + 1;
        if word(next) == "(" {
            next += words[next..].iter().take_while(|word| *word != ")").count() + 1;
        }
        let body = if word(next + 1) == "MATERIALIZED" { next + 2 } else { next + 1 };
        if word(next) == "AS" && word(body) == "(" {
            names.insert(token.text.to_ascii_lowercase());
        }
    }
    names
}

/// What may stand where a table is expected.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Expected {
    Nothing,
    /// A table or a function.
    Item,
    /// A table, though a bracket follows it.
    Table,
}

fn placed(tokens: &[Token]) -> Vec<(usize, String)> {
    let words: Vec<String> = tokens.iter().map(Token::keyword).collect();
    let word = |at: usize| words.get(at).map_or("", String::as_str);
    let before = |at: usize, back: usize| at.checked_sub(back).map_or("", word);
    let mut found = Vec::new();
    // For each open bracket: what it was opened behind, and whether commas separate tables.
    let mut brackets: Vec<(String, bool)> = vec![(String::new(), false)];
    let mut expected = Expected::Nothing;
    let mut before_on = false;
    let mut at = 0;
    while at < tokens.len() {
        let (behind, in_list) = brackets.last().cloned().unwrap();
        if expected != Expected::Nothing && tokens[at].is_word {
            if matches!(word(at), "LATERAL" | "ONLY" | "IF" | "NOT" | "EXISTS" | "OR" | "IGNORE" | "REPLACE") {
                at += 1;
                continue;
            }
            if !matches!(word(at), "SELECT" | "VALUES" | "CURRENT" | "SET" | "AS" | "ON" | "OF") {
                let mut name = tokens[at].text.to_ascii_lowercase();
                while word(at + 1) == "." {
                    let keep_schema = name == "information_schema";
                    let table = tokens.get(at + 2).map_or_else(String::new, |token| token.text.to_ascii_lowercase());
                    name = if keep_schema { format!("{name}.{table}") } else { table };
                    at += 2;
                }
                if expected == Expected::Table || word(at + 1) != "(" {
                    found.push((tokens[at].line, name));
                }
                expected = Expected::Nothing;
                at += 1;
                continue;
            }
            expected = Expected::Nothing;
        }
        match word(at) {
            "(" => {
                expected = Expected::Nothing;
                brackets.push((before(at, 1).to_owned(), false));
            }
            ")" if brackets.len() > 1 => {
                brackets.pop();
            }
            "," if in_list => expected = Expected::Item,
            ";" => {
                brackets = vec![(String::new(), false)];
                expected = Expected::Nothing;
                before_on = false;
            }
            "FROM" => {
                let compares = before(at, 1) == "DISTINCT" && matches!(before(at, 2), "IS" | "NOT");
                if !compares && !matches!(behind.as_str(), "EXTRACT" | "SUBSTRING" | "TRIM" | "OVERLAY") {
                    brackets.last_mut().unwrap().1 = true;
                    expected = Expected::Item;
                }
            }
            "JOIN" => expected = Expected::Item,
            "USING" if word(at + 1) != "(" => expected = Expected::Item,
            "INTO" if matches!(before(at, 1), "INSERT" | "MERGE" | "REPLACE" | "IGNORE" | "ABORT" | "ROLLBACK" | "FAIL") => {
                expected = Expected::Table;
            }
            "UPDATE" if !matches!(before(at, 1), "BEFORE" | "AFTER" | "OR" | "FOR" | "DO" | "ON" | "OF" | "KEY") => {
                expected = Expected::Table;
            }
            "TABLE" if word(at + 1) != "AS" => expected = Expected::Table,
            "REFERENCES" => expected = Expected::Table,
            "TRIGGER" | "INDEX" if matches!(before(at, 1), "CREATE" | "UNIQUE" | "CONSTRAINT" | "TEMP" | "TEMPORARY" | "REPLACE") => {
                before_on = true;
            }
            "ON" if before_on => {
                before_on = false;
                expected = Expected::Table;
            }
            "WHERE" | "GROUP" | "ORDER" | "LIMIT" | "HAVING" | "RETURNING" | "SET" | "UNION" | "EXCEPT" | "INTERSECT" | "SELECT"
            | "WINDOW" | "VALUES" | "THEN" | "LOOP" | "WHEN" => brackets.last_mut().unwrap().1 = false,
            _ => {}
        }
        at += 1;
    }
    found
}

#[test]
fn tables_are_found_where_they_stand() {
    let check = |sql: &str, expected: &[&str]| {
        let found: Vec<String> = tables(sql).into_iter().map(|(_, name)| name).collect();
        assert_eq!(found, expected, "{sql}");
    };
    check("SELECT a FROM x AS y, json_each(y.b) AS c, z WHERE a IS DISTINCT FROM b ORDER BY d, e", &["x", "z"]);
    check("WITH w (a) AS (SELECT 1 FROM x), v AS (SELECT 2) INSERT INTO y (a) SELECT a FROM w JOIN v ON w.a = v.a", &["x", "y"]);
    check("UPDATE x SET a = 1 FROM (SELECT extract(epoch FROM b) FROM y) AS z -- FROM c\nWHERE d = 'FROM e'", &["x", "y"]);
    check("INSERT INTO x (a) VALUES (1) ON CONFLICT (a) DO UPDATE SET a = excluded.a", &["x"]);
    check("CREATE TABLE IF NOT EXISTS x (a int REFERENCES y (a)); CREATE UNIQUE INDEX i ON z (a)", &["x", "y", "z"]);
    check("CREATE TRIGGER t BEFORE UPDATE OF a ON x WHEN NEW.a > 1 BEGIN DELETE FROM y; END;", &["x", "y"]);
    check("CREATE TRIGGER t AFTER INSERT ON x REFERENCING NEW TABLE AS n FOR EACH STATEMENT EXECUTE FUNCTION f(); SELECT 1 FROM n", &["x"]);
    check("SELECT name FROM main.x, pg_catalog.pg_trigger, information_schema.tables FOR UPDATE", &["x"]);
    check("$$ BEGIN SELECT * INTO last FROM x LIMIT 1; END $$", &["x"]);
    assert_eq!(created("CREATE TABLE a (b int); CREATE TABLE IF NOT EXISTS \"c\" (d int); CREATE TEMP TABLE e (f int)"), ["a", "c"]);
}
