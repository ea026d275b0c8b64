SELECT organization, project, meter, dimensions, month, quantity FROM platform_registry_level_sums
