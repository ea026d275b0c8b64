SELECT s.snapshot_id, s.snapshot_time, c.changes_made, c.author, c.commit_message, c.commit_extra_info
FROM ducklake_snapshot AS s
LEFT JOIN ducklake_snapshot_changes AS c ON c.snapshot_id = s.snapshot_id
WHERE s.snapshot_id > $1
ORDER BY s.snapshot_id LIMIT $2
