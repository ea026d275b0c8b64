SELECT coalesce(max(level_no), 0) FROM platform_registry_levels
