INSERT INTO platform_billing_reratings (organization, contract, sku, service_period, currency, batch_no, accounting_period, registry_version, amount)
SELECT value ->> 0, value ->> 1, value ->> 2, (value ->> 3)::integer, value ->> 4, (value ->> 5)::bigint, (value ->> 6)::integer,
    decode(value ->> 7, 'hex'), (value ->> 8)::bigint
FROM jsonb_array_elements($1::text::jsonb) AS value
