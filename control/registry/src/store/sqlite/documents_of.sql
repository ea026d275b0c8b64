SELECT document.content
FROM platform_registry_versions AS version, json_each(version.documents) AS item
    JOIN platform_registry_documents AS document ON document.digest = unhex(item.value)
WHERE version.address = $1
ORDER BY item.key
