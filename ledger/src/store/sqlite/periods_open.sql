INSERT INTO platform_ledger_periods (period)
SELECT value FROM json_each($1)
WHERE NOT EXISTS (SELECT 1 FROM platform_ledger_periods WHERE period = value)
