INSERT INTO platform_audit_records (record_no, chain, seq, content, previous, digest) VALUES ($1, $2, $3, $4, $5, $6)
