INSERT INTO platform_billing_lines (
    invoice_id, number, organization, contract, contract_line, sku, service_period, currency, period, key_total, key_amount, exact, amount
)
SELECT $1, (value ->> 0)::bigint, $2, value ->> 1, value ->> 2, value ->> 3, (value ->> 4)::integer, $3, $4,
    (value ->> 5)::bigint, (value ->> 6)::bigint, (value ->> 7)::bigint, (value ->> 8)::bigint
FROM jsonb_array_elements($5::text::jsonb) AS value
