//! One digest for the same rows, however they lie; another for any other rows.

use std::sync::Arc;

use arrow::array::{
    BinaryArray, Decimal128Array, DictionaryArray, FixedSizeBinaryArray, Int32Array, Int64Array, LargeStringArray, StringArray,
    StringViewArray, TimestampMicrosecondArray,
};
use arrow::datatypes::{Int8Type, Schema};

use super::*;
use crate::column::field;
use crate::files::simulated::SimulatedFiles;
use crate::{Contents, Files as _, read_bytes, write_file};

/// The rows of the golden vector: every type, with and without nulls. Its digest was computed by a second program, in Python, from the text of
/// the module only.
fn golden() -> RecordBatch {
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("shard", Arc::new(Int32Array::from(vec![2, 1, 1]))),
        ("sequence", Arc::new(Int64Array::from(vec![Some(7), Some(-9), None]))),
        ("organization", Arc::new(StringArray::from(vec![Some("acme"), None, Some("")]))),
        ("raw", Arc::new(BinaryArray::from_opt_vec(vec![None, Some(b"\x00\xff"), Some(b"")]))),
        ("identity", Arc::new(FixedSizeBinaryArray::try_from_iter([[1_u8, 2], [3, 4], [5, 6]].into_iter()).unwrap())),
        (
            "quantity",
            Arc::new(Decimal128Array::from(vec![1_500_000_000, -1, i128::from(i64::MAX) * 4]).with_precision_and_scale(38, 9).unwrap()),
        ),
        ("start_at", Arc::new(TimestampMicrosecondArray::from(vec![Some(1), None, Some(3)]).with_timezone("UTC"))),
        ("wall", Arc::new(TimestampMicrosecondArray::from(vec![1, 2, 3]))),
        ("late", Arc::new(BooleanArray::from(vec![Some(true), None, Some(false)]))),
        ("never", Arc::new(Int32Array::from(vec![None, None, None]))),
    ];
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, values)| (name, values, true))).unwrap()
}

const ORDER: [&str; 2] = ["shard", "sequence"];

#[test]
fn the_golden_vector_stands() {
    assert_eq!(row_digest(&golden(), &ORDER).unwrap().to_string(), "7d5053786c3b6744c91d073328f36d5eb054c6fff6deb858baa5a041bfb97bc9");
    let none = golden().slice(0, 0);
    assert_eq!(row_digest(&none, &ORDER).unwrap(), RowDigest::new(&ORDER).finish().unwrap());
}

/// The encoding of the module's comment, written down once more by hand for two columns.
#[test]
fn the_encoding_is_the_documented_one() {
    let numbers: ArrayRef = Arc::new(Int64Array::from(vec![2, 1]));
    let names: ArrayRef = Arc::new(StringArray::from(vec![None, Some("ab")]));
    let batch = RecordBatch::try_from_iter([("n", numbers), ("a", names)]).unwrap();
    let a = Digest::of(&[1, 1, 2, 0, 0, 0, b'a', b'b', 0]);
    let n = Digest::of(&[&[0][..], &1_i64.to_le_bytes(), &2_i64.to_le_bytes()].concat());
    let parts: [&[u8]; 8] =
        [b"shared-lake rows 1\n", &2_u64.to_le_bytes(), &[1, 0, 0, 0, b'a'], &[3], &a.0, &[1, 0, 0, 0, b'n'], &[2], &n.0];
    assert_eq!(row_digest(&batch, &["n"]).unwrap(), Digest::of_parts(&parts));
}

fn check_same(batches: &[RecordBatch]) {
    let mut rows = RowDigest::new(&ORDER);
    for batch in batches {
        rows.add(batch).unwrap();
    }
    assert_eq!(rows.rows(), 3);
    assert_eq!(rows.finish().unwrap(), row_digest(&golden(), &ORDER).unwrap());
}

#[test]
fn order_of_arrival_batches_columns_and_encodings_do_not_matter() {
    let whole = golden();
    check_same(&[whole.slice(0, 1), whole.slice(1, 2)]);
    check_same(&[whole.slice(2, 1), whole.slice(0, 0), whole.slice(1, 1), whole.slice(0, 1)]);
    check_same(&[sort(&whole, &["identity"]).unwrap()]);
    check_same(&[sort(&whole, &ORDER).unwrap()]);
    let reversed: Vec<usize> = (0..whole.num_columns()).rev().collect();
    check_same(&[whole.project(&reversed).unwrap()]);
    let without_never: Vec<usize> = (0..whole.num_columns() - 1).collect();
    check_same(&[whole.project(&without_never).unwrap()]);

    let dictionary: DictionaryArray<Int8Type> = [Some("acme"), None, Some("")].into_iter().collect();
    let encodings: [ArrayRef; 3] = [
        Arc::new(dictionary),
        Arc::new(LargeStringArray::from(vec![Some("acme"), None, Some("")])),
        Arc::new(StringViewArray::from(vec![Some("acme"), None, Some("")])),
    ];
    for encoding in encodings {
        let schema = whole.schema();
        let columns = schema.fields().iter().zip(whole.columns()).map(|(field, column)| {
            (field.name().clone(), if field.name() == "organization" { encoding.clone() } else { column.clone() }, true)
        });
        let other = RecordBatch::try_from_iter_with_nullable(columns.collect::<Vec<_>>()).unwrap();
        check_same(&[whole.slice(0, 1), other.slice(1, 2)]);
        check_same(&[other]);
    }
}

#[test]
fn a_file_has_the_digest_of_its_rows() {
    let whole = golden();
    let fields =
        whole.schema().fields().iter().zip(1..).map(|(of, id)| field(of.name(), of.data_type().clone(), true, id)).collect::<Vec<_>>();
    let schema: SchemaRef = Arc::new(Schema::new(fields));
    let batches = [sort(&whole, &["organization"]).unwrap()];
    let files = SimulatedFiles::new();
    let contents = Contents { schema: &schema, batches: &batches, metadata: &[], statistics: &[] };
    write_file(&files, "/lake".as_ref(), "a.parquet", &contents).unwrap();
    check_same(&read_bytes("a".as_ref(), files.read("/lake/a.parquet".as_ref()).unwrap().into(), None).unwrap());
}

#[test]
fn any_other_value_null_name_or_type_gives_another_digest() {
    let digest = |columns: Vec<(&str, ArrayRef)>| {
        let order: ArrayRef = Arc::new(Int32Array::from(vec![1, 2]));
        let columns = std::iter::once(("order", order)).chain(columns).map(|(name, values)| (name, values, true));
        row_digest(&RecordBatch::try_from_iter_with_nullable(columns).unwrap(), &["order"]).unwrap()
    };
    let text = |values: [Option<&str>; 2]| -> ArrayRef { Arc::new(StringArray::from(values.to_vec())) };
    let bytes = |values: [&[u8]; 2]| -> ArrayRef { Arc::new(BinaryArray::from(values.to_vec())) };
    let decimal = |scale: i8, precision: u8| -> ArrayRef {
        Arc::new(Decimal128Array::from(vec![1, 2]).with_precision_and_scale(precision, scale).unwrap())
    };
    let mut seen = std::collections::HashSet::new();
    for columns in [
        vec![],
        vec![("a", text([Some("ab"), Some("c")]))],
        vec![("a", text([Some("a"), Some("bc")]))],
        vec![("a", text([Some("c"), Some("ab")]))],
        vec![("a", text([Some("ab"), Some("")]))],
        vec![("a", text([Some("ab"), None]))],
        vec![("a", text([None, Some("ab")]))],
        vec![("b", text([Some("ab"), Some("c")]))],
        vec![("a", bytes([b"ab", b"c"]))],
        vec![("a", Arc::new(Int32Array::from(vec![1, 2])) as ArrayRef)],
        vec![("a", Arc::new(Int64Array::from(vec![1, 2])))],
        vec![("a", Arc::new(TimestampMicrosecondArray::from(vec![1, 2])))],
        vec![("a", Arc::new(TimestampMicrosecondArray::from(vec![1, 2]).with_timezone("UTC")))],
        vec![("a", decimal(9, 38))],
        vec![("a", decimal(8, 38))],
        vec![("a", decimal(9, 18))],
    ] {
        assert!(seen.insert(digest(columns)));
    }
}

#[test]
fn rows_that_the_order_does_not_tell_apart_have_no_digest() {
    let tie = row_digest(&golden(), &["shard"]).unwrap_err();
    assert!(matches!(&tie, DigestError::Tie { columns } if columns == "shard"), "{tie}");
    assert!(matches!(row_digest(&golden(), &["nothing"]), Err(DigestError::NoColumn { .. })));
    let mut rows = RowDigest::new(&ORDER);
    rows.add(&golden()).unwrap();
    assert!(matches!(rows.add(&golden().project(&[0, 1]).unwrap()), Err(DigestError::Schema { batch: 1 })));
    let float: ArrayRef = Arc::new(arrow::array::Float64Array::from(vec![1.0]));
    assert!(matches!(row_digest(&RecordBatch::try_from_iter([("a", float)]).unwrap(), &["a"]), Err(DigestError::Column(_))));
}

#[test]
fn sorting_is_stable_and_puts_nulls_first() {
    let whole = golden();
    let sorted = sort(&whole, &ORDER).unwrap();
    assert_eq!(
        sorted.column_by_name("identity").unwrap().as_fixed_size_binary().iter().flatten().collect::<Vec<_>>(),
        [[5, 6], [3, 4], [1, 2]]
    );
    let stable = sort(&whole, &["shard"]).unwrap();
    assert_eq!(
        stable.column_by_name("identity").unwrap().as_fixed_size_binary().iter().flatten().collect::<Vec<_>>(),
        [[3, 4], [5, 6], [1, 2]]
    );
    assert_eq!(sort(&whole, &[]).unwrap(), whole);
}
