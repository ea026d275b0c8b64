SELECT organization, currency, amount::text FROM platform_evidence_sums
WHERE organization IN (SELECT jsonb_array_elements_text(CAST($1::text AS jsonb)))
