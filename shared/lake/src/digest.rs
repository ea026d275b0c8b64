//! A digest over rows that does not depend on how they lie in files, and the sort that files use.
//! It knows no table: the columns that fix the order come in as arguments.
//!
//! The encoding, all integers little-endian, lengths and counts as `u32` except where said:
//!
//! ```text
//! rows   = SHA-256( "shared-lake rows 1\n" ‖ rows u64 ‖ column… )     columns that hold any value, in byte order of their names
//! column = length of the name ‖ name ‖ type ‖ SHA-256( nulls ‖ value… )   values in row order
//! nulls  = 0 when the column has none, otherwise 1, and then each value begins with 1, or is a single 0 where null
//! type   = 1 int32 | 2 int64 | 3 utf8 | 4 binary | 5 fixed-size binary, length | 6 decimal, precision u8, scale u8
//!        | 7 timestamp µs UTC | 8 timestamp µs without zone | 9 boolean
//! value  = int32: 4 bytes | int64, timestamp: 8 bytes | decimal: 16 bytes, unscaled | boolean: 1 byte
//!        | fixed-size binary: its bytes | utf8, binary: length ‖ bytes
//! ```
//!
//! A column without any value leaves no trace, so that a file written before a column existed and its compacted successor agree.

use std::cmp::Ordering;

use arrow::array::{Array, ArrayRef, AsArray as _, BooleanArray, RecordBatch, UInt32Array, make_comparator};
use arrow::compute::{SortColumn, SortOptions, cast, concat, lexsort_to_indices, take, take_record_batch};
use arrow::datatypes::{Decimal128Type, Int32Type, Int64Type, SchemaRef, TimestampMicrosecondType};
use arrow::error::ArrowError;
use sha2::{Digest as _, Sha256};
use shared_types::Digest;

use crate::column::{ColumnError, ColumnType};

/// Why rows have no digest or no order.
#[derive(Debug, thiserror::Error)]
pub enum DigestError {
    /// A type that has no canonical encoding, or a repeated name.
    #[error("could not digest the rows")]
    Column(#[source] ColumnError),
    /// An order column that is not there.
    #[error("there is no column {column:?} to order the rows by")]
    NoColumn {
        /// The missing column.
        column: String,
    },
    /// A batch whose columns differ from those of the first.
    #[error("batch {batch} has other columns than the first")]
    Schema {
        /// Which batch, from 0.
        batch: usize,
    },
    /// Two rows that the order columns do not tell apart.
    #[error("two rows have the same {columns}: the rows have no order")]
    Tie {
        /// The order columns.
        columns: String,
    },
    /// A text or bytes value of more than 4 GiB, or more rows than can be sorted.
    #[error("too much data for one digest")]
    TooLarge,
    /// The columns could not be brought together.
    #[error("could not bring the rows in order")]
    Arrow(#[source] ArrowError),
}

/// The digest of the rows of a batch in the order of the named columns, which must tell all rows apart. Nulls come first.
pub fn row_digest(batch: &RecordBatch, order: &[&str]) -> Result<Digest, DigestError> {
    let mut rows = RowDigest::new(order);
    rows.add(batch)?;
    rows.finish()
}

/// The rows of a batch in the order of the named columns, ascending, nulls first; rows that they do not tell apart keep their order.
pub fn sort(batch: &RecordBatch, columns: &[&str]) -> Result<RecordBatch, DigestError> {
    let mut keys = Vec::with_capacity(columns.len());
    for column in columns {
        keys.push(plain(order_column(batch, column)?)?);
    }
    match permutation(&keys, batch.num_rows())? {
        None => Ok(batch.clone()),
        Some(rows) => take_record_batch(batch, &rows).map_err(DigestError::Arrow),
    }
}

/// The digest of rows that arrive in several batches, in any order. It holds the batches until [`RowDigest::finish`].
#[derive(Debug)]
pub struct RowDigest {
    order: Vec<String>,
    schema: Option<SchemaRef>,
    columns: Vec<Vec<ArrayRef>>,
    rows: usize,
    batches: usize,
}

impl RowDigest {
    /// Of no rows yet, in the order of the named columns.
    pub fn new(order: &[&str]) -> Self {
        let order = order.iter().map(|column| (*column).to_owned()).collect();
        Self { order, schema: None, columns: Vec::new(), rows: 0, batches: 0 }
    }

    /// Adds rows. Every batch must have the columns of the first, in any order, in any encoding of the same types.
    pub fn add(&mut self, batch: &RecordBatch) -> Result<(), DigestError> {
        let schema = self.schema.get_or_insert_with(|| batch.schema()).clone();
        self.columns.resize_with(schema.fields().len(), Vec::new);
        let differs = DigestError::Schema { batch: self.batches };
        if batch.num_columns() != schema.fields().len() {
            return Err(differs);
        }
        for (field, chunks) in schema.fields().iter().zip(&mut self.columns) {
            let expected = ColumnType::of(field).map_err(DigestError::Column)?;
            let found = batch.schema().field_with_name(field.name()).ok().and_then(|found| ColumnType::of(found).ok());
            let Some(column) = batch.column_by_name(field.name()).filter(|_| found == Some(expected)) else { return Err(differs) };
            chunks.push(plain(column)?);
        }
        self.rows += batch.num_rows();
        self.batches += 1;
        Ok(())
    }

    /// Rows added so far.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Sorts and digests.
    pub fn finish(self) -> Result<Digest, DigestError> {
        let mut hasher = Sha256::new();
        hasher.update(b"shared-lake rows 1\n");
        hasher.update(u64::try_from(self.rows).map_err(|_| DigestError::TooLarge)?.to_le_bytes());
        let Some(schema) = &self.schema else { return Ok(Digest(hasher.finalize().into())) };
        let mut columns = Vec::with_capacity(self.columns.len());
        for (field, chunks) in schema.fields().iter().zip(&self.columns) {
            let chunks: Vec<&dyn Array> = chunks.iter().map(AsRef::as_ref).collect();
            let whole =
                if let [one] = chunks.as_slice() { one.slice(0, one.len()) } else { concat(&chunks).map_err(DigestError::Arrow)? };
            columns.push((field.name().as_str(), ColumnType::of(field).map_err(DigestError::Column)?, whole));
        }
        let mut keys = Vec::with_capacity(self.order.len());
        for name in &self.order {
            let key = columns.iter().find(|(column, _, _)| column == name);
            keys.push(key.map(|(_, _, values)| values.clone()).ok_or_else(|| DigestError::NoColumn { column: name.clone() })?);
        }
        let rows = permutation(&keys, self.rows)?;
        refuse_ties(&keys, rows.as_ref(), self.rows, &self.order)?;
        columns.sort_by(|(a, _, _), (b, _, _)| a.as_bytes().cmp(b.as_bytes()));
        for pair in columns.windows(2) {
            if let [(a, _, _), (b, _, _)] = pair
                && a == b
            {
                return Err(DigestError::Column(ColumnError::Repeated { column: (*a).to_owned(), id: 0 }));
            }
        }
        for (name, column, values) in columns {
            if values.null_count() == values.len() {
                continue;
            }
            let values = match &rows {
                Some(rows) => take(&values, rows, None).map_err(DigestError::Arrow)?,
                None => values,
            };
            hasher.update(length(name.len())?);
            hasher.update(name.as_bytes());
            hasher.update(type_tag(column));
            hasher.update(column_digest(column, &values)?);
        }
        Ok(Digest(hasher.finalize().into()))
    }
}

fn length(bytes: usize) -> Result<[u8; 4], DigestError> {
    Ok(u32::try_from(bytes).map_err(|_| DigestError::TooLarge)?.to_le_bytes())
}

fn order_column<'a>(batch: &'a RecordBatch, column: &str) -> Result<&'a ArrayRef, DigestError> {
    batch.column_by_name(column).ok_or_else(|| DigestError::NoColumn { column: column.to_owned() })
}

/// The values without dictionary, large offsets or views.
fn plain(values: &ArrayRef) -> Result<ArrayRef, DigestError> {
    let field = arrow::datatypes::Field::new("", values.data_type().clone(), true);
    let Ok(column) = ColumnType::of(&field) else { return Ok(values.clone()) };
    if *values.data_type() == column.plain() { Ok(values.clone()) } else { cast(values, &column.plain()).map_err(DigestError::Arrow) }
}

const ASCENDING: SortOptions = SortOptions { descending: false, nulls_first: true };

/// Which row comes where; `None` when they lie in order already.
fn permutation(keys: &[ArrayRef], rows: usize) -> Result<Option<UInt32Array>, DigestError> {
    let end = u32::try_from(rows).map_err(|_| DigestError::TooLarge)?;
    let compare = comparators(keys)?;
    if (1..rows).all(|row| order(&compare, row - 1, row) != Ordering::Greater) {
        return Ok(None);
    }
    let mut columns: Vec<SortColumn> = keys.iter().map(|key| SortColumn { values: key.clone(), options: Some(ASCENDING) }).collect();
    // The row number decides between rows that the keys do not tell apart.
    let numbers: ArrayRef = std::sync::Arc::new(UInt32Array::from_iter_values(0..end));
    columns.push(SortColumn { values: numbers, options: Some(ASCENDING) });
    lexsort_to_indices(&columns, None).map(Some).map_err(DigestError::Arrow)
}

type Comparator = Box<dyn Fn(usize, usize) -> Ordering + Send + Sync>;

fn comparators(keys: &[ArrayRef]) -> Result<Vec<Comparator>, DigestError> {
    keys.iter().map(|key| make_comparator(key, key, ASCENDING).map_err(DigestError::Arrow)).collect()
}

fn order(compare: &[Comparator], a: usize, b: usize) -> Ordering {
    compare.iter().map(|compare| compare(a, b)).find(|order| order.is_ne()).unwrap_or(Ordering::Equal)
}

fn refuse_ties(keys: &[ArrayRef], permutation: Option<&UInt32Array>, rows: usize, names: &[String]) -> Result<(), DigestError> {
    let compare = comparators(keys)?;
    let at = |row: usize| permutation.map_or(row, |rows| rows.values().get(row).map_or(row, |row| *row as usize));
    if (1..rows).any(|row| order(&compare, at(row - 1), at(row)).is_eq()) {
        return Err(DigestError::Tie { columns: names.join(", ") });
    }
    Ok(())
}

fn type_tag(column: ColumnType) -> Vec<u8> {
    match column {
        ColumnType::Int32 => vec![1],
        ColumnType::Int64 => vec![2],
        ColumnType::Utf8 => vec![3],
        ColumnType::Binary => vec![4],
        ColumnType::FixedBinary { length } => [&[5_u8][..], &length.to_le_bytes()].concat(),
        ColumnType::Decimal { precision, scale } => vec![6, precision, scale],
        ColumnType::Timestamp { utc: true } => vec![7],
        ColumnType::Timestamp { utc: false } => vec![8],
        ColumnType::Boolean => vec![9],
    }
}

fn column_digest(column: ColumnType, values: &ArrayRef) -> Result<[u8; 32], DigestError> {
    let mut sink = Sink { hasher: Sha256::new(), buffer: Vec::with_capacity(SINK), nullable: values.null_count() > 0 };
    sink.put(&[u8::from(sink.nullable)]);
    match column {
        ColumnType::Int32 => sink.fixed(values.as_primitive::<Int32Type>().iter().map(|value| value.map(i32::to_le_bytes))),
        ColumnType::Int64 => sink.fixed(values.as_primitive::<Int64Type>().iter().map(|value| value.map(i64::to_le_bytes))),
        ColumnType::Decimal { .. } => {
            sink.fixed(values.as_primitive::<Decimal128Type>().iter().map(|value| value.map(i128::to_le_bytes)));
        }
        ColumnType::Timestamp { .. } => {
            sink.fixed(values.as_primitive::<TimestampMicrosecondType>().iter().map(|value| value.map(i64::to_le_bytes)));
        }
        ColumnType::Boolean => {
            let values: &BooleanArray = values.as_boolean();
            sink.fixed(values.iter().map(|value| value.map(|value| [u8::from(value)])));
        }
        ColumnType::FixedBinary { .. } => sink.fixed(values.as_fixed_size_binary().iter()),
        ColumnType::Utf8 => sink.variable(values.as_string::<i32>().iter().map(|value| value.map(str::as_bytes)))?,
        ColumnType::Binary => sink.variable(values.as_binary::<i32>().iter())?,
    }
    Ok(sink.finish())
}

/// Gathers small values, so that the hash function sees large pieces.
struct Sink {
    hasher: Sha256,
    buffer: Vec<u8>,
    nullable: bool,
}

const SINK: usize = 1 << 14;

impl Sink {
    fn put(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= SINK {
            self.hasher.update(&self.buffer);
            self.buffer.clear();
        }
    }

    /// True when a value follows.
    fn presence(&mut self, present: bool) -> bool {
        if self.nullable {
            self.put(&[u8::from(present)]);
        }
        present
    }

    fn fixed<V: AsRef<[u8]>>(&mut self, values: impl Iterator<Item = Option<V>>) {
        for value in values {
            if self.presence(value.is_some())
                && let Some(value) = value
            {
                self.put(value.as_ref());
            }
        }
    }

    fn variable<'a>(&mut self, values: impl Iterator<Item = Option<&'a [u8]>>) -> Result<(), DigestError> {
        for value in values {
            if self.presence(value.is_some())
                && let Some(value) = value
            {
                self.put(&length(value.len())?);
                self.put(value);
            }
        }
        Ok(())
    }

    fn finish(mut self) -> [u8; 32] {
        self.hasher.update(&self.buffer);
        self.hasher.finalize().into()
    }
}

#[cfg(test)]
mod tests;
