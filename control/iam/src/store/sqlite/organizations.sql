SELECT organization, name, created_at FROM platform_iam_organizations ORDER BY organization
