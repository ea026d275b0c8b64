SELECT hours.organization, hours.project, hours.meter, hours.unit, hours.currency, hours.hour, hours.quantity, hours.amount, hours.readings
FROM json_each($1) AS wanted
JOIN platform_catalog_hours AS hours
    ON hours.organization = wanted.value ->> 'organization' AND hours.hour = wanted.value ->> 'hour'
    AND hours.meter = wanted.value ->> 'meter' AND hours.unit = wanted.value ->> 'unit'
    AND hours.currency = wanted.value ->> 'currency' AND hours.project = wanted.value ->> 'project'
