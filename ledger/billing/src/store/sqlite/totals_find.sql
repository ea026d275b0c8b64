SELECT stored.organization, stored.contract, stored.contract_line, stored.sku, stored.service_period, stored.currency,
    stored.accounting_period, stored.quantity, stored.amount, stored.readings, stored.total, stored.prices, stored.log_sizes
FROM json_each($1) AS wanted JOIN platform_billing_totals AS stored
ON stored.organization = wanted.value ->> 0 AND stored.contract = wanted.value ->> 1 AND stored.sku = wanted.value ->> 2
    AND stored.service_period = wanted.value ->> 3 AND stored.currency = wanted.value ->> 4 AND stored.accounting_period = wanted.value ->> 5
