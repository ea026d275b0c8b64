INSERT INTO platform_registry_level_sums (organization, project, meter, dimensions, month, quantity)
SELECT organization, project, meter, dimensions, month, quantity
FROM jsonb_to_recordset($1::text::jsonb) AS fresh (organization text, project text, meter text, dimensions text, month integer, quantity text)
ON CONFLICT (organization, project, meter, dimensions, month) DO UPDATE SET quantity = excluded.quantity
