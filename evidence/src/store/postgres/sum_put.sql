INSERT INTO platform_evidence_sums (organization, currency, amount) VALUES ($1, $2, CAST($3 AS numeric))
ON CONFLICT (organization, currency) DO UPDATE SET amount = excluded.amount
