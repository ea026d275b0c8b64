SELECT asset FROM platform_ledger_assets ORDER BY asset
