INSERT INTO ducklake_table_stats (table_id, record_count, next_row_id, file_size_bytes)
SELECT $1, 0, 0, 0 WHERE NOT EXISTS (SELECT 1 FROM ducklake_table_stats WHERE table_id = $1)
