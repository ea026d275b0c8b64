SELECT organization, contract, sku, service_period, currency, batch_no, accounting_period, registry_version, amount
FROM platform_billing_reratings WHERE organization = $1 AND accounting_period > $2 AND accounting_period <= $3
ORDER BY batch_no, contract, sku, service_period, currency
