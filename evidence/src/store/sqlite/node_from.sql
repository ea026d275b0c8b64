SELECT node_no FROM platform_evidence_nodes WHERE level = $1 AND node_no >= $2 LIMIT 1
