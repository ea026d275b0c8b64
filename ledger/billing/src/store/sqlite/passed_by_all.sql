SELECT period, registry_version FROM platform_billing_passes
WHERE period > coalesce((SELECT max(period) FROM platform_billing_closes), 0)
GROUP BY period, registry_version HAVING count(*) = 64 ORDER BY period
