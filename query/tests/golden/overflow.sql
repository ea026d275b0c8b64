SELECT sum(money) AS total FROM ledger.huge WHERE money > 0
