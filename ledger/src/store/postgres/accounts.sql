SELECT account, asset FROM platform_ledger_accounts ORDER BY account COLLATE "C", asset COLLATE "C"
