//! Lake files as a reader finds them: whole, refused when damaged, with exact bounds of the asked columns only.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BinaryArray, BooleanArray, Decimal128Array, DictionaryArray, FixedSizeBinaryArray, Int32Array, Int64Array,
    StringArray, TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Int32Type, Schema, TimeUnit};

use super::*;
use crate::column::field;
use crate::files::simulated::SimulatedFiles;

const ALL: [&str; 9] = ["identity", "shard", "sequence", "organization", "raw", "quantity", "price", "start_at", "late"];

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        field("identity", DataType::FixedSizeBinary(4), false, 1),
        field("shard", DataType::Int32, false, 2),
        field("sequence", DataType::Int64, false, 3),
        field("organization", DataType::Utf8, true, 4),
        field("raw", DataType::Binary, true, 5),
        field("quantity", DataType::Decimal128(38, 9), false, 6),
        field("price", DataType::Decimal128(18, 9), true, 7),
        field("start_at", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), true, 8),
        field("late", DataType::Boolean, true, 12),
    ]))
}

fn rows(from: i64, count: i64) -> RecordBatch {
    let all = || from..from + count;
    let columns: Vec<ArrayRef> = vec![
        Arc::new(FixedSizeBinaryArray::try_from_iter(all().map(|n| (n as u32).to_be_bytes())).unwrap()),
        Arc::new(Int32Array::from_iter_values(all().map(|n| (n % 7) as i32))),
        Arc::new(Int64Array::from_iter_values(all().map(|n| n - 3))),
        Arc::new(all().map(|n| (n % 3 > 0).then(|| format!("org-{}", n % 5))).collect::<StringArray>()),
        Arc::new(all().map(|n| (n % 4 == 0).then(|| n.to_be_bytes())).collect::<BinaryArray>()),
        Arc::new(
            Decimal128Array::from_iter_values(all().map(|n| i128::from(n - 5) * 10_i128.pow(20))).with_precision_and_scale(38, 9).unwrap(),
        ),
        Arc::new(
            all().map(|n| (n % 2 == 0).then_some(i128::from(n))).collect::<Decimal128Array>().with_precision_and_scale(18, 9).unwrap(),
        ),
        Arc::new(
            all().map(|n| (n > 1).then_some(1_790_000_000_000_000 + n * 1_000)).collect::<TimestampMicrosecondArray>().with_timezone("UTC"),
        ),
        Arc::new(all().map(|_| None).collect::<BooleanArray>()),
    ];
    RecordBatch::try_new(schema(), columns).unwrap()
}

fn contents<'a>(schema: &'a SchemaRef, batches: &'a [RecordBatch], statistics: &'a [&'a str]) -> Contents<'a> {
    Contents { schema, batches, metadata: &[("schema_version", "1")], statistics }
}

fn same_rows(found: &[RecordBatch], expected: &RecordBatch) {
    let found = arrow::compute::concat_batches(&found[0].schema(), found).unwrap();
    assert_eq!(found.columns(), expected.columns());
}

#[test]
fn what_was_written_is_read_again_with_its_types_and_keys() {
    let lake = tempfile::tempdir().unwrap();
    let (schema, batches) = (schema(), [rows(0, 500), rows(500, 1), rows(501, 99)]);
    let meta = write_file(&RealFiles, lake.path(), "t/1/a.parquet", &contents(&schema, &batches, &[])).unwrap();
    let path = lake.path().join("t/1/a.parquet");
    assert_eq!((meta.rows, meta.bytes, meta.statistics.len()), (600, path.metadata().unwrap().len(), 0));
    let found = read_file(&path, None).unwrap();
    same_rows(&found, &rows(0, 600));
    for (found, written) in found[0].schema().fields().iter().zip(schema.fields()) {
        assert_eq!(found, written);
    }
    let some = read_file(&path, Some(&["quantity", "identity"])).unwrap();
    assert_eq!(some[0].schema().fields().iter().map(|field| field.name().as_str()).collect::<Vec<_>>(), ["identity", "quantity"]);
    assert_eq!(read_metadata(&path).unwrap(), [("schema_version".to_owned(), "1".to_owned())]);
    assert!(matches!(read_file(&path, Some(&["nothing"])), Err(ReadError::NoColumn { column, .. }) if column == "nothing"));
    assert!(matches!(read_file(&lake.path().join("none"), None), Err(ReadError::Read { .. })));
    assert_eq!(describe_file(&RealFiles, lake.path(), "t/1/a.parquet").unwrap(), meta);
}

#[test]
fn the_same_rows_are_the_same_bytes_and_other_bytes_never_replace_them() {
    let lake = tempfile::tempdir().unwrap();
    let schema = schema();
    let write = |batches: &[RecordBatch]| write_file(&RealFiles, lake.path(), "t/1/a.parquet", &contents(&schema, batches, &ALL));
    let first = write(&[rows(0, 10)]).unwrap();
    assert_eq!(write(&[rows(0, 4), rows(4, 6)]).unwrap(), first);
    let refused = write(&[rows(0, 11)]).unwrap_err();
    assert!(matches!(refused, WriteError::Publish { source: PublishError::Differs { .. }, .. }), "{refused}");
    same_rows(&read_file(&lake.path().join("t/1/a.parquet"), None).unwrap(), &rows(0, 10));
}

#[test]
fn bounds_are_exact_and_only_of_the_asked_columns() {
    let files = SimulatedFiles::new();
    let (schema, batches) = (schema(), [rows(0, 8)]);
    let meta = write_file(&files, Path::new("/lake"), "t/a.parquet", &contents(&schema, &batches, &ALL)).unwrap();
    let found: Vec<_> = meta.statistics.iter().map(|of| (of.field_id, of.values, of.nulls, of.min.as_deref(), of.max.as_deref())).collect();
    assert_eq!(
        found,
        [
            (1, 8, 0, Some("00000000"), Some("00000007")),
            (2, 8, 0, Some("0"), Some("6")),
            (3, 8, 0, Some("-3"), Some("4")),
            (4, 5, 3, Some("org-0"), Some("org-4")),
            (5, 2, 6, Some("0000000000000000"), Some("0000000000000004")),
            (6, 8, 0, Some("-500000000000.000000000"), Some("200000000000.000000000")),
            (7, 4, 4, Some("0.000000000"), Some("0.000000006")),
            (8, 6, 2, Some("2026-09-21 14:13:20.002+00"), Some("2026-09-21 14:13:20.007+00")),
            (12, 0, 8, None, None),
        ]
    );
    let meta = write_file(&files, Path::new("/lake"), "t/b.parquet", &contents(&schema, &batches, &["start_at"])).unwrap();
    assert_eq!(meta.statistics.iter().map(|of| of.field_id).collect::<Vec<_>>(), [8]);
}

#[test]
fn long_texts_have_exact_bounds_too() {
    let files = SimulatedFiles::new();
    let schema: SchemaRef = Arc::new(Schema::new(vec![field("name", DataType::Utf8, false, 1)]));
    let long = "x".repeat(300);
    let batch = RecordBatch::try_new(schema.clone(), vec![Arc::new(StringArray::from(vec![long.as_str(), "y"]))]).unwrap();
    let meta = write_file(&files, Path::new("/lake"), "a.parquet", &contents(&schema, &[batch], &["name"])).unwrap();
    assert_eq!((meta.statistics[0].min.as_deref(), meta.statistics[0].max.as_deref()), (Some(long.as_str()), Some("y")));
}

#[test]
fn small_decimals_are_integers_and_a_file_is_one_row_group() {
    let lake = tempfile::tempdir().unwrap();
    let (schema, batches) = (schema(), [rows(0, 5_000), rows(5_000, 5_000)]);
    write_file(&RealFiles, lake.path(), "a.parquet", &contents(&schema, &batches, &["start_at"])).unwrap();
    let metadata = footer(&std::fs::read(lake.path().join("a.parquet")).unwrap().into()).unwrap().metadata;
    assert_eq!(metadata.num_row_groups(), 1);
    let types = metadata.row_group(0).columns().iter().map(|column| column.column_type()).collect::<Vec<_>>();
    use parquet::basic::Type::{BOOLEAN, BYTE_ARRAY, FIXED_LEN_BYTE_ARRAY, INT32, INT64};
    assert_eq!(types, [FIXED_LEN_BYTE_ARRAY, INT32, INT64, BYTE_ARRAY, BYTE_ARRAY, FIXED_LEN_BYTE_ARRAY, INT64, INT64, BOOLEAN]);
}

#[test]
fn more_than_a_mebi_of_rows_get_a_second_row_group_and_bounds_over_both() {
    let files = SimulatedFiles::new();
    let schema: SchemaRef = Arc::new(Schema::new(vec![field("n", DataType::Int64, false, 1)]));
    let count = (ROW_GROUP_ROWS + 10) as i64;
    let half =
        |range: std::ops::Range<i64>| RecordBatch::try_new(schema.clone(), vec![Arc::new(Int64Array::from_iter_values(range))]).unwrap();
    let batches = [half(0..700_000), half(700_000..count)];
    let meta = write_file(&files, Path::new("/lake"), "a.parquet", &contents(&schema, &batches, &["n"])).unwrap();
    let bytes = Bytes::from(files.read(Path::new("/lake/a.parquet")).unwrap());
    assert_eq!(footer(&bytes).unwrap().metadata.row_groups().iter().map(|group| group.num_rows()).collect::<Vec<_>>(), [1 << 20, 10]);
    assert_eq!(meta.rows, count as u64);
    assert_eq!((meta.statistics[0].min.clone(), meta.statistics[0].max.clone()), (Some("0".into()), Some((count - 1).to_string())));
    let found = read_bytes(Path::new("a"), bytes, None).unwrap();
    assert!(found.iter().all(|batch| batch.num_rows() <= BATCH_ROWS));
    assert_eq!(found.iter().map(RecordBatch::num_rows).sum::<usize>() as i64, count);
}

#[test]
fn columns_that_are_encoded_in_parallel_are_the_same_bytes() {
    let (schema, batches) = (schema(), [rows(0, 5_000), rows(5_000, 5_000)]);
    let encoded = |threads: usize| {
        let writer = ArrowWriter::try_new(Vec::new(), schema.clone(), None).unwrap();
        let (mut writer, columns) = writer.into_serialized_writer().unwrap();
        let chunks = encode_columns(columns.create_column_writers(0).unwrap(), &batches, threads).unwrap();
        let mut group = writer.next_row_group().unwrap();
        chunks.into_iter().for_each(|chunk| chunk.append_to_row_group(&mut group).unwrap());
        group.close().unwrap();
        writer.into_inner().unwrap()
    };
    // As one thread after the other column would write it.
    let mut simple = ArrowWriter::try_new(Vec::new(), schema.clone(), None).unwrap();
    batches.iter().for_each(|batch| simple.write(batch).unwrap());
    let simple = simple.into_inner().unwrap();
    assert!([1, 2, 4, 64].iter().all(|threads| encoded(*threads) == simple));
}

#[test]
fn an_empty_file_is_a_file() {
    let files = SimulatedFiles::new();
    let schema = schema();
    for (name, batches) in [("a.parquet", vec![]), ("b.parquet", vec![rows(0, 1).slice(0, 0)])] {
        let meta = write_file(&files, Path::new("/lake"), name, &contents(&schema, &batches, &ALL)).unwrap();
        assert_eq!((meta.rows, meta.statistics), (0, vec![]));
        let bytes = files.read(&Path::new("/lake").join(name)).unwrap().into();
        assert_eq!(read_bytes(Path::new(name), bytes, None).unwrap(), []);
    }
}

#[test]
fn encodings_of_the_same_type_are_one_type_and_others_are_refused() {
    let files = SimulatedFiles::new();
    let schema: SchemaRef = Arc::new(Schema::new(vec![field("name", DataType::Utf8, false, 1)]));
    let dictionary: DictionaryArray<Int32Type> = ["a", "b", "a"].into_iter().collect();
    let plain = StringArray::from(vec!["a", "b", "a"]);
    let batch = |array: ArrayRef| RecordBatch::try_from_iter([("name", array)]).unwrap();
    let write = |schema: &SchemaRef, batch| write_file(&files, Path::new("/lake"), "a.parquet", &contents(schema, &[batch], &[]));
    write(&schema, batch(Arc::new(plain))).unwrap();
    write(&schema, batch(Arc::new(dictionary))).unwrap();
    let found = read_bytes(Path::new("a"), files.read(Path::new("/lake/a.parquet")).unwrap().into(), None).unwrap();
    assert_eq!(found[0].column(0).data_type(), &DataType::Utf8);
    assert!(matches!(write(&schema, batch(Arc::new(Int32Array::from(vec![1])))), Err(WriteError::Schema { .. })));
    let nulls = batch(Arc::new(StringArray::from(vec![None::<&str>])));
    assert!(matches!(write(&schema, nulls), Err(WriteError::Encode { .. })));
}

#[test]
fn files_that_cannot_be_named_or_typed_are_refused() {
    let files = SimulatedFiles::new();
    let write = |schema: &SchemaRef, path: &str, statistics: &[&str]| {
        write_file(&files, Path::new("/lake"), path, &contents(schema, &[], statistics)).unwrap_err()
    };
    for path in ["", "/a", "a/", "../a", "a/.b", "a//b", "a\\b"] {
        assert!(matches!(write(&schema(), path, &[]), WriteError::Path { .. }), "{path}");
    }
    assert!(matches!(write(&schema(), "a", &["nothing"]), WriteError::NoColumn { .. }));
    let refused = |fields: Vec<arrow::datatypes::Field>| match write(&Arc::new(Schema::new(fields)), "a", &[]) {
        WriteError::Column { source, .. } => source,
        other => panic!("{other}"),
    };
    assert!(matches!(refused(vec![field("a", DataType::Float64, false, 1)]), ColumnError::Type { .. }));
    assert!(matches!(refused(vec![arrow::datatypes::Field::new("a", DataType::Int32, false)]), ColumnError::NoId { .. }));
    let twice = vec![field("a", DataType::Int32, false, 1), field("b", DataType::Int32, false, 1)];
    assert!(matches!(refused(twice), ColumnError::Repeated { .. }));
}

/// Every byte of the row groups, flipped: an error that names the file and the row group. Every bit of the footer: an error that names the file, or
/// (in the key of the checksums itself) the same rows. Never a panic, never other rows.
#[test]
fn damage_is_an_error_that_names_file_and_row_group() {
    let files = SimulatedFiles::new();
    let (schema, batches) = (schema(), [rows(0, 300)]);
    write_file(&files, Path::new("/lake"), "a.parquet", &contents(&schema, &batches, &ALL)).unwrap();
    let whole = files.read(Path::new("/lake/a.parquet")).unwrap();
    let footer_at = whole.len() - 8 - footer(&whole.clone().into()).unwrap().footer_bytes;
    let name = Path::new("/lake/a.parquet");
    for at in 4..footer_at {
        let mut damaged = whole.clone();
        damaged[at] ^= 1 << (at % 8);
        match read_bytes(name, damaged.into(), None) {
            Err(error @ ReadError::Checksum { row_group: 0, .. }) => assert!(error.to_string().contains("/lake/a.parquet")),
            other => panic!("byte {at}: {other:?}"),
        }
    }
    for at in footer_at..whole.len() {
        for bit in 0..8 {
            let mut damaged = whole.clone();
            damaged[at] ^= 1 << bit;
            match read_bytes(name, damaged.into(), None) {
                Ok(found) => same_rows(&found, &batches[0]),
                Err(error) => assert!(error.to_string().contains("/lake/a.parquet"), "{error}"),
            }
        }
    }
    for length in [0, 3, 4, 8, 11, 12, footer_at, whole.len() - 9, whole.len() - 1] {
        let cut = Bytes::from(whole[..length].to_vec());
        assert!(matches!(read_bytes(name, cut, None), Err(ReadError::Footer { .. })), "cut to {length}");
    }
}

#[test]
fn a_power_cut_leaves_a_whole_file_or_none_and_a_full_disk_none() {
    let (schema, batches) = (schema(), [rows(0, 50)]);
    let write =
        |files: &SimulatedFiles| write_file(files, Path::new("/lake"), "t/7/a.parquet", &contents(&schema, &batches, &["start_at"]));
    let all = {
        let files = SimulatedFiles::new();
        write(&files).unwrap();
        files.operations()
    };
    for operation in 0..=all {
        for seed in 0..16 {
            let files = SimulatedFiles::new();
            files.fail_from(operation);
            let durable = write(&files).is_ok();
            files.power_cut(seed);
            match files.read(Path::new("/lake/t/7/a.parquet")) {
                Ok(bytes) => same_rows(&read_bytes(Path::new("a"), bytes.into(), None).unwrap(), &rows(0, 50)),
                Err(_) => assert!(!durable, "operation {operation}, seed {seed}"),
            }
            write(&files).unwrap();
        }
    }
    let files = SimulatedFiles::new();
    files.limit_space(Some(1_000));
    assert!(matches!(write(&files), Err(WriteError::Publish { source: PublishError::Write { .. }, .. })));
    assert!(files.read(Path::new("/lake/t/7/a.parquet")).is_err());
}
