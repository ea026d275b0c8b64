SELECT count(*)
FROM platform_iam_keys AS found
JOIN platform_iam_principals AS owner ON owner.principal = found.principal
WHERE owner.role = 'operator'
