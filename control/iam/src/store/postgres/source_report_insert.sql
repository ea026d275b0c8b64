INSERT INTO platform_iam_source_reports (source, organization, created_at) VALUES ($1, $2, $3)
