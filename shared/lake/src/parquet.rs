//! Lake files: Parquet, written once, checked when read.
//! It knows no table: columns, metadata and the columns to keep bounds of come in as arguments.

use std::collections::HashSet;
use std::io;
use std::num::NonZero;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use bytes::Bytes;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder};
use parquet::arrow::arrow_writer::{
    ArrowColumnChunk, ArrowColumnWriter, ArrowRowGroupWriterFactory, ArrowWriter, ArrowWriterOptions, compute_leaves,
};
use parquet::arrow::{ProjectionMask, parquet_to_arrow_schema};
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::metadata::{ColumnChunkMetaData, KeyValue, ParquetMetaData, ParquetMetaDataReader, RowGroupMetaData};
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::file::statistics::Statistics;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::ColumnPath;

use crate::column::{Bound, ColumnError, ColumnType, field_id};
use crate::files::{Files, RealFiles};
use crate::publish::{PublishError, publish_object};

/// Rows of a row group at most; a file of fewer rows has one row group.
const ROW_GROUP_ROWS: usize = 1 << 20;
/// From so many rows on the columns of a row group are encoded in parallel, at most so many at a time.
const PARALLEL_ROWS: usize = 4_096;
const PARALLEL_MAX: usize = 4;
/// Rows of a batch that a read returns at most.
const BATCH_ROWS: usize = 1 << 16;
/// The footer key of our checksums, CRC-32 in eight hex digits each: first that of everything behind the row groups (with eight zeros in its own
/// place), then that of each row group. The `parquet` crate writes no page checksums, and its decoder panics on some damaged footers.
const CHECKSUMS: &str = "shared_lake.crc32";
const UNKNOWN: &[u8; 8] = b"00000000";

/// What a catalog has to know of a lake file.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct FileMeta {
    /// The path below the lake's folder, with `/`.
    pub path: String,
    /// Rows.
    pub rows: u64,
    /// The length of the file in bytes.
    pub bytes: u64,
    /// The length of the Parquet footer in bytes, without its length and magic.
    pub footer_size: u64,
    /// Of the columns that statistics were kept of, in column order.
    pub statistics: Vec<ColumnStatistics>,
}

/// What a catalog has to know of a column of a file, to leave the file out of a query.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ColumnStatistics {
    /// The column.
    pub field_id: i32,
    /// Bytes of the column in the file.
    pub bytes: u64,
    /// Values that are not null.
    pub values: u64,
    /// Nulls.
    pub nulls: u64,
    /// The smallest value as DuckDB writes it; `None` when all are null or it has no text form.
    pub min: Option<String>,
    /// The largest value as DuckDB writes it; `None` when all are null or it has no text form.
    pub max: Option<String>,
}

/// Why a lake file was not written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// A path that is not plain names with `/` between them.
    #[error("{path:?} is not a path below the lake's folder")]
    Path {
        /// The refused path.
        path: String,
    },
    /// The batches cannot be one file.
    #[error("could not encode {path}")]
    Column {
        /// The file.
        path: String,
        /// The column at fault.
        #[source]
        source: ColumnError,
    },
    /// A batch whose columns differ from those of the schema.
    #[error("batch {batch} of {path} does not have the columns of the file")]
    Schema {
        /// The file.
        path: String,
        /// Which batch, from 0.
        batch: usize,
    },
    /// Statistics of a column that is not there.
    #[error("statistics of column {column:?} were asked for, which {path} does not have")]
    NoColumn {
        /// The file.
        path: String,
        /// The missing column.
        column: String,
    },
    /// The encoder refused, or what it wrote could not be read back.
    #[error("could not encode {path}")]
    Encode {
        /// The file.
        path: String,
        /// Why.
        #[source]
        source: ParquetError,
    },
    /// The file system refused, or the name holds other bytes.
    #[error("could not publish {path}")]
    Publish {
        /// The file.
        path: String,
        /// Why.
        #[source]
        source: PublishError,
    },
}

/// Why a lake file was not read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The file system refused, for example because the file is missing.
    #[error("could not read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the file system said.
        #[source]
        source: io::Error,
    },
    /// The end of the file is not a Parquet footer that fits it.
    #[error("the footer of {} is damaged", path.display())]
    Footer {
        /// The file.
        path: PathBuf,
        /// What the decoder said.
        #[source]
        source: ParquetError,
    },
    /// The bytes of a row group are not the ones that were written.
    #[error("row group {row_group} of {} is damaged: its checksum differs", path.display())]
    Checksum {
        /// The file.
        path: PathBuf,
        /// Which row group, from 0.
        row_group: usize,
    },
    /// A row group that cannot be decoded.
    #[error("row group {row_group} of {} is damaged", path.display())]
    RowGroup {
        /// The file.
        path: PathBuf,
        /// Which row group, from 0.
        row_group: usize,
        /// What the decoder said.
        #[source]
        source: ArrowError,
    },
    /// A projection names a column that is not there.
    #[error("{} has no column {column:?}", path.display())]
    NoColumn {
        /// The file.
        path: PathBuf,
        /// The missing column.
        column: String,
    },
    /// A column of a type that lake files do not hold, or without field id.
    #[error("{} is not a file of this lake", path.display())]
    Column {
        /// The file.
        path: PathBuf,
        /// The column at fault.
        #[source]
        source: ColumnError,
    },
}

/// The contents of a file to be written.
#[derive(Clone, Copy, Debug)]
pub struct Contents<'a> {
    /// The columns; every field has a field id. Nullability and field ids of the batches' own schemas do not matter.
    pub schema: &'a SchemaRef,
    /// The rows in file order. None at all gives a file without rows.
    pub batches: &'a [RecordBatch],
    /// Footer keys and values.
    pub metadata: &'a [(&'a str, &'a str)],
    /// The columns to keep the smallest and largest value of: those that queries leave files out by.
    pub statistics: &'a [&'a str],
}

/// Writes `lake/relative` once: zstd level 1, row groups of 1,048,576 rows (so one for a smaller file), field ids, exact bounds of the asked columns
/// and of no other, decimals of up to 18 digits as integers. The same contents always give the same bytes (of one build).
///
/// - When it returns, the file and its name are durable.
/// - A file of that name with the same bytes is accepted; one with other bytes is an error and stays as it is.
/// - Errors: a type that the lake does not hold, a missing or repeated field id, a null in a column that is not nullable, a full disk.
pub fn write_file(files: &dyn Files, lake: &Path, relative: &str, contents: &Contents<'_>) -> Result<FileMeta, WriteError> {
    let (folder, name) = split_path(relative).ok_or_else(|| WriteError::Path { path: relative.to_owned() })?;
    let bytes = encode(relative, contents)?;
    publish_object(files, &lake.join(folder), name, &bytes).map_err(|source| WriteError::Publish { path: relative.to_owned(), source })?;
    let encode_error = |source| WriteError::Encode { path: relative.to_owned(), source };
    let metadata = footer(&bytes.into()).map_err(encode_error)?;
    metadata.meta(relative).map_err(encode_error)?.map_err(|source| WriteError::Column { path: relative.to_owned(), source })
}

/// What a catalog has to know of a file, from the file itself, after its checksums were compared.
pub fn describe_file(files: &dyn Files, lake: &Path, relative: &str) -> Result<FileMeta, ReadError> {
    let path = lake.join(relative);
    let bytes = Bytes::from(files.read(&path).map_err(|source| ReadError::Read { path: path.clone(), source })?);
    let footer = footer(&bytes).map_err(|source| ReadError::Footer { path: path.clone(), source })?;
    footer.verify(&bytes, &path)?;
    footer
        .meta(relative)
        .map_err(|source| ReadError::Footer { path: path.clone(), source })?
        .map_err(|source| ReadError::Column { path, source })
}

/// Reads a file of the machine's file system: all rows in file order, in batches of at most 65,536, with the named columns (in file order) or all.
///
/// - The checksums of the footer and of every row group are compared first, so silent damage is an error too. Files of other writers have none
///   and are only decoded.
/// - Errors name the file, and the row group where one is damaged.
pub fn read_file(path: &Path, projection: Option<&[&str]>) -> Result<Vec<RecordBatch>, ReadError> {
    let bytes = RealFiles.read(path).map_err(|source| ReadError::Read { path: path.to_owned(), source })?;
    read_bytes(path, bytes.into(), projection)
}

/// [`read_file`] of bytes that are at hand; `path` is only named in errors.
pub fn read_bytes(path: &Path, bytes: Bytes, projection: Option<&[&str]>) -> Result<Vec<RecordBatch>, ReadError> {
    let damaged = |source| ReadError::Footer { path: path.to_owned(), source };
    let footer = footer(&bytes).map_err(damaged)?;
    footer.verify(&bytes, path)?;
    let reader = ArrowReaderMetadata::try_new(footer.metadata.clone().into(), ArrowReaderOptions::new()).map_err(damaged)?;
    let mask = match projection {
        None => ProjectionMask::all(),
        Some(columns) => {
            let mut roots = Vec::with_capacity(columns.len());
            for column in columns {
                let missing = |_| ReadError::NoColumn { path: path.to_owned(), column: (*column).to_owned() };
                roots.push(reader.schema().index_of(column).map_err(missing)?);
            }
            ProjectionMask::roots(reader.parquet_schema(), roots)
        }
    };
    let mut batches = Vec::new();
    for row_group in 0..footer.metadata.num_row_groups() {
        let failed = |source| ReadError::RowGroup { path: path.to_owned(), row_group, source };
        let rows = ParquetRecordBatchReaderBuilder::new_with_metadata(bytes.clone(), reader.clone())
            .with_row_groups(vec![row_group])
            .with_projection(mask.clone())
            .with_batch_size(BATCH_ROWS)
            .build()
            .map_err(|source| failed(source.into()))?;
        for batch in rows {
            batches.push(batch.map_err(failed)?);
        }
    }
    Ok(batches)
}

/// The footer keys and values of a file that [`write_file`] was given.
pub fn read_metadata(path: &Path) -> Result<Vec<(String, String)>, ReadError> {
    let bytes = RealFiles.read(path).map_err(|source| ReadError::Read { path: path.to_owned(), source })?;
    let footer = footer(&bytes.into()).map_err(|source| ReadError::Footer { path: path.to_owned(), source })?;
    let pairs = footer.metadata.file_metadata().key_value_metadata().into_iter().flatten();
    Ok(pairs.filter(|pair| pair.key != CHECKSUMS).map(|pair| (pair.key.clone(), pair.value.clone().unwrap_or_default())).collect())
}

/// Folder and name of a path of plain names.
fn split_path(relative: &str) -> Option<(&str, &str)> {
    let plain = relative.split('/').all(|part| !part.is_empty() && !part.starts_with('.') && !part.contains(['\\', '\0']));
    plain.then(|| relative.rsplit_once('/').unwrap_or(("", relative)))
}

fn encode(path: &str, contents: &Contents<'_>) -> Result<Vec<u8>, WriteError> {
    let failed = |source| WriteError::Encode { path: path.to_owned(), source };
    check_columns(contents.schema).map_err(|source| WriteError::Column { path: path.to_owned(), source })?;
    let mut properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(1).map_err(failed)?))
        .set_created_by("shared-lake".to_owned())
        .set_statistics_enabled(EnabledStatistics::None)
        .set_statistics_truncate_length(None)
        .set_offset_index_disabled(true)
        .set_max_row_group_row_count(None)
        .set_key_value_metadata(Some(
            contents.metadata.iter().map(|(key, value)| KeyValue::new((*key).to_owned(), (*value).to_owned())).collect(),
        ));
    for column in contents.statistics {
        if contents.schema.index_of(column).is_err() {
            return Err(WriteError::NoColumn { path: path.to_owned(), column: (*column).to_owned() });
        }
        properties = properties.set_column_statistics_enabled(ColumnPath::from(*column), EnabledStatistics::Chunk);
    }
    let options = ArrowWriterOptions::new().with_properties(properties.build()).with_skip_arrow_metadata(true);
    let writer = ArrowWriter::try_new_with_options(Vec::new(), contents.schema.clone(), options).map_err(failed)?;
    let (mut writer, columns) = writer.into_serialized_writer().map_err(failed)?;

    let mut groups = Groups { rows: Vec::new(), room: ROW_GROUP_ROWS, written: 0, checksums: String::new() };
    for (number, batch) in contents.batches.iter().enumerate() {
        let batch = RecordBatch::try_new(contents.schema.clone(), batch_columns(contents.schema, batch, path, number)?)
            .map_err(|source| failed(source.into()))?;
        let mut from = 0;
        while from < batch.num_rows() {
            let rows = groups.room.min(batch.num_rows() - from);
            groups.rows.push(batch.slice(from, rows));
            from += rows;
            groups.room -= rows;
            if groups.room == 0 {
                groups.close(&mut writer, &columns).map_err(failed)?;
            }
        }
    }
    if groups.room < ROW_GROUP_ROWS {
        groups.close(&mut writer, &columns).map_err(failed)?;
    }
    groups.checksums.insert_str(0, &String::from_utf8_lossy(UNKNOWN));
    writer.append_key_value_metadata(KeyValue::new(CHECKSUMS.to_owned(), groups.checksums));
    let mut bytes = writer.into_inner().map_err(failed)?;
    let lost = || failed(ParquetError::General("the checksums are not where they were written".to_owned()));
    let footer_at = footer_start(&bytes).ok_or_else(lost)?;
    let footer = bytes.get_mut(footer_at..).ok_or_else(lost)?;
    let checksum = format!("{:08x}", crc32fast::hash(footer));
    let place = checksums_at(footer).ok_or_else(lost)?;
    footer.get_mut(place..place + UNKNOWN.len()).ok_or_else(lost)?.copy_from_slice(checksum.as_bytes());
    Ok(bytes)
}

/// Where the footer begins: what the last eight bytes of a Parquet file say.
fn footer_start(bytes: &[u8]) -> Option<usize> {
    let (rest, end) = bytes.split_last_chunk::<8>()?;
    let [a, b, c, d, magic @ ..] = *end;
    let length = usize::try_from(u32::from_le_bytes([a, b, c, d])).ok()?;
    if magic == *b"PAR1" { rest.len().checked_sub(length) } else { None }
}

/// Where the first of our checksums stands in the raw footer; `None` in files of other writers.
fn checksums_at(footer: &[u8]) -> Option<usize> {
    let key = footer.windows(CHECKSUMS.len()).rposition(|window| window == CHECKSUMS.as_bytes())? + CHECKSUMS.len();
    // Thrift: a byte that says "the next field is text", and the length in groups of seven bits.
    let length = footer.get(key + 1..)?.iter().position(|byte| byte & 0x80 == 0)?;
    Some(key + 1 + length + 1)
}

/// Compares the checksum of the footer, where the file has one.
fn verify_footer(footer: &[u8]) -> Result<(), ParquetError> {
    let Some(place) = checksums_at(footer) else { return Ok(()) };
    let differs = || ParquetError::General("its checksum differs".to_owned());
    let (before, rest) = footer.split_at_checked(place).ok_or_else(differs)?;
    let (expected, after) = rest.split_at_checked(UNKNOWN.len()).ok_or_else(differs)?;
    let mut hasher = crc32fast::Hasher::new();
    for part in [before, UNKNOWN, after] {
        hasher.update(part);
    }
    if format!("{:08x}", hasher.finalize()).as_bytes() == expected { Ok(()) } else { Err(differs()) }
}

/// The row groups written so far, and the rows of the next one.
struct Groups {
    rows: Vec<RecordBatch>,
    room: usize,
    written: usize,
    checksums: String,
}

impl Groups {
    /// Writes the row group and takes the checksum of its bytes.
    fn close(&mut self, writer: &mut SerializedFileWriter<Vec<u8>>, columns: &ArrowRowGroupWriterFactory) -> Result<(), ParquetError> {
        let rows = std::mem::take(&mut self.rows);
        let writers = columns.create_column_writers(writer.flushed_row_groups().len())?;
        let processors = std::thread::available_parallelism().map_or(1, NonZero::get);
        let few = rows.iter().map(RecordBatch::num_rows).sum::<usize>() < PARALLEL_ROWS;
        let chunks = encode_columns(writers, &rows, if few { 1 } else { processors.min(PARALLEL_MAX) })?;
        let mut group = writer.next_row_group()?;
        for chunk in chunks {
            chunk.append_to_row_group(&mut group)?;
        }
        group.close()?;
        writer.flush()?;
        // The file opens with the magic, which belongs to no row group.
        let from = self.written.max(4);
        let bytes = writer.inner().get(from..).unwrap_or_default();
        self.checksums.push_str(&format!("{:08x}", crc32fast::hash(bytes)));
        self.written = writer.inner().len();
        self.room = ROW_GROUP_ROWS;
        Ok(())
    }
}

/// Encodes the columns of a row group, so many at a time. They know nothing of each other: the bytes are the same for any number.
fn encode_columns(writers: Vec<ArrowColumnWriter>, rows: &[RecordBatch], threads: usize) -> Result<Vec<ArrowColumnChunk>, ParquetError> {
    let threads = threads.clamp(1, writers.len().max(1));
    let next = Mutex::new(writers.into_iter().enumerate());
    let take = || next.lock().unwrap_or_else(PoisonError::into_inner).next();
    let work = || {
        let mut done = Vec::new();
        while let Some((column, writer)) = take() {
            done.push((column, encode_column(writer, rows, column)?));
        }
        Ok::<_, ParquetError>(done)
    };
    let mut done = Vec::new();
    if threads == 1 {
        done = work()?;
    } else {
        std::thread::scope(|scope| {
            let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
            for worker in workers {
                done.extend(worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?);
            }
            Ok::<_, ParquetError>(())
        })?;
    }
    done.sort_by_key(|(column, _)| *column);
    Ok(done.into_iter().map(|(_, chunk)| chunk).collect())
}

fn encode_column(mut writer: ArrowColumnWriter, rows: &[RecordBatch], column: usize) -> Result<ArrowColumnChunk, ParquetError> {
    for batch in rows {
        // Nested columns are refused before: each has one leaf.
        for leaf in compute_leaves(batch.schema().field(column), batch.column(column))? {
            writer.write(&leaf)?;
        }
    }
    writer.close()
}

/// The batch's columns in the order of the schema. The names must be the same; types may differ only in encoding.
fn batch_columns(schema: &SchemaRef, batch: &RecordBatch, path: &str, number: usize) -> Result<Vec<arrow::array::ArrayRef>, WriteError> {
    let differs = || WriteError::Schema { path: path.to_owned(), batch: number };
    if batch.num_columns() != schema.fields().len() {
        return Err(differs());
    }
    let mut columns = Vec::with_capacity(batch.num_columns());
    for field in schema.fields() {
        let column = batch.column_by_name(field.name()).ok_or_else(differs)?;
        if column.data_type() == field.data_type() {
            columns.push(column.clone());
            continue;
        }
        let same =
            ColumnType::of(field).ok() == batch.schema().field_with_name(field.name()).ok().and_then(|found| ColumnType::of(found).ok());
        if !same {
            return Err(differs());
        }
        let cast = arrow::compute::cast(column, field.data_type());
        columns.push(cast.map_err(|source| WriteError::Encode { path: path.to_owned(), source: source.into() })?);
    }
    Ok(columns)
}

/// Refuses types that the lake does not hold, and missing or repeated field ids and names.
pub(crate) fn check_columns(schema: &SchemaRef) -> Result<(), ColumnError> {
    let (mut ids, mut names) = (HashSet::new(), HashSet::new());
    for field in schema.fields() {
        ColumnType::of(field)?;
        let id = field_id(field)?;
        if !ids.insert(id) || !names.insert(field.name()) {
            return Err(ColumnError::Repeated { column: field.name().clone(), id });
        }
    }
    Ok(())
}

/// A decoded footer and the lengths around it.
struct Footer {
    metadata: ParquetMetaData,
    file_bytes: usize,
    footer_bytes: usize,
}

fn footer(bytes: &Bytes) -> Result<Footer, ParquetError> {
    let start = footer_start(bytes).ok_or_else(|| ParquetError::EOF("the file does not end with a footer".to_owned()))?;
    verify_footer(bytes.get(start..).unwrap_or_default())?;
    let metadata = ParquetMetaDataReader::new().parse_and_finish(bytes)?;
    Ok(Footer { metadata, file_bytes: bytes.len(), footer_bytes: bytes.len() - start - 8 })
}

impl Footer {
    /// Compares the checksum of every row group, where the file has them.
    fn verify(&self, bytes: &Bytes, path: &Path) -> Result<(), ReadError> {
        let pairs = self.metadata.file_metadata().key_value_metadata();
        let Some(pair) = pairs.into_iter().flatten().find(|pair| pair.key == CHECKSUMS) else { return Ok(()) };
        let checksums = pair.value.as_deref().and_then(|checksums| checksums.get(UNKNOWN.len()..)).unwrap_or_default();
        let damaged = |row_group| ReadError::Checksum { path: path.to_owned(), row_group };
        if checksums.len() != self.metadata.num_row_groups() * 8 {
            return Err(damaged(0));
        }
        for (number, group) in self.metadata.row_groups().iter().enumerate() {
            let expected = checksums.get(number * 8..number * 8 + 8).unwrap_or_default();
            let found = group_range(group).and_then(|range| bytes.get(range)).map(crc32fast::hash);
            if found.map(|found| format!("{found:08x}")).as_deref() != Some(expected) {
                return Err(damaged(number));
            }
        }
        Ok(())
    }

    fn meta(&self, path: &str) -> Result<Result<FileMeta, ColumnError>, ParquetError> {
        let schema = self.metadata.file_metadata().schema_descr();
        let fields = parquet_to_arrow_schema(schema, None)?;
        if fields.fields().len() != schema.num_columns() {
            return Err(ParquetError::General("nested columns".to_owned()));
        }
        let mut rows = 0_u64;
        for group in self.metadata.row_groups() {
            rows = rows.checked_add(unsigned(group.num_rows())?).ok_or_else(too_large)?;
        }
        let mut statistics = Vec::new();
        for (at, field) in fields.fields().iter().enumerate() {
            let column = match (ColumnType::of(field), field_id(field)) {
                (Ok(column), Ok(id)) => (column, id),
                (Err(error), _) | (_, Err(error)) => return Ok(Err(error)),
            };
            let chunks: Vec<&ColumnChunkMetaData> = self.metadata.row_groups().iter().filter_map(|group| group.columns().get(at)).collect();
            statistics.extend(column_statistics(column, &chunks)?);
        }
        Ok(Ok(FileMeta {
            path: path.to_owned(),
            rows,
            bytes: u64::try_from(self.file_bytes).map_err(|_| too_large())?,
            footer_size: u64::try_from(self.footer_bytes).map_err(|_| too_large())?,
            statistics,
        }))
    }
}

fn too_large() -> ParquetError {
    ParquetError::General("a count in the footer is out of range".to_owned())
}

fn unsigned(count: i64) -> Result<u64, ParquetError> {
    u64::try_from(count).map_err(|_| too_large())
}

/// Where the pages of a row group lie; `None` when the footer contradicts itself.
fn group_range(group: &RowGroupMetaData) -> Option<Range<usize>> {
    let mut all: Option<Range<usize>> = None;
    for column in group.columns() {
        let start = usize::try_from(column.dictionary_page_offset().unwrap_or_else(|| column.data_page_offset())).ok()?;
        let end = start.checked_add(usize::try_from(column.compressed_size()).ok()?)?;
        let wide = all.unwrap_or(start..end);
        all = Some(wide.start.min(start)..wide.end.max(end));
    }
    all
}

/// The statistics of one column over all row groups; `None` when a row group has none.
fn column_statistics(
    (column, field_id): (ColumnType, i32),
    chunks: &[&ColumnChunkMetaData],
) -> Result<Option<ColumnStatistics>, ParquetError> {
    let mut all = ColumnStatistics { field_id, bytes: 0, values: 0, nulls: 0, min: None, max: None };
    let (mut min, mut max): (Option<Bound>, Option<Bound>) = (None, None);
    let mut bounded = true;
    if chunks.is_empty() {
        return Ok(None);
    }
    for chunk in chunks {
        let Some(statistics) = chunk.statistics() else { return Ok(None) };
        let values = unsigned(chunk.num_values())?;
        let nulls = statistics.null_count_opt().unwrap_or(0);
        all.bytes = all.bytes.checked_add(unsigned(chunk.compressed_size())?).ok_or_else(too_large)?;
        all.nulls = all.nulls.checked_add(nulls).ok_or_else(too_large)?;
        let values = values.checked_sub(nulls).ok_or_else(too_large)?;
        all.values = all.values.checked_add(values).ok_or_else(too_large)?;
        if values == 0 {
            continue;
        }
        match bounds(column, statistics) {
            Some((low, high)) => {
                min = Some(min.map_or(low.clone(), |min| min.min(low)));
                max = Some(max.map_or(high.clone(), |max| max.max(high)));
            }
            None => bounded = false,
        }
    }
    if bounded {
        all.min = min.and_then(|bound| column.bound_text(&bound));
        all.max = max.and_then(|bound| column.bound_text(&bound));
    }
    Ok(Some(all))
}

/// The exact bounds of a column chunk.
fn bounds(column: ColumnType, statistics: &Statistics) -> Option<(Bound, Bound)> {
    if !statistics.min_is_exact() || !statistics.max_is_exact() {
        return None;
    }
    let number = |low: i128, high: i128| Some((Bound::Number(low), Bound::Number(high)));
    match statistics {
        Statistics::Boolean(values) => number((*values.min_opt()?).into(), (*values.max_opt()?).into()),
        Statistics::Int32(values) => number((*values.min_opt()?).into(), (*values.max_opt()?).into()),
        Statistics::Int64(values) => number((*values.min_opt()?).into(), (*values.max_opt()?).into()),
        Statistics::FixedLenByteArray(_) | Statistics::ByteArray(_) => {
            let (low, high) = (statistics.min_bytes_opt()?, statistics.max_bytes_opt()?);
            match column {
                ColumnType::Decimal { .. } => number(signed(low)?, signed(high)?),
                _ => Some((Bound::Bytes(low.to_owned()), Bound::Bytes(high.to_owned()))),
            }
        }
        Statistics::Int96(_) | Statistics::Float(_) | Statistics::Double(_) => None,
    }
}

/// A big-endian two's complement number of at most 16 bytes.
fn signed(bytes: &[u8]) -> Option<i128> {
    let first = *bytes.first()?;
    let mut wide = [if first & 0x80 == 0 { 0 } else { 0xff }; 16];
    let at = wide.len().checked_sub(bytes.len())?;
    wide.get_mut(at..)?.copy_from_slice(bytes);
    Some(i128::from_be_bytes(wide))
}

#[cfg(test)]
mod tests;
