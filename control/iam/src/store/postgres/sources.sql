SELECT source, sequenced, created_at FROM platform_iam_sources ORDER BY source
