SELECT coalesce(max(control_no), 0) FROM platform_registry_controls
