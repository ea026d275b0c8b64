INSERT INTO platform_billing_lines (
    invoice_id, number, organization, contract, contract_line, sku, service_period, currency, period, key_total, key_amount, exact, amount
)
SELECT $1, value ->> 0, $2, value ->> 1, value ->> 2, value ->> 3, value ->> 4, $3, $4, value ->> 5, value ->> 6, value ->> 7, value ->> 8
FROM json_each($5)
