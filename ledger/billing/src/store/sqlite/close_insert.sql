INSERT INTO platform_billing_closes (period, registry_version, last_batch) VALUES ($1, $2, $3)
