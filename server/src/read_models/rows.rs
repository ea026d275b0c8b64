//! Rows of plain values as Arrow columns, for read models whose rows come from a database or from memory.

use std::sync::Arc;

use arrow::array::{ArrayRef, Decimal128Builder, Int32Builder, Int64Builder, StringBuilder, TimestampMicrosecondBuilder};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use arrow::record_batch::RecordBatch;
use futures::future::BoxFuture;
use futures::{StreamExt, stream};
use platform_catalog::{AsOf, Audience, BatchStream, CatalogError, Description, ReadModel, Request, RowsModel};

/// One value of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cell {
    /// Nothing.
    Null,
    /// A 32- or 64-bit integer, by the column; microseconds for an instant column.
    Integer(i64),
    /// Units of the column's decimal.
    Decimal(i128),
    /// Text.
    Text(String),
}

impl<T: Into<Cell>> From<Option<T>> for Cell {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<i64> for Cell {
    fn from(number: i64) -> Self {
        Self::Integer(number)
    }
}

impl From<u64> for Cell {
    fn from(number: u64) -> Self {
        // Counters of this program stay far below 2^63.
        Self::Integer(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

impl From<shared_types::Instant> for Cell {
    fn from(at: shared_types::Instant) -> Self {
        Self::Integer(at.micros())
    }
}

impl From<shared_types::Month> for Cell {
    fn from(month: shared_types::Month) -> Self {
        Self::Integer(i64::from(month.number()))
    }
}

impl From<shared_types::Digest> for Cell {
    fn from(digest: shared_types::Digest) -> Self {
        Self::Text(digest.to_string())
    }
}

impl From<shared_types::Amount> for Cell {
    fn from(amount: shared_types::Amount) -> Self {
        Self::Decimal(i128::from(amount.units()))
    }
}

impl From<shared_types::Sum> for Cell {
    fn from(sum: shared_types::Sum) -> Self {
        Self::Decimal(sum.units())
    }
}

impl From<shared_types::Quantity> for Cell {
    fn from(quantity: shared_types::Quantity) -> Self {
        Self::Decimal(quantity.units())
    }
}

/// Microseconds UTC.
pub fn instant() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

/// A sum of amounts: decimal(38, 9).
pub const MONEY: DataType = DataType::Decimal128(38, 9);

/// A column: name, type, whether it can be null, and its sentence.
pub type Column = (&'static str, DataType, bool, &'static str);

/// A model over rows from a closure; they are the same as of every batch, so `as_of` is refused.
pub fn model<R>(
    name: &'static str,
    owner: &'static str,
    text: &'static str,
    audience: Audience,
    columns: &[Column],
    read: R,
) -> anyhow::Result<Arc<dyn ReadModel>>
where
    R: Fn() -> BoxFuture<'static, anyhow::Result<Vec<Vec<Cell>>>> + Send + Sync + 'static,
{
    let description = Description::new(name, owner, text, audience, schema(columns), &sentences(columns))?;
    Ok(described(description, read))
}

/// A model over rows from a closure, already described.
pub fn described<R>(description: Description, read: R) -> Arc<dyn ReadModel>
where
    R: Fn() -> BoxFuture<'static, anyhow::Result<Vec<Vec<Cell>>>> + Send + Sync + 'static,
{
    let (name, schema) = (description.name().to_string(), Arc::clone(description.schema()));
    Arc::new(RowsModel::new(description, move |request: Request| {
        let rows = read();
        let (name, schema) = (name.clone(), Arc::clone(&schema));
        Box::pin(async move {
            refuse_history(&name, request.as_of)?;
            let rows = rows.await.map_err(|error| failed(&name, &error))?;
            let batch = batch(&schema, &rows).map_err(|error| failed(&name, &error))?;
            Ok::<BatchStream, CatalogError>(stream::iter([Ok(batch)]).boxed())
        })
    }))
}

/// The schema of columns.
pub fn schema(columns: &[Column]) -> SchemaRef {
    Arc::new(Schema::new(columns.iter().map(|(name, kind, nullable, _)| Field::new(*name, kind.clone(), *nullable)).collect::<Vec<_>>()))
}

/// The sentences of columns.
pub fn sentences(columns: &[Column]) -> Vec<(&'static str, &'static str)> {
    columns.iter().map(|(name, _, _, text)| (*name, *text)).collect()
}

/// Refuses to show an earlier state where only the newest is kept.
pub fn refuse_history(model: &str, as_of: AsOf) -> Result<(), CatalogError> {
    match as_of.0 {
        None => Ok(()),
        Some(_) => Err(CatalogError::NoHistory { model: model.to_owned() }),
    }
}

/// An error of a model's reader.
pub fn failed(model: &str, error: &anyhow::Error) -> CatalogError {
    CatalogError::Read { model: model.to_owned(), source: format!("{error:#}").into() }
}

/// Rows as one batch of the schema.
pub fn batch(schema: &SchemaRef, rows: &[Vec<Cell>]) -> anyhow::Result<RecordBatch> {
    let mut columns: Vec<ArrayRef> = Vec::with_capacity(schema.fields().len());
    for (at, field) in schema.fields().iter().enumerate() {
        let cells = rows.iter().map(|row| row.get(at).unwrap_or(&Cell::Null));
        columns.push(column(field, cells)?);
    }
    let options = arrow::record_batch::RecordBatchOptions::new().with_row_count(Some(rows.len()));
    Ok(RecordBatch::try_new_with_options(std::sync::Arc::clone(schema), columns, &options)?)
}

fn column<'a>(field: &Field, cells: impl Iterator<Item = &'a Cell>) -> anyhow::Result<ArrayRef> {
    macro_rules! build {
        ($builder:expr, $($cell:pat => $value:expr),+) => {{
            let mut builder = $builder;
            for cell in cells {
                match cell {
                    Cell::Null => builder.append_null(),
                    $($cell => builder.append_value($value),)+
                    other => anyhow::bail!("column {} of type {} cannot hold {other:?}", field.name(), field.data_type()),
                }
            }
            Arc::new(builder.finish()) as ArrayRef
        }};
    }
    Ok(match field.data_type() {
        DataType::Int32 => build!(Int32Builder::new(), Cell::Integer(number) => i32::try_from(*number)?),
        DataType::Int64 => build!(Int64Builder::new(), Cell::Integer(number) => *number),
        DataType::Utf8 => build!(StringBuilder::new(), Cell::Text(text) => text),
        DataType::Timestamp(TimeUnit::Microsecond, Some(_)) => {
            build!(TimestampMicrosecondBuilder::new().with_timezone("UTC"), Cell::Integer(micros) => *micros)
        }
        DataType::Decimal128(precision, scale) => build!(
            Decimal128Builder::new().with_precision_and_scale(*precision, *scale)?,
            Cell::Decimal(units) => *units
        ),
        other => anyhow::bail!("column {} has the unexpected type {other}", field.name()),
    })
}
