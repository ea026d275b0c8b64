SELECT organization, month, size, frontier FROM platform_evidence_logs WHERE organization IN (SELECT value FROM json_each($1))
