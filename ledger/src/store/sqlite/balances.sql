SELECT account, asset, printf('%d%018d', debits_high, debits), printf('%d%018d', credits_high, credits), last_seq
FROM platform_ledger_balances ORDER BY account, asset
