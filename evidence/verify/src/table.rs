//! Parquet through Polars' decoder, one row group at a time, so that a damage has a place. It knows columns, not what they mean.

use std::collections::HashMap;
use std::io::Cursor;
use std::panic::{AssertUnwindSafe, catch_unwind};

use anyhow::{Context as _, bail, ensure};
use polars_arrow::array::{Array, BinaryViewArray, FixedSizeBinaryArray, PrimitiveArray, Utf8ViewArray};
use polars_arrow::datatypes::{ArrowDataType, Field, TimeUnit};
use polars_buffer::Buffer;
use polars_parquet::parquet::metadata::RowGroupMetadata;
use polars_parquet::read::schema::parquet_to_arrow_schema;
use polars_parquet::read::{BasicDecompressor, PageReader, column_iter_to_arrays, read_metadata};

use crate::tree::Hash;

/// Why a table cannot be read.
#[derive(Debug)]
pub struct Damage {
    /// Row group, from 0; none when it is the footer.
    pub row_group: Option<usize>,
    /// What the engine said.
    pub why: String,
}

/// The rows of a row group.
pub struct Frame {
    rows: usize,
    columns: HashMap<String, Column>,
}

enum Column {
    Texts(Vec<Option<String>>),
    Bytes(Vec<Option<Vec<u8>>>),
    Int32s(Vec<Option<i32>>),
    Int64s(Vec<Option<i64>>),
    /// Microseconds.
    Instants(Vec<Option<i64>>),
    /// In units of the scale.
    Decimals(Vec<Option<i128>>, usize),
    /// A type that no table of ours has.
    Other(String),
}

impl Frame {
    /// How many rows.
    pub fn height(&self) -> usize {
        self.rows
    }

    fn column(&self, name: &str) -> anyhow::Result<&Column> {
        self.columns.get(name).with_context(|| format!("there is no column {name}"))
    }
}

/// All rows of a Parquet file, one frame for each row group.
pub fn read(bytes: &[u8]) -> Result<Vec<Frame>, Damage> {
    read_columns(bytes, |_| true)
}

/// As [`read`], but only the columns that are wanted.
pub fn read_columns(bytes: &[u8], wanted: impl Fn(&str) -> bool) -> Result<Vec<Frame>, Damage> {
    let file = Buffer::from(bytes.to_vec());
    let footer = guarded(|| {
        let metadata = read_metadata(&mut Cursor::new(bytes))?;
        let fields: Vec<Field> =
            parquet_to_arrow_schema(metadata.schema().fields()).iter_values().filter(|field| wanted(&field.name)).cloned().collect();
        Ok((metadata, fields))
    });
    let (metadata, fields) = footer.map_err(|why| Damage { row_group: None, why })?;
    let groups = metadata.row_groups.iter().enumerate();
    groups
        .map(|(row_group, group)| guarded(|| frame(&file, group, &fields)).map_err(|why| Damage { row_group: Some(row_group), why }))
        .collect()
}

/// Damaged pages can make a decoder panic; that is a finding, not a crash.
fn guarded<T>(work: impl FnOnce() -> anyhow::Result<T>) -> Result<T, String> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(done) => done.map_err(|error| format!("{error:#}")),
        Err(_) => Err("its decoder gave up".to_owned()),
    }
}

fn frame(file: &Buffer<u8>, group: &RowGroupMetadata, fields: &[Field]) -> anyhow::Result<Frame> {
    let rows = group.num_rows();
    let mut columns = HashMap::with_capacity(fields.len());
    for field in fields {
        let chunks: Vec<_> = group.columns_under_root_iter(&field.name).into_iter().flatten().collect();
        let [chunk] = chunks[..] else { continue };
        let range = chunk.byte_range();
        let (start, end) = (usize::try_from(range.start)?, usize::try_from(range.end)?);
        ensure!(start <= end && end <= file.len(), "column {} lies outside the file", field.name);
        let pages = PageReader::new(Cursor::new(file.clone().sliced(start..end)), chunk, Vec::new(), usize::MAX);
        let types = vec![&chunk.descriptor().descriptor.primitive_type];
        let (arrays, _) = column_iter_to_arrays(vec![BasicDecompressor::new(pages, Vec::new())], types, field.clone(), None)
            .with_context(|| format!("column {}", field.name))?;
        let column = column(&arrays, field).with_context(|| format!("column {}", field.name))?;
        ensure!(column.len().is_none_or(|found| found == rows), "column {} does not hold the {rows} rows of the footer", field.name);
        columns.insert(field.name.to_string(), column);
    }
    Ok(Frame { rows, columns })
}

fn column(arrays: &[Box<dyn Array>], field: &Field) -> anyhow::Result<Column> {
    Ok(match &field.dtype {
        ArrowDataType::Utf8View => {
            Column::Texts(values(arrays, |array: &Utf8ViewArray| array.iter().map(|value| value.map(str::to_owned)).collect())?)
        }
        ArrowDataType::BinaryView => {
            Column::Bytes(values(arrays, |array: &BinaryViewArray| array.iter().map(|value| value.map(<[u8]>::to_vec)).collect())?)
        }
        ArrowDataType::FixedSizeBinary(_) => {
            Column::Bytes(values(arrays, |array: &FixedSizeBinaryArray| array.iter().map(|value| value.map(<[u8]>::to_vec)).collect())?)
        }
        ArrowDataType::Int32 => {
            Column::Int32s(values(arrays, |array: &PrimitiveArray<i32>| array.iter().map(Option::<&i32>::copied).collect())?)
        }
        ArrowDataType::Int64 => {
            Column::Int64s(values(arrays, |array: &PrimitiveArray<i64>| array.iter().map(Option::<&i64>::copied).collect())?)
        }
        ArrowDataType::Timestamp(TimeUnit::Microsecond, _) => {
            Column::Instants(values(arrays, |array: &PrimitiveArray<i64>| array.iter().map(Option::<&i64>::copied).collect())?)
        }
        ArrowDataType::Decimal(_, scale) => {
            Column::Decimals(values(arrays, |array: &PrimitiveArray<i128>| array.iter().map(Option::<&i128>::copied).collect())?, *scale)
        }
        other => Column::Other(format!("{other:?}")),
    })
}

fn values<A: 'static, T>(arrays: &[Box<dyn Array>], of: impl Fn(&A) -> Vec<T>) -> anyhow::Result<Vec<T>> {
    let mut all = Vec::new();
    for array in arrays {
        all.extend(of(array.as_any().downcast_ref::<A>().context("its pages hold another type than its footer says")?));
    }
    Ok(all)
}

impl Column {
    fn len(&self) -> Option<usize> {
        match self {
            Self::Texts(values) => Some(values.len()),
            Self::Bytes(values) => Some(values.len()),
            Self::Int32s(values) => Some(values.len()),
            Self::Int64s(values) | Self::Instants(values) => Some(values.len()),
            Self::Decimals(values, _) => Some(values.len()),
            Self::Other(_) => None,
        }
    }

    fn kind(&self) -> String {
        match self {
            Self::Texts(_) => "texts".to_owned(),
            Self::Bytes(_) => "bytes".to_owned(),
            Self::Int32s(_) => "32-bit integers".to_owned(),
            Self::Int64s(_) => "64-bit integers".to_owned(),
            Self::Instants(_) => "instants".to_owned(),
            Self::Decimals(_, scale) => format!("decimals at scale {scale}"),
            Self::Other(kind) => kind.clone(),
        }
    }
}

macro_rules! columns {
    ($($(#[$doc:meta])* $name:ident, $pattern:pat => $values:expr, $item:ty, $wanted:literal;)*) => {
        $(
            $(#[$doc])*
            pub fn $name(frame: &Frame, name: &str) -> anyhow::Result<Vec<$item>> {
                match frame.column(name)? {
                    $pattern => Ok($values.clone()),
                    other => bail!("column {name} holds {}, {} are wanted", other.kind(), $wanted),
                }
            }
        )*
    };
}

columns! {
    /// A column of texts.
    texts, Column::Texts(values) => values, Option<String>, "texts";
    /// A column of decimals at scale 9, in their units.
    decimals, Column::Decimals(values, 9) => values, Option<i128>, "decimals at scale 9";
    /// A column of microseconds.
    instants, Column::Instants(values) => values, Option<i64>, "instants";
    /// A column of 32-bit integers.
    optional_int32s, Column::Int32s(values) => values, Option<i32>, "32-bit integers";
    /// A column of 64-bit integers.
    optional_int64s, Column::Int64s(values) => values, Option<i64>, "64-bit integers";
}

fn given<T>(name: &str, values: Vec<Option<T>>) -> anyhow::Result<Vec<T>> {
    values.into_iter().map(|value| value.with_context(|| format!("column {name} holds a null"))).collect()
}

/// A column of texts without nulls.
pub fn given_texts(frame: &Frame, name: &str) -> anyhow::Result<Vec<String>> {
    given(name, texts(frame, name)?)
}

/// A column of 32-bit integers without nulls.
pub fn int32s(frame: &Frame, name: &str) -> anyhow::Result<Vec<i32>> {
    given(name, optional_int32s(frame, name)?)
}

/// A column of 64-bit integers without nulls.
pub fn int64s(frame: &Frame, name: &str) -> anyhow::Result<Vec<i64>> {
    given(name, optional_int64s(frame, name)?)
}

/// Which rows of a column of bytes hold a value.
pub fn present(frame: &Frame, name: &str) -> anyhow::Result<Vec<bool>> {
    let Column::Bytes(values) = frame.column(name)? else { bail!("column {name} holds no bytes") };
    Ok(values.iter().map(Option::is_some).collect())
}

/// A column of 16 bytes each, as numbers.
pub fn identities(frame: &Frame, name: &str) -> anyhow::Result<Vec<u128>> {
    let Column::Bytes(values) = frame.column(name)? else { bail!("column {name} holds no bytes") };
    let number = |value: &Option<Vec<u8>>| Some(u128::from_be_bytes(value.as_ref()?.as_slice().try_into().ok()?));
    values.iter().map(|value| number(value).with_context(|| format!("column {name} has a value that is not 16 bytes"))).collect()
}

/// A column of 32 bytes each.
pub fn hashes(frame: &Frame, name: &str) -> anyhow::Result<Vec<Hash>> {
    let Column::Bytes(values) = frame.column(name)? else { bail!("column {name} holds no bytes") };
    let hash = |value: &Option<Vec<u8>>| value.as_ref().and_then(|bytes| Hash::try_from(bytes.as_slice()).ok());
    values.iter().map(|value| hash(value).with_context(|| format!("column {name} has a value that is not 32 bytes"))).collect()
}
