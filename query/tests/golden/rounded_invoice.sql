SELECT organization, sum(amount) AS exact, round_half_even(sum(amount), 2) AS payable, round_half_even(sum(amount), 2) - sum(amount) AS rounding
FROM usage.charges GROUP BY organization ORDER BY organization
