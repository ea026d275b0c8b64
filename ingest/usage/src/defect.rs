//! What is wrong with an event or a reading, in words that a person can act on.

use crate::Reason;

/// Why something is quarantined: the field, what it held, and what would mend it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Defect {
    /// Stable reason.
    pub reason: Reason,
    /// The field, for example `time` or `data.input_tokens`; empty when it is the record as a whole.
    pub field: String,
    /// What the field held, cut to 80 characters; empty when it held nothing.
    pub value: String,
    /// What would mend it.
    pub remedy: String,
}

impl Defect {
    /// A defect; the value is cut to 80 characters.
    pub fn new(reason: Reason, field: &str, value: &str, remedy: impl Into<String>) -> Self {
        Self { reason, field: field.to_owned(), value: value.chars().take(80).collect(), remedy: remedy.into() }
    }
}

/// `field "value": remedy`, without the parts that are empty.
impl std::fmt::Display for Defect {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { field, value, remedy, .. } = self;
        match (field.is_empty(), value.is_empty()) {
            (true, true) => write!(f, "{remedy}"),
            (true, false) => write!(f, "{value:?}: {remedy}"),
            (false, true) => write!(f, "{field}: {remedy}"),
            (false, false) => write!(f, "{field} {value:?}: {remedy}"),
        }
    }
}

impl std::error::Error for Defect {}
