INSERT INTO platform_iam_keys (key, hash, last4, principal, scopes, created_at, expires_at)
VALUES ($1, $2, $3, $4, $5::text, $6, $7::bigint)
