SELECT entry_no, kind, subject, payload, digest, batch_no FROM platform_ledger_commands WHERE entry_no > $1 ORDER BY entry_no LIMIT $2
