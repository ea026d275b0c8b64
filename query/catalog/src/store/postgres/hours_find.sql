SELECT hours.organization, hours.project, hours.meter, hours.unit, hours.currency, hours.hour, hours.quantity, hours.amount, hours.readings
FROM jsonb_to_recordset($1::text::jsonb) AS wanted (organization text, project text, meter text, unit text, currency text, hour bigint)
JOIN platform_catalog_hours AS hours USING (organization, project, meter, unit, currency, hour)
