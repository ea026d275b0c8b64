SELECT t.table_id, t.table_name, t.path, coalesce(s.next_row_id, 0)
FROM ducklake_table AS t
LEFT JOIN ducklake_table_stats AS s ON s.table_id = t.table_id
WHERE t.schema_id = 0 AND t.end_snapshot IS NULL AND t.path_is_relative
ORDER BY t.table_id
