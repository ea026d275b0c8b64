SELECT digest FROM platform_registry_documents
WHERE kind = 'meter' AND (content LIKE '%"time_weighted"%' OR content LIKE '%"prorated"%') LIMIT 1
