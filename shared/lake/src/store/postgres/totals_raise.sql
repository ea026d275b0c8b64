INSERT INTO ducklake_table_stats (table_id, record_count, next_row_id, file_size_bytes)
SELECT (value ->> 'table')::bigint, (value ->> 'rows')::bigint, (value ->> 'rows')::bigint, (value ->> 'bytes')::bigint
FROM jsonb_array_elements($1::text::jsonb)
ON CONFLICT (table_id) DO UPDATE SET
    record_count = ducklake_table_stats.record_count + excluded.record_count,
    next_row_id = ducklake_table_stats.next_row_id + excluded.next_row_id,
    file_size_bytes = ducklake_table_stats.file_size_bytes + excluded.file_size_bytes
