INSERT INTO ducklake_files_scheduled_for_deletion (data_file_id, path, path_is_relative, schedule_start)
SELECT f.data_file_id, CASE WHEN f.path_is_relative THEN t.path || f.path ELSE f.path END, f.path_is_relative, $1::text::timestamptz
FROM ducklake_data_file AS f
JOIN ducklake_table AS t ON t.table_id = f.table_id
WHERE f.end_snapshot <= (SELECT min(snapshot_id) FROM ducklake_snapshot)
