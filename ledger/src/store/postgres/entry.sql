SELECT entry_no, first_seq, last_seq, first_batch, last_batch, previous, digest, command
FROM platform_ledger_entries WHERE entry_no = $1
