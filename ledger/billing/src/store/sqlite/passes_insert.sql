INSERT INTO platform_billing_passes (shard, period, registry_version, batch_no)
SELECT value ->> 0, value ->> 1, unhex(value ->> 2), value ->> 3 FROM json_each($1)
