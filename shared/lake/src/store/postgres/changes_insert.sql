INSERT INTO ducklake_snapshot_changes (snapshot_id, changes_made, author, commit_message, commit_extra_info)
VALUES ($1, $2, $3::text, $4::text, $5::text)
