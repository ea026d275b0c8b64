SELECT organization, month, size, frontier FROM platform_evidence_logs
