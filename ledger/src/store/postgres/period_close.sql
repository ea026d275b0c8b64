INSERT INTO platform_ledger_period_closes (period, last_seq)
SELECT $1, coalesce(max(last_seq), 0) FROM platform_ledger_entries
