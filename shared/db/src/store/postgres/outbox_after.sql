SELECT event_no, subject, event_type, version, correlation_id, payload
FROM shared_db_outbox WHERE event_no > $1 ORDER BY event_no LIMIT $2
