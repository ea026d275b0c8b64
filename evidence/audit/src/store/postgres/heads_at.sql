SELECT record.chain, record.seq, record.digest
FROM (SELECT chain, max(seq) AS seq FROM platform_audit_records WHERE record_no <= $1 GROUP BY chain) AS last
JOIN platform_audit_records AS record ON record.chain = last.chain AND record.seq = last.seq
ORDER BY record.chain
