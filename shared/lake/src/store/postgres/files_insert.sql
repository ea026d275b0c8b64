INSERT INTO ducklake_data_file (
    data_file_id, table_id, begin_snapshot, path, path_is_relative, file_format, record_count, file_size_bytes, footer_size, row_id_start
)
SELECT
    (value ->> 'id')::bigint, (value ->> 'table')::bigint, $2, value ->> 'path', true, 'parquet', (value ->> 'rows')::bigint,
    (value ->> 'bytes')::bigint, (value ->> 'footer')::bigint, (value ->> 'row_id')::bigint
FROM jsonb_array_elements($1::text::jsonb)
