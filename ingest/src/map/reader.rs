//! Rows become events: filters, identity, times, data. What a row cannot tell breaks the row, never the figures.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::{self, BufRead};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use shared_types::{Digest, Instant, OrganizationId, ProjectId, write_canonical_string};

use super::number::Decimal;
use super::rows::{self, Record};
use super::{Cells, Column, Expression, Format, Identity, Moment, Name, OnBroken, Plan, Test, Text, cell, organization};

/// What a row became.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// An event.
    Event {
        /// Number of the row, from 1; header and blank lines do not count.
        row: u64,
        /// Who owes.
        organization: OrganizationId,
        /// The event: CloudEvents JSON.
        json: Vec<u8>,
    },
    /// A row that a filter of the map leaves out.
    Filtered {
        /// Number of the row.
        row: u64,
        /// The filter's rule.
        rule: Arc<str>,
    },
    /// A row that is no event, under `on_broken = "quarantine"`.
    Broken {
        /// Number of the row.
        row: u64,
        /// The row as it stands in the file; what is not UTF-8 replaced.
        text: String,
        /// What is wrong with it.
        why: String,
        /// A record to be sent in its place: it has no organization and no time, so that it is quarantined for certain, with
        /// the row and what is wrong as `brokenrow` and `brokenwhy`.
        json: Vec<u8>,
    },
}

/// How far a reader is, in bytes of the file as stored: compressed ones if it is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Bytes read; runs ahead of the rows by what is buffered.
    pub bytes_read: u64,
    /// Bytes of the file.
    pub bytes_total: u64,
}

/// What became of the rows so far: `rows = events + broken + Σ filtered`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Rows read.
    pub rows: u64,
    /// Events given out.
    pub events: u64,
    /// Broken rows, the one that stopped the reader included.
    pub broken: u64,
    /// Rows left out, by rule; every rule of the map is here.
    pub filtered: BTreeMap<Arc<str>, u64>,
}

/// Why a file cannot be read on. The reader ends with it.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The system's, or the decompressor's, error.
    #[error("could not read {} at row {row}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The row that was being read; 0 is the header.
        row: u64,
        /// What happened.
        #[source]
        source: io::Error,
    },
    /// The header lacks a column.
    #[error("{} has no column {column:?}; its columns are {found}", path.display())]
    Column {
        /// The file.
        path: PathBuf,
        /// The column that the map reads.
        column: String,
        /// The columns found.
        found: String,
    },
    /// The header does not read.
    #[error("{} has no header: {why}", path.display())]
    Header {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// A row beyond the limit: an unclosed quote, or another kind of file.
    #[error("row {row} of {} has more than {limit} bytes; look for a quote that is not closed, or raise row_bytes_max", path.display())]
    RowTooLong {
        /// The file.
        path: PathBuf,
        /// The row.
        row: u64,
        /// The limit in bytes.
        limit: usize,
    },
    /// A row is no event, under `on_broken = "stop"`.
    #[error("row {row} of {} is broken: {why}: {text}", path.display())]
    Broken {
        /// The file.
        path: PathBuf,
        /// The row.
        row: u64,
        /// The row as it stands in the file, cut to 400 characters.
        text: String,
        /// What is wrong with it.
        why: String,
    },
}

/// The rows of one file, in order. Ends after the first error.
pub struct Reader {
    plan: Arc<Plan>,
    path: PathBuf,
    input: Box<dyn BufRead + Send>,
    bytes_read: Arc<AtomicU64>,
    bytes_total: u64,
    record: Vec<u8>,
    /// What rows are called, with line numbers.
    name: String,
    /// CSV: how many cells a row has, and where each of the plan's columns stands.
    width: usize,
    positions: Vec<usize>,
    counts: Counts,
    ended: bool,
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader").field("path", &self.path).field("counts", &self.counts).finish_non_exhaustive()
    }
}

/// What a whole row became, before it is counted.
enum Fate {
    Event(OrganizationId, Vec<u8>),
    Filtered(Arc<str>),
}

impl Reader {
    pub(super) fn open(plan: Arc<Plan>, path: &Path) -> Result<Self, ReadError> {
        let io = |source| ReadError::Io { path: path.to_owned(), row: 0, source };
        let (mut input, bytes_total, bytes_read) = rows::open(path).map_err(io)?;
        if input.fill_buf().map_err(io)?.starts_with("\u{feff}".as_bytes()) {
            input.consume("\u{feff}".len());
        }
        let name = match &plan.identity {
            Identity::LineNumber(Some(name)) => name.clone(),
            _ => stem(path),
        };
        let filtered = plan.filters.iter().map(|filter| (Arc::clone(&filter.rule), 0)).collect();
        let mut reader = Self {
            plan,
            path: path.to_owned(),
            input,
            bytes_read,
            bytes_total,
            record: Vec::new(),
            name,
            width: 0,
            positions: Vec::new(),
            counts: Counts { filtered, ..Counts::default() },
            ended: false,
        };
        reader.read_header()?;
        Ok(reader)
    }

    /// Bytes read and to read.
    pub fn progress(&self) -> Progress {
        Progress { bytes_read: self.bytes_read.load(Ordering::Relaxed), bytes_total: self.bytes_total }
    }

    /// What became of the rows so far.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    fn read_header(&mut self) -> Result<(), ReadError> {
        let plan = Arc::clone(&self.plan);
        let Format::Csv { delimiter, header } = &plan.format else { return Ok(()) };
        let path = self.path.clone();
        let missing = |why: &str| ReadError::Header { path: path.clone(), why: why.to_owned() };
        let names: Vec<String> = match header {
            Some(names) => names.clone(),
            None => {
                if !self.next_record(0)? {
                    return Err(missing("it is empty"));
                }
                let text = std::str::from_utf8(&self.record).map_err(|_| missing("its first line is not UTF-8"))?;
                let cells = rows::split_csv(text, *delimiter).map_err(|why| missing(&why))?;
                cells.into_iter().map(Cow::into_owned).collect()
            }
        };
        self.width = names.len();
        for column in &plan.columns {
            let mut found = names.iter().enumerate().filter(|(_, name)| *name == column);
            match (found.next(), found.next()) {
                (Some((at, _)), None) => self.positions.push(at),
                (Some(_), Some(_)) => return Err(missing(&format!("it names column {column:?} twice"))),
                (None, _) => {
                    let found = names.join(", ").chars().take(400).collect();
                    return Err(ReadError::Column { path: self.path.clone(), column: column.clone(), found });
                }
            }
        }
        Ok(())
    }

    /// Reads the next record that is not blank; false at the end of the file.
    fn next_record(&mut self, row: u64) -> Result<bool, ReadError> {
        let limit = self.plan.row_bytes_max;
        let quotes = matches!(self.plan.format, Format::Csv { .. });
        loop {
            match rows::read_record(&mut *self.input, quotes, limit, &mut self.record) {
                Ok(Record::Row) if self.record.is_empty() => {}
                Ok(Record::Row) => return Ok(true),
                Ok(Record::End) => return Ok(false),
                Ok(Record::TooLong) => return Err(ReadError::RowTooLong { path: self.path.clone(), row, limit }),
                Err(source) => return Err(ReadError::Io { path: self.path.clone(), row, source }),
            }
        }
    }

    fn next_item(&mut self) -> Result<Option<Item>, ReadError> {
        let row = self.counts.rows.saturating_add(1);
        if !self.next_record(row)? {
            return Ok(None);
        }
        self.counts.rows = row;
        match self.plan.fate(&self.record, row, &self.name, self.width, &self.positions) {
            Ok(Fate::Event(organization, json)) => {
                self.counts.events = self.counts.events.saturating_add(1);
                Ok(Some(Item::Event { row, organization, json }))
            }
            Ok(Fate::Filtered(rule)) => {
                let count = self.counts.filtered.entry(Arc::clone(&rule)).or_default();
                *count = count.saturating_add(1);
                Ok(Some(Item::Filtered { row, rule }))
            }
            Err(why) => {
                self.counts.broken = self.counts.broken.saturating_add(1);
                let text = String::from_utf8_lossy(&self.record).into_owned();
                if self.plan.on_broken == OnBroken::Stop {
                    let text = text.chars().take(400).collect();
                    return Err(ReadError::Broken { path: self.path.clone(), row, text, why });
                }
                let json = self.plan.broken(&format!("{}:{row}", self.name), &text, &why);
                Ok(Some(Item::Broken { row, text, why, json }))
            }
        }
    }
}

impl Iterator for Reader {
    type Item = Result<Item, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let item = self.next_item().transpose();
        self.ended = !matches!(item, Some(Ok(_)));
        item
    }
}

/// The file's name without the endings of compression and format.
fn stem(path: &Path) -> String {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let name = [".gz", ".zst"].iter().find_map(|ending| name.strip_suffix(ending)).unwrap_or(&name);
    name.rsplit_once('.').filter(|(stem, _)| !stem.is_empty()).map_or(name, |(stem, _)| stem).to_owned()
}

impl Plan {
    fn fate(&self, record: &[u8], row: u64, name: &str, width: usize, positions: &[usize]) -> Result<Fate, String> {
        let text = std::str::from_utf8(record).map_err(|error| format!("not UTF-8 at byte {}", error.valid_up_to()))?;
        let cells = match &self.format {
            Format::Jsonl => rows::pick_json(text, &self.columns)?,
            Format::Csv { delimiter, .. } => {
                let all = rows::split_csv(text, *delimiter)?;
                if all.len() != width {
                    return Err(format!("it has {} cells where the header has {width}", all.len()));
                }
                positions.iter().map(|at| all.get(*at).cloned().unwrap_or_default()).collect()
            }
        };
        for filter in &self.filters {
            let cell = cell(&cells, filter.column);
            let left_out = match &filter.test {
                Test::Empty => cell.is_empty(),
                Test::NotEmpty => !cell.is_empty(),
                Test::Equals(value) => cell == value,
                Test::NotEquals(value) => cell != value,
            };
            if left_out {
                return Ok(Fate::Filtered(Arc::clone(&filter.rule)));
            }
        }
        let organization = organization(&self.name(&self.organization, &cells)?)?;
        let json = self.event(&cells, row, name, &organization)?;
        Ok(Fate::Event(organization, json))
    }

    fn event(&self, cells: &Cells<'_>, row: u64, name: &str, organization: &OrganizationId) -> Result<Vec<u8>, String> {
        let project = self.project.as_ref().map(|project| self.name(project, cells)).transpose()?.filter(|text| !text.is_empty());
        if let Some(project) = &project {
            ProjectId::parse(project).map_err(|error| error.to_string())?;
        }
        let subject = self.subject.as_ref().map(|subject| self.name(subject, cells)).transpose()?.filter(|text| !text.is_empty());
        if let Some(subject) = &subject {
            bounded("the subject", subject, platform_usage::event::SUBJECT_BYTES_MAX)?;
        }
        let id = self.id(cells, row, name)?;
        bounded("the id", &id, platform_usage::event::ID_BYTES_MAX)?;
        let time = self.moment(&self.time, cells)?.ok_or("it has no time")?;
        let end = self.end_time.as_ref().map(|end| self.moment(end, cells)).transpose()?.flatten();
        if let Some(end) = end.filter(|end| *end < time) {
            return Err(format!("it ends at {end}, before it starts at {time}"));
        }
        let mut out = String::with_capacity(320);
        let (time, end) = (time.to_string(), end.map(|end| end.to_string()));
        let members = [
            ("specversion", Some("1.0")),
            ("id", Some(id.as_str())),
            ("source", Some(self.source.as_str())),
            ("type", Some(self.event_type.as_str())),
            ("organization", Some(organization.as_str())),
            ("project", project.as_deref()),
            ("subject", subject.as_deref()),
            ("time", Some(time.as_str())),
            ("endtime", end.as_deref()),
        ];
        write_members(&mut out, &members);
        out.push_str(",\"data\":{");
        let mut between = "";
        for (member, expression) in &self.quantities {
            let number = self.evaluate(expression, cells)?.to_string();
            out.push_str(between);
            between = ",";
            write_canonical_string(member, &mut out);
            out.push(':');
            out.push_str(&number);
        }
        for (member, text) in &self.dimensions {
            let text = match text {
                Text::Column(column) => cell(cells, *column),
                Text::Constant(text) => text,
            };
            if text.is_empty() {
                continue;
            }
            out.push_str(between);
            between = ",";
            write_canonical_string(member, &mut out);
            out.push(':');
            write_canonical_string(text, &mut out);
        }
        out.push_str("}}");
        Ok(out.into_bytes())
    }

    /// A record that is quarantined for certain: it names no organization and no time.
    fn broken(&self, id: &str, text: &str, why: &str) -> Vec<u8> {
        let mut out = String::with_capacity(text.len().saturating_add(320));
        let members = [
            ("specversion", Some("1.0")),
            ("id", Some(id)),
            ("source", Some(self.source.as_str())),
            ("type", Some(self.event_type.as_str())),
            ("brokenrow", Some(text)),
            ("brokenwhy", Some(why)),
        ];
        write_members(&mut out, &members);
        out.push('}');
        out.into_bytes()
    }

    /// Values joined by `:`; a `:` or `%` inside a value is percent-encoded, so that other values never give the same id.
    /// A row that has none of the values has no id.
    fn id(&self, cells: &Cells<'_>, row: u64, name: &str) -> Result<String, String> {
        let columns = match &self.identity {
            Identity::LineNumber(_) => return Ok(format!("{name}:{row}")),
            Identity::Columns(columns) => columns,
        };
        if columns.iter().all(|column| cell(cells, *column).is_empty()) {
            return Err("the columns of its identity are empty".to_owned());
        }
        let parts: Vec<String> = columns.iter().map(|column| cell(cells, *column).replace('%', "%25").replace(':', "%3A")).collect();
        Ok(parts.join(":"))
    }

    fn name(&self, name: &Name, cells: &Cells<'_>) -> Result<String, String> {
        match name {
            Name::Column(column) => Ok(cell(cells, *column).to_owned()),
            Name::Constant(text) => Ok(text.clone()),
            Name::Hash { columns, buckets, prefix } => {
                let mut text = Vec::new();
                for column in columns {
                    let cell = cell(cells, *column);
                    text.extend_from_slice(&u32::try_from(cell.len()).unwrap_or(u32::MAX).to_be_bytes());
                    text.extend_from_slice(cell.as_bytes());
                }
                let Digest(digest) = Digest::of(&text);
                let head = digest.first_chunk::<8>().copied().unwrap_or_default();
                let bucket = u64::from_be_bytes(head).checked_rem(*buckets).ok_or("its hash has no buckets")?;
                Ok(format!("{prefix}{bucket}"))
            }
        }
    }

    fn moment(&self, moment: &Moment, cells: &Cells<'_>) -> Result<Option<Instant>, String> {
        let text = cell(cells, moment.column).trim_matches(' ');
        if text.is_empty() {
            return if moment.optional { Ok(None) } else { Err(self.wrong(moment.column, "empty")) };
        }
        moment.read(text).map(Some).map_err(|why| self.wrong(moment.column, &why))
    }

    fn evaluate(&self, expression: &Expression, cells: &Cells<'_>) -> Result<Decimal, String> {
        match expression {
            Expression::Constant(number) => Ok(*number),
            Expression::Column { column, factor, empty } => {
                let number = self.number(*column, *empty, cells)?;
                factor.map_or(Ok(number), |factor| number.multiply(factor))
            }
            Expression::Product(of) => self.fold(of, cells, Decimal::multiply),
            Expression::Sum(of) => self.fold(of, cells, Decimal::add),
            Expression::Difference(minuend, subtrahend) => self.evaluate(minuend, cells)?.subtract(self.evaluate(subtrahend, cells)?),
        }
    }

    fn fold(
        &self,
        of: &[Expression],
        cells: &Cells<'_>,
        join: impl Fn(Decimal, Decimal) -> Result<Decimal, String>,
    ) -> Result<Decimal, String> {
        let mut numbers = of.iter().map(|expression| self.evaluate(expression, cells));
        let first = numbers.next().ok_or("an operation on nothing")??;
        numbers.try_fold(first, |sum, number| join(sum, number?))
    }

    fn number(&self, column: Column, empty: Option<Decimal>, cells: &Cells<'_>) -> Result<Decimal, String> {
        match (cell(cells, column).trim_matches(' '), empty) {
            ("", Some(number)) => Ok(number),
            ("", None) => Err(self.wrong(column, "empty")),
            (text, _) => Decimal::parse(text).map_err(|why| self.wrong(column, &why)),
        }
    }

    fn wrong(&self, column: Column, why: &str) -> String {
        format!("column {:?}: {why}", self.column(column))
    }
}

fn bounded(what: &str, text: &str, bytes_max: usize) -> Result<(), String> {
    if text.is_empty() || text.len() > bytes_max || text.chars().any(char::is_control) {
        let shown: String = text.chars().take(80).collect();
        return Err(format!("{what} {shown:?} is not 1 to {bytes_max} bytes without control characters"));
    }
    Ok(())
}

/// Opens an object with the members that are there; the caller closes it.
fn write_members(out: &mut String, members: &[(&str, Option<&str>)]) {
    let mut between = '{';
    for (name, text) in members.iter().filter_map(|(name, text)| text.map(|text| (name, text))) {
        out.push(between);
        between = ',';
        write_canonical_string(name, out);
        out.push(':');
        write_canonical_string(text, out);
    }
}
