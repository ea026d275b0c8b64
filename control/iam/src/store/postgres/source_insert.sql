INSERT INTO platform_iam_sources (source, sequenced, created_at) VALUES ($1, $2, $3)
