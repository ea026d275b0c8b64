SELECT entry_no FROM platform_ledger_commands WHERE kind = $1 AND subject = $2
