INSERT INTO ducklake_column (
    column_id, begin_snapshot, table_id, column_order, column_name, column_type, default_value, nulls_allowed, default_value_type,
    default_value_dialect
)
SELECT
    value ->> 'id', $2, $3, value ->> 'order', value ->> 'name', value ->> 'type', 'NULL', value ->> 'nullable', 'literal', 'duckdb'
FROM json_each($1)
