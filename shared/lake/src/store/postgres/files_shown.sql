SELECT path FROM ducklake_data_file
WHERE table_id = $2 AND end_snapshot IS NULL AND path IN (SELECT jsonb_array_elements_text($1::text::jsonb))
