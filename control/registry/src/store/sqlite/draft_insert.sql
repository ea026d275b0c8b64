INSERT INTO platform_registry_drafts (draft_no, version, documents, base, money, note, proposed_by, recorded_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
