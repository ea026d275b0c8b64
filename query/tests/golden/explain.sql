-- as acme
EXPLAIN SELECT meter, sum(amount) FROM usage.charges WHERE amount > 0.1 AND start_at >= '2026-01-01T00:00:00Z' GROUP BY meter
