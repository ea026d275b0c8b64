//! Which files of the lake a query can leave out: those whose statistics in the catalog say that no row of theirs can match.
//! It reads no file. What it cannot tell, it keeps: the filters are applied to the rows all the same.

use arrow::datatypes::{DataType, Schema};
use platform_catalog::{Comparison, Filter, FilterValue};
use shared_lake::{ColumnStatistics, LakeFile, field_id};
use shared_types::Instant;

/// Whether a file may hold a row for which every filter is true. `schema` is that of the lake's table, with field ids.
pub fn may_match(file: &LakeFile, schema: &Schema, filters: &[Filter]) -> bool {
    filters.iter().all(|filter| {
        let Ok(field) = schema.field_with_name(&filter.column) else { return true };
        let Ok(id) = field_id(field) else { return true };
        let statistics = file.statistics.iter().find(|column| column.field_id == id);
        statistics.is_none_or(|statistics| column_may_match(statistics, field.data_type(), filter))
    })
}

fn column_may_match(statistics: &ColumnStatistics, data_type: &DataType, filter: &Filter) -> bool {
    if statistics.values == 0 {
        // Nulls alone: no comparison is true for them.
        return false;
    }
    let (Some(min), Some(max)) = (&statistics.min, &statistics.max) else { return true };
    match (data_type, &filter.value) {
        (DataType::Utf8, FilterValue::Text(value)) => within(min.as_bytes(), max.as_bytes(), value.as_bytes(), filter.comparison),
        (DataType::Int32 | DataType::Int64, FilterValue::Integer(value)) => match (min.parse::<i64>(), max.parse::<i64>()) {
            (Ok(min), Ok(max)) => within(&min, &max, value, filter.comparison),
            _ => true,
        },
        (DataType::Timestamp(_, Some(_)), FilterValue::At(value)) => match (instant(min), instant(max)) {
            (Some(min), Some(max)) => within(&min, &max, value, filter.comparison),
            _ => true,
        },
        _ => true,
    }
}

/// Whether some value from `min` to `max` compares so with `value`.
fn within<T: Ord + ?Sized>(min: &T, max: &T, value: &T, comparison: Comparison) -> bool {
    match comparison {
        Comparison::Eq => min <= value && value <= max,
        Comparison::Lt => min < value,
        Comparison::Le => min <= value,
        Comparison::Gt => max > value,
        Comparison::Ge => max >= value,
    }
}

/// The instant of a bound, such as `2026-10-02 12:34:56.00012+00`.
fn instant(text: &str) -> Option<Instant> {
    Instant::parse(&format!("{}:00", text.strip_suffix("+00").map(|_| text)?)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use platform_rating::charges_schema;
    use shared_lake::SnapshotId;

    fn file(column: &str, min: Option<&str>, max: Option<&str>, values: u64) -> LakeFile {
        let schema = charges_schema();
        let field_id = field_id(schema.field_with_name(column).unwrap()).unwrap();
        let statistics =
            ColumnStatistics { field_id, bytes: 1, values, nulls: 1, min: min.map(str::to_owned), max: max.map(str::to_owned) };
        LakeFile { path: "charges/1/a.parquet".into(), rows: 9, bytes: 9, begin_snapshot: SnapshotId(1), statistics: vec![statistics] }
    }

    fn check(file: &LakeFile, column: &str, comparison: Comparison, value: FilterValue, expected: bool) {
        let filter = Filter { column: column.to_owned(), comparison, value };
        assert_eq!(may_match(file, &charges_schema(), std::slice::from_ref(&filter)), expected, "{filter:?} {file:?}");
    }

    #[test]
    fn a_file_is_left_out_only_when_no_row_can_match() {
        use Comparison::{Eq, Ge, Gt, Le, Lt};
        let of = file("organization", Some("org-3"), Some("org-7"), 8);
        for (comparison, text, expected) in [
            (Eq, "org-3", true),
            (Eq, "org-5", true),
            (Eq, "org-2", false),
            (Eq, "org-8", false),
            (Lt, "org-3", false),
            (Le, "org-3", true),
            (Gt, "org-7", false),
            (Ge, "org-7", true),
        ] {
            check(&of, "organization", comparison, FilterValue::Text(text.into()), expected);
        }
        let of = file("start_at", Some("2026-10-02 12:34:56.00012+00"), Some("2026-10-03 00:00:00+00"), 8);
        for (comparison, text, expected) in [
            (Eq, "2026-10-02T12:34:56.000120Z", true),
            (Lt, "2026-10-02T12:34:56.000120Z", false),
            (Gt, "2026-10-02T23:59:59Z", true),
            (Ge, "2026-10-03T00:00:00.000001Z", false),
        ] {
            check(&of, "start_at", comparison, FilterValue::At(Instant::parse(text).unwrap()), expected);
        }
    }

    #[test]
    fn what_the_statistics_do_not_tell_is_kept() {
        let value = || FilterValue::Text("org-5".into());
        check(&file("organization", None, None, 8), "organization", Comparison::Eq, value(), true);
        check(&file("organization", None, None, 0), "organization", Comparison::Eq, value(), false);
        check(&file("meter", Some("a"), Some("b"), 8), "organization", Comparison::Eq, value(), true);
        check(&file("start_at", Some("nonsense"), Some("x"), 8), "start_at", Comparison::Eq, FilterValue::At(Instant::EPOCH), true);
    }
}
