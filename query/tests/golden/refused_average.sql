SELECT avg(amount) FROM usage.charges
