SELECT 1 FROM (SELECT pg_advisory_xact_lock(hashtextextended(current_schema() || '.platform_audit_records', 0))) AS held
