SELECT
    f.data_file_id, f.path, f.path_is_relative, f.record_count, f.file_size_bytes, f.footer_size, f.begin_snapshot, f.partial_max,
    s.column_id, s.column_size_bytes, s.value_count, s.null_count, s.min_value, s.max_value
FROM ducklake_data_file AS f
LEFT JOIN ducklake_file_column_stats AS s ON s.data_file_id = f.data_file_id
WHERE f.table_id = $1 AND f.begin_snapshot <= $2 AND (f.end_snapshot IS NULL OR f.end_snapshot > $2)
ORDER BY f.begin_snapshot, f.data_file_id, s.column_id
