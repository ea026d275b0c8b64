SELECT document.content
FROM platform_registry_drafts AS draft
    CROSS JOIN LATERAL json_array_elements_text(draft.documents::json) WITH ORDINALITY AS item (digest, ordinal)
    JOIN platform_registry_documents AS document ON document.digest = decode(item.digest, 'hex')
WHERE draft.draft_no = $1
ORDER BY item.ordinal
