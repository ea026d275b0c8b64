INSERT INTO platform_registry_retirements (version, reason, retired_by, recorded_at) VALUES ($1, $2, $3, $4)
