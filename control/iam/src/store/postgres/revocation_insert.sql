INSERT INTO platform_iam_revocations (key, revoked_at) VALUES ($1, $2)
