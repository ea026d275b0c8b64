SELECT record_no, chain, seq, content, previous, digest FROM platform_audit_records WHERE record_no > $1 ORDER BY record_no LIMIT $2
