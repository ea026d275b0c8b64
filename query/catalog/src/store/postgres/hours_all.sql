SELECT organization, project, meter, unit, currency, hour, quantity, amount, readings
FROM platform_catalog_hours ORDER BY organization, hour, meter, unit, currency, project
