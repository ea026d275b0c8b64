INSERT INTO platform_registry_levels (level_no, control_no, organization, project, meter, dimensions, period, quantity, event)
SELECT value ->> 'level_no', $1, value ->> 'organization', value ->> 'project', value ->> 'meter', value ->> 'dimensions', value ->> 'period',
    value ->> 'quantity', value ->> 'event'
FROM json_each($2)
