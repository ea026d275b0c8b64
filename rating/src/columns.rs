//! Arrow columns in and out: schemas with field ids, typed look-ups by name. It knows no table.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayAccessor, ArrayRef, BinaryArray, Decimal128Array, FixedSizeBinaryArray, FixedSizeBinaryBuilder, Int32Array, Int64Array,
    StringArray, TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use shared_types::{Amount, Instant, Month, Quantity};

/// Why rows of a table cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RowError {
    /// The column is missing or has another type.
    #[error("column {column} is not there as {expected}")]
    Column {
        /// The column.
        column: &'static str,
        /// The wanted type.
        expected: &'static str,
    },
    /// A value that the column cannot have, or a null where the row needs a value.
    #[error("row {row} has no usable {column}")]
    Value {
        /// The column.
        column: &'static str,
        /// Index of the row in its record batch.
        row: usize,
    },
}

pub(crate) fn instants() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

pub(crate) const QUANTITIES: DataType = DataType::Decimal128(38, 9);
pub(crate) const AMOUNTS: DataType = DataType::Decimal128(19, 9);

/// A schema whose fields carry Parquet field ids, dense from 1.
pub(crate) fn schema_of(columns: &[(&str, DataType, bool)]) -> SchemaRef {
    let fields = columns.iter().zip(1_u32..).map(|((name, kind, nullable), id)| {
        let metadata = HashMap::from([("PARQUET:field_id".to_owned(), id.to_string())]);
        Field::new(*name, kind.clone(), *nullable).with_metadata(metadata)
    });
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

pub(crate) fn int32(values: impl Iterator<Item = Option<i32>>) -> ArrayRef {
    Arc::new(values.collect::<Int32Array>())
}

/// Counters and sequences; they never come near the limit.
pub(crate) fn int64(values: impl Iterator<Item = Option<u64>>) -> ArrayRef {
    Arc::new(values.map(|value| value.map(|value| i64::try_from(value).unwrap_or(i64::MAX))).collect::<Int64Array>())
}

pub(crate) fn text<T: AsRef<str>>(values: impl Iterator<Item = Option<T>>) -> ArrayRef {
    Arc::new(values.collect::<StringArray>())
}

pub(crate) fn bytes<T: AsRef<[u8]>>(values: impl Iterator<Item = Option<T>>) -> ArrayRef {
    Arc::new(values.collect::<BinaryArray>())
}

pub(crate) fn fixed<T: AsRef<[u8]>>(size: i32, values: impl ExactSizeIterator<Item = Option<T>>) -> Result<ArrayRef, ArrowError> {
    let mut builder = FixedSizeBinaryBuilder::with_capacity(values.len(), size);
    for value in values {
        match value {
            Some(value) => builder.append_value(value)?,
            None => builder.append_null(),
        }
    }
    Ok(Arc::new(builder.finish()))
}

pub(crate) fn quantities(values: impl Iterator<Item = Option<Quantity>>) -> ArrayRef {
    let units = values.map(|value| value.map(Quantity::units)).collect::<Decimal128Array>();
    Arc::new(units.with_data_type(QUANTITIES))
}

pub(crate) fn amounts(values: impl Iterator<Item = Option<Amount>>) -> ArrayRef {
    let units = values.map(|value| value.map(|value| i128::from(value.units()))).collect::<Decimal128Array>();
    Arc::new(units.with_data_type(AMOUNTS))
}

pub(crate) fn timestamps(values: impl Iterator<Item = Option<Instant>>) -> ArrayRef {
    let micros = values.map(|value| value.map(Instant::micros)).collect::<TimestampMicrosecondArray>();
    Arc::new(micros.with_timezone("UTC"))
}

/// One column of a record batch, read by row.
pub(crate) struct Column<'a, A> {
    name: &'static str,
    array: &'a A,
}

/// Finds a column of the wanted type.
pub(crate) fn column<'a, A: Array + 'static>(
    batch: &'a RecordBatch,
    name: &'static str,
    kind: &DataType,
    expected: &'static str,
) -> Result<Column<'a, A>, RowError> {
    batch
        .column_by_name(name)
        .filter(|array| array.data_type() == kind)
        .and_then(|array| array.as_any().downcast_ref())
        .map(|array| Column { name, array })
        .ok_or(RowError::Column { column: name, expected })
}

macro_rules! finders {
    ($($name:ident: $array:ty = $kind:expr, $expected:literal;)*) => {
        $(pub(crate) fn $name<'a>(batch: &'a RecordBatch, name: &'static str) -> Result<Column<'a, $array>, RowError> {
            column(batch, name, &$kind, $expected)
        })*
    };
}

finders! {
    int32_column: Int32Array = DataType::Int32, "int32";
    int64_column: Int64Array = DataType::Int64, "int64";
    text_column: StringArray = DataType::Utf8, "utf8";
    bytes_column: BinaryArray = DataType::Binary, "binary";
    hash_column: FixedSizeBinaryArray = DataType::FixedSizeBinary(16), "fixed-size binary of 16";
    digest_column: FixedSizeBinaryArray = DataType::FixedSizeBinary(32), "fixed-size binary of 32";
    quantity_column: Decimal128Array = QUANTITIES, "decimal(38,9)";
    amount_column: Decimal128Array = AMOUNTS, "decimal(19,9)";
    instant_column: TimestampMicrosecondArray = instants(), "timestamp(µs, UTC)";
}

impl<'a, A: Array> Column<'a, A> {
    /// The whole column, where no row of it is null.
    pub(crate) fn without_nulls(&self) -> Result<&'a A, RowError> {
        let null = self.array.nulls().and_then(|nulls| (0..nulls.len()).find(|row| nulls.is_null(*row)));
        match null {
            Some(row) => Err(RowError::Value { column: self.name, row }),
            None => Ok(self.array),
        }
    }
}

impl<'a, A: Array> Column<'a, A>
where
    &'a A: ArrayAccessor,
{
    /// The value of a row through `read`, none where it is null; `read` refuses with none.
    pub(crate) fn optional<T>(
        &self,
        row: usize,
        read: impl FnOnce(<&'a A as ArrayAccessor>::Item) -> Option<T>,
    ) -> Result<Option<T>, RowError> {
        if row >= self.array.len() {
            return Err(RowError::Value { column: self.name, row });
        }
        if self.array.is_null(row) {
            return Ok(None);
        }
        read(self.array.value(row)).map(Some).ok_or(RowError::Value { column: self.name, row })
    }

    /// As `optional`, where a null is refused too.
    pub(crate) fn required<T>(&self, row: usize, read: impl FnOnce(<&'a A as ArrayAccessor>::Item) -> Option<T>) -> Result<T, RowError> {
        self.optional(row, read)?.ok_or(RowError::Value { column: self.name, row })
    }
}

pub(crate) fn as_amount(units: i128) -> Option<Amount> {
    Amount::from_units(units).ok()
}

pub(crate) fn as_quantity(units: i128) -> Option<Quantity> {
    Quantity::from_units(units).ok()
}

pub(crate) fn as_instant(micros: i64) -> Option<Instant> {
    Instant::from_micros(micros).ok()
}

pub(crate) fn as_month(number: i32) -> Option<Month> {
    Month::from_number(number).ok()
}

pub(crate) fn as_count(number: i64) -> Option<u64> {
    u64::try_from(number).ok()
}

/// What texts of a column mean, each read once: rows of a batch name few different organizations, meters and prices.
pub(crate) struct Known<'a, T> {
    all: HashMap<&'a str, T>,
    last: Option<(&'a str, T)>,
}

impl<'a, T: Clone> Known<'a, T> {
    pub(crate) fn new() -> Self {
        Self { all: HashMap::new(), last: None }
    }

    /// The meaning of a text; none where `read` refuses it.
    pub(crate) fn get(&mut self, text: &'a str, read: impl FnOnce(&'a str) -> Option<T>) -> Option<T> {
        if let Some((_, known)) = self.last.as_ref().filter(|(last, _)| *last == text) {
            return Some(known.clone());
        }
        let known = match self.all.entry(text) {
            Entry::Occupied(known) => known.get().clone(),
            Entry::Vacant(vacant) => vacant.insert(read(text)?).clone(),
        };
        self.last = Some((text, known.clone()));
        Some(known)
    }
}
