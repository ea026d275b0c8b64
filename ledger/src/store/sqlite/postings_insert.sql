INSERT INTO platform_ledger_postings (
    seq, entry_no, debit_account, credit_account, asset, amount, kind, ref_seq, accounting_period,
    organization, contract, contract_line, service_period, currency, quantity, effective_at
)
SELECT $1 + key, $2, value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5, value ->> 6,
    value ->> 7, value ->> 8, value ->> 9, value ->> 10, value ->> 11, value ->> 12, value ->> 13
FROM json_each($3)
