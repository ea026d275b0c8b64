INSERT INTO platform_ingest_positions (shard, incarnation, sequence, digest, control_no, registry_version)
SELECT value::bigint, 0, 0, $2, 0, $2 FROM jsonb_array_elements_text($1::text::jsonb) AS shards (value)
