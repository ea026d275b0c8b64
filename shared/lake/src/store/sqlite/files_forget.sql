DELETE FROM ducklake_data_file WHERE end_snapshot <= (SELECT min(snapshot_id) FROM ducklake_snapshot)
