SELECT key, source FROM platform_iam_key_sources
