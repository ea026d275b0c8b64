SELECT CAST(1 AS bigint) FROM platform_registry_versions WHERE address = $1
