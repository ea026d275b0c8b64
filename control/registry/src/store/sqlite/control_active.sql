SELECT control_no, version FROM platform_registry_controls WHERE version IS NOT NULL ORDER BY control_no DESC LIMIT 1
