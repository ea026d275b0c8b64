INSERT INTO platform_evidence_checkpoints (tree_size, batch_no, entry, root, note, recorded_at) VALUES ($1, $2, $3, $4, $5, $6)
