UPDATE platform_ingest_positions
SET incarnation = range.value ->> 'incarnation', sequence = range.value ->> 'last', digest = range.value ->> 'last_digest',
    control_no = range.value ->> 'control_no', registry_version = range.value ->> 'registry_version',
    oldest_open = range.value ->> 'oldest_open'
FROM json_each($1) AS range
WHERE shard = range.value ->> 'shard' AND incarnation = range.value ->> 'before_incarnation'
    AND sequence = range.value ->> 'before_sequence' AND digest = range.value ->> 'before_digest'
