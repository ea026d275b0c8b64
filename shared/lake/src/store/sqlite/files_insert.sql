INSERT INTO ducklake_data_file (
    data_file_id, table_id, begin_snapshot, path, path_is_relative, file_format, record_count, file_size_bytes, footer_size, row_id_start
)
SELECT
    value ->> 'id', value ->> 'table', $2, value ->> 'path', 1, 'parquet', value ->> 'rows', value ->> 'bytes', value ->> 'footer',
    value ->> 'row_id'
FROM json_each($1)
