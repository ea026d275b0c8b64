SELECT organization, date_trunc('day', start_at) AS day, sum(amount) AS amount FROM usage.charges GROUP BY 1, 2 ORDER BY 1, 2
