SELECT min(snapshot_id) FROM ducklake_snapshot
