INSERT INTO platform_ledger_accounts (account, asset)
SELECT value ->> 0, value ->> 1 FROM jsonb_array_elements($1::text::jsonb) AS value
ON CONFLICT DO NOTHING
