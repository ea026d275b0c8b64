SELECT coalesce(max(record_no), 0) FROM platform_audit_records
