INSERT INTO platform_registry_documents (digest, kind, id, content)
SELECT decode(item.value ->> 'digest', 'hex'), item.value ->> 'kind', item.value ->> 'id', item.value ->> 'content'
FROM json_array_elements($1::text::json) AS item
WHERE NOT EXISTS (SELECT 1 FROM platform_registry_documents AS old WHERE old.digest = decode(item.value ->> 'digest', 'hex'))
