INSERT INTO platform_billing_term_lines (
    invoice_id, number, organization, contract, term, service_period, currency, period, term_amount, amount
)
SELECT $1, value ->> 0, $2, value ->> 1, value ->> 2, value ->> 3, $3, $4, value ->> 4, value ->> 5
FROM json_each($5)
