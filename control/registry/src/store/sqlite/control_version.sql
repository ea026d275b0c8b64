SELECT version FROM platform_registry_controls WHERE version IS NOT NULL AND control_no <= $1 ORDER BY control_no DESC LIMIT 1
