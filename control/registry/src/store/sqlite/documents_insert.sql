INSERT INTO platform_registry_documents (digest, kind, id, content)
SELECT unhex(item.value ->> 'digest'), item.value ->> 'kind', item.value ->> 'id', item.value ->> 'content'
FROM json_each($1) AS item
WHERE NOT EXISTS (SELECT 1 FROM platform_registry_documents AS old WHERE old.digest = unhex(item.value ->> 'digest'))
