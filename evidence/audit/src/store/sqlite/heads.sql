SELECT chain, seq, digest FROM platform_audit_heads ORDER BY chain
