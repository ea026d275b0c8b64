SELECT control_no, payload, digest, kind, version FROM platform_registry_controls WHERE control_no > $1 ORDER BY control_no
