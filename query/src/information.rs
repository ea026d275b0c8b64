//! What a session can be told about its tables: SHOW TABLES, DESCRIBE and the two tables of `information_schema`, made from the
//! descriptions of the read models that the scope may know of, and from nothing else.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, StringArray, UInt64Array};
use datafusion::arrow::datatypes::{DataType, Field, Schema};
use datafusion::arrow::error::ArrowError;
use datafusion::arrow::record_batch::RecordBatch;
use platform_catalog::{ReadModel, Scope};

/// Name of the catalog of every session.
pub(crate) const CATALOG: &str = "tally";

fn batch(columns: Vec<(&str, ArrayRef)>) -> Result<RecordBatch, ArrowError> {
    let fields: Vec<Field> = columns.iter().map(|(name, array)| Field::new(*name, array.data_type().clone(), false)).collect();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns.into_iter().map(|(_, array)| array).collect())
}

fn texts<T: AsRef<str>>(texts: impl IntoIterator<Item = T>) -> ArrayRef {
    Arc::new(StringArray::from_iter_values(texts))
}

/// The answer to SHOW TABLES.
pub(crate) fn shown_tables(models: &[Arc<dyn ReadModel>]) -> Result<RecordBatch, ArrowError> {
    batch(vec![
        ("table", texts(models.iter().map(|model| model.name().to_string()))),
        ("owner", texts(models.iter().map(|model| model.owner()))),
        ("description", texts(models.iter().map(|model| model.description().text()))),
    ])
}

/// The answer to DESCRIBE.
pub(crate) fn described(model: &dyn ReadModel, scope: &Scope) -> Result<RecordBatch, ArrowError> {
    let schema = model.schema_for(scope);
    let fields = || schema.fields().iter();
    batch(vec![
        ("column", texts(fields().map(|field| field.name().clone()))),
        ("type", texts(fields().map(|field| type_name(field.data_type())))),
        ("nullable", texts(fields().map(|field| yes_or_no(field.is_nullable())))),
        ("description", texts(fields().map(|field| model.description().column(field.name()).unwrap_or_default()))),
    ])
}

/// `information_schema.tables`.
pub(crate) fn tables(models: &[Arc<dyn ReadModel>]) -> Result<RecordBatch, ArrowError> {
    batch(vec![
        ("table_catalog", texts(models.iter().map(|_| CATALOG))),
        ("table_schema", texts(models.iter().map(|model| model.name().schema().to_owned()))),
        ("table_name", texts(models.iter().map(|model| model.name().table().to_owned()))),
        ("table_type", texts(models.iter().map(|_| "BASE TABLE"))),
    ])
}

/// `information_schema.columns`.
pub(crate) fn columns(models: &[Arc<dyn ReadModel>], scope: &Scope) -> Result<RecordBatch, ArrowError> {
    let mut rows: Vec<(&Arc<dyn ReadModel>, u64, Arc<Field>)> = Vec::new();
    for model in models {
        rows.extend((1..).zip(model.schema_for(scope).fields()).map(|(position, field)| (model, position, Arc::clone(field))));
    }
    batch(vec![
        ("table_catalog", texts(rows.iter().map(|_| CATALOG))),
        ("table_schema", texts(rows.iter().map(|(model, _, _)| model.name().schema().to_owned()))),
        ("table_name", texts(rows.iter().map(|(model, _, _)| model.name().table().to_owned()))),
        ("column_name", texts(rows.iter().map(|(_, _, field)| field.name().clone()))),
        ("ordinal_position", Arc::new(UInt64Array::from_iter_values(rows.iter().map(|(_, position, _)| *position)))),
        ("is_nullable", texts(rows.iter().map(|(_, _, field)| yes_or_no(field.is_nullable())))),
        ("data_type", texts(rows.iter().map(|(_, _, field)| type_name(field.data_type())))),
    ])
}

fn yes_or_no(truth: bool) -> &'static str {
    if truth { "YES" } else { "NO" }
}

/// A type as SQL writes it, where SQL has a word for it.
pub(crate) fn type_name(data_type: &DataType) -> String {
    match data_type {
        DataType::Boolean => "boolean".to_owned(),
        DataType::Int32 => "integer".to_owned(),
        DataType::Int64 => "bigint".to_owned(),
        DataType::Decimal128(precision, scale) => format!("decimal({precision},{scale})"),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "text".to_owned(),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => "bytes".to_owned(),
        DataType::Timestamp(_, Some(_)) => "timestamp with time zone".to_owned(),
        DataType::Timestamp(_, None) => "timestamp".to_owned(),
        DataType::Date32 | DataType::Date64 => "date".to_owned(),
        DataType::Float64 => "double precision".to_owned(),
        other => other.to_string(),
    }
}
