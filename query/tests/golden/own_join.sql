-- as acme
SELECT b.organization, b.balance, sum(c.amount) AS charged, b.balance - sum(c.amount) AS rest
FROM ledger.balances b JOIN usage.charges c USING (organization) GROUP BY b.organization, b.balance
