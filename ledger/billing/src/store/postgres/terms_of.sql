SELECT number, organization, contract, term, service_period, currency, period, term_amount, amount
FROM platform_billing_term_lines WHERE invoice_id = $1 ORDER BY number
