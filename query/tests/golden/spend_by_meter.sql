SELECT meter, sum(quantity) AS quantity, sum(amount) AS amount, count(*) AS rows FROM usage.charges GROUP BY meter ORDER BY meter
