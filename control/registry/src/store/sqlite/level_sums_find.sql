SELECT sums.organization, sums.project, sums.meter, sums.dimensions, sums.month, sums.quantity
FROM json_each($1) AS wanted
JOIN platform_registry_level_sums AS sums
    ON sums.organization = wanted.value ->> 'organization' AND sums.project = wanted.value ->> 'project'
    AND sums.meter = wanted.value ->> 'meter' AND sums.dimensions = wanted.value ->> 'dimensions' AND sums.month = wanted.value ->> 'month'
