DESCRIBE ledger.balances
