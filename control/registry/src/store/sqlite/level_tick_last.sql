SELECT control_no, batch_no FROM platform_registry_level_ticks ORDER BY control_no DESC LIMIT 1
