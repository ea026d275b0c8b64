SELECT organization, project, meter, unit, currency, hour, quantity, amount, readings
FROM platform_catalog_hours WHERE hour >= $1 AND hour <= $2 ORDER BY organization, hour, meter, unit, currency, project
