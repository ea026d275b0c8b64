SELECT role, organization FROM platform_iam_principals WHERE principal = $1
