INSERT INTO platform_catalog_hours (organization, project, meter, unit, currency, hour, quantity, amount, readings)
SELECT organization, project, meter, unit, currency, hour, quantity, amount, readings
FROM jsonb_to_recordset($1::text::jsonb) AS fresh (organization text, project text, meter text, unit text, currency text, hour bigint,
    quantity text, amount text, readings bigint)
ON CONFLICT (organization, hour, meter, unit, currency, project)
DO UPDATE SET quantity = excluded.quantity, amount = excluded.amount, readings = excluded.readings
