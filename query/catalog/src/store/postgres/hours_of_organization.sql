SELECT organization, project, meter, unit, currency, hour, quantity, amount, readings
FROM platform_catalog_hours WHERE organization = $1 AND hour >= $2 AND hour <= $3 ORDER BY hour, meter, unit, currency, project
