INSERT INTO platform_billing_held (organization, period, problem) VALUES ($1, $2, $3)
