INSERT INTO platform_billing_reratings (organization, contract, sku, service_period, currency, batch_no, accounting_period, registry_version, amount)
SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5, value ->> 6, unhex(value ->> 7), value ->> 8 FROM json_each($1)
