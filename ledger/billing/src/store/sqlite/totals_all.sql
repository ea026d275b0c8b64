SELECT organization, contract, contract_line, sku, service_period, currency, accounting_period, quantity, amount, readings, total, prices, log_sizes
FROM platform_billing_totals ORDER BY organization, contract, sku, service_period, currency, accounting_period
