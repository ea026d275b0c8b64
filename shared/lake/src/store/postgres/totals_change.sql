UPDATE ducklake_table_stats
SET record_count = record_count + $2, next_row_id = next_row_id + $3, file_size_bytes = file_size_bytes + $4
WHERE table_id = $1
