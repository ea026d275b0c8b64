SELECT number, organization, contract, contract_line, sku, service_period, currency, period, key_total, key_amount, exact, amount
FROM platform_billing_lines WHERE invoice_id = $1 ORDER BY number
