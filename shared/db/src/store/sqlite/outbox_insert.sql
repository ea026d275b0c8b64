INSERT INTO shared_db_outbox (event_no, subject, event_type, version, correlation_id, payload)
SELECT 1 + coalesce(max(event_no), 0), $1, $2, $3, $4, $5 FROM shared_db_outbox
RETURNING event_no
