INSERT INTO platform_ledger_postings (
    seq, entry_no, debit_account, credit_account, asset, amount, kind, ref_seq, accounting_period,
    organization, contract, contract_line, service_period, currency, quantity, effective_at
)
SELECT $1 + position - 1, $2, value ->> 0, value ->> 1, value ->> 2, (value ->> 3)::bigint, (value ->> 4)::smallint,
    (value ->> 5)::bigint, (value ->> 6)::integer, value ->> 7, value ->> 8, value ->> 9, (value ->> 10)::integer, value ->> 11,
    value ->> 12, (value ->> 13)::bigint
FROM jsonb_array_elements($3::text::jsonb) WITH ORDINALITY AS listed (value, position)
