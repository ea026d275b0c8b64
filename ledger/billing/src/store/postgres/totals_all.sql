SELECT organization, contract, contract_line, sku, service_period, currency, accounting_period, quantity, amount, readings, total, prices, log_sizes
FROM platform_billing_totals
ORDER BY organization COLLATE "C", contract COLLATE "C", sku COLLATE "C", service_period, currency COLLATE "C", accounting_period
