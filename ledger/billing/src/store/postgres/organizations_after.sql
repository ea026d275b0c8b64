SELECT DISTINCT organization COLLATE "C" FROM platform_billing_totals
WHERE accounting_period > $1 AND accounting_period <= $2 AND organization COLLATE "C" > $3 ORDER BY organization COLLATE "C" LIMIT $4
