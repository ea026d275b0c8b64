INSERT INTO platform_registry_levels (level_no, control_no, organization, project, meter, dimensions, period, quantity, event)
SELECT level_no, $1, organization, project, meter, dimensions, period, quantity, event
FROM jsonb_to_recordset($2::text::jsonb) AS fresh (level_no bigint, organization text, project text, meter text, dimensions text,
    period integer, quantity text, event text)
