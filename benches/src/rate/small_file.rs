//! Parquet files of few rows, written and read whole: what jobs answer, and the state that `totals` answers from.
//!
//! Whoever asks for totals waits until their file is read from the disk and unpacked. So it is not compressed, and a decimal takes as many
//! bytes as the largest of its column needs: 64 bits or fewer are kept as the bits of their differences, as other whole numbers are.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, bail, ensure};
use arrow::array::{ArrayRef, AsArray, Decimal128Array, RecordBatch};
use arrow::datatypes::{DECIMAL128_MAX_PRECISION, DataType, Decimal128Type};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder};
use parquet::arrow::arrow_writer::ArrowWriter;
use parquet::basic::{Compression, Encoding, Type};
use parquet::column::page::Page;
use parquet::file::metadata::ParquetMetaData;
use parquet::file::serialized_reader::SerializedPageReader;

use super::rated_file::{as_differences, properties};

/// Pages are small, and so is what is decoded at once: the same memory takes one after the other. New memory costs more than what is done in
/// it, and while one page is unpacked the next are on their way from the disk.
const PAGE_BYTES: usize = 1 << 16;
const BATCH_ROWS: usize = 1 << 12;
/// So many digits fit 64 bits, as which Parquet keeps such decimals.
const DIGITS_64: u8 = 18;

/// All rows of a file of any writer.
pub fn rows(path: &Path) -> anyhow::Result<RecordBatch> {
    rows_of(ParquetRecordBatchReaderBuilder::try_new(open(path)?)?)
}

/// All rows of a file that [`write`] wrote, decimals with 38 digits whatever they are kept in.
///
/// - Errors: decimals of fixed width that may be missing or are encoded otherwise than plain; no column is null here.
pub fn wide(path: &Path) -> anyhow::Result<RecordBatch> {
    let file = open(path)?;
    let metadata = ArrowReaderMetadata::load(&file, ArrowReaderOptions::new())?;
    let mut columns: Vec<(&str, ArrayRef)> = Vec::with_capacity(metadata.schema().fields().len());
    for (column, field) in metadata.schema().fields().iter().enumerate() {
        let file = file.try_clone()?;
        let values = if metadata.parquet_schema().column(column).physical_type() == Type::FIXED_LEN_BYTE_ARRAY {
            Arc::new(Decimal128Array::from(numbers_of(file, metadata.metadata(), column)?))
        } else {
            let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(file, metadata.clone());
            let mask = ProjectionMask::leaves(builder.parquet_schema(), [column]);
            column_of(builder.with_projection(mask), field.data_type())?
        };
        columns.push((field.name(), with_digits(values, field.data_type(), DECIMAL128_MAX_PRECISION)?));
    }
    Ok(RecordBatch::try_from_iter(columns)?)
}

/// The one column of a reader. Decimals are 64 bits wide before they are 128, so they come in batches.
fn column_of(builder: ParquetRecordBatchReaderBuilder<File>, kind: &DataType) -> anyhow::Result<ArrayRef> {
    if !matches!(kind, DataType::Decimal128(..)) {
        return Ok(Arc::clone(rows_of(builder)?.column(0)));
    }
    let mut numbers = Vec::with_capacity(usize::try_from(builder.metadata().file_metadata().num_rows())?);
    for rows in builder.with_batch_size(BATCH_ROWS).build()? {
        numbers.extend_from_slice(rows?.column(0).as_primitive::<Decimal128Type>().values());
    }
    Ok(Arc::new(Decimal128Array::from(numbers)))
}

fn open(path: &Path) -> anyhow::Result<File> {
    File::open(path).with_context(|| format!("could not open {}", path.display()))
}

fn rows_of(builder: ParquetRecordBatchReaderBuilder<File>) -> anyhow::Result<RecordBatch> {
    let (schema, rows) = (builder.schema().clone(), usize::try_from(builder.metadata().file_metadata().num_rows())?);
    let mut batches = builder.with_batch_size(rows.max(1)).build()?.collect::<Result<Vec<_>, _>>()?;
    match batches.pop() {
        Some(batch) if batches.is_empty() => Ok(batch),
        last => {
            batches.extend(last);
            Ok(arrow::compute::concat_batches(&schema, &batches)?)
        }
    }
}

/// The numbers of a column of fixed width, whose pages are their bytes one behind another. The `parquet` crate copies each twice before it
/// is a number, which takes longer than all else that is read.
fn numbers_of(file: File, metadata: &ParquetMetaData, column: usize) -> anyhow::Result<Vec<i128>> {
    let file = Arc::new(file);
    let description = metadata.file_metadata().schema_descr().column(column);
    let width = usize::try_from(description.type_length())?;
    ensure!((1..=16).contains(&width) && description.max_def_level() == 0, "column {} is no plain decimal", description.name());
    let mut numbers = Vec::with_capacity(usize::try_from(metadata.file_metadata().num_rows())?);
    for group in metadata.row_groups() {
        let rows = usize::try_from(group.num_rows())?;
        for page in SerializedPageReader::new(Arc::clone(&file), group.column(column), rows, None)? {
            let Page::DataPage { buf, encoding: Encoding::PLAIN, .. } = page? else {
                bail!("column {} has pages that are not plain", description.name())
            };
            add_numbers(&buf, width, &mut numbers);
        }
    }
    ensure!(i64::try_from(numbers.len())? == metadata.file_metadata().num_rows(), "column {} is cut short", description.name());
    Ok(numbers)
}

/// Two's complement of `width` bytes each, big-endian.
fn add_numbers(mut bytes: &[u8], width: usize, numbers: &mut Vec<i128>) {
    let behind = 8 * (16 - width);
    while let Some(rest) = bytes.get(width..) {
        // Sixteen bytes from where a number begins hold it and what comes behind it, which is shifted out.
        let window = bytes.first_chunk().copied().unwrap_or_else(|| {
            let mut window = [0; 16];
            window.iter_mut().zip(bytes).for_each(|(to, byte)| *to = *byte);
            window
        });
        numbers.push(i128::from_be_bytes(window) >> behind);
        bytes = rest;
    }
}

/// Writes a file that [`rows`] and [`wide`] read, durably.
pub fn write(path: &Path, columns: Vec<(&str, ArrayRef)>) -> anyhow::Result<()> {
    let columns = columns.into_iter().map(|(name, column)| Ok((name, narrow(column)?))).collect::<anyhow::Result<Vec<_>>>()?;
    let rows = RecordBatch::try_from_iter(columns)?;
    let mut properties =
        properties()?.set_dictionary_enabled(false).set_compression(Compression::UNCOMPRESSED).set_data_page_size_limit(PAGE_BYTES);
    for field in rows.schema().fields() {
        if field.data_type().is_integer() || matches!(field.data_type(), DataType::Decimal128(..=DIGITS_64, _)) {
            properties = as_differences(properties, field.name());
        }
    }
    let mut writer = ArrowWriter::try_new(File::create(path)?, rows.schema(), Some(properties.build()))?;
    writer.write(&rows)?;
    writer.into_inner()?.sync_all()?;
    Ok(())
}

/// Decimals of no more digits than their largest has.
fn narrow(column: ArrayRef) -> anyhow::Result<ArrayRef> {
    let Some(numbers) = column.as_primitive_opt::<Decimal128Type>() else { return Ok(column) };
    let largest = numbers.values().iter().map(|number| number.unsigned_abs()).max().and_then(u128::checked_ilog10).unwrap_or_default();
    let digits = u8::try_from(largest + 1)?.max(numbers.scale().unsigned_abs());
    let kind = column.data_type().clone();
    with_digits(column, &kind, digits)
}

/// The same numbers as decimals of so many digits; what is no decimal stays.
fn with_digits(column: ArrayRef, kind: &DataType, digits: u8) -> anyhow::Result<ArrayRef> {
    Ok(match (kind, column.as_primitive_opt::<Decimal128Type>()) {
        (DataType::Decimal128(_, scale), Some(numbers)) => Arc::new(numbers.clone().with_precision_and_scale(digits, *scale)?),
        _ => column,
    })
}

#[cfg(test)]
mod tests {
    use arrow::array::Int32Array;

    use super::*;

    #[test]
    fn decimals_are_read_as_they_were_written_whatever_they_are_kept_in() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("state");
        let largest = 10_i128.pow(38) - 1;
        // Of several pages and batches.
        let many: Vec<i128> = (0..i128::try_from(3 * BATCH_ROWS).unwrap() + 1).map(|number| (number - 7_000) * 10_i128.pow(13)).collect();
        let more: Vec<i128> = many.iter().map(|number| number * 100).collect();
        let cases: [(&[i128], DataType); 8] = [
            (&[0, 0, 0], DataType::Decimal128(12, 12)),
            (&[-1, 1, 999_999_999_999_999_999], DataType::Decimal128(18, 12)),
            (&[-1, 1_000_000_000_000_000_000, 7], DataType::Decimal128(19, 12)),
            (&[123_456_789_012_345_678_901_234, -123_456_789_012_345_678_901_234, -1], DataType::Decimal128(24, 12)),
            (&[largest, -largest, 0], DataType::Decimal128(38, 12)),
            (&[], DataType::Decimal128(12, 12)),
            (&many, DataType::Decimal128(17, 12)),
            (&more, DataType::Decimal128(19, 12)),
        ];
        for (numbers, kind) in cases {
            let decimals = Decimal128Array::from(numbers.to_vec()).with_precision_and_scale(38, 12).unwrap();
            let counts: Int32Array = (0..i32::try_from(numbers.len()).unwrap()).map(Some).collect();
            let columns: Vec<(&str, ArrayRef)> = vec![("account_id", Arc::new(counts)), ("amount", Arc::new(decimals))];
            let written = RecordBatch::try_from_iter(columns.clone()).unwrap();
            write(&path, columns).unwrap();
            assert_eq!(*rows(&path).unwrap().column(1).data_type(), kind);
            assert_eq!(wide(&path).unwrap(), written);
        }
    }
}
