INSERT INTO platform_ingest_ranges
    (batch_no, shard, incarnation, first, last, last_digest, control_no, registry_version, oldest_open)
SELECT $1, value ->> 'shard', value ->> 'incarnation', value ->> 'first', value ->> 'last', value ->> 'last_digest',
    value ->> 'control_no', value ->> 'registry_version', value ->> 'oldest_open'
FROM json_each($2)
