INSERT INTO platform_catalog_hours (organization, project, meter, unit, currency, hour, quantity, amount, readings)
SELECT value ->> 'organization', value ->> 'project', value ->> 'meter', value ->> 'unit', value ->> 'currency', value ->> 'hour',
    value ->> 'quantity', value ->> 'amount', value ->> 'readings'
FROM json_each($1) WHERE true
ON CONFLICT (organization, hour, meter, unit, currency, project)
DO UPDATE SET quantity = excluded.quantity, amount = excluded.amount, readings = excluded.readings
