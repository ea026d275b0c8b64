SELECT contract, term, service_period, currency, term_amount FROM platform_billing_term_lines
WHERE organization = $1 AND period < $2 ORDER BY period
