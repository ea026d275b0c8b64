SELECT organization, contract, sku, service_period, currency, batch_no, accounting_period, registry_version, amount
FROM platform_billing_reratings
ORDER BY batch_no, organization, contract, sku, service_period, currency
