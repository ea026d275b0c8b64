INSERT INTO platform_billing_totals (organization, contract, contract_line, sku, service_period, currency, accounting_period, quantity, amount, readings, total, prices, log_sizes)
SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5, value ->> 6, value ->> 7, value ->> 8, value ->> 9, value ->> 10, value ->> 11, value ->> 12
FROM json_each($1) WHERE true
ON CONFLICT (organization, contract, sku, service_period, currency, accounting_period) DO UPDATE SET
    quantity = excluded.quantity, amount = excluded.amount, readings = excluded.readings, total = excluded.total,
    prices = excluded.prices, log_sizes = excluded.log_sizes
