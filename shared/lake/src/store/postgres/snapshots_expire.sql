DELETE FROM ducklake_snapshot WHERE snapshot_id IN (
    SELECT snapshot_id FROM ducklake_snapshot
    WHERE snapshot_time < $1::text::timestamptz AND snapshot_id < (SELECT max(snapshot_id) FROM ducklake_snapshot)
    ORDER BY snapshot_id LIMIT $2
)
