SELECT organization, currency, amount FROM platform_evidence_sums WHERE organization IN (SELECT value FROM json_each($1))
