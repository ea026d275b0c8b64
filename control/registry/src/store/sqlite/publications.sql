SELECT control_no, version, recorded_at FROM platform_registry_controls
WHERE version IS NOT NULL AND recorded_at <= $1
ORDER BY control_no
