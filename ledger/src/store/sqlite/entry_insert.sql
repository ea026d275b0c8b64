INSERT INTO platform_ledger_entries (entry_no, first_seq, last_seq, first_batch, last_batch, previous, digest, command)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
