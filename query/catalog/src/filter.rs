//! Comparisons of one column with one value, and their exact application to rows.
//! Nothing here converts inexactly: a value that the column's type cannot hold is refused.

use std::fmt;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Datum, Decimal128Array, FixedSizeBinaryArray, Int32Array, Int64Array, Scalar, StringArray,
    TimestampMicrosecondArray, UInt64Array,
};
use arrow::compute::kernels::cmp;
use arrow::compute::{and, filter_record_batch};
use arrow::datatypes::{DataType, TimeUnit};
use arrow::record_batch::RecordBatch;
use shared_types::Instant;

use crate::error::CatalogError;

/// How a column is compared with the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// `=`
    Eq,
    /// `<`
    Lt,
    /// `<=`
    Le,
    /// `>`
    Gt,
    /// `>=`
    Ge,
}

/// What a column is compared with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FilterValue {
    /// UTF-8 text.
    Text(String),
    /// An integer.
    Integer(i64),
    /// `units` of 10^-scale.
    Decimal {
        /// Units.
        units: i128,
        /// Decimal places, 0 to 38.
        scale: i8,
    },
    /// An instant.
    At(Instant),
    /// Bytes.
    Bytes(Vec<u8>),
    /// A truth value.
    Boolean(bool),
}

impl fmt::Display for FilterValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => write!(f, "the text {text:?}"),
            Self::Integer(number) => write!(f, "{number}"),
            Self::Decimal { units, scale } => write!(f, "{units}e-{scale}"),
            Self::At(at) => write!(f, "{at}"),
            Self::Bytes(bytes) => write!(f, "{} bytes", bytes.len()),
            Self::Boolean(truth) => write!(f, "{truth}"),
        }
    }
}

/// One condition: rows for which it is not true, nulls included, are not wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    /// Name of the column.
    pub column: String,
    /// The comparison, column on the left.
    pub comparison: Comparison,
    /// The right side.
    pub value: FilterValue,
}

impl Filter {
    /// Whether [`keep`] can apply this filter exactly to a column of the type.
    pub fn fits(&self, column_type: &DataType) -> bool {
        self.scalar(column_type).is_ok()
    }

    /// The value as one element of the column's type.
    fn scalar(&self, column_type: &DataType) -> Result<Scalar<ArrayRef>, CatalogError> {
        let refused =
            || CatalogError::Filter { column: self.column.clone(), column_type: column_type.to_string(), value: self.value.to_string() };
        let array: ArrayRef = match (column_type, &self.value) {
            (DataType::Utf8, FilterValue::Text(text)) => Arc::new(StringArray::from(vec![text.as_str()])),
            (DataType::Int64, FilterValue::Integer(number)) => Arc::new(Int64Array::from(vec![*number])),
            (DataType::Int32, FilterValue::Integer(number)) => {
                Arc::new(Int32Array::from(vec![i32::try_from(*number).map_err(|_| refused())?]))
            }
            (DataType::UInt64, FilterValue::Integer(number)) => {
                Arc::new(UInt64Array::from(vec![u64::try_from(*number).map_err(|_| refused())?]))
            }
            (DataType::Decimal128(precision, scale), FilterValue::Integer(number)) => {
                let units = rescale(i128::from(*number), 0, *scale).ok_or_else(refused)?;
                Arc::new(Decimal128Array::from(vec![units]).with_precision_and_scale(*precision, *scale)?)
            }
            (DataType::Decimal128(precision, scale), FilterValue::Decimal { units, scale: from }) => {
                let units = rescale(*units, *from, *scale).ok_or_else(refused)?;
                Arc::new(Decimal128Array::from(vec![units]).with_precision_and_scale(*precision, *scale)?)
            }
            (DataType::Timestamp(TimeUnit::Microsecond, zone), FilterValue::At(at)) => {
                Arc::new(TimestampMicrosecondArray::from(vec![at.micros()]).with_timezone_opt(zone.clone()))
            }
            (DataType::Binary, FilterValue::Bytes(bytes)) => Arc::new(BinaryArray::from(vec![bytes.as_slice()])),
            (DataType::FixedSizeBinary(width), FilterValue::Bytes(bytes)) if usize::try_from(*width) == Ok(bytes.len()) => {
                Arc::new(FixedSizeBinaryArray::try_from_iter(std::iter::once(bytes.as_slice()))?)
            }
            (DataType::Boolean, FilterValue::Boolean(truth)) => Arc::new(BooleanArray::from(vec![*truth])),
            _ => return Err(refused()),
        };
        Ok(Scalar::new(array))
    }
}

/// The same number in units of another scale; `None` when digits would be lost or do not fit.
fn rescale(units: i128, from: i8, to: i8) -> Option<i128> {
    let shift = i32::from(to) - i32::from(from);
    let factor = 10_i128.checked_pow(shift.unsigned_abs())?;
    if shift >= 0 { units.checked_mul(factor) } else { (units.checked_rem(factor)? == 0).then(|| units.checked_div(factor)).flatten() }
}

/// The rows that pass all filters, exactly. A column that is missing or of a type that cannot hold the value is an error.
pub fn keep(batch: &RecordBatch, filters: &[Filter]) -> Result<RecordBatch, CatalogError> {
    let mut passed: Option<BooleanArray> = None;
    for filter in filters {
        let column = batch
            .column_by_name(&filter.column)
            .ok_or_else(|| CatalogError::Column { model: "in a filter".to_owned(), column: filter.column.clone() })?;
        let value = filter.scalar(column.data_type())?;
        let (column, value): (&dyn Datum, &dyn Datum) = (column, &value);
        let one = match filter.comparison {
            Comparison::Eq => cmp::eq(column, value),
            Comparison::Lt => cmp::lt(column, value),
            Comparison::Le => cmp::lt_eq(column, value),
            Comparison::Gt => cmp::gt(column, value),
            Comparison::Ge => cmp::gt_eq(column, value),
        }?;
        passed = Some(match passed {
            None => one,
            Some(passed) => and(&passed, &one)?,
        });
    }
    match passed {
        None => Ok(batch.clone()),
        Some(passed) => Ok(filter_record_batch(batch, &passed)?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::datatypes::{Field, Schema};

    fn amounts() -> RecordBatch {
        let schema =
            Schema::new(vec![Field::new("amount", DataType::Decimal128(19, 9), true), Field::new("organization", DataType::Utf8, false)]);
        let amount = Decimal128Array::from(vec![Some(1_000_000_000), None, Some(-1), Some(0)]).with_precision_and_scale(19, 9).unwrap();
        let organization = StringArray::from(vec!["a", "a", "b", "b"]);
        RecordBatch::try_new(Arc::new(schema), vec![Arc::new(amount), Arc::new(organization)]).unwrap()
    }

    fn check(filters: &[(&str, Comparison, FilterValue)], rows: usize) {
        let filters: Vec<_> = filters
            .iter()
            .map(|(column, comparison, value)| Filter { column: (*column).to_owned(), comparison: *comparison, value: value.clone() })
            .collect();
        assert_eq!(keep(&amounts(), &filters).unwrap().num_rows(), rows, "{filters:?}");
    }

    #[test]
    fn filters_are_a_conjunction_and_nulls_do_not_pass() {
        check(&[], 4);
        check(&[("amount", Comparison::Ge, FilterValue::Integer(0))], 2);
        check(&[("amount", Comparison::Lt, FilterValue::Decimal { units: 0, scale: 2 })], 1);
        check(&[("amount", Comparison::Le, FilterValue::Integer(1)), ("organization", Comparison::Eq, FilterValue::Text("a".into()))], 1);
        check(&[("organization", Comparison::Gt, FilterValue::Text("a".into()))], 2);
    }

    #[test]
    fn a_value_that_the_column_cannot_hold_is_refused() {
        for value in [
            FilterValue::Decimal { units: 1, scale: 10 },
            FilterValue::Decimal { units: i128::MAX, scale: 0 },
            FilterValue::Text("1".into()),
        ] {
            let filter = Filter { column: "amount".into(), comparison: Comparison::Eq, value };
            assert!(matches!(keep(&amounts(), &[filter]), Err(CatalogError::Filter { .. })));
        }
        let exact = Filter { column: "amount".into(), comparison: Comparison::Eq, value: FilterValue::Decimal { units: 10, scale: 10 } };
        assert!(exact.fits(&DataType::Decimal128(19, 9)));
    }
}
