//! A Parquet file of rated rows: numbers as the bits of their differences, identities and amounts as they are.
//!
//! The `parquet` crate keeps a reference-counted slice for every value of fixed width before it writes it. Such columns are written here:
//! a page is the bytes of its values one behind another, so that a batch is copied into it at once.

use std::fs::File;
use std::io::BufWriter;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, ensure};
use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Decimal128Type, FieldRef, SchemaRef};
use bytes::Bytes;
use parquet::arrow::arrow_writer::{ArrowColumnWriter, ArrowWriter, compute_leaves};
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::column::page::{CompressedPage, Page, PageWriter};
use parquet::column::writer::ColumnCloseResult;
use parquet::file::metadata::ColumnChunkMetaData;
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterPropertiesBuilder};
use parquet::file::writer::{SerializedFileWriter, SerializedPageWriter, TrackedWrite};
use parquet::schema::types::{ColumnDescPtr, ColumnPath};

/// Bytes of a page of fixed width.
const PAGE_BYTES: usize = 1 << 20;
const ZSTD_LEVEL: i32 = 1;

/// As the lake writes: zstd level 1, no bounds but of the columns that files are left out by.
pub fn properties() -> anyhow::Result<WriterPropertiesBuilder> {
    Ok(WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(ZSTD_LEVEL)?))
        .set_statistics_enabled(EnabledStatistics::None)
        .set_offset_index_disabled(true)
        .set_data_page_row_count_limit(usize::MAX))
}

/// Sets how a column of whole numbers is written: as the bits of its differences, which needs no table of values as a dictionary does. They
/// hardly compress any further, so nothing tries to.
pub fn as_differences(properties: WriterPropertiesBuilder, name: &str) -> WriterPropertiesBuilder {
    let column = ColumnPath::from(name);
    properties
        .set_column_dictionary_enabled(column.clone(), false)
        .set_column_encoding(column.clone(), Encoding::DELTA_BINARY_PACKED)
        .set_column_compression(column, Compression::UNCOMPRESSED)
}

/// A file of one row group.
pub struct RatedFile {
    file: SerializedFileWriter<BufWriter<File>>,
    columns: Vec<Column>,
}

enum Column {
    Numbers(FieldRef, Box<ArrowColumnWriter>),
    Fixed(String, FixedColumn),
}

impl RatedFile {
    /// For at most so many rows of a schema: `identity` is bytes that look random, `amount` the only number of more than 64 bits.
    pub fn create(path: &Path, schema: &SchemaRef, rows: usize) -> anyhow::Result<Self> {
        let mut properties = properties()?.set_column_statistics_enabled(ColumnPath::from("event_at"), EnabledStatistics::Chunk);
        for name in ["account_id", "project_id", "meter_id", "sku_id", "event_at", "quantity", "price_id"] {
            properties = as_differences(properties, name);
        }
        let file = BufWriter::with_capacity(PAGE_BYTES, File::create(path)?);
        let writer = ArrowWriter::try_new(file, schema.clone(), Some(properties.build()))?;
        let (file, factory) = writer.into_serialized_writer()?;
        let writers = factory.create_column_writers(0)?;
        let mut columns = Vec::with_capacity(writers.len());
        for (number, (field, writer)) in schema.fields().iter().zip(writers).enumerate() {
            let compressed = match field.name().as_str() {
                "identity" => Some(false),
                "amount" => Some(true),
                _ => None,
            };
            columns.push(match compressed {
                Some(compressed) => {
                    Column::Fixed(field.name().clone(), FixedColumn::new(file.schema_descr().column(number), compressed, rows)?)
                }
                None => Column::Numbers(Arc::clone(field), Box::new(writer)),
            });
        }
        Ok(Self { file, columns })
    }

    /// Writes rows.
    pub fn write(&mut self, rows: &RecordBatch) -> anyhow::Result<()> {
        for (column, values) in self.columns.iter_mut().zip(rows.columns()) {
            match column {
                Column::Numbers(field, writer) => {
                    for leaf in compute_leaves(field, values)? {
                        writer.write(&leaf)?;
                    }
                }
                Column::Fixed(name, column) => column.write(values).with_context(|| format!("could not write column {name}"))?,
            }
        }
        Ok(())
    }

    /// Ends the file. It is not synced.
    pub fn close(mut self) -> anyhow::Result<File> {
        let mut group = self.file.next_row_group()?;
        for column in self.columns {
            match column {
                Column::Numbers(_, writer) => writer.close()?.append_to_row_group(&mut group)?,
                Column::Fixed(_, column) => {
                    let (chunk, close) = column.close()?;
                    group.append_column(&chunk, close)?;
                }
            }
        }
        group.close()?;
        Ok(self.file.into_inner()?.into_inner()?)
    }
}

/// A column chunk of values of sixteen bytes.
struct FixedColumn {
    description: ColumnDescPtr,
    compressor: Option<zstd::bulk::Compressor<'static>>,
    /// Of the page that is being filled: its values, its rows, and which of them have a value, once one has none.
    values: Vec<u8>,
    rows: usize,
    valid: Option<Vec<bool>>,
    chunk: TrackedWrite<Vec<u8>>,
    rows_written: u64,
    uncompressed: usize,
}

impl FixedColumn {
    fn new(description: ColumnDescPtr, compressed: bool, rows: usize) -> anyhow::Result<Self> {
        ensure!(description.type_length() == 16 && description.max_rep_level() == 0, "column {} is not of 16 bytes", description.name());
        Ok(Self {
            description,
            compressor: if compressed { Some(zstd::bulk::Compressor::new(ZSTD_LEVEL)?) } else { None },
            values: Vec::with_capacity(PAGE_BYTES * 2),
            rows: 0,
            valid: None,
            chunk: TrackedWrite::new(Vec::with_capacity(rows * if compressed { 10 } else { 16 })),
            rows_written: 0,
            uncompressed: 0,
        })
    }

    fn write(&mut self, values: &ArrayRef) -> anyhow::Result<()> {
        let nulls = values.nulls().filter(|nulls| nulls.null_count() > 0);
        ensure!(nulls.is_none() || self.description.max_def_level() == 1, "a value is missing");
        if nulls.is_some() && self.valid.is_none() {
            self.valid = Some(vec![true; self.rows]);
        }
        if let Some(valid) = &mut self.valid {
            valid.extend((0..values.len()).map(|row| nulls.is_none_or(|nulls| nulls.is_valid(row))));
        }
        match values.data_type() {
            DataType::FixedSizeBinary(16) if nulls.is_none() => {
                let bytes = values.as_fixed_size_binary().value_data();
                self.values.extend_from_slice(bytes.get(..values.len() * 16).context("there are fewer values than rows")?);
            }
            DataType::Decimal128(_, _) => {
                let numbers = values.as_primitive::<Decimal128Type>().values();
                match nulls {
                    None => numbers.iter().for_each(|number| self.values.extend_from_slice(&number.to_be_bytes())),
                    Some(nulls) => {
                        let there = numbers.iter().zip(nulls).filter(|(_, valid)| *valid);
                        there.for_each(|(number, _)| self.values.extend_from_slice(&number.to_be_bytes()));
                    }
                }
            }
            other => anyhow::bail!("{other} is not written so"),
        }
        self.rows += values.len();
        if self.values.len() >= PAGE_BYTES { self.end_page() } else { Ok(()) }
    }

    fn end_page(&mut self) -> anyhow::Result<()> {
        if self.rows == 0 {
            return Ok(());
        }
        let levels = match self.description.max_def_level() {
            0 => Vec::new(),
            _ => levels(self.rows, self.valid.as_deref()),
        };
        let mut body = std::mem::take(&mut self.values);
        if !levels.is_empty() {
            let length = u32::try_from(levels.len())?.to_le_bytes();
            body.splice(0..0, length.into_iter().chain(levels));
        }
        let uncompressed = body.len();
        let body: Bytes = match &mut self.compressor {
            Some(compressor) => {
                let compressed = compressor.compress(&body)?;
                body.clear();
                self.values = body;
                compressed.into()
            }
            None => {
                self.values = Vec::with_capacity(PAGE_BYTES * 2);
                body.into()
            }
        };
        let page = Page::DataPage {
            buf: body,
            num_values: u32::try_from(self.rows)?,
            encoding: Encoding::PLAIN,
            def_level_encoding: Encoding::RLE,
            rep_level_encoding: Encoding::RLE,
            statistics: None,
        };
        let written = SerializedPageWriter::new(&mut self.chunk).write_page(CompressedPage::new(page, uncompressed))?;
        self.uncompressed += written.uncompressed_size;
        self.rows_written += u64::try_from(self.rows)?;
        (self.rows, self.valid) = (0, None);
        Ok(())
    }

    fn close(mut self) -> anyhow::Result<(Bytes, ColumnCloseResult)> {
        self.end_page()?;
        let chunk = self.chunk.into_inner()?;
        let compression =
            if self.compressor.is_some() { Compression::ZSTD(ZstdLevel::try_new(ZSTD_LEVEL)?) } else { Compression::UNCOMPRESSED };
        let metadata = ColumnChunkMetaData::builder(self.description)
            .set_compression(compression)
            .set_encodings(vec![Encoding::PLAIN, Encoding::RLE])
            .set_num_values(i64::try_from(self.rows_written)?)
            .set_total_compressed_size(i64::try_from(chunk.len())?)
            .set_total_uncompressed_size(i64::try_from(self.uncompressed)?)
            .set_data_page_offset(0)
            .build()?;
        let close = ColumnCloseResult {
            bytes_written: u64::try_from(chunk.len())?,
            rows_written: self.rows_written,
            metadata,
            bloom_filter: None,
            column_index: None,
            offset_index: None,
        };
        Ok((chunk.into(), close))
    }
}

/// Which rows of a page have a value, as Parquet writes it: one run where all have, bits otherwise.
fn levels(rows: usize, valid: Option<&[bool]>) -> Vec<u8> {
    let mut levels = Vec::new();
    let Some(valid) = valid else {
        varint(rows << 1, &mut levels);
        levels.push(1);
        return levels;
    };
    varint(valid.len().div_ceil(8) << 1 | 1, &mut levels);
    levels.extend(valid.chunks(8).map(|eight| eight.iter().rev().fold(0_u8, |bits, valid| bits << 1 | u8::from(*valid))));
    levels
}

fn varint(mut number: usize, into: &mut Vec<u8>) {
    while number >= 0x80 {
        into.push(number as u8 | 0x80);
        number >>= 7;
    }
    into.push(number as u8);
}

#[cfg(test)]
mod tests {
    use arrow::array::{Decimal128Array, FixedSizeBinaryArray, Int32Array};
    use arrow::datatypes::{Field, Schema};
    use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

    use super::*;

    #[test]
    fn rows_are_read_as_they_were_written() {
        let schema = Arc::new(Schema::new(vec![
            Field::new("identity", DataType::FixedSizeBinary(16), false),
            Field::new("account_id", DataType::Int32, false),
            Field::new("amount", DataType::Decimal128(38, 12), true),
        ]));
        let rows = |from: i128, count: i128, missing: i128| {
            let numbers = from..from + count;
            let identities = FixedSizeBinaryArray::try_from_iter(numbers.clone().map(|number| (number * 7).to_be_bytes())).unwrap();
            let accounts: Int32Array = numbers.clone().map(|number| Some(number as i32 % 50)).collect();
            let amounts: Decimal128Array =
                numbers.map(|number| (missing == 0 || number % missing != 0).then_some(number * 1_000_003 - 5_000_000)).collect();
            let amounts = amounts.with_precision_and_scale(38, 12).unwrap();
            RecordBatch::try_new(schema.clone(), vec![Arc::new(identities), Arc::new(accounts), Arc::new(amounts)]).unwrap()
        };
        // Pages without nulls, with nulls from their middle on, of nulls alone, and less than one page.
        for batches in [
            vec![rows(0, 1, 0)],
            vec![rows(0, 100_000, 0), rows(100_000, 100_000, 0)],
            vec![rows(0, 40_000, 0), rows(40_000, 40_001, 3), rows(80_001, 30_000, 0), rows(110_001, 9, 1)],
            vec![rows(0, 100, 1)],
        ] {
            let scratch = tempfile::tempdir().unwrap();
            let path = scratch.path().join("rated");
            let mut file = RatedFile::create(&path, &schema, 1_000).unwrap();
            batches.iter().for_each(|batch| file.write(batch).unwrap());
            file.close().unwrap();
            let reader =
                ParquetRecordBatchReaderBuilder::try_new(File::open(&path).unwrap()).unwrap().with_batch_size(1 << 20).build().unwrap();
            let read: Vec<RecordBatch> = reader.map(Result::unwrap).collect();
            assert_eq!(arrow::compute::concat_batches(&schema, &read).unwrap(), arrow::compute::concat_batches(&schema, &batches).unwrap());
        }
    }
}
