SELECT version.address, version.recorded_at, max(control.control_no)
FROM platform_registry_versions AS version
    JOIN platform_registry_controls AS control ON control.version = version.address
GROUP BY version.address, version.recorded_at
ORDER BY max(control.control_no)
