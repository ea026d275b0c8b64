UPDATE platform_ingest_positions AS position
SET incarnation = range.incarnation, sequence = range.last, digest = range.last_digest,
    control_no = range.control_no, registry_version = range.registry_version, oldest_open = range.oldest_open
FROM jsonb_to_recordset($1::text::jsonb) AS range (shard bigint, incarnation bigint, last bigint, last_digest text, control_no bigint,
    registry_version text, oldest_open bigint, before_incarnation bigint, before_sequence bigint, before_digest text)
WHERE position.shard = range.shard AND position.incarnation = range.before_incarnation
    AND position.sequence = range.before_sequence AND position.digest = range.before_digest
