//! What does not hold: one finding for each difference, in the order of the stages. It knows no check.

use serde_json::{Value, json};

/// The stages of a verification, in order: the first difference is the one of the earliest stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Names, sizes, digests: the closed world.
    Files,
    /// Envelope, keys, checkpoint; a kept checkpoint.
    Signatures,
    /// Registry documents and addresses.
    Registry,
    /// Leaves, roots, paths.
    Logs,
    /// Events and quantities.
    Readings,
    /// Which price applies.
    Prices,
    /// Rating and lines.
    Lines,
    /// Number, ledger entry.
    Issue,
    /// Charges and totals of an export.
    Charges,
}

impl Stage {
    fn name(self) -> &'static str {
        match self {
            Self::Files => "files",
            Self::Signatures => "signatures",
            Self::Registry => "registry",
            Self::Logs => "logs",
            Self::Readings => "readings",
            Self::Prices => "prices",
            Self::Lines => "lines",
            Self::Issue => "issue",
            Self::Charges => "charges",
        }
    }
}

/// One difference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Where in the verification.
    pub stage: Stage,
    /// The file.
    pub file: String,
    /// The row, line, month or key inside it; empty for the whole file.
    pub row: String,
    /// What was compared, for example `amount`.
    pub what: String,
    /// What it must be.
    pub expected: String,
    /// What is there.
    pub found: String,
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.stage.name(), self.file)?;
        if !self.row.is_empty() {
            write!(f, ", {}", self.row)?;
        }
        write!(f, ": {} is {}, it must be {}", self.what, shown(&self.found), shown(&self.expected))
    }
}

fn shown(text: &str) -> &str {
    if text.is_empty() { "nothing" } else { text }
}

impl Finding {
    /// For programs.
    pub fn json(&self) -> Value {
        json!({
            "stage": self.stage.name(), "file": self.file, "row": self.row, "what": self.what, "expected": self.expected,
            "found": self.found,
        })
    }
}

/// Findings as they come in.
#[derive(Debug, Default)]
pub struct Findings(Vec<Finding>);

/// More are counted, not kept: one broken thing can break every row.
const KEPT: usize = 1_000;

impl Findings {
    /// Notes a difference.
    pub fn add(&mut self, stage: Stage, file: &str, row: impl Into<String>, what: &str, expected: impl ToString, found: impl ToString) {
        if self.0.len() < KEPT {
            let (expected, found) = (expected.to_string(), found.to_string());
            self.0.push(Finding { stage, file: file.to_owned(), row: row.into(), what: what.to_owned(), expected, found });
        }
    }

    /// Notes a difference unless both are equal.
    pub fn compare<T: PartialEq + ToString>(&mut self, stage: Stage, file: &str, row: &str, what: &str, expected: &T, found: &T) {
        if expected != found {
            self.add(stage, file, row, what, expected.to_string(), found.to_string());
        }
    }

    /// All, by stage.
    pub fn sorted(mut self) -> Vec<Finding> {
        self.0.sort_by_key(|finding| finding.stage);
        self.0
    }
}
