SELECT organization FROM ledger.balances EXCEPT SELECT organization FROM usage.charges WHERE amount IS NOT NULL ORDER BY 1
