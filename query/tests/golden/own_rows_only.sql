-- as beta
SELECT * FROM usage.charges ORDER BY start_at
