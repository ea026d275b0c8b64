SELECT account, asset, CAST(debits AS TEXT), CAST(credits AS TEXT), last_seq
FROM platform_ledger_balances ORDER BY account, asset
