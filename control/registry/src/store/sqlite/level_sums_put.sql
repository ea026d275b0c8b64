INSERT INTO platform_registry_level_sums (organization, project, meter, dimensions, month, quantity)
SELECT value ->> 'organization', value ->> 'project', value ->> 'meter', value ->> 'dimensions', value ->> 'month', value ->> 'quantity'
FROM json_each($1) WHERE true
ON CONFLICT (organization, project, meter, dimensions, month) DO UPDATE SET quantity = excluded.quantity
