SELECT shard, incarnation, sequence, digest, control_no, registry_version, oldest_open
FROM platform_ingest_positions ORDER BY shard
