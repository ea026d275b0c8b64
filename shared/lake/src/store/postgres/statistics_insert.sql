INSERT INTO ducklake_file_column_stats (
    data_file_id, table_id, column_id, column_size_bytes, value_count, null_count, min_value, max_value
)
SELECT
    (value ->> 'file')::bigint, (value ->> 'table')::bigint, (value ->> 'column')::bigint, (value ->> 'bytes')::bigint,
    (value ->> 'values')::bigint, (value ->> 'nulls')::bigint, value ->> 'min', value ->> 'max'
FROM jsonb_array_elements($1::text::jsonb)
