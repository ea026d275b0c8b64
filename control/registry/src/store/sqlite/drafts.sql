SELECT draft.draft_no, draft.version, draft.base, draft.money, draft.note, draft.proposed_by, draft.recorded_at,
    review.verdict, review.reason, review.reviewed_by, review.recorded_at, publication.control_no, publication.published_by
FROM platform_registry_drafts AS draft
    LEFT JOIN platform_registry_reviews AS review ON review.draft_no = draft.draft_no
    LEFT JOIN platform_registry_publications AS publication ON publication.draft_no = draft.draft_no
WHERE draft.draft_no BETWEEN $1 AND $2
ORDER BY draft.draft_no
