SELECT count(*), coalesce(sum(record_count), 0), coalesce(sum(file_size_bytes), 0) FROM ducklake_data_file
WHERE table_id = $2 AND end_snapshot IS NULL AND path IN (SELECT value FROM json_each($1))
