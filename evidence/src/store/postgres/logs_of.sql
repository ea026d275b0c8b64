SELECT organization, month, size, frontier FROM platform_evidence_logs
WHERE organization IN (SELECT jsonb_array_elements_text(CAST($1::text AS jsonb)))
