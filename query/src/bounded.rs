//! Functions that make texts longer, with a bound: one doubling inside the next would fill any memory, and the engine's pool does not see
//! it. What a call can make at most is reckoned before anything is made.

use std::sync::Arc;

use datafusion::arrow::array::{Array, AsArray};
use datafusion::arrow::compute::kernels::concat_elements::concat_elements_dyn;
use datafusion::arrow::datatypes::{DataType, FieldRef};
use datafusion::common::{ScalarValue, plan_err};
use datafusion::error::Result;
use datafusion::logical_expr::{ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};

use crate::error::Raised;

/// Most bytes that one call makes of one batch of rows.
const BYTES_MAX: usize = 64 * 1024 * 1024;

/// The functions of the engine that are wrapped.
pub(crate) const GROWING: &[&str] = &["concat", "concat_ws", "encode", "replace"];

/// A growing function with a bound; without an inner one it is the operator `||`: null when one side is.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct Bounded {
    inner: Option<Arc<ScalarUDF>>,
    signature: Signature,
}

impl Bounded {
    /// Wraps a function.
    pub(crate) fn udf(inner: &Arc<ScalarUDF>) -> Arc<ScalarUDF> {
        Arc::new(ScalarUDF::new_from_impl(Self { inner: Some(Arc::clone(inner)), signature: inner.signature().clone() }))
    }

    /// The operator `||` over texts of one type.
    pub(crate) fn operator() -> Arc<ScalarUDF> {
        Arc::new(ScalarUDF::new_from_impl(Self { inner: None, signature: Signature::user_defined(Volatility::Immutable) }))
    }

    /// Whether the operator can join values of the type.
    pub(crate) fn joins(data_type: &DataType) -> bool {
        matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Binary | DataType::LargeBinary)
    }

    /// An upper bound of the bytes of the result.
    fn bytes(&self, args: &ScalarFunctionArgs) -> usize {
        let rows = args.number_rows;
        let sum = args.args.iter().map(|argument| bytes(argument, rows)).fold(0, usize::saturating_add);
        match (self.name(), args.args.as_slice()) {
            ("encode", _) => sum.saturating_mul(2),
            ("concat_ws", [separator, rest @ ..]) => sum.saturating_add(bytes(separator, rows).saturating_mul(rest.len())),
            ("replace", [_, _, to]) => sum.saturating_add(rows).saturating_mul(longest(to).saturating_add(1)),
            _ => sum,
        }
    }
}

/// Bytes of an argument once it is repeated for all rows.
fn bytes(argument: &ColumnarValue, rows: usize) -> usize {
    match argument {
        ColumnarValue::Array(array) => array.to_data().get_slice_memory_size().unwrap_or(usize::MAX),
        ColumnarValue::Scalar(_) => longest(argument).saturating_mul(rows),
    }
}

/// Bytes of the longest value; an upper bound for what is not text.
fn longest(argument: &ColumnarValue) -> usize {
    match argument {
        ColumnarValue::Scalar(ScalarValue::Utf8(text) | ScalarValue::LargeUtf8(text) | ScalarValue::Utf8View(text)) => {
            text.as_ref().map_or(0, String::len)
        }
        ColumnarValue::Scalar(other) => other.size(),
        ColumnarValue::Array(array) => match array.data_type() {
            DataType::Utf8 => array.as_string::<i32>().iter().flatten().map(str::len).max().unwrap_or(0),
            DataType::LargeUtf8 => array.as_string::<i64>().iter().flatten().map(str::len).max().unwrap_or(0),
            DataType::Utf8View => array.as_string_view().iter().flatten().map(str::len).max().unwrap_or(0),
            _ => array.get_array_memory_size(),
        },
    }
}

impl ScalarUDFImpl for Bounded {
    fn name(&self) -> &str {
        self.inner.as_ref().map_or("||", |inner| inner.name())
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        match &self.inner {
            Some(inner) => inner.coerce_types(arg_types),
            None => Ok(arg_types.to_vec()),
        }
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        match (&self.inner, arg_types) {
            (Some(inner), _) => inner.return_type(arg_types),
            (None, [first, ..]) => Ok(first.clone()),
            (None, []) => plan_err!("|| takes two texts"),
        }
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        match (&self.inner, args.arg_fields) {
            (Some(inner), _) => inner.return_field_from_args(args),
            (None, [first, ..]) => {
                let nullable = args.arg_fields.iter().any(|field| field.is_nullable());
                Ok(Arc::new(first.as_ref().clone().with_name("||").with_nullable(nullable)))
            }
            (None, []) => plan_err!("|| takes two texts"),
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        if self.bytes(&args) > BYTES_MAX {
            return Err(Raised::Data { detail: format!("{} would make texts of more than {BYTES_MAX} bytes at once", self.name()) }.into());
        }
        match (&self.inner, args.args.as_slice()) {
            (Some(inner), _) => inner.invoke_with_args(args),
            (None, [left, right]) => {
                let scalars = matches!((left, right), (ColumnarValue::Scalar(_), ColumnarValue::Scalar(_)));
                let rows = if scalars { 1 } else { args.number_rows };
                let joined = concat_elements_dyn(&left.to_array(rows)?, &right.to_array(rows)?)?;
                if scalars { Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&joined, 0)?)) } else { Ok(ColumnarValue::Array(joined)) }
            }
            (None, other) => plan_err!("|| takes two texts, not {}", other.len()),
        }
    }
}
