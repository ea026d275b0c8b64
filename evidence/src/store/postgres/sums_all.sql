SELECT organization, currency, amount::text FROM platform_evidence_sums
