//! Answers as text and bytes. Decimals keep every digit: in JSON they are strings. Instants are RFC 3339, bytes are hexadecimal.
//! It knows no protocol; a server adds content type and headers.

use std::fmt::Write as _;
use std::ops::ControlFlow;

use arrow::array::{Array, AsArray};
use arrow::datatypes::{
    DataType, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, TimeUnit, TimestampMicrosecondType, UInt8Type,
    UInt16Type, UInt32Type, UInt64Type,
};
use arrow::error::ArrowError;
use arrow::ipc::writer::StreamWriter;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use shared_types::Instant;

use crate::engine::QueryResult;
use crate::error::QueryError;
use crate::information::type_name;

/// How an answer is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Aligned columns for people; ends with the number of rows and says when rows are missing.
    Table,
    /// RFC 4180 with a header; null is empty, the empty text is `""`.
    Csv,
    /// `{"columns":[{"name","type"}],"rows":[{…}],"truncated":…}`.
    Json,
    /// One object per row and line. Says nothing about missing rows: tell it in a header.
    Ndjson,
    /// Arrow IPC stream.
    Arrow,
}

impl Format {
    /// The format of a name: `table`, `csv`, `json`, `ndjson`, `arrow`.
    pub fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "table" => Self::Table,
            "csv" => Self::Csv,
            "json" => Self::Json,
            "ndjson" => Self::Ndjson,
            "arrow" => Self::Arrow,
            _ => return None,
        })
    }

    /// The media type.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Table => "text/plain; charset=utf-8",
            Self::Csv => "text/csv; charset=utf-8",
            Self::Json => "application/json",
            Self::Ndjson => "application/x-ndjson",
            Self::Arrow => "application/vnd.apache.arrow.stream",
        }
    }
}

/// An answer as bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rendered {
    /// The text or stream.
    pub bytes: Vec<u8>,
    /// Whether rows are missing: of the limit of rows, or of the limit of bytes.
    pub truncated: bool,
}

/// Writes an answer.
///
/// - Errors: `Refused` for JSON when two columns have one name: every parser would keep only one of them.
pub fn render(result: &QueryResult, format: Format) -> Result<Vec<u8>, QueryError> {
    Ok(render_within(result, format, usize::MAX)?.bytes)
}

/// Writes an answer of at most so many bytes: the rows that would go beyond are left out, whole ones, and that is told. What stands
/// before and behind the rows is always written.
///
/// - Errors: those of [`render`].
pub fn render_within(result: &QueryResult, format: Format, bytes_max: usize) -> Result<Rendered, QueryError> {
    if matches!(format, Format::Json | Format::Ndjson) {
        let mut names = std::collections::HashSet::new();
        if let Some(twice) = result.schema.fields().iter().find(|field| !names.insert(field.name())) {
            return Err(QueryError::Refused {
                what: format!("JSON with two columns named {}", twice.name()),
                why: "every reader would keep only one; name them apart with AS".to_owned(),
            });
        }
    }
    let written = match format {
        Format::Table => table(result).map(|text| (text.into_bytes(), result.truncated)),
        Format::Csv => csv(result, bytes_max).map(|(text, truncated)| (text.into_bytes(), truncated)),
        Format::Json => json(result, bytes_max).map(|(text, truncated)| (text.into_bytes(), truncated)),
        Format::Ndjson => ndjson(result, bytes_max).map(|(text, truncated)| (text.into_bytes(), truncated)),
        Format::Arrow => ipc_within(result, bytes_max),
    };
    let (bytes, truncated) = written.map_err(|error| QueryError::Failed { detail: error.to_string(), source: Box::new(error.into()) })?;
    Ok(Rendered { bytes, truncated })
}

/// One value.
#[derive(Debug)]
enum Cell {
    Null,
    /// A JSON number or truth value.
    Bare(String),
    /// A JSON string.
    Text(String),
}

/// One column of one batch, ready to be read row by row.
struct Column<'a> {
    array: &'a dyn Array,
    formatter: ArrayFormatter<'a>,
}

const OPTIONS: FormatOptions<'static> = FormatOptions::new();

impl<'a> Column<'a> {
    fn new(array: &'a dyn Array) -> Result<Self, ArrowError> {
        Ok(Self { array, formatter: ArrayFormatter::try_new(array, &OPTIONS)? })
    }

    fn cell(&self, row: usize) -> Result<Cell, ArrowError> {
        if self.array.is_null(row) || self.array.data_type().is_null() {
            return Ok(Cell::Null);
        }
        Ok(match self.array.data_type() {
            DataType::Boolean => Cell::Bare(self.array.as_boolean().value(row).to_string()),
            DataType::Int8 => Cell::Bare(self.array.as_primitive::<Int8Type>().value(row).to_string()),
            DataType::Int16 => Cell::Bare(self.array.as_primitive::<Int16Type>().value(row).to_string()),
            DataType::Int32 => Cell::Bare(self.array.as_primitive::<Int32Type>().value(row).to_string()),
            DataType::Int64 => Cell::Bare(self.array.as_primitive::<Int64Type>().value(row).to_string()),
            DataType::UInt8 => Cell::Bare(self.array.as_primitive::<UInt8Type>().value(row).to_string()),
            DataType::UInt16 => Cell::Bare(self.array.as_primitive::<UInt16Type>().value(row).to_string()),
            DataType::UInt32 => Cell::Bare(self.array.as_primitive::<UInt32Type>().value(row).to_string()),
            DataType::UInt64 => Cell::Bare(self.array.as_primitive::<UInt64Type>().value(row).to_string()),
            DataType::Float32 => float(f64::from(self.array.as_primitive::<Float32Type>().value(row))),
            DataType::Float64 => float(self.array.as_primitive::<Float64Type>().value(row)),
            DataType::Timestamp(TimeUnit::Microsecond, Some(zone)) if matches!(zone.as_ref(), "UTC" | "+00:00" | "Z") => {
                match Instant::from_micros(self.array.as_primitive::<TimestampMicrosecondType>().value(row)) {
                    Ok(at) => Cell::Text(at.to_string()),
                    Err(_) => Cell::Text(self.formatter.value(row).try_to_string()?),
                }
            }
            // Decimals with all their digits, bytes as hexadecimal, dates and intervals as ISO 8601.
            _ => Cell::Text(self.formatter.value(row).try_to_string()?),
        })
    }
}

fn float(value: f64) -> Cell {
    if value.is_finite() { Cell::Bare(value.to_string()) } else { Cell::Text(value.to_string()) }
}

/// Calls `take` with the cells of each row, until it breaks off.
fn each_row(result: &QueryResult, mut take: impl FnMut(Vec<Cell>) -> ControlFlow<()>) -> Result<(), ArrowError> {
    for batch in &result.batches {
        let columns = batch.columns().iter().map(|array| Column::new(array.as_ref())).collect::<Result<Vec<_>, _>>()?;
        for row in 0..batch.num_rows() {
            if take(columns.iter().map(|column| column.cell(row)).collect::<Result<_, _>>()?).is_break() {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// What stands around the rows of a text.
struct Frame<'a> {
    head: String,
    separator: &'a str,
    /// What follows the rows when some are missing, and when none are: of one length, or the former the shorter.
    tails: [&'a str; 2],
}

/// The rows as text, as many as fit, and whether some are missing.
fn framed(
    result: &QueryResult,
    bytes_max: usize,
    frame: &Frame<'_>,
    write: impl Fn(&[Cell]) -> String,
) -> Result<(String, bool), ArrowError> {
    let mut out = frame.head.clone();
    let room = bytes_max.saturating_sub(frame.tails.iter().map(|tail| tail.len()).max().unwrap_or_default());
    let (mut first, mut truncated) = (true, result.truncated);
    each_row(result, |cells| {
        let row = write(&cells);
        let separator = if first { "" } else { frame.separator };
        if out.len().saturating_add(separator.len()).saturating_add(row.len()) > room {
            truncated = true;
            return ControlFlow::Break(());
        }
        out.push_str(separator);
        out.push_str(&row);
        first = false;
        ControlFlow::Continue(())
    })?;
    let [cut, whole] = frame.tails;
    out.push_str(if truncated { cut } else { whole });
    Ok((out, truncated))
}

fn names(result: &QueryResult) -> Vec<&str> {
    result.schema.fields().iter().map(|field| field.name().as_str()).collect()
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn object(names: &[&str], cells: &[Cell]) -> String {
    let members = names.iter().zip(cells).map(|(name, cell)| {
        let value = match cell {
            Cell::Null => "null".to_owned(),
            Cell::Bare(text) => text.clone(),
            Cell::Text(text) => quoted(text),
        };
        format!("{}:{value}", quoted(name))
    });
    format!("{{{}}}", members.collect::<Vec<_>>().join(","))
}

fn json(result: &QueryResult, bytes_max: usize) -> Result<(String, bool), ArrowError> {
    let names = names(result);
    let column = |field: &arrow::datatypes::FieldRef| {
        format!("{{\"name\":{},\"type\":{}}}", quoted(field.name()), quoted(&type_name(field.data_type())))
    };
    let columns: Vec<String> = result.schema.fields().iter().map(column).collect();
    let frame = Frame {
        head: format!("{{\"columns\":[{}],\"rows\":[", columns.join(",")),
        separator: ",",
        tails: ["],\"truncated\":true}\n", "],\"truncated\":false}\n"],
    };
    framed(result, bytes_max, &frame, |cells| object(&names, cells))
}

fn ndjson(result: &QueryResult, bytes_max: usize) -> Result<(String, bool), ArrowError> {
    let names = names(result);
    let frame = Frame { head: String::new(), separator: "", tails: ["", ""] };
    framed(result, bytes_max, &frame, |cells| object(&names, cells) + "\n")
}

fn csv(result: &QueryResult, bytes_max: usize) -> Result<(String, bool), ArrowError> {
    let field = |text: &str| {
        if text.is_empty() || text.contains([',', '"', '\n', '\r']) {
            format!("\"{}\"", text.replace('"', "\"\""))
        } else {
            text.to_owned()
        }
    };
    let head = names(result).into_iter().map(field).collect::<Vec<_>>().join(",") + "\r\n";
    framed(result, bytes_max, &Frame { head, separator: "", tails: ["", ""] }, |cells| {
        let fields = cells.iter().map(|cell| match cell {
            Cell::Null => String::new(),
            Cell::Bare(text) | Cell::Text(text) => field(text),
        });
        fields.collect::<Vec<_>>().join(",") + "\r\n"
    })
}

/// Control characters but line ends are shown, not obeyed: a value cannot move the reader's cursor.
fn lines(text: &str) -> Vec<String> {
    text.trim_end_matches('\n').split('\n').map(printable).collect()
}

fn printable(text: &str) -> String {
    text.chars().flat_map(|c| if c.is_control() { c.escape_default().collect::<Vec<_>>() } else { vec![c] }).collect()
}

fn table(result: &QueryResult) -> Result<String, ArrowError> {
    let header: Vec<Vec<String>> = names(result).into_iter().map(|name| vec![printable(name)]).collect();
    let right: Vec<bool> = result.schema.fields().iter().map(|field| field.data_type().is_numeric()).collect();
    let mut rows: Vec<Vec<Vec<String>>> = Vec::new();
    each_row(result, |cells| {
        let text = |cell: &Cell| match cell {
            Cell::Null => vec!["null".to_owned()],
            Cell::Bare(text) | Cell::Text(text) => lines(text),
        };
        rows.push(cells.iter().map(text).collect());
        ControlFlow::Continue(())
    })?;
    let width = |column: usize| {
        let cells = rows.iter().chain([&header]).filter_map(|row| row.get(column));
        cells.flatten().map(|line| line.chars().count()).max().unwrap_or_default()
    };
    let widths: Vec<usize> = (0..header.len()).map(width).collect();
    let written = |cells: &[Vec<String>]| {
        let mut out = String::new();
        for line in 0..cells.iter().map(Vec::len).max().unwrap_or_default() {
            let padded = cells.iter().zip(&widths).zip(&right).map(|((cell, width), right)| {
                let text = cell.get(line).map(String::as_str).unwrap_or_default();
                if *right { format!("{text:>width$}") } else { format!("{text:<width$}") }
            });
            out.push_str(padded.collect::<Vec<_>>().join("  ").trim_end());
            out.push('\n');
        }
        out
    };
    let rule = widths.iter().map(|width| "-".repeat(*width)).collect::<Vec<_>>().join("  ");
    let mut out = format!("{}{rule}\n", written(&header));
    for row in &rows {
        out.push_str(&written(row));
    }
    let more = if result.truncated { ", more are not shown" } else { "" };
    // Writing to a String cannot fail.
    let _ = writeln!(out, "({} row{}{more})", rows.len(), if rows.len() == 1 { "" } else { "s" });
    Ok(out)
}

/// The stream of as many rows as fit: found by halving, as a row has no length of its own there.
fn ipc_within(result: &QueryResult, bytes_max: usize) -> Result<(Vec<u8>, bool), ArrowError> {
    let whole = ipc(result, result.rows())?;
    if whole.len() <= bytes_max {
        return Ok((whole, result.truncated));
    }
    // `fits` rows are known to fit, or are none; `beyond` rows do not.
    let (mut fits, mut beyond) = (0, result.rows());
    while beyond.saturating_sub(fits) > 1 {
        let middle = fits.midpoint(beyond);
        if ipc(result, middle)?.len() <= bytes_max {
            fits = middle;
        } else {
            beyond = middle;
        }
    }
    Ok((ipc(result, fits)?, true))
}

fn ipc(result: &QueryResult, rows: usize) -> Result<Vec<u8>, ArrowError> {
    let mut out = Vec::new();
    let mut writer = StreamWriter::try_new(&mut out, &result.schema)?;
    let mut left = rows;
    for batch in &result.batches {
        let part = left.min(batch.num_rows());
        if part > 0 {
            writer.write(&batch.slice(0, part))?;
        }
        left = left.saturating_sub(part);
    }
    writer.finish()?;
    drop(writer);
    Ok(out)
}
