SELECT control_no, payload FROM platform_registry_controls WHERE kind = 'tick' AND control_no < $1 ORDER BY control_no DESC LIMIT 1
