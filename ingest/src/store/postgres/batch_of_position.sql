SELECT batch_no FROM platform_ingest_ranges
WHERE shard = $1 AND incarnation = $2 AND first <= $3 AND last >= $3 ORDER BY first DESC LIMIT 1
