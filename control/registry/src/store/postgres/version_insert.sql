INSERT INTO platform_registry_versions (address, documents, recorded_at) VALUES ($1, $2, $3)
