//! What is wrong with documents: file, line, what, remedy. All of it is collected; nothing stops at the first.
//! It does not know what the documents mean.

use std::fmt;
use std::sync::Arc;

/// One thing to mend.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// The file as it was named by whoever read it.
    pub file: String,
    /// From 1; none when the whole file is meant.
    pub line: Option<usize>,
    /// From 1, in characters; none when the whole file is meant.
    pub column: Option<usize>,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub remedy: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        for number in [self.line, self.column].into_iter().flatten() {
            write!(f, ":{number}")?;
        }
        write!(f, ": {}\n    remedy: {}", self.message, self.remedy)
    }
}

/// Everything that is wrong with a folder, by file, line and column. Never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

impl fmt::Display for Problems {
    /// One problem after the other and their number at the end.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for problem in &self.0 {
            writeln!(f, "{problem}")?;
        }
        match self.0.len() {
            1 => f.write_str("1 problem in the registry documents"),
            count => write!(f, "{count} problems in the registry documents"),
        }
    }
}

impl std::error::Error for Problems {}

/// A place in a file: index of the file and byte offset in its normalised text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct At {
    pub(crate) file: usize,
    pub(crate) offset: usize,
}

/// A file as it is parsed: without byte order mark, lines ended by `\n` alone.
#[derive(Debug)]
pub(crate) struct Text {
    pub(crate) name: String,
    pub(crate) text: Arc<str>,
    line_starts: Vec<usize>,
}

impl Text {
    pub(crate) fn new(name: &str, text: &str) -> Self {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text).replace("\r\n", "\n");
        let line_starts = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Self { name: name.to_owned(), text: text.into(), line_starts }
    }

    /// Line and column of a byte offset, from 1.
    fn place(&self, offset: usize) -> (usize, usize) {
        let line = self.line_starts.partition_point(|start| *start <= offset).max(1);
        let start = self.line_starts.get(line - 1).copied().unwrap_or(0);
        let column = self.text.get(start..offset).map_or(0, |before| before.chars().count());
        (line, column + 1)
    }
}

/// How many problems get a "did you mean": comparing words costs time, and nobody reads thousands of hints.
const HINTS: usize = 200;

/// The files under examination and what was found in them.
#[derive(Debug)]
pub(crate) struct Findings {
    pub(crate) files: Vec<Text>,
    problems: Vec<Problem>,
    hints_left: usize,
}

impl Findings {
    pub(crate) fn new(files: Vec<Text>) -> Self {
        Self { files, problems: Vec::new(), hints_left: HINTS }
    }

    pub(crate) fn add(&mut self, at: At, message: impl Into<String>, remedy: impl Into<String>) {
        let Some(file) = self.files.get(at.file) else { return };
        let (line, column) = file.place(at.offset);
        let (file, line, column) = (file.name.clone(), Some(line), Some(column));
        self.problems.push(Problem { file, line, column, message: message.into(), remedy: remedy.into() });
    }

    /// A problem of a whole file or folder.
    pub(crate) fn add_whole(&mut self, file: &str, message: impl Into<String>, remedy: impl Into<String>) {
        let file = file.to_owned();
        self.problems.push(Problem { file, line: None, column: None, message: message.into(), remedy: remedy.into() });
    }

    /// `file:line` of a place.
    pub(crate) fn shown(&self, at: At) -> String {
        self.files.get(at.file).map_or_else(String::new, |file| format!("{}:{}", file.name, file.place(at.offset).0))
    }

    /// `did you mean "x"? ` when a known word is close to the unknown one, else nothing.
    pub(crate) fn hint<'a>(&mut self, word: &str, known: impl IntoIterator<Item = &'a str>) -> String {
        if self.hints_left == 0 {
            return String::new();
        }
        self.hints_left -= 1;
        near(word, known).map(|near| format!("did you mean {near:?}? ")).unwrap_or_default()
    }

    /// All problems in order, or none.
    pub(crate) fn into_result(mut self) -> Result<(), Problems> {
        self.problems.sort();
        self.problems.dedup();
        if self.problems.is_empty() { Ok(()) } else { Err(Problems(self.problems)) }
    }

    /// How many problems were found so far.
    pub(crate) fn len(&self) -> usize {
        self.problems.len()
    }

    /// Forgets the problems beyond the first `len`.
    pub(crate) fn truncate(&mut self, len: usize) {
        self.problems.truncate(len);
    }
}

/// The known word with the fewest edits, at most a third of the longer word's length; of equals the first by name.
fn near<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let limit = |other: &str| word.chars().count().max(other.chars().count()).div_ceil(3);
    known
        .into_iter()
        .filter(|other| word.len().abs_diff(other.len()) <= limit(other))
        .map(|other| (edits(word, other), other))
        .filter(|(distance, other)| *distance <= limit(other))
        .min()
        .map(|(_, other)| other)
}

/// Levenshtein distance, ignoring case.
fn edits(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().flat_map(char::to_lowercase).collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().flat_map(char::to_lowercase).enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        let mut next = vec![left];
        for (to, above) in b.iter().zip(row.iter().skip(1)) {
            left = (diagonal + usize::from(from != *to)).min(above + 1).min(left + 1);
            diagonal = *above;
            next.push(left);
        }
        row = next;
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_words_are_found() {
        for (word, found) in [("unit_prise", Some("unit_price")), ("USD", Some("usd")), ("colour", None), ("", None)] {
            assert_eq!(near(word, ["unit_price", "per", "usd"]), found, "{word}");
        }
        assert_eq!(edits("kitten", "sitting"), 3);
        assert_eq!(edits("", "abc"), 3);
    }

    #[test]
    fn places_count_lines_and_characters_from_one() {
        let text = Text::new("a.toml", "\u{feff}x = 1\r\ny = \"é\" # z\n");
        assert_eq!(text.place(0), (1, 1));
        assert_eq!(text.place(6), (2, 1));
        assert_eq!(text.place(text.text.find('#').unwrap()), (2, 9));
    }
}
