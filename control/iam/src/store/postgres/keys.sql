SELECT found.key, found.hash, found.last4, found.principal, owner.role, owner.organization, found.scopes, found.created_at, found.expires_at,
    revocation.revoked_at
FROM platform_iam_keys AS found
JOIN platform_iam_principals AS owner ON owner.principal = found.principal
LEFT JOIN platform_iam_revocations AS revocation ON revocation.key = found.key
ORDER BY found.created_at, found.key
