SELECT organization, sum(amount) / 3 FROM usage.charges GROUP BY organization
