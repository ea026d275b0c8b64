INSERT INTO platform_ledger_accounts (account, asset)
SELECT value ->> 0, value ->> 1 FROM json_each($1)
WHERE NOT EXISTS (SELECT 1 FROM platform_ledger_accounts WHERE account = value ->> 0 AND asset = value ->> 1)
