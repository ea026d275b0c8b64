DELETE FROM ducklake_files_scheduled_for_deletion
WHERE data_file_id IN (SELECT value::bigint FROM jsonb_array_elements_text($1::text::jsonb) AS item (value))
