DELETE FROM ducklake_snapshot_changes WHERE snapshot_id < (SELECT min(snapshot_id) FROM ducklake_snapshot)
