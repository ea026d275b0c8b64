UPDATE ducklake_data_file SET end_snapshot = $3
WHERE table_id = $2 AND end_snapshot IS NULL AND path IN (SELECT jsonb_array_elements_text($1::text::jsonb))
