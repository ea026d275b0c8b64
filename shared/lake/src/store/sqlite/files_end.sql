UPDATE ducklake_data_file SET end_snapshot = $3
WHERE table_id = $2 AND end_snapshot IS NULL AND path IN (SELECT value FROM json_each($1))
