SELECT shard, max(period) FROM platform_billing_passes GROUP BY shard ORDER BY shard
