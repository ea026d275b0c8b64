INSERT INTO platform_evidence_nodes (level, node_no, hash) VALUES ($1, $2, $3)
