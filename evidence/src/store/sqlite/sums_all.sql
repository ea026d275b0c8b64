SELECT organization, currency, amount FROM platform_evidence_sums
