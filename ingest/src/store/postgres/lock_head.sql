SELECT 1 FROM (SELECT pg_advisory_xact_lock(hashtext('platform_ingest_batches')::bigint)) AS locked
