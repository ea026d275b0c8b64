INSERT INTO ducklake_table_stats (table_id, record_count, next_row_id, file_size_bytes)
SELECT value ->> 'table', value ->> 'rows', value ->> 'rows', value ->> 'bytes' FROM json_each($1) WHERE true
ON CONFLICT (table_id) DO UPDATE SET
    record_count = ducklake_table_stats.record_count + excluded.record_count,
    next_row_id = ducklake_table_stats.next_row_id + excluded.next_row_id,
    file_size_bytes = ducklake_table_stats.file_size_bytes + excluded.file_size_bytes
