//! The column types of the lake: what an Arrow type is called in DuckLake and how its bounds are written as text.
//! It knows no table.

use std::fmt;

use arrow::datatypes::{DataType, Field, TimeUnit};
use shared_types::Instant;

/// The key of an Arrow field's metadata that holds its field id.
pub const FIELD_ID: &str = "PARQUET:field_id";

/// A type that lake files may hold. Dictionary, large and view encodings of it are the same type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ColumnType {
    /// True or false.
    Boolean,
    /// 32-bit signed integer.
    Int32,
    /// 64-bit signed integer.
    Int64,
    /// UTF-8 text.
    Utf8,
    /// Bytes of any length.
    Binary,
    /// Bytes of one length.
    FixedBinary {
        /// The length in bytes.
        length: i32,
    },
    /// Exact decimal of at most 38 digits.
    Decimal {
        /// Digits in all.
        precision: u8,
        /// Digits after the point.
        scale: u8,
    },
    /// Microseconds since 1970.
    Timestamp {
        /// An instant in UTC; otherwise a wall clock reading of no zone.
        utc: bool,
    },
}

/// A field of a type that the lake does not hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ColumnError {
    /// Neither integer, text, bytes, decimal, microsecond timestamp in UTC nor boolean.
    #[error("column {column:?} has the type {found}, which lake files do not hold")]
    Type {
        /// The column.
        column: String,
        /// The Arrow type.
        found: String,
    },
    /// No field id, or one that is not a number from 1.
    #[error("column {column:?} has no field id from 1 (metadata {FIELD_ID})")]
    NoId {
        /// The column.
        column: String,
    },
    /// Two columns with one field id or one name.
    #[error("column {column:?} has the name or the field id {id} of another column")]
    Repeated {
        /// The second of the two.
        column: String,
        /// Its field id.
        id: i32,
    },
}

impl ColumnType {
    /// The lake's type of an Arrow field.
    pub fn of(field: &Field) -> Result<Self, ColumnError> {
        Self::of_data_type(field.data_type())
            .ok_or_else(|| ColumnError::Type { column: field.name().clone(), found: field.data_type().to_string() })
    }

    fn of_data_type(data_type: &DataType) -> Option<Self> {
        Some(match data_type {
            DataType::Boolean => Self::Boolean,
            DataType::Int32 => Self::Int32,
            DataType::Int64 => Self::Int64,
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Self::Utf8,
            DataType::Binary | DataType::LargeBinary | DataType::BinaryView => Self::Binary,
            DataType::FixedSizeBinary(length) if *length > 0 => Self::FixedBinary { length: *length },
            DataType::Decimal128(precision, scale) => {
                Self::Decimal { precision: *precision, scale: u8::try_from(*scale).ok().filter(|scale| scale <= precision)? }
            }
            DataType::Timestamp(TimeUnit::Microsecond, None) => Self::Timestamp { utc: false },
            DataType::Timestamp(TimeUnit::Microsecond, Some(zone)) if matches!(zone.as_ref(), "UTC" | "+00:00") => {
                Self::Timestamp { utc: true }
            }
            DataType::Dictionary(_, values) => return Self::of_data_type(values),
            _ => return None,
        })
    }

    /// The plain Arrow type: no dictionary, no large offsets, no views.
    pub fn plain(self) -> DataType {
        match self {
            Self::Boolean => DataType::Boolean,
            Self::Int32 => DataType::Int32,
            Self::Int64 => DataType::Int64,
            Self::Utf8 => DataType::Utf8,
            Self::Binary => DataType::Binary,
            Self::FixedBinary { length } => DataType::FixedSizeBinary(length),
            Self::Decimal { precision, scale } => DataType::Decimal128(precision, i8::try_from(scale).unwrap_or(i8::MAX)),
            Self::Timestamp { utc } => DataType::Timestamp(TimeUnit::Microsecond, utc.then(|| "UTC".into())),
        }
    }

    /// A bound as DuckDB writes it into a DuckLake catalog; `None` when the bound is of another type or has no text.
    pub(crate) fn bound_text(self, bound: &Bound) -> Option<String> {
        match (self, bound) {
            (Self::Boolean, Bound::Number(value)) => Some(if *value == 0 { "0" } else { "1" }.to_owned()),
            (Self::Int32 | Self::Int64, Bound::Number(value)) => Some(value.to_string()),
            (Self::Decimal { scale, .. }, Bound::Number(value)) => Some(decimal_text(*value, usize::from(scale))),
            (Self::Timestamp { utc }, Bound::Number(value)) => {
                let instant = Instant::from_micros(i64::try_from(*value).ok()?).ok()?;
                Some(timestamp_text(instant, utc))
            }
            (Self::Utf8, Bound::Bytes(value)) => {
                // A zero byte ends a text in SQLite's shell and cannot stand in PostgreSQL at all.
                String::from_utf8(value.clone()).ok().filter(|text| !text.contains('\0'))
            }
            (Self::Binary | Self::FixedBinary { .. }, Bound::Bytes(value)) => Some(hex::encode_upper(value)),
            _ => None,
        }
    }
}

impl fmt::Display for ColumnType {
    /// The name of the type in a DuckLake catalog.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Boolean => f.write_str("boolean"),
            Self::Int32 => f.write_str("int32"),
            Self::Int64 => f.write_str("int64"),
            Self::Utf8 => f.write_str("varchar"),
            Self::Binary | Self::FixedBinary { .. } => f.write_str("blob"),
            Self::Decimal { precision, scale } => write!(f, "decimal({precision},{scale})"),
            Self::Timestamp { utc: true } => f.write_str("timestamptz"),
            Self::Timestamp { utc: false } => f.write_str("timestamp"),
        }
    }
}

/// The smallest or largest value of a column: a number (boolean, integer, unscaled decimal, microseconds) or bytes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Bound {
    /// Anything counted.
    Number(i128),
    /// Text and bytes, compared as unsigned bytes.
    Bytes(Vec<u8>),
}

/// The field id of a column: the number that stands for it in files and catalog, whatever its name.
pub fn field_id(field: &Field) -> Result<i32, ColumnError> {
    field
        .metadata()
        .get(FIELD_ID)
        .and_then(|id| id.parse().ok())
        .filter(|id| *id > 0)
        .ok_or_else(|| ColumnError::NoId { column: field.name().clone() })
}

/// A field of that name, type, nullability and field id.
pub fn field(name: &str, data_type: DataType, nullable: bool, id: i32) -> Field {
    Field::new(name, data_type, nullable).with_metadata([(FIELD_ID.to_owned(), id.to_string())].into())
}

/// `2026-10-02 12:34:56.00012+00`: the text form of DuckDB, with `+00` for instants and nothing for wall clock readings.
pub(crate) fn timestamp_text(instant: Instant, utc: bool) -> String {
    let text = instant.to_string().replacen('T', " ", 1);
    let text = text.trim_end_matches('Z');
    let text = if text.contains('.') { text.trim_end_matches('0') } else { text };
    format!("{text}{}", if utc { "+00" } else { "" })
}

fn decimal_text(unscaled: i128, scale: usize) -> String {
    let sign = if unscaled < 0 { "-" } else { "" };
    let digits = format!("{:0>width$}", unscaled.unsigned_abs(), width = scale + 1);
    let (whole, fraction) = digits.split_at(digits.len() - scale);
    let point = if scale > 0 { "." } else { "" };
    format!("{sign}{whole}{point}{fraction}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(column: ColumnType, bound: Bound, text: &str) {
        assert_eq!(column.bound_text(&bound).as_deref(), Some(text));
    }

    #[test]
    fn bounds_are_written_as_duckdb_writes_them() {
        use Bound::{Bytes, Number};
        check(ColumnType::Boolean, Number(1), "1");
        check(ColumnType::Int64, Number(-9), "-9");
        let wide = ColumnType::Decimal { precision: 38, scale: 9 };
        check(wide, Number(-1_500_000_000), "-1.500000000");
        check(wide, Number(1), "0.000000001");
        check(wide, Number(99_999_999_999_999_999_999_999_999_999_123_456_789), "99999999999999999999999999999.123456789");
        check(ColumnType::Decimal { precision: 10, scale: 0 }, Number(-7), "-7");
        check(ColumnType::Utf8, Bytes("yé".into()), "yé");
        check(ColumnType::Binary, Bytes(vec![0, 0x61, 0xff]), "0061FF");
        let instant = i128::from(Instant::parse("2026-10-02T12:34:56.00012Z").unwrap().micros());
        check(ColumnType::Timestamp { utc: true }, Number(instant), "2026-10-02 12:34:56.00012+00");
        check(ColumnType::Timestamp { utc: false }, Number(instant), "2026-10-02 12:34:56.00012");
        check(ColumnType::Timestamp { utc: true }, Number(0), "1970-01-01 00:00:00+00");
        assert_eq!(ColumnType::Timestamp { utc: true }.bound_text(&Number(-1)), None);
        assert_eq!(ColumnType::Utf8.bound_text(&Bytes(vec![0])), None);
    }

    #[test]
    fn types_are_named_as_ducklake_names_them() {
        let dictionary = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
        for (data_type, name) in [
            (DataType::Decimal128(38, 9), "decimal(38,9)"),
            (DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), "timestamptz"),
            (DataType::FixedSizeBinary(16), "blob"),
            (dictionary, "varchar"),
        ] {
            assert_eq!(ColumnType::of(&Field::new("c", data_type, true)).unwrap().to_string(), name);
        }
        for data_type in
            [DataType::Float64, DataType::Decimal128(5, -2), DataType::Timestamp(TimeUnit::Microsecond, Some("Europe/Berlin".into()))]
        {
            assert!(ColumnType::of(&Field::new("c", data_type, true)).is_err());
        }
    }
}
