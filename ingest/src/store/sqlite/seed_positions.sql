INSERT INTO platform_ingest_positions (shard, incarnation, sequence, digest, control_no, registry_version)
SELECT value, 0, 0, $2, 0, $2 FROM json_each($1)
