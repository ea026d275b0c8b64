SELECT coalesce(max(number), 0) FROM platform_billing_issues WHERE issuer = $1
