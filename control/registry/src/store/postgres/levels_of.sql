SELECT organization, meter, period, level_no, event FROM platform_registry_levels WHERE control_no = $1 ORDER BY level_no
