INSERT INTO platform_iam_principals (principal, role, organization, created_at) VALUES ($1, $2, $3, $4)
