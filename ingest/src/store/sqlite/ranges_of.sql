SELECT shard, incarnation, first, last, last_digest, control_no, registry_version, oldest_open
FROM platform_ingest_ranges WHERE batch_no = $1 ORDER BY shard, first
