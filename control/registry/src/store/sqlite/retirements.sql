SELECT version, reason, retired_by, recorded_at FROM platform_registry_retirements ORDER BY recorded_at, version
