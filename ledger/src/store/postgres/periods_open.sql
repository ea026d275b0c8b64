INSERT INTO platform_ledger_periods (period)
SELECT value::text::integer FROM jsonb_array_elements($1::text::jsonb) AS value
ON CONFLICT DO NOTHING
