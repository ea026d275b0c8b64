SELECT stored.organization, stored.contract, stored.contract_line, stored.sku, stored.service_period, stored.currency,
    stored.accounting_period, stored.quantity, stored.amount, stored.readings, stored.total, stored.prices, stored.log_sizes
FROM jsonb_array_elements($1::text::jsonb) AS wanted JOIN platform_billing_totals AS stored
ON stored.organization = wanted ->> 0 AND stored.contract = wanted ->> 1 AND stored.sku = wanted ->> 2
    AND stored.service_period = (wanted ->> 3)::integer AND stored.currency = wanted ->> 4
    AND stored.accounting_period = (wanted ->> 5)::integer
