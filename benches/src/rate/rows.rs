//! Whether two engines wrote the same rows: a digest over every row that depends neither on their order nor on files, encodings or the
//! width of types. It knows no engine.

use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Decimal128Type, Int64Type, TimeUnit};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

/// What a column is compared as.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// Whole numbers of any width.
    Number,
    /// Bytes.
    Bytes,
    /// Microseconds in UTC.
    Time,
    /// Decimals at this scale; one of more digits is refused, not rounded.
    Decimal(i8),
}

/// How many rows, and the sum of their hashes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RowsDigest {
    /// Rows.
    pub rows: u64,
    sum: u128,
}

impl RowsDigest {
    /// For people and results.
    pub fn text(&self) -> String {
        format!("{}:{:032x}", self.rows, self.sum)
    }
}

/// The digest of a Parquet file, or of all in a folder.
pub fn digest(path: &Path, columns: &[(&str, Kind)]) -> anyhow::Result<RowsDigest> {
    let mut digest = RowsDigest::default();
    for file in files(path)? {
        let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(&file)?)?.with_batch_size(1 << 16).build()?;
        for batch in reader {
            add(&mut digest, &batch?, columns).with_context(|| format!("the rows of {} cannot be compared", file.display()))?;
        }
    }
    Ok(digest)
}

/// The length of a file, or of all in a folder.
pub fn bytes(path: &Path) -> anyhow::Result<u64> {
    files(path)?.iter().map(|file| Ok(file.metadata()?.len())).sum()
}

fn files(path: &Path) -> anyhow::Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    std::fs::read_dir(path)?.map(|entry| Ok(entry?.path())).collect()
}

fn add(digest: &mut RowsDigest, batch: &RecordBatch, columns: &[(&str, Kind)]) -> anyhow::Result<()> {
    let mut rows = vec![Vec::with_capacity(128); batch.num_rows()];
    for (name, kind) in columns {
        let column = batch.column_by_name(name).with_context(|| format!("there is no column {name}"))?;
        let column = plain(column, *kind).with_context(|| format!("column {name} is a {}", column.data_type()))?;
        for (row, bytes) in rows.iter_mut().enumerate() {
            if column.is_null(row) {
                bytes.push(0);
                continue;
            }
            bytes.push(1);
            match kind {
                Kind::Number | Kind::Time => bytes.extend(column.as_primitive::<Int64Type>().value(row).to_be_bytes()),
                Kind::Bytes => {
                    let value = column.as_binary::<i32>().value(row);
                    bytes.extend(u64::try_from(value.len())?.to_be_bytes());
                    bytes.extend(value);
                }
                Kind::Decimal(_) => bytes.extend(column.as_primitive::<Decimal128Type>().value(row).to_be_bytes()),
            }
        }
    }
    for row in rows {
        digest.rows += 1;
        digest.sum = digest.sum.wrapping_add(xxhash_rust::xxh3::xxh3_128(&row));
    }
    Ok(())
}

fn plain(column: &ArrayRef, kind: Kind) -> anyhow::Result<ArrayRef> {
    Ok(match (kind, column.data_type()) {
        (Kind::Number, found) if found.is_integer() => cast(column, &DataType::Int64)?,
        (Kind::Time, DataType::Timestamp(_, zone)) => {
            let micros = cast(column, &DataType::Timestamp(TimeUnit::Microsecond, zone.clone()))?;
            cast(&micros, &DataType::Int64)?
        }
        (Kind::Bytes, DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_)) => {
            cast(column, &DataType::Binary)?
        }
        (Kind::Decimal(scale), found) => match found {
            DataType::Decimal32(_, of) | DataType::Decimal64(_, of) | DataType::Decimal128(_, of) | DataType::Decimal256(_, of)
                if *of <= scale =>
            {
                cast(column, &DataType::Decimal128(38, scale))?
            }
            _ => bail!("no decimal of at most {scale} digits behind the point"),
        },
        _ => bail!("not comparable as {kind:?}"),
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Decimal128Array, Int16Array, Int32Array};

    use super::*;

    fn digest_of(batches: &[RecordBatch]) -> RowsDigest {
        let mut digest = RowsDigest::default();
        batches.iter().for_each(|batch| add(&mut digest, batch, &[("id", Kind::Number), ("amount", Kind::Decimal(4))]).unwrap());
        digest
    }

    fn rows(ids: Vec<i32>, amounts: Vec<i128>) -> RecordBatch {
        let amounts = Decimal128Array::from(amounts).with_precision_and_scale(20, 2).unwrap();
        RecordBatch::try_from_iter([("id", Arc::new(Int32Array::from(ids)) as ArrayRef), ("amount", Arc::new(amounts))]).unwrap()
    }

    #[test]
    fn order_files_and_widths_do_not_matter_and_values_do() {
        let whole = digest_of(&[rows(vec![1, 2, 2], vec![10, 20, 20])]);
        assert_eq!(digest_of(&[rows(vec![2], vec![20]), rows(vec![2, 1], vec![20, 10])]), whole);
        let wide = Decimal128Array::from(vec![1_000, 2_000, 2_000]).with_precision_and_scale(38, 4).unwrap();
        let wide = [("id", Arc::new(Int16Array::from(vec![1, 2, 2])) as ArrayRef), ("amount", Arc::new(wide))];
        assert_eq!(digest_of(&[RecordBatch::try_from_iter(wide).unwrap()]), whole);
        for other in [rows(vec![1, 2, 2], vec![20, 10, 20]), rows(vec![1, 2], vec![10, 20]), rows(vec![1, 1, 2], vec![10, 10, 20])] {
            assert_ne!(digest_of(&[other]), whole);
        }
    }
}
