SELECT data_file_id, path FROM ducklake_files_scheduled_for_deletion
WHERE path_is_relative = 1 AND schedule_start <= $1 ORDER BY data_file_id LIMIT $2
