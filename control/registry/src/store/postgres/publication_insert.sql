INSERT INTO platform_registry_publications (draft_no, control_no, published_by) VALUES ($1, $2, $3)
