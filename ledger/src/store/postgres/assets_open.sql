INSERT INTO platform_ledger_assets (asset, scale)
SELECT value, 9 FROM jsonb_array_elements_text($1::text::jsonb) AS value
ON CONFLICT DO NOTHING
