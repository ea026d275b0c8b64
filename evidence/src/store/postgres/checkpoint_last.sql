SELECT tree_size, batch_no, entry, root, note, recorded_at FROM platform_evidence_checkpoints ORDER BY tree_size DESC LIMIT 1
