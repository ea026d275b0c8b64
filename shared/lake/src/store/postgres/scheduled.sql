SELECT data_file_id, path FROM ducklake_files_scheduled_for_deletion
WHERE path_is_relative AND schedule_start <= $1::text::timestamptz ORDER BY data_file_id LIMIT $2
