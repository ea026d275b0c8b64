SELECT organization, period, problem FROM platform_billing_held ORDER BY organization
