SELECT
    t.table_name,
    (SELECT count(*) FROM ducklake_data_file AS f WHERE f.table_id = t.table_id AND f.end_snapshot IS NOT NULL),
    (SELECT count(*) FROM ducklake_files_scheduled_for_deletion AS s WHERE substr(s.path, 1, length(t.path)) = t.path)
FROM ducklake_table AS t
WHERE t.end_snapshot IS NULL
ORDER BY t.table_id
