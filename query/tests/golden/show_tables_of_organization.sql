-- as acme
SHOW TABLES
