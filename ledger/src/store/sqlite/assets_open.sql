INSERT INTO platform_ledger_assets (asset, scale)
SELECT value, 9 FROM json_each($1)
WHERE NOT EXISTS (SELECT 1 FROM platform_ledger_assets WHERE asset = value)
