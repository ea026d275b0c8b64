INSERT INTO platform_iam_key_sources (key, source) VALUES ($1, $2)
