INSERT INTO platform_ledger_commands (entry_no, kind, subject, payload, digest, batch_no) VALUES ($1, $2, $3, $4, $5, $6)
