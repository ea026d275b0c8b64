SELECT organization, project, name, created_at FROM platform_iam_projects ORDER BY organization, project
