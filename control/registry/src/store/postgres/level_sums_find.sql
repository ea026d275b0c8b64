SELECT sums.organization, sums.project, sums.meter, sums.dimensions, sums.month, sums.quantity
FROM jsonb_to_recordset($1::text::jsonb) AS wanted (organization text, project text, meter text, dimensions text, month integer)
JOIN platform_registry_level_sums AS sums USING (organization, project, meter, dimensions, month)
