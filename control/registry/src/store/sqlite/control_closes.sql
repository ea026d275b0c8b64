SELECT control_no, payload FROM platform_registry_controls WHERE kind = 'close' ORDER BY control_no
