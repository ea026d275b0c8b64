//! What goes into a statement and what comes out of it. No type of a domain, no decoding beyond four kinds.

use std::sync::Arc;

use shared_types::{BatchNo, Digest, Instant, Month};

use crate::DbError;

/// A value of a column or placeholder.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Value {
    /// No value.
    #[default]
    Null,
    /// A 64-bit integer: numbers, amounts in units of 10^-9, microseconds, yyyymm.
    Integer(i64),
    /// Text, also exact decimals wider than 64 bits.
    Text(String),
    /// Bytes: digests, hashes, encoded states.
    Bytes(Vec<u8>),
}

impl Value {
    /// NULL, INTEGER, TEXT or BYTES.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Null => "NULL",
            Self::Integer(_) => "INTEGER",
            Self::Text(_) => "TEXT",
            Self::Bytes(_) => "BYTES",
        }
    }
}

macro_rules! from {
    ($($from:ty => |$value:ident| $to:expr),+ $(,)?) => {$(
        impl From<$from> for Value {
            fn from($value: $from) -> Self {
                $to
            }
        }
    )+};
}

from! {
    i64 => |value| Self::Integer(value),
    i32 => |value| Self::Integer(value.into()),
    u32 => |value| Self::Integer(value.into()),
    u16 => |value| Self::Integer(value.into()),
    u8 => |value| Self::Integer(value.into()),
    &str => |value| Self::Text(value.to_owned()),
    &String => |value| Self::Text(value.clone()),
    String => |value| Self::Text(value),
    Vec<u8> => |value| Self::Bytes(value),
    &[u8] => |value| Self::Bytes(value.to_vec()),
    Digest => |value| Self::Bytes(value.0.to_vec()),
    Instant => |value| Self::Integer(value.micros()),
    Month => |value| Self::Integer(value.number().into()),
}

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

impl TryFrom<u64> for Value {
    type Error = DbError;
    fn try_from(value: u64) -> Result<Self, DbError> {
        i64::try_from(value).map(Self::Integer).map_err(|_| DbError::Range { value: value.to_string() })
    }
}

impl TryFrom<usize> for Value {
    type Error = DbError;
    fn try_from(value: usize) -> Result<Self, DbError> {
        i64::try_from(value).map(Self::Integer).map_err(|_| DbError::Range { value: value.to_string() })
    }
}

impl TryFrom<BatchNo> for Value {
    type Error = DbError;
    fn try_from(value: BatchNo) -> Result<Self, DbError> {
        Self::try_from(value.0)
    }
}

/// One row of an answer. Columns are asked for by index, from 0.
#[derive(Debug, Clone)]
pub struct Row {
    statement: &'static str,
    names: Arc<[String]>,
    values: Vec<Value>,
}

impl Row {
    pub(crate) fn new(statement: &'static str, names: Arc<[String]>, values: Vec<Value>) -> Self {
        Self { statement, names, values }
    }

    /// The values in the order of the columns.
    pub fn values(&self) -> &[Value] {
        &self.values
    }

    /// The names of the columns.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// A 64-bit integer; NULL and other types are refused by name.
    pub fn integer(&self, column: usize) -> Result<i64, DbError> {
        self.optional_integer(column)?.ok_or_else(|| self.mismatch(column, "INTEGER"))
    }

    /// An integer that is not negative.
    pub fn unsigned(&self, column: usize) -> Result<u64, DbError> {
        u64::try_from(self.integer(column)?).map_err(|_| self.mismatch(column, "an INTEGER from 0"))
    }

    /// A text; NULL and other types are refused by name.
    pub fn text(&self, column: usize) -> Result<&str, DbError> {
        self.optional_text(column)?.ok_or_else(|| self.mismatch(column, "TEXT"))
    }

    /// Bytes; NULL and other types are refused by name.
    pub fn bytes(&self, column: usize) -> Result<&[u8], DbError> {
        self.optional_bytes(column)?.ok_or_else(|| self.mismatch(column, "BYTES"))
    }

    /// 32 bytes.
    pub fn digest(&self, column: usize) -> Result<Digest, DbError> {
        Digest::from_slice(self.bytes(column)?).ok_or_else(|| self.mismatch(column, "32 BYTES"))
    }

    /// Microseconds since 1970.
    pub fn instant(&self, column: usize) -> Result<Instant, DbError> {
        Instant::from_micros(self.integer(column)?).map_err(|_| self.mismatch(column, "an instant in microseconds"))
    }

    /// A month as yyyymm.
    pub fn month(&self, column: usize) -> Result<Month, DbError> {
        let number = i32::try_from(self.integer(column)?).map_err(|_| self.mismatch(column, "a month as yyyymm"))?;
        Month::from_number(number).map_err(|_| self.mismatch(column, "a month as yyyymm"))
    }

    /// A batch number.
    pub fn batch_no(&self, column: usize) -> Result<BatchNo, DbError> {
        self.unsigned(column).map(BatchNo)
    }

    /// An integer or NULL.
    pub fn optional_integer(&self, column: usize) -> Result<Option<i64>, DbError> {
        match self.values.get(column) {
            Some(Value::Null) => Ok(None),
            Some(Value::Integer(value)) => Ok(Some(*value)),
            _ => Err(self.mismatch(column, "INTEGER")),
        }
    }

    /// A text or NULL.
    pub fn optional_text(&self, column: usize) -> Result<Option<&str>, DbError> {
        match self.values.get(column) {
            Some(Value::Null) => Ok(None),
            Some(Value::Text(value)) => Ok(Some(value)),
            _ => Err(self.mismatch(column, "TEXT")),
        }
    }

    /// Bytes or NULL.
    pub fn optional_bytes(&self, column: usize) -> Result<Option<&[u8]>, DbError> {
        match self.values.get(column) {
            Some(Value::Null) => Ok(None),
            Some(Value::Bytes(value)) => Ok(Some(value)),
            _ => Err(self.mismatch(column, "BYTES")),
        }
    }

    /// 32 bytes or NULL.
    pub fn optional_digest(&self, column: usize) -> Result<Option<Digest>, DbError> {
        if self.optional_bytes(column)?.is_none() { Ok(None) } else { self.digest(column).map(Some) }
    }

    /// Microseconds since 1970, or NULL.
    pub fn optional_instant(&self, column: usize) -> Result<Option<Instant>, DbError> {
        if self.optional_integer(column)?.is_none() { Ok(None) } else { self.instant(column).map(Some) }
    }

    /// A month as yyyymm, or NULL.
    pub fn optional_month(&self, column: usize) -> Result<Option<Month>, DbError> {
        if self.optional_integer(column)?.is_none() { Ok(None) } else { self.month(column).map(Some) }
    }

    fn mismatch(&self, column: usize, expected: &'static str) -> DbError {
        let name = self.names.get(column).map_or("", String::as_str);
        let found = match self.values.get(column) {
            None => "missing".to_owned(),
            Some(Value::Integer(value)) => format!("INTEGER {value}"),
            Some(Value::Bytes(value)) => format!("{} BYTES", value.len()),
            Some(other) => other.kind().to_owned(),
        };
        DbError::Column { statement: self.statement, column: format!("{column} ({name})"), expected, found }
    }
}
