SELECT seq, entry_no, debit_account, credit_account, asset, amount, kind, ref_seq, accounting_period,
    organization, contract, contract_line, service_period, currency, quantity, effective_at
FROM platform_ledger_postings WHERE seq > $1 ORDER BY seq LIMIT $2
