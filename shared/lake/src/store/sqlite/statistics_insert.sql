INSERT INTO ducklake_file_column_stats (
    data_file_id, table_id, column_id, column_size_bytes, value_count, null_count, min_value, max_value
)
SELECT
    value ->> 'file', value ->> 'table', value ->> 'column', value ->> 'bytes', value ->> 'values', value ->> 'nulls', value ->> 'min',
    value ->> 'max'
FROM json_each($1)
