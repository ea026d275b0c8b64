SELECT period, (SELECT last_seq FROM platform_ledger_period_closes AS closed WHERE closed.period = opened.period)
FROM platform_ledger_periods AS opened ORDER BY period
