INSERT INTO platform_evidence_organizations (organization, salted, leaf_hash) VALUES ($1, $2, $3)
ON CONFLICT (organization) DO UPDATE SET salted = excluded.salted, leaf_hash = excluded.leaf_hash
