SELECT max(period) FROM platform_billing_closes
