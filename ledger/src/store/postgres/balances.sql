SELECT account, asset, debits::text, credits::text, last_seq
FROM platform_ledger_balances ORDER BY account COLLATE "C", asset COLLATE "C"
