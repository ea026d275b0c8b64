SELECT node_no, hash FROM platform_evidence_nodes WHERE level = $1 AND node_no >= $2 AND node_no < $3 ORDER BY node_no
