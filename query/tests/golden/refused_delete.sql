DELETE FROM usage.charges
