INSERT INTO platform_registry_reviews (draft_no, verdict, reason, reviewed_by, recorded_at) VALUES ($1, $2, $3, $4, $5)
