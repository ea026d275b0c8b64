INSERT INTO platform_ingest_ranges
    (batch_no, shard, incarnation, first, last, last_digest, control_no, registry_version, oldest_open)
SELECT $1, shard, incarnation, first, last, last_digest, control_no, registry_version, oldest_open
FROM jsonb_to_recordset($2::text::jsonb) AS range (shard bigint, incarnation bigint, first bigint, last bigint,
    last_digest text, control_no bigint, registry_version text, oldest_open bigint)
