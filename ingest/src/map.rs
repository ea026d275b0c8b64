//! File ingestion maps: how the rows of a CSV or JSONL file become events. The same file and the same map give the same bytes.
//! It knows no stream and no meter; the page `docs/guide/ingest-files.md` is its manual.

mod moment;
mod number;
mod parse;
mod reader;
mod rows;

use std::path::Path;
use std::sync::Arc;

use shared_types::{Instant, OrganizationId, SourceId};

pub use reader::{Counts, Item, Progress, ReadError, Reader};

use number::Decimal;

/// A checked map.
#[derive(Clone, Debug)]
pub struct Map(Arc<Plan>);

impl Map {
    /// Reads a map from TOML.
    ///
    /// - Errors: the first thing that is wrong, with its line; a field that the map does not know is an error.
    pub fn parse(text: &str) -> Result<Self, MapError> {
        parse::parse(text).map(|plan| Self(Arc::new(plan)))
    }

    /// Opens a file: plain, gzip or zstd, told apart by their first bytes.
    ///
    /// - Errors: the file cannot be read, or lacks a column that the map names.
    pub fn open(&self, path: &Path) -> Result<Reader, ReadError> {
        Reader::open(Arc::clone(&self.0), path)
    }
}

/// Why a text is not a map.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, {field}: {remedy}")]
pub struct MapError {
    /// Line of the map, from 1.
    pub line: usize,
    /// The field, for example `time.unit`; `map` when the text is no TOML.
    pub field: String,
    /// What would mend it.
    pub remedy: String,
}

/// A map, ready to be applied. Columns are indices into `columns`.
#[derive(Debug)]
struct Plan {
    format: Format,
    /// Every column that the map names, once.
    columns: Vec<String>,
    source: SourceId,
    event_type: String,
    on_broken: OnBroken,
    row_bytes_max: usize,
    identity: Identity,
    organization: Name,
    project: Option<Name>,
    subject: Option<Name>,
    time: Moment,
    end_time: Option<Moment>,
    /// Members of `data` that are numbers, by name.
    quantities: Vec<(String, Expression)>,
    /// Members of `data` that are text, by name.
    dimensions: Vec<(String, Text)>,
    filters: Vec<Filter>,
}

/// Index into [`Plan::columns`].
type Column = usize;

#[derive(Debug)]
enum Format {
    Csv {
        delimiter: u8,
        /// Column names of a file without a header line.
        header: Option<Vec<String>>,
    },
    Jsonl,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum OnBroken {
    Stop,
    Quarantine,
}

#[derive(Debug)]
enum Identity {
    Columns(Vec<Column>),
    /// The row's number, after this name or the file's.
    LineNumber(Option<String>),
}

#[derive(Debug)]
enum Name {
    Column(Column),
    Constant(String),
    /// One of a fixed number of names, by hash of the columns.
    Hash {
        columns: Vec<Column>,
        buckets: u64,
        prefix: String,
    },
}

#[derive(Debug)]
enum Text {
    Column(Column),
    Constant(String),
}

#[derive(Debug)]
struct Moment {
    column: Column,
    kind: MomentKind,
    /// Digits finer than a microsecond are dropped; without it they break the row.
    truncate: bool,
    /// An empty cell means that there is none.
    optional: bool,
}

#[derive(Debug)]
enum MomentKind {
    Rfc3339,
    /// A pattern and whether it names the offset itself; otherwise it is UTC.
    Pattern(Vec<moment::Part>),
    /// A number of units of so many nanoseconds after a base.
    Number {
        unit_nanos: i128,
        base: Instant,
    },
}

#[derive(Debug)]
enum Expression {
    Column {
        column: Column,
        /// What the number is multiplied with.
        factor: Option<Decimal>,
        /// What an empty cell stands for.
        empty: Option<Decimal>,
    },
    Constant(Decimal),
    Product(Vec<Expression>),
    Sum(Vec<Expression>),
    Difference(Box<Expression>, Box<Expression>),
}

#[derive(Debug)]
struct Filter {
    column: Column,
    test: Test,
    rule: Arc<str>,
}

#[derive(Debug)]
enum Test {
    Empty,
    NotEmpty,
    Equals(String),
    NotEquals(String),
}

/// A row's text under each column of the plan.
type Cells<'a> = [std::borrow::Cow<'a, str>];

impl Plan {
    /// The name of a column, for messages.
    fn column(&self, column: Column) -> &str {
        self.columns.get(column).map(String::as_str).unwrap_or_default()
    }
}

fn cell<'c>(cells: &'c Cells<'_>, column: Column) -> &'c str {
    cells.get(column).map(std::borrow::Cow::as_ref).unwrap_or_default()
}

/// What [`Name`]s become where they must be organizations.
fn organization(text: &str) -> Result<OrganizationId, String> {
    OrganizationId::parse(text).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests;
