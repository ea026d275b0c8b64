SELECT record_no, chain, seq, content, previous, digest FROM platform_audit_records
WHERE chain = $1 AND seq > $2 ORDER BY seq LIMIT $3
