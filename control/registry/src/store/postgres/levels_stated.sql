SELECT organization, project, meter, dimensions, period, quantity FROM platform_registry_levels ORDER BY level_no
