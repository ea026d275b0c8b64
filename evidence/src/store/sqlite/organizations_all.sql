SELECT organization, salted, leaf_hash FROM platform_evidence_organizations ORDER BY salted
