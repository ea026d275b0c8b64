INSERT INTO platform_registry_level_ticks (control_no, batch_no) VALUES ($1, $2)
