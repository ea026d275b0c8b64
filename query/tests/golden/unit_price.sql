SELECT organization, meter, amount, quantity, divide_half_even(amount, quantity, 12) AS unit_price, quantity * 0.0025 AS list FROM usage.charges
WHERE quantity > 0 ORDER BY organization, meter, start_at
