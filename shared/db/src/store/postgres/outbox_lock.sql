SELECT 1 FROM (SELECT pg_advisory_xact_lock(hashtextextended(current_schema() || '.shared_db_outbox', 0))) AS held
