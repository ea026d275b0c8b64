INSERT INTO platform_iam_organizations (organization, name, created_at) VALUES ($1, $2, $3)
