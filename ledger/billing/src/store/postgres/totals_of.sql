SELECT organization, contract, contract_line, sku, service_period, currency, accounting_period, quantity, amount, readings, total, prices, log_sizes
FROM platform_billing_totals WHERE organization = $1 AND accounting_period <= $2
ORDER BY contract, sku, service_period, currency, accounting_period
