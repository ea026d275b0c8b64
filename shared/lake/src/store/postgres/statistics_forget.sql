DELETE FROM ducklake_file_column_stats WHERE data_file_id IN (
    SELECT data_file_id FROM ducklake_data_file WHERE end_snapshot <= (SELECT min(snapshot_id) FROM ducklake_snapshot)
)
