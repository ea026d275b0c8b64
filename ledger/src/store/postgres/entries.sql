SELECT entry_no, first_seq, last_seq, first_batch, last_batch, previous, digest, command
FROM platform_ledger_entries ORDER BY entry_no
