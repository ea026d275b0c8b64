SELECT document.content
FROM platform_registry_versions AS version
    CROSS JOIN LATERAL json_array_elements_text(version.documents::json) WITH ORDINALITY AS item (digest, ordinal)
    JOIN platform_registry_documents AS document ON document.digest = decode(item.digest, 'hex')
WHERE version.address = $1
ORDER BY item.ordinal
