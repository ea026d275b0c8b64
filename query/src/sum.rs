//! `sum` over decimals and integers that answers exactly or raises an error. It adds in 256 bits, so neither the order of the rows nor
//! the split over threads can make it fail or succeed; only the final total must fit. Floats have no exact sum and are refused.

use std::mem::size_of;
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Decimal128Array, Decimal256Array, Int64Array, UInt64Array};
use datafusion::arrow::datatypes::{DataType, Decimal128Type, Decimal256Type, Field, FieldRef, Int64Type, UInt64Type, i256};
use datafusion::common::{ScalarValue, internal_err, plan_err};
use datafusion::error::Result;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::AggregateOrderSensitivity;
use datafusion::logical_expr::{Accumulator, AggregateUDFImpl, EmitTo, GroupsAccumulator, Signature, Volatility};

use crate::decimal::{DIGITS, fits};
use crate::error::Raised;
use crate::information::type_name;

/// Digits of a partial sum: 2^63 rows of 38 digits stay far below.
const WIDE: u8 = 76;

/// The checked `sum`.
///
/// - Units: a decimal of scale s gives decimal(38, s); integers give `Int64`, unsigned ones `UInt64`.
/// - Nulls: skipped; the sum of no value is null.
/// - Errors: the total does not fit its type, named by the expression. Floats and durations are refused when planning.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct CheckedSum {
    signature: Signature,
}

impl CheckedSum {
    pub(crate) fn new() -> Self {
        Self { signature: Signature::user_defined(Volatility::Immutable) }
    }
}

impl AggregateUDFImpl for CheckedSum {
    fn name(&self) -> &str {
        "sum"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        let [argument] = arg_types else {
            return plan_err!("sum takes one argument");
        };
        let wanted = match argument {
            DataType::Dictionary(_, inner) => return self.coerce_types(&[inner.as_ref().clone()]),
            DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64 | DataType::Null => DataType::Int64,
            DataType::UInt8 | DataType::UInt16 | DataType::UInt32 | DataType::UInt64 => DataType::UInt64,
            DataType::Decimal32(precision, scale) | DataType::Decimal64(precision, scale) | DataType::Decimal128(precision, scale) => {
                DataType::Decimal128(*precision, *scale)
            }
            // Refused by the money rule, which can say why.
            other => other.clone(),
        };
        Ok(vec![wanted])
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        match arg_types {
            [DataType::Decimal128(_, scale)] => Ok(DataType::Decimal128(DIGITS, *scale)),
            [DataType::Int64] => Ok(DataType::Int64),
            [DataType::UInt64] => Ok(DataType::UInt64),
            [other] => Ok(other.clone()),
            other => plan_err!("sum takes one argument, not {}", other.len()),
        }
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        Ok(vec![Arc::new(Field::new(format!("{}[wide]", args.name), wide(args.return_type()), true))])
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        let total = Total::new(&args)?;
        Ok(Box::new(OneSum { total, sum: i256::ZERO, values: 0 }))
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs) -> bool {
        !args.is_distinct
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn GroupsAccumulator>> {
        Ok(Box::new(GroupSums { total: Total::new(&args)?, sums: Vec::new() }))
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }
}

/// Whether the checked sum is defined for a type, once coerced.
pub(crate) fn is_summable(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Decimal128(..) | DataType::Int64 | DataType::UInt64)
}

/// The type of a partial sum.
fn wide(return_type: &DataType) -> DataType {
    match return_type {
        DataType::Decimal128(_, scale) => DataType::Decimal256(WIDE, *scale),
        _ => DataType::Decimal256(WIDE, 0),
    }
}

/// How a wide sum becomes the result, and the name that an overflow is reported with.
#[derive(Debug)]
struct Total {
    name: String,
    return_type: DataType,
}

impl Total {
    fn new(args: &AccumulatorArgs) -> Result<Self> {
        if args.is_distinct {
            return Err(Raised::refused(args.name, "sum(DISTINCT …) drops equal values"));
        }
        if !is_summable(args.return_type()) {
            return internal_err!("sum was planned over {}", args.return_type());
        }
        Ok(Self { name: args.name.to_owned(), return_type: args.return_type().clone() })
    }

    fn overflow(&self) -> datafusion::error::DataFusionError {
        Raised::overflow(format!("{} does not fit {}", self.name, type_name(&self.return_type)))
    }

    fn add(&self, sum: i256, value: i256) -> Result<i256> {
        sum.checked_add(value).ok_or_else(|| self.overflow())
    }

    fn results(&self, sums: &[Option<i256>]) -> Result<ArrayRef> {
        let narrow = |sum: &Option<i256>| match sum {
            None => Ok(None),
            Some(sum) => fits(*sum).map(Some).ok_or_else(|| self.overflow()),
        };
        Ok(match &self.return_type {
            DataType::Decimal128(precision, scale) => {
                let sums = sums.iter().map(narrow).collect::<Result<Vec<_>>>()?;
                Arc::new(Decimal128Array::from(sums).with_precision_and_scale(*precision, *scale)?)
            }
            DataType::UInt64 => {
                let whole = |sum: &Option<i256>| match narrow(sum)? {
                    None => Ok(None),
                    Some(sum) => u64::try_from(sum).map(Some).map_err(|_| self.overflow()),
                };
                Arc::new(UInt64Array::from(sums.iter().map(whole).collect::<Result<Vec<_>>>()?))
            }
            _ => {
                let whole = |sum: &Option<i256>| match narrow(sum)? {
                    None => Ok(None),
                    Some(sum) => i64::try_from(sum).map(Some).map_err(|_| self.overflow()),
                };
                Arc::new(Int64Array::from(sums.iter().map(whole).collect::<Result<Vec<_>>>()?))
            }
        })
    }

    fn partials(&self, sums: Vec<Option<i256>>) -> Result<ArrayRef> {
        let scale = match &self.return_type {
            DataType::Decimal128(_, scale) => *scale,
            _ => 0,
        };
        Ok(Arc::new(Decimal256Array::from(sums).with_precision_and_scale(WIDE, scale)?))
    }
}

/// Calls `take` with each row and its value, null for null.
fn each(values: &ArrayRef, mut take: impl FnMut(usize, Option<i256>) -> Result<()>) -> Result<()> {
    macro_rules! rows {
        ($kind:ty, $widen:expr) => {
            for (row, value) in values.as_primitive::<$kind>().iter().enumerate() {
                take(row, value.map($widen))?;
            }
        };
    }
    match values.data_type() {
        DataType::Decimal128(..) => rows!(Decimal128Type, i256::from_i128),
        DataType::Decimal256(..) => rows!(Decimal256Type, std::convert::identity),
        DataType::Int64 => rows!(Int64Type, |value| i256::from_i128(i128::from(value))),
        DataType::UInt64 => rows!(UInt64Type, |value| i256::from_i128(i128::from(value))),
        other => return internal_err!("sum was given {other}"),
    }
    Ok(())
}

fn only(arrays: &[ArrayRef]) -> Result<&ArrayRef> {
    match arrays {
        [one] => Ok(one),
        other => internal_err!("sum was given {} columns", other.len()),
    }
}

/// One total, for whole tables and windows.
#[derive(Debug)]
struct OneSum {
    total: Total,
    sum: i256,
    values: u64,
}

impl OneSum {
    fn known(&self) -> Option<i256> {
        (self.values > 0).then_some(self.sum)
    }

    fn take(&mut self, arrays: &[ArrayRef]) -> Result<()> {
        each(only(arrays)?, |_, value| {
            if let Some(value) = value {
                self.sum = self.total.add(self.sum, value)?;
                self.values = self.values.saturating_add(1);
            }
            Ok(())
        })
    }
}

impl Accumulator for OneSum {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.take(values)
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.take(states)
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        each(only(values)?, |_, value| {
            if let Some(value) = value {
                self.sum = self.sum.checked_sub(value).ok_or_else(|| self.total.overflow())?;
                self.values = self.values.saturating_sub(1);
            }
            Ok(())
        })
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        ScalarValue::try_from_array(&self.total.results(&[self.known()])?, 0)
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![ScalarValue::try_from_array(&self.total.partials(vec![self.known()])?, 0)?])
    }

    fn size(&self) -> usize {
        size_of::<Self>().saturating_add(self.total.name.capacity())
    }
}

/// A total per group.
struct GroupSums {
    total: Total,
    sums: Vec<Option<i256>>,
}

impl GroupSums {
    fn take(&mut self, arrays: &[ArrayRef], groups: &[usize], filter: Option<&BooleanArray>, count: usize) -> Result<()> {
        self.sums.resize(count, None);
        each(only(arrays)?, |row, value| {
            let (Some(value), true) = (value, passes(filter, row)) else {
                return Ok(());
            };
            let Some(sum) = groups.get(row).and_then(|group| self.sums.get_mut(*group)) else {
                return internal_err!("sum was given a row without a group");
            };
            *sum = Some(self.total.add(sum.unwrap_or(i256::ZERO), value)?);
            Ok(())
        })
    }
}

fn passes(filter: Option<&BooleanArray>, row: usize) -> bool {
    filter.is_none_or(|filter| filter.is_valid(row) && filter.value(row))
}

impl GroupsAccumulator for GroupSums {
    fn update_batch(&mut self, values: &[ArrayRef], groups: &[usize], filter: Option<&BooleanArray>, count: usize) -> Result<()> {
        self.take(values, groups, filter, count)
    }

    fn merge_batch(&mut self, values: &[ArrayRef], groups: &[usize], count: usize) -> Result<()> {
        self.take(values, groups, None, count)
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        self.total.results(&emit_to.take_needed(&mut self.sums))
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        Ok(vec![self.total.partials(emit_to.take_needed(&mut self.sums))?])
    }

    fn convert_to_state(&self, values: &[ArrayRef], filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        let values = only(values)?;
        let mut states = Vec::with_capacity(values.len());
        each(values, |row, value| {
            states.push(value.filter(|_| passes(filter, row)));
            Ok(())
        })?;
        Ok(vec![self.total.partials(states)?])
    }

    fn size(&self) -> usize {
        self.sums.capacity().saturating_mul(size_of::<Option<i256>>())
    }
}
