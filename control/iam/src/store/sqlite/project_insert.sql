INSERT INTO platform_iam_projects (organization, project, name, created_at) VALUES ($1, $2, $3, $4)
