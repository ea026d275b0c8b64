INSERT INTO platform_billing_totals (organization, contract, contract_line, sku, service_period, currency, accounting_period, quantity, amount, readings, total, prices, log_sizes)
SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, (value ->> 4)::integer, value ->> 5, (value ->> 6)::integer, value ->> 7, (value ->> 8)::bigint, (value ->> 9)::bigint, (value ->> 10)::bigint, value ->> 11, value ->> 12
FROM jsonb_array_elements($1::text::jsonb) AS value
ON CONFLICT (organization, contract, sku, service_period, currency, accounting_period) DO UPDATE SET
    quantity = excluded.quantity, amount = excluded.amount, readings = excluded.readings, total = excluded.total,
    prices = excluded.prices, log_sizes = excluded.log_sizes
