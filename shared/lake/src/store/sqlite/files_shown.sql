SELECT path FROM ducklake_data_file
WHERE table_id = $2 AND end_snapshot IS NULL AND path IN (SELECT value FROM json_each($1))
