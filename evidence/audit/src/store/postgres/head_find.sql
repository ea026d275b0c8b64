SELECT seq, digest FROM platform_audit_heads WHERE chain = $1
