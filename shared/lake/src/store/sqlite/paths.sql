SELECT t.path || f.path FROM ducklake_data_file AS f JOIN ducklake_table AS t ON t.table_id = f.table_id WHERE f.path_is_relative = 1
UNION ALL
SELECT path FROM ducklake_files_scheduled_for_deletion WHERE path_is_relative = 1
