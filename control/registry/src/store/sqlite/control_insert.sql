INSERT INTO platform_registry_controls (control_no, kind, version, payload, digest, recorded_at)
VALUES ($1, $2, $3, $4, $5, $6)
