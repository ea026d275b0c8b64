INSERT INTO platform_billing_passes (shard, period, registry_version, batch_no)
SELECT (value ->> 0)::integer, (value ->> 1)::integer, decode(value ->> 2, 'hex'), (value ->> 3)::bigint
FROM jsonb_array_elements($1::text::jsonb) AS value
