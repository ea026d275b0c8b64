//! Scalar functions that answer exactly or raise an error: `round_half_even`, `divide_half_even`, `abs`, and the integer `+ - *` and the
//! signs that the planner puts in place of the engine's wrapping ones. They know no table and no scope.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, Decimal128Array, new_null_array};
use datafusion::arrow::compute::kernels::cmp::lt;
use datafusion::arrow::compute::kernels::numeric::{add, mul, neg, sub};
use datafusion::arrow::compute::kernels::zip::zip;
use datafusion::arrow::datatypes::{DataType, Decimal128Type, Field, FieldRef};
use datafusion::arrow::error::ArrowError;
use datafusion::common::{ScalarValue, internal_err, plan_err};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::{ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};

use crate::decimal::{self, DIGITS};
use crate::error::Raised;
use crate::information::type_name;

/// What a function of this module computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Operation {
    /// Integer sum.
    Add,
    /// Integer difference.
    Subtract,
    /// Integer product.
    Multiply,
    /// The opposite sign of an integer or decimal.
    Negate,
    /// The magnitude of an integer or decimal.
    Magnitude,
    /// (x, digits): x with so many decimal places, halves to the even neighbour.
    Round,
    /// (x, y, digits): x / y with so many decimal places, halves to the even neighbour.
    Divide,
}

/// A function that answers exactly or raises an error. Nulls in, null out.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct Checked {
    operation: Operation,
    signature: Signature,
}

impl Checked {
    pub(crate) fn udf(operation: Operation) -> Arc<ScalarUDF> {
        Arc::new(ScalarUDF::new_from_impl(Self { operation, signature: Signature::user_defined(Volatility::Immutable) }))
    }

    fn arity(&self) -> usize {
        match self.operation {
            Operation::Negate | Operation::Magnitude => 1,
            Operation::Add | Operation::Subtract | Operation::Multiply | Operation::Round => 2,
            Operation::Divide => 3,
        }
    }

    /// Why a call cannot be exact; `literal` is the last argument where it is one. Asked by the money rule before anything runs.
    pub(crate) fn refusal(&self, arg_types: &[DataType], literal: Option<&ScalarValue>) -> Option<&'static str> {
        let numbers = match self.operation {
            Operation::Round | Operation::Divide => arg_types.len().saturating_sub(1),
            _ => arg_types.len(),
        };
        let exact = |argument: &DataType| argument.is_integer() || matches!(argument, DataType::Decimal128(..) | DataType::Null);
        if !arg_types.iter().take(numbers).all(exact) {
            return Some("it takes decimals and integers");
        }
        if numbers < arg_types.len() && digits(literal).is_none() {
            return Some("the number of decimal places must be a literal from 0 to 38");
        }
        None
    }

    fn overflow(&self, values: &[String], to: &DataType) -> DataFusionError {
        Raised::overflow(format!("{}({}) does not fit {}", self.name(), values.join(", "), type_name(to)))
    }
}

/// How many decimal places were asked for: a literal, 0 to 38.
fn digits(argument: Option<&ScalarValue>) -> Option<i8> {
    match argument {
        Some(ScalarValue::Int64(Some(digits))) => i8::try_from(*digits).ok().filter(|digits| (0..=38).contains(digits)),
        _ => None,
    }
}

/// A number's type as the decimal that holds it exactly.
fn as_decimal(data_type: &DataType) -> Option<DataType> {
    Some(match data_type {
        DataType::Dictionary(_, inner) => return as_decimal(inner),
        DataType::Null => DataType::Decimal128(1, 0),
        DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64 => DataType::Decimal128(19, 0),
        DataType::UInt8 | DataType::UInt16 | DataType::UInt32 | DataType::UInt64 => DataType::Decimal128(20, 0),
        DataType::Decimal32(precision, scale) | DataType::Decimal64(precision, scale) | DataType::Decimal128(precision, scale) => {
            DataType::Decimal128(*precision, *scale)
        }
        _ => return None,
    })
}

impl ScalarUDFImpl for Checked {
    fn name(&self) -> &str {
        match self.operation {
            Operation::Add => "checked_add",
            Operation::Subtract => "checked_subtract",
            Operation::Multiply => "checked_multiply",
            Operation::Negate => "checked_negate",
            Operation::Magnitude => "abs",
            Operation::Round => "round_half_even",
            Operation::Divide => "divide_half_even",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        if arg_types.len() != self.arity() {
            return plan_err!("{} takes {} arguments", self.name(), self.arity());
        }
        // What is no number stays as it is and is refused by the money rule, which can say why.
        let decimal = |argument: &DataType| as_decimal(argument).unwrap_or_else(|| argument.clone());
        Ok(match (self.operation, arg_types) {
            (Operation::Round, [x, _]) => vec![decimal(x), DataType::Int64],
            (Operation::Divide, [x, y, _]) => vec![decimal(x), decimal(y), DataType::Int64],
            (Operation::Magnitude, [x]) if !x.is_integer() => vec![decimal(x)],
            // Put in place after coercion, by the money rule.
            _ => arg_types.to_vec(),
        })
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        internal_err!("{} needs its arguments for its type", self.name())
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let nullable = args.arg_fields.iter().any(|field| field.is_nullable());
        // A call without such a literal is refused by the money rule.
        let digits = digits(args.scalar_arguments.last().copied().flatten()).unwrap_or_default();
        let Some(first) = args.arg_fields.first().map(|field| field.data_type()) else {
            return internal_err!("{} was planned without arguments", self.name());
        };
        let data_type = match (self.operation, decimal::shape(first)) {
            (Operation::Round, Some((precision, scale))) => {
                // One more digit before the point: 9.99 becomes 10.0.
                let whole = i16::from(precision) - i16::from(scale) + 1;
                let precision = u8::try_from(whole.max(1) + i16::from(digits)).unwrap_or(DIGITS).min(DIGITS);
                DataType::Decimal128(precision, digits)
            }
            (Operation::Divide, _) => DataType::Decimal128(DIGITS, digits),
            _ => first.clone(),
        };
        Ok(Arc::new(Field::new(self.name(), data_type, nullable)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let scalars = args.args.iter().all(|argument| matches!(argument, ColumnarValue::Scalar(_)));
        let rows = if scalars { 1 } else { args.number_rows };
        let wanted = args.return_field.data_type();
        let arrays = args.args.iter().map(|argument| argument.to_array(rows)).collect::<Result<Vec<ArrayRef>>>()?;
        let result = match (self.operation, arrays.as_slice()) {
            (_, all) if all.iter().any(|array| array.data_type().is_null()) => new_null_array(wanted, rows),
            (Operation::Add, [a, b]) => add(a, b).map_err(|error| self.raise(error, wanted))?,
            (Operation::Subtract, [a, b]) => sub(a, b).map_err(|error| self.raise(error, wanted))?,
            (Operation::Multiply, [a, b]) => mul(a, b).map_err(|error| self.raise(error, wanted))?,
            (Operation::Negate, [a]) => neg(a).map_err(|error| self.raise(error, wanted))?,
            (Operation::Magnitude, [a]) => self.magnitudes(a, wanted)?,
            (Operation::Round, [x, _]) => self.rounded(x, wanted)?,
            (Operation::Divide, [x, y, _]) => self.quotients(x, y, wanted)?,
            (_, other) => return internal_err!("{} was given {} arguments", self.name(), other.len()),
        };
        if scalars { Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&result, 0)?)) } else { Ok(ColumnarValue::Array(result)) }
    }
}

impl Checked {
    fn raise(&self, error: ArrowError, wanted: &DataType) -> DataFusionError {
        let operation = match self.operation {
            Operation::Add => "+",
            Operation::Subtract => "-",
            Operation::Multiply => "*",
            _ => "the sign",
        };
        match error {
            ArrowError::ArithmeticOverflow(_) => Raised::overflow(format!("the result of {operation} does not fit {}", type_name(wanted))),
            other => other.into(),
        }
    }

    fn magnitudes(&self, values: &ArrayRef, wanted: &DataType) -> Result<ArrayRef> {
        if wanted.is_unsigned_integer() {
            return Ok(Arc::clone(values));
        }
        let zero = ScalarValue::new_zero(wanted)?.to_scalar()?;
        let negative = lt(values, &zero)?;
        // Only negative values change their sign: the smallest integer has no opposite and raises.
        let chosen = zip(&negative, values, &zero)?;
        let opposite = neg(&chosen).map_err(|error| self.raise(error, wanted))?;
        Ok(zip(&negative, &opposite, values)?)
    }

    fn rounded(&self, values: &ArrayRef, wanted: &DataType) -> Result<ArrayRef> {
        let (Some((_, from)), Some((precision, to))) = (decimal::shape(values.data_type()), decimal::shape(wanted)) else {
            return internal_err!("round_half_even was planned over {}", values.data_type());
        };
        let values = values.as_primitive::<Decimal128Type>();
        let mut rounded = Vec::with_capacity(values.len());
        for (row, units) in values.iter().enumerate() {
            rounded.push(match units {
                None => None,
                Some(units) => {
                    let overflow = || self.overflow(&[values.value_as_string(row), to.to_string()], wanted);
                    Some(decimal::round_half_even(units, from, to).ok_or_else(overflow)?)
                }
            });
        }
        Ok(Arc::new(Decimal128Array::from(rounded).with_precision_and_scale(precision, to)?))
    }

    fn quotients(&self, x: &ArrayRef, y: &ArrayRef, wanted: &DataType) -> Result<ArrayRef> {
        let (Some((_, x_scale)), Some((_, y_scale)), Some((precision, digits))) =
            (decimal::shape(x.data_type()), decimal::shape(y.data_type()), decimal::shape(wanted))
        else {
            return internal_err!("divide_half_even was planned over {} and {}", x.data_type(), y.data_type());
        };
        let (x, y) = (x.as_primitive::<Decimal128Type>(), y.as_primitive::<Decimal128Type>());
        let mut quotients = Vec::with_capacity(x.len());
        for (row, pair) in x.iter().zip(y).enumerate() {
            let (Some(over), Some(under)) = pair else {
                quotients.push(None);
                continue;
            };
            if under == 0 {
                return Err(Raised::Data { detail: "division by zero in divide_half_even".to_owned() }.into());
            }
            let overflow = || self.overflow(&[x.value_as_string(row), y.value_as_string(row), digits.to_string()], wanted);
            quotients.push(Some(decimal::quotient(over, x_scale, under, y_scale, digits).ok_or_else(overflow)?));
        }
        Ok(Arc::new(Decimal128Array::from(quotients).with_precision_and_scale(precision, digits)?))
    }
}
