SELECT 1 FROM platform_registry_versions WHERE address = $1
