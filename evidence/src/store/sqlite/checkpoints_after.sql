SELECT tree_size, batch_no, entry, root, note, recorded_at FROM platform_evidence_checkpoints
WHERE tree_size > $1 ORDER BY tree_size LIMIT $2
