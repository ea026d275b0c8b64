INSERT INTO platform_billing_term_lines (
    invoice_id, number, organization, contract, term, service_period, currency, period, term_amount, amount
)
SELECT $1, (value ->> 0)::bigint, $2, value ->> 1, value ->> 2, (value ->> 3)::integer, $3, $4,
    (value ->> 4)::bigint, (value ->> 5)::bigint
FROM jsonb_array_elements($5::text::jsonb) AS value
