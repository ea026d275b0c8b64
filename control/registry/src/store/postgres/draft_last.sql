SELECT coalesce(max(draft_no), 0) FROM platform_registry_drafts
