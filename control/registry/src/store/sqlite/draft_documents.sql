SELECT document.content
FROM platform_registry_drafts AS draft, json_each(draft.documents) AS item
    JOIN platform_registry_documents AS document ON document.digest = unhex(item.value)
WHERE draft.draft_no = $1
ORDER BY item.key
