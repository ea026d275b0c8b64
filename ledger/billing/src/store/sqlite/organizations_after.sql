SELECT DISTINCT organization FROM platform_billing_totals
WHERE accounting_period > $1 AND accounting_period <= $2 AND organization > $3 ORDER BY organization LIMIT $4
