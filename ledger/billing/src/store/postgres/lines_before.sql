SELECT contract, sku, service_period, currency, key_total, key_amount FROM platform_billing_lines
WHERE organization = $1 AND period < $2 ORDER BY period
