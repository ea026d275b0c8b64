SELECT entry_no, first_seq, last_seq, first_batch, last_batch, previous, digest, command, coalesce((SELECT last_batch FROM platform_ledger_entries WHERE last_batch IS NOT NULL ORDER BY last_batch DESC LIMIT 1), 0)
FROM platform_ledger_entries ORDER BY entry_no DESC LIMIT 1
